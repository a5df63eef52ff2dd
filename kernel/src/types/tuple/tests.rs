//! Order, round trips and mutations of keys.

use std::cmp::Ordering;

use quickcheck::{Arbitrary, Gen, quickcheck};

use super::*;

const TRICKY: [u8; 6] = [0x00, 0x01, 0x02, 0x7f, 0x80, 0xff];

fn bytes(g: &mut Gen) -> Vec<u8> {
    (0..u8::arbitrary(g) % 5).map(|_| *g.choose(&TRICKY).unwrap()).collect()
}

fn text(g: &mut Gen) -> String {
    let letters = ['\0', '\u{1}', '\u{2}', 'a', '"', '\\', 'é', '\u{85}', '😀'];
    (0..u8::arbitrary(g) % 5).map(|_| *g.choose(&letters).unwrap()).collect()
}

fn integer(g: &mut Gen) -> i128 {
    let any = i128::arbitrary(g) >> (u32::arbitrary(g) % 128);
    let edges = [0, 1, -1, 255, 256, -255, -256, i128::MAX, i128::MIN, i128::from(u64::MAX), any, any, any];
    *g.choose(&edges).unwrap()
}

fn float(g: &mut Gen) -> f64 {
    let any = f64::from_bits(u64::arbitrary(g));
    *g.choose(&[0.0, -0.0, f64::NAN, -f64::NAN, f64::INFINITY, f64::MIN, 5e-324, 1e16, 1.5, any, any])
        .unwrap()
}

fn element(g: &mut Gen, depth: usize) -> Element {
    match u8::arbitrary(g) % if depth < 3 { 11 } else { 8 } {
        0 => Element::Null,
        1 => Element::Bool(bool::arbitrary(g)),
        2 | 3 => Element::Integer(integer(g)),
        4 => Element::Float(float(g)),
        5 => Element::Bytes(bytes(g)),
        6 => Element::Text(text(g)),
        7 => Element::Id(Id(std::array::from_fn(|_| *g.choose(&TRICKY).unwrap()))),
        8 => Element::Tuple((0..u8::arbitrary(g) % 3).map(|_| element(g, depth + 1)).collect()),
        _ => match element(g, depth + 1) {
            twice @ Element::Descending(_) => twice,
            once => Element::Descending(Box::new(once)),
        },
    }
}

impl Arbitrary for Element {
    fn arbitrary(g: &mut Gen) -> Self {
        element(g, 0)
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        match self {
            Self::Tuple(elements) => Box::new(elements.shrink().map(Self::Tuple).chain(elements.clone())),
            Self::Descending(element) => Box::new(std::iter::once((**element).clone())),
            _ => Box::new(std::iter::empty()),
        }
    }
}

/// The order that the module header states, by values instead of bytes.
fn model_order(a: &Element, b: &Element) -> Ordering {
    use Element::*;
    match (a, b) {
        (Descending(a), Descending(b)) => model_order(b, a),
        (Bool(a), Bool(b)) => a.cmp(b),
        (Integer(a), Integer(b)) => a.cmp(b),
        (Float(a), Float(b)) => match (a.is_nan(), b.is_nan()) {
            (false, false) => a.partial_cmp(b).unwrap(),
            (a, b) => a.cmp(&b),
        },
        (Bytes(a), Bytes(b)) => a.cmp(b),
        (Text(a), Text(b)) => a.cmp(b),
        (Id(a), Id(b)) => a.cmp(b),
        (Tuple(a), Tuple(b)) => model_order_of_rows(a, b),
        _ => rank(a).cmp(&rank(b)),
    }
}

fn model_order_of_rows(a: &[Element], b: &[Element]) -> Ordering {
    let differs = a.iter().zip(b).map(|(a, b)| model_order(a, b)).find(|order| order.is_ne());
    differs.unwrap_or(a.len().cmp(&b.len()))
}

fn rank(element: &Element) -> i32 {
    match element {
        Element::Null => 0,
        Element::Bool(_) => 1,
        Element::Integer(_) => 2,
        Element::Float(_) => 3,
        Element::Bytes(_) => 4,
        Element::Text(_) => 5,
        Element::Id(_) => 6,
        Element::Tuple(_) => 7,
        Element::Descending(element) => 100 - rank(element),
    }
}

