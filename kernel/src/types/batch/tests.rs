//! A batch against the plainest model of one, and its bytes against mutation.

use std::collections::BTreeMap;

use quickcheck::{Arbitrary, Gen, TestResult, quickcheck};

use super::*;
use crate::types::{KEY_LEN_MAX, VALUE_LEN_MAX};

#[derive(Clone, Debug)]
enum Action {
    Put(u8, Vec<u8>, Vec<u8>),
    Delete(u8, Vec<u8>),
    DeleteRange(u8, Vec<u8>, Vec<u8>),
    Normalise,
}

/// Keys that often meet: short, of few letters, some sharing more than eight bytes.
fn key(g: &mut Gen) -> Vec<u8> {
    let mut key = if u8::arbitrary(g).is_multiple_of(4) { b"prefix--".to_vec() } else { Vec::new() };
    key.extend((0..u8::arbitrary(g) % 4).map(|_| *g.choose(&[0, 1, b'a', b'b', 0xff]).unwrap()));
    key
}

impl Arbitrary for Action {
    fn arbitrary(g: &mut Gen) -> Self {
        let keyspace = u8::arbitrary(g) % 3;
        match u8::arbitrary(g) % 16 {
            0 => Self::Normalise,
            1..=3 => {
                let (a, b) = (key(g), key(g));
                Self::DeleteRange(keyspace, a.clone().min(b.clone()), a.max(b))
            }
            4..=7 => Self::Delete(keyspace, key(g)),
            _ => Self::Put(keyspace, key(g), Vec::arbitrary(g)),
        }
    }
}

fn id(keyspace: u8) -> KeyspaceId {
    KeyspaceId::new(u32::from(keyspace) * 1000)
}

fn build(actions: &[Action]) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for action in actions {
        match action {
            Action::Put(keyspace, key, value) => batch.put(id(*keyspace), key, value).unwrap(),
            Action::Delete(keyspace, key) => batch.delete(id(*keyspace), key).unwrap(),
            Action::DeleteRange(keyspace, start, end) => {
                assert_eq!(batch.delete_range(id(*keyspace), start, end).is_ok(), start < end);
            }
            Action::Normalise => batch.normalise(),
        }
    }
    batch
}

/// Every key that an action names, with what a store that held `before` at each of them holds afterwards.
fn effect(actions: &[Action]) -> BTreeMap<(u8, Vec<u8>), Option<Vec<u8>>> {
    let mut store = BTreeMap::new();
    for action in actions {
        if let Action::Put(k, key, _) | Action::Delete(k, key) | Action::DeleteRange(k, key, _) = action {
            store.insert((*k, key.clone()), Some(b"before".to_vec()));
        }
        if let Action::DeleteRange(k, _, end) = action {
            store.insert((*k, end.clone()), Some(b"before".to_vec()));
        }
    }
    for action in actions {
        match action {
            Action::Put(k, key, value) => drop(store.insert((*k, key.clone()), Some(value.clone()))),
            Action::Delete(k, key) => drop(store.insert((*k, key.clone()), None)),
            Action::DeleteRange(k, start, end) => {
                for ((keyspace, key), value) in &mut store {
                    if keyspace == k && start <= key && key < end {
                        *value = None;
                    }
                }
            }
            Action::Normalise => {}
        }
    }
    store
}

/// The same, from a canonical batch: ranges first, then points.
fn effect_of_batch(batch: &WriteBatch, actions: &[Action]) -> BTreeMap<(u8, Vec<u8>), Option<Vec<u8>>> {
    let mut store = effect(actions);
    for ((keyspace, key), value) in &mut store {
        let mine = || batch.iter().filter(|op| op.keyspace == id(*keyspace));
        let in_range = mine().any(|op| {
            op.kind == OpKind::DeleteRange && op.key <= key.as_slice() && key.as_slice() < op.value
        });
        let point = mine().find(|op| op.kind != OpKind::DeleteRange && op.key == key.as_slice());
        *value = match point {
            Some(op) => (op.kind == OpKind::Put).then(|| op.value.to_vec()),
            None if in_range => None,
            None => Some(b"before".to_vec()),
        };
    }
    store
}

fn is_canonical_by_definition(batch: &WriteBatch) -> bool {
    let ops: Vec<_> = batch.iter().collect();
    ops.windows(2).all(|pair| may_follow(&pair[0], &pair[1]))
}

fn encode(batch: &WriteBatch) -> Vec<u8> {
    let mut out = Vec::new();
    batch.encode(&mut out);
    out
}

