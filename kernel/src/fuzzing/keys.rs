//! The decoders of `types`: batches, tuple keys, and the texts that users type.

use super::check_place;
use crate::types::escaped::{escape, unescape};
use crate::types::key::{DecodeKey, Descending, Element, EncodeKey, Id, format_tuple, parse_tuple};
use crate::types::{BatchView, KeyspaceId, WriteBatch};

/// A batch has one encoding, and what decodes can be walked to its end.
pub(super) fn check_batch(data: &[u8]) {
    let view = match BatchView::decode(data) {
        Ok(view) => view,
        Err(bad) => return check_place(&bad, data.len()),
    };
    assert_eq!(view.iter().count(), view.len());
    let batch = view.to_batch();
    assert!(batch.is_canonical(), "only canonical batches decode");
    let mut again = Vec::new();
    batch.encode(&mut again);
    assert_eq!(again, data);
    assert_eq!(batch.encoded_len(), data.len() as u64);
    // Piece by piece, through a buffer that cuts varints and keys.
    let (mut encoder, mut pieces, mut buffer) = (batch.encoder(), Vec::new(), [0; 7]);
    loop {
        match encoder.fill(&mut buffer) {
            0 => break,
            len => pieces.extend_from_slice(&buffer[..len]),
        }
    }
    assert_eq!(pieces, data);
}

pub(super) fn batch_seeds() -> Vec<Vec<u8>> {
    let mut batch = WriteBatch::new();
    let mut seeds = Vec::new();
    let mut snap = |batch: &mut WriteBatch| {
        batch.normalise();
        let mut out = Vec::new();
        batch.encode(&mut out);
        seeds.push(out);
    };
    snap(&mut batch);
    let valid = "the operation is within the limits";
    for keyspace in [0, 1, 300].map(KeyspaceId::new) {
        batch.put(keyspace, b"key", &[7; 200]).expect(valid);
        batch.put(keyspace, b"", b"").expect(valid);
        batch.delete(keyspace, b"gone").expect(valid);
        batch.delete_range(keyspace, b"a", b"b").expect(valid);
        batch.delete_range(keyspace, b"x", b"\xff\xff").expect(valid);
        snap(&mut batch);
    }
    seeds
}

/// A key has one encoding, and the text that shows it reads back as the same key.
pub(super) fn check_tuple(data: &[u8]) {
    // Typed readers go other ways through the same bytes.
    type Row = (u64, Option<String>, Descending<i32>, Vec<u8>, f64, (bool, Id));
    if let Ok(row) = Row::decode_key(data) {
        assert_eq!(row.encode_key(), data);
    }
    let elements = match Vec::<Element>::decode_key(data) {
        Ok(elements) => elements,
        Err(bad) => return check_place(&bad, data.len()),
    };
    assert!(elements.len() <= data.len(), "each element takes a byte");
    assert_eq!(elements.encode_key(), data);
    let text = format_tuple(&elements);
    let parsed = parse_tuple(&text).unwrap_or_else(|bad| panic!("{text} does not read back: {bad}"));
    assert_eq!(parsed.encode_key(), data, "{text}");
}

fn rows() -> Vec<Vec<Element>> {
    let text = |text: &str| Element::Text(text.into());
    let nested = |element| Element::Tuple(vec![element]);
    let deep = (0..20).fold(Element::Null, |element, _| nested(element));
    vec![
        vec![],
        vec![Element::Null, Element::Bool(false), Element::Bool(true)],
        [0, 1, -1, 255, -256, 1 << 70, i128::MAX, i128::MIN].map(Element::Integer).to_vec(),
        [0.0, 1.5, -2e300, f64::INFINITY, f64::NEG_INFINITY, f64::NAN].map(Element::Float).to_vec(),
        vec![Element::Bytes(vec![0, 1, 2, 255]), text("é\0\u{1}\"\\"), Element::Id(Id([7; 16]))],
        vec![Element::Descending(Box::new(text("z"))), Element::Tuple(vec![Element::Integer(1), text("x")])],
        vec![Element::Descending(Box::new(nested(Element::Descending(Box::new(Element::Integer(5))))))],
        vec![deep],
        vec![
            Element::Integer(7),
            Element::Null,
            Element::Descending(Box::new(Element::Integer(-3))),
            Element::Bytes(vec![9]),
            Element::Float(2.5),
            Element::Tuple(vec![Element::Bool(true), Element::Id(Id([1; 16]))]),
        ],
    ]
}

pub(super) fn tuple_seeds() -> Vec<Vec<u8>> {
    rows().iter().map(EncodeKey::encode_key).collect()
}

/// A key that was typed is a key that is stored: it decodes, and its text means the same again.
pub(super) fn check_tuple_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match parse_tuple(text) {
        Ok(elements) => {
            let key = elements.encode_key();
            let stored = Vec::<Element>::decode_key(&key);
            let stored =
                stored.unwrap_or_else(|bad| panic!("{text} makes a key that does not decode: {bad}"));
            let shown = format_tuple(&stored);
            assert!(!shown.contains('\n'), "{shown:?}");
            let again = parse_tuple(&shown).unwrap_or_else(|bad| panic!("{shown} does not read back: {bad}"));
            assert_eq!(again.encode_key(), key, "{text} is shown as {shown}");
        }
        Err(bad) => assert!(!bad.what.is_empty() && text.is_char_boundary(bad.at), "{text:?}: {bad}"),
    }
}

pub(super) fn tuple_text_seeds() -> Vec<Vec<u8>> {
    let typed = [
        "42",
        "(1.5e3,)",
        " ( 1 , \"a\\x41\\\"\" , x'00FF' )",
        "(nan, inf, -inf, -0.0)",
        "desc((desc(1), null))",
        "id'550e8400-e29b-41d4-a716-446655440000'",
        "((((((((",
    ];
    let shown = rows().into_iter().map(|row| format_tuple(&row));
    typed.iter().map(|text| (*text).to_owned()).chain(shown).map(String::into_bytes).collect()
}

/// Any bytes pass through the escape syntax on one harmless line; any text is understood or refused at a backslash.
pub(super) fn check_escape(data: &[u8]) {
    let line = escape(data);
    assert!(!line.chars().any(char::is_control), "{line:?}");
    assert_eq!(unescape(&line).as_deref(), Ok(data));
    // At most four characters for a byte.
    assert!(line.len() <= data.len().saturating_mul(4));
    let Ok(text) = std::str::from_utf8(data) else { return };
    match unescape(text) {
        Ok(bytes) => {
            assert!(bytes.len() <= text.len());
            assert_eq!(unescape(&escape(&bytes)).as_ref(), Ok(&bytes));
        }
        Err(bad) => assert_eq!(data.get(bad.at), Some(&b'\\'), "{bad}"),
    }
}

pub(super) fn escape_seeds() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 7] = [
        b"plain",
        b"\\\\ \\n \\r \\t \\0 \\\" \\x7f \\xFF",
        "grüße \u{202e} \u{feff} \u{85} \u{2028} 😀".as_bytes(),
        b"\xff\xfe\xc3",
        b"\\x4",
        b"\\q",
        b"end\\",
    ];
    texts.map(<[u8]>::to_vec).to_vec()
}