fn descending(element: Element) -> Element {
    match element {
        Element::Descending(element) => *element,
        element => Element::Descending(Box::new(element)),
    }
}

type Row = (u64, Option<String>, Descending<i64>, (bool, Vec<u8>), f64);

quickcheck! {
    fn bytes_sort_as_values_do(a: Vec<Element>, b: Vec<Element>) -> bool {
        a.encode_key().cmp(&b.encode_key()) == model_order_of_rows(&a, &b)
    }

    fn single_elements_sort_as_values_do(a: Element, b: Element) -> bool {
        let (down_a, down_b) = (descending(a.clone()), descending(b.clone()));
        a.encode_key().cmp(&b.encode_key()) == model_order(&a, &b)
            && down_a.encode_key().cmp(&down_b.encode_key()) == model_order(&b, &a)
    }

    fn rows_with_a_common_beginning_sort_too(start: Vec<Element>, a: Element, b: Vec<Element>) -> bool {
        let short: Vec<_> = start.iter().cloned().chain([a]).collect();
        let long: Vec<_> = start.into_iter().chain(b).collect();
        short.encode_key().cmp(&long.encode_key()) == model_order_of_rows(&short, &long)
    }

    fn a_key_reads_back(row: Vec<Element>) -> bool {
        let key = row.encode_key();
        let back = Vec::<Element>::decode_key(&key).unwrap();
        back.encode_key() == key && model_order_of_rows(&back, &row).is_eq()
    }

    fn a_typed_key_reads_back(a: u64, b: Option<String>, c: i64, d: (bool, Vec<u8>), e: i32) -> bool {
        let row: Row = (a, b, Descending(c), d, f64::from(e) / 8.0);
        Row::decode_key(&row.encode_key()) == Ok(row)
    }

    fn typed_keys_sort_as_rust_does(a: (i64, String, Vec<u8>), b: (i64, String, Vec<u8>)) -> bool {
        let down = |(a, b, c): (i64, String, Vec<u8>)| (Descending(a), (b, Descending(c)));
        a.encode_key().cmp(&b.encode_key()) == a.cmp(&b)
            && down(a.clone()).encode_key().cmp(&down(b.clone()).encode_key()) == down(a).cmp(&down(b))
    }

    fn mutated_keys_are_refused_or_the_one_encoding(row: Vec<Element>, changes: Vec<(usize, u8)>) -> bool {
        let mut key = row.encode_key();
        for (at, byte) in changes.into_iter().take(3) {
            if !key.is_empty() {
                let at = at % key.len();
                key[at] = if byte.is_multiple_of(2) { TRICKY[usize::from(byte) % 6] } else { byte };
            }
        }
        let typed = Row::decode_key(&key).map(|row| row.encode_key());
        let untyped = Vec::<Element>::decode_key(&key).map(|row| row.encode_key());
        typed.map_or(true, |typed| typed == key) && untyped.map_or(true, |untyped| untyped == key)
    }

    fn any_bytes_are_judged(bytes: Vec<u8>) -> bool {
        Vec::<Element>::decode_key(&bytes).map_or(true, |row| row.encode_key() == bytes)
    }

    fn a_prefix_covers_its_tuples_and_no_others(prefix: Vec<Element>, more: Vec<Element>, other: Vec<Element>) -> bool {
        let (start, end) = prefix_range(&prefix);
        let covers = |row: &Vec<Element>| { let key = row.encode_key(); start <= key && key < end };
        let longer: Vec<_> = prefix.iter().cloned().chain(more).collect();
        let begins = other.len() >= prefix.len() && model_order_of_rows(&other[..prefix.len()], &prefix).is_eq();
        covers(&longer) && covers(&prefix) && covers(&other) == begins
    }

    fn text_reads_back(row: Vec<Element>) -> bool {
        let text = format_tuple(&row);
        let back = parse_tuple(&text).unwrap();
        back.encode_key() == row.encode_key() && format_tuple(&back) == text && !text.contains('\n')
    }

    fn any_text_is_parsed_or_refused_inside(parts: Vec<u8>) -> bool {
        let pieces = ["(", ")", ",", " ", "\"", "\\", "x'", "id'", "'", "0a", "desc", "null", "-", "1", ".", "e", "é"];
        let text: String = parts.iter().map(|n| pieces[usize::from(*n) % pieces.len()]).collect();
        match parse_tuple(&text) {
            Ok(row) => Vec::<Element>::decode_key(&row.encode_key()).is_ok(),
            Err(bad) => text.is_char_boundary(bad.at) && bad.to_string().contains("at byte"),
        }
    }
}