quickcheck! {
    fn normalising_keeps_the_meaning(actions: Vec<Action>) -> bool {
        let mut batch = build(&actions);
        batch.normalise();
        is_canonical_by_definition(&batch) && effect_of_batch(&batch, &actions) == effect(&actions)
    }

    fn the_flag_tells_the_truth(actions: Vec<Action>) -> bool {
        let batch = build(&actions);
        let truth = (1..batch.len())
            .all(|next| may_follow(&batch.get(next - 1).unwrap(), &batch.get(next).unwrap()));
        batch.is_canonical() == truth
    }

    fn bytes_round_trip(actions: Vec<Action>) -> bool {
        let mut batch = build(&actions);
        batch.normalise();
        let bytes = encode(&batch);
        let view = BatchView::decode(&bytes).unwrap();
        view.len() == batch.len()
            && view.iter().eq(batch.iter())
            && batch.encoded_len() == bytes.len() as u64
            && encode(&view.to_batch()) == bytes
    }

    fn pieces_of_any_size_make_the_same_bytes(actions: Vec<Action>, size: u8) -> bool {
        let mut batch = build(&actions);
        batch.normalise();
        let (mut encoder, mut joined) = (batch.encoder(), Vec::new());
        let mut piece = vec![0; usize::from(size) + 1];
        loop {
            let len = encoder.fill(&mut piece);
            joined.extend_from_slice(&piece[..len]);
            if len < piece.len() {
                break;
            }
        }
        joined == encode(&batch) && encoder.fill(&mut piece) == 0
    }

    fn mutated_bytes_are_refused_or_canonical(actions: Vec<Action>, changes: Vec<(usize, u8)>, cut: usize) -> TestResult {
        let mut batch = build(&actions);
        batch.normalise();
        let mut bytes = encode(&batch);
        for (at, byte) in changes.into_iter().take(3) {
            let at = at % bytes.len();
            bytes[at] ^= byte;
        }
        if cut.is_multiple_of(4) {
            bytes.truncate(cut / 4 % (bytes.len() + 1));
        }
        match BatchView::decode(&bytes) {
            Err(bad) => TestResult::from_bool(bad.at <= bytes.len()),
            Ok(view) => TestResult::from_bool(encode(&view.to_batch()) == bytes && view.iter().count() == view.len()),
        }
    }

    fn any_bytes_are_judged(bytes: Vec<u8>) -> bool {
        let with_header: Vec<u8> = [1, 1].into_iter().chain(bytes).collect();
        BatchView::decode(&with_header).map_or(true, |view| encode(&view.to_batch()) == with_header)
    }
}

#[test]
fn ascending_keys_are_never_sorted() {
    let mut batch = WriteBatch::new();
    batch.delete_range(id(0), b"a", b"c").unwrap();
    batch.delete_range(id(0), b"d", b"e").unwrap();
    for number in 0u32..1000 {
        batch.put(id(0), &number.to_be_bytes(), b"v").unwrap();
    }
    batch.delete(id(1), b"").unwrap();
    assert!(batch.is_canonical());
    batch.put(id(0), b"zzz", b"v").unwrap();
    assert!(!batch.is_canonical());
    batch.clear();
    assert!(batch.is_canonical() && batch.is_empty());
}

#[test]
fn ranges_that_touch_become_one() {
    let mut batch = WriteBatch::new();
    batch.put(id(0), b"e", b"goes").unwrap();
    batch.delete_range(id(0), b"c", b"f").unwrap();
    batch.delete_range(id(0), b"a", b"c").unwrap();
    batch.put(id(0), b"b", b"stays").unwrap();
    batch.normalise();
    let ops: Vec<_> = batch.iter().collect();
    let range = Op { keyspace: id(0), kind: OpKind::DeleteRange, key: b"a", value: b"f" };
    let point = Op { keyspace: id(0), kind: OpKind::Put, key: b"b", value: b"stays" };
    assert_eq!(ops, [range, point]);
    assert_eq!(format!("{batch:?}"), r#"[DeleteRange in 0: "a" to "f", Put in 0: "b" = "stays"]"#);
}

#[test]
fn limits_are_named() {
    let mut batch = WriteBatch::new();
    let long = vec![0; KEY_LEN_MAX + 1];
    let message = batch.put(id(0), &long, b"").unwrap_err().to_string();
    assert!(message.contains("65537") && message.contains("65536"), "{message}");
    let message = batch.delete_range(id(0), b"", &long).unwrap_err().to_string();
    assert!(message.contains("end of the range"), "{message}");
    let message = batch.put(id(0), b"", &vec![0; VALUE_LEN_MAX + 1]).unwrap_err().to_string();
    assert!(message.contains("1073741824"), "{message}");
    let message = batch.delete_range(id(0), b"b\n", b"a").unwrap_err().to_string();
    assert!(message.contains(r#""b\n""#) && message.contains(r#""a""#), "{message}");
    assert!(batch.is_empty());
    batch.put(id(0), &long[1..], b"").unwrap();
    assert!(BatchView::decode(&encode(&batch)).is_ok());
}

#[test]
fn the_bytes_are_these() {
    let mut batch = WriteBatch::new();
    batch.delete_range(id(0), b"a", b"c").unwrap();
    batch.put(id(0), b"b", b"v").unwrap();
    batch.delete(id(1), b"d").unwrap();
    let expected = b"\x01\x02\x00\x02\x06a\x01c\x05b\x01v\xe8\x07\x01\x04d";
    assert_eq!(encode(&batch), expected);
    assert_eq!(encode(&WriteBatch::new()), [1, 0]);
}

#[test]
#[should_panic(expected = "normalised before it is encoded")]
fn an_uncanonical_batch_is_not_encoded() {
    let mut batch = WriteBatch::new();
    batch.put(id(0), b"b", b"").unwrap();
    batch.put(id(0), b"a", b"").unwrap();
    encode(&batch);
}