#[test]
fn the_bytes_are_these() {
    assert_eq!(0u8.encode_key(), [0x20]);
    assert_eq!((1u8, -1i8, 256u16).encode_key(), [0x21, 1, 0x1f, 0xfe, 0x22, 1, 0]);
    assert_eq!(i128::MIN.encode_key()[..3], [0x10, 0x7f, 0xff]);
    assert_eq!("a\0\u{1}".encode_key(), [0x48, b'a', 1, 1, 1, 2, 0]);
    assert_eq!((true, None::<u8>, ((),)).encode_key(), [3, 1, 0x58, 0x58, 0, 0]);
    assert_eq!(Descending("a").encode_key(), [0xb7, 0x9e, 0xff]);
    assert_eq!((-0.0f64).encode_key(), 0.0f64.encode_key());
    assert_eq!((-f64::NAN).encode_key(), f64::NAN.encode_key());
    assert_eq!(prefix_range(&()), (vec![], vec![0xff]));
}

#[test]
fn text_is_understood() {
    let row = parse_tuple("(42, \"te\\\"xt\", -7, true, x'00ff', 1.5, desc(\"x\"), null, (1,2),)").unwrap();
    assert_eq!(format_tuple(&row), r#"(42, "te\"xt", -7, true, x'00ff', 1.5, desc("x"), null, (1, 2))"#);
    assert_eq!(parse_tuple(" 42 ").unwrap(), [Element::Integer(42)]);
    assert_eq!(parse_tuple("()").unwrap(), []);
    assert_eq!(parse_tuple("1.7976931348623157e308").unwrap(), [Element::Float(f64::MAX)]);
    assert_eq!(
        parse_tuple("(-inf, inf)").unwrap(),
        [Element::Float(f64::NEG_INFINITY), Element::Float(f64::INFINITY)]
    );
    let id = "(id'550e8400-e29b-41d4-a716-446655440000')";
    assert_eq!(format_tuple(&parse_tuple(&id.replace('-', "")).unwrap()), id);
}

#[test]
fn refusals_say_what_and_where() {
    for (text, at, what) in [
        ("(1, 2", 5, "expected ',' or ')', but the text ends"),
        ("(1 2)", 3, "expected ',' or ')', found '2'"),
        ("(1,, 2)", 3, "expected an element"),
        ("(abc)", 1, "'abc' is neither a number"),
        ("(\"abc)", 1, "never closed"),
        ("(\"a\\q\")", 3, "unknown escape"),
        ("(\"\\xff\")", 1, "not UTF-8"),
        ("(x'0g')", 3, "two hexadecimal digits"),
        ("(id'00')", 1, "an id has 16 bytes, not 1"),
        ("(1) 2", 4, "unexpected text"),
        ("999999999999999999999999999999999999999999", 0, "128 bits"),
        ("(1e400)", 1, "1e400 is out of range"),
        ("(7, desc(-1.8e308))", 9, "infinity is written inf or -inf"),
        ("desc 1", 5, "expected '('"),
        ("desc(desc(1))", 5, "directly inside desc"),
        ("+1", 0, "neither a number"),
        ("", 0, "expected an element"),
    ] {
        let bad = parse_tuple(text).expect_err(text);
        assert_eq!(bad.at, at, "{text}: {bad}");
        assert!(bad.to_string().contains(what), "{text}: {bad}");
    }
    let deep = "(".repeat(100_000);
    assert!(parse_tuple(&deep).unwrap_err().what.contains("nested deeper"));
    assert!(Vec::<Element>::decode_key(&vec![0x58; 100_000]).unwrap_err().what.contains("nested too deep"));
    assert!(Vec::<Element>::decode_key(&[0x58, 0xa7].repeat(50_000)).is_err());
    let deepest = format!("({}1{})", "desc((".repeat(DEPTH_MAX), "))".repeat(DEPTH_MAX));
    let row = parse_tuple(&deepest).unwrap();
    assert_eq!(Vec::<Element>::decode_key(&row.encode_key()), Ok(row.clone()));
    assert_eq!(format_tuple(&row), deepest);
}
