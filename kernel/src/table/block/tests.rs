//! The entry block against a sorted map, and against arbitrary bytes.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::cache::{Block, Budget};
use crate::types::{OpKind, Seq};

type Place = (Vec<u8>, Reverse<Seq>);
type Content = (OpKind, Vec<u8>);
type Model = BTreeMap<Place, Content>;

/// Few distinct, nested and long-prefixed keys with several versions each.
fn model(raw: &[(u16, u8, u8)], prefix: &[u8]) -> Model {
    let entry = |(key, seq, len): &(u16, u8, u8)| {
        let mut bytes = prefix.to_vec();
        bytes.extend(std::iter::repeat_n(*key as u8 % 3, (*key >> 8) as usize % 12));
        bytes.push(*key as u8 % 5);
        let seq = Seq::new(if seq.is_multiple_of(4) {
            Seq::LIMIT.get() - u64::from(*seq)
        } else {
            u64::from(*seq)
        });
        let kind = if *len == 0 { OpKind::Delete } else { OpKind::Put };
        ((bytes, Reverse(seq)), (kind, vec![*len; *len as usize * 3]))
    };
    raw.iter().map(entry).collect()
}

fn build(model: &Model, interval: u8) -> Vec<u8> {
    let mut builder = EntryBlockBuilder::new(interval);
    let mut content = Vec::new();
    // Twice, since its memory is used again.
    for _ in 0..2 {
        for ((key, Reverse(seq)), (kind, value)) in model {
            builder.add(key, *seq, *kind, value);
        }
        let expected = builder.content_len();
        content = builder.finish().to_vec();
        assert_eq!(content.len(), expected);
        builder.clear();
    }
    content
}

fn at(cursor: &EntryCursor) -> Option<(Place, Content)> {
    cursor
        .valid()
        .then(|| ((cursor.key().to_vec(), Reverse(cursor.seq())), (cursor.kind(), cursor.value().to_vec())))
}

fn pair(entry: Option<(&Place, &Content)>) -> Option<(Place, Content)> {
    entry.map(|(k, v)| (k.clone(), v.clone()))
}

quickcheck::quickcheck! {
    fn searches_and_walks_agree_with_a_map(raw: Vec<(u16, u8, u8)>, prefix: Vec<u8>, interval: u8, probes: Vec<(u16, u8, u8)>) -> bool {
        let model = model(&raw, &prefix);
        let content = build(&model, interval % 20 + 1);
        check_order(&content).unwrap();
        let layout = Layout::decode(&content).unwrap();
        let block = Arc::new(Block::copy_of(&Arc::new(Budget::new(0)), &content));
        let mut cursor = EntryCursor::new(block).unwrap();
        let mut targets: Vec<(Vec<u8>, Reverse<Seq>)> = model.keys().cloned().collect();
        targets.extend(super::tests::model(&probes, &prefix).into_keys());
        targets.extend(probes.iter().map(|p| (p.0.to_be_bytes().to_vec(), Reverse(Seq::new(3)))));
        for target in &targets {
            let (key, Reverse(seq)) = target;
            let expected = pair(model.range(target.clone()..).next());
            cursor.seek(key, *seq).unwrap();
            assert_eq!(at(&cursor), expected);
            let spot = layout.seek(&content, key, *seq).unwrap();
            assert_eq!(spot.as_ref().map(|s| (s.same_key, s.seq, s.kind, content[s.value.clone()].to_vec())),
                expected.clone().map(|((k, s), (kind, v))| (k == *key, s.0, kind, v)));
            if cursor.valid() { cursor.prev() } else { cursor.seek_last() }.unwrap();
            let before = pair(model.range(..target.clone()).next_back());
            assert_eq!(at(&cursor), before);
            cursor.next().unwrap();
            assert!(before.is_none() || at(&cursor) == expected);
        }
        let mut forward = Vec::new();
        cursor.seek_first().unwrap();
        while let Some(entry) = at(&cursor) {
            forward.push(entry);
            cursor.next().unwrap();
        }
        let mut backward = Vec::new();
        cursor.seek_last().unwrap();
        while let Some(entry) = at(&cursor) {
            backward.push(entry);
            cursor.prev().unwrap();
        }
        backward.reverse();
        assert!(forward == backward);
        forward == model.into_iter().collect::<Vec<_>>()
    }

    fn mutated_bytes_never_panic(raw: Vec<(u16, u8, u8)>, flips: Vec<(u16, u8)>, probes: Vec<(u16, u8, u8)>) -> bool {
        let mut content = build(&model(&raw, b"p"), 4);
        for (place, bits) in &flips {
            // Half of them hit the restarts and the tail.
            let len = content.len();
            let place = if bits & 1 == 0 { *place as usize % len } else { len - 1 - *place as usize % len.min(100) };
            content[place] ^= bits;
        }
        exercise(&content, &probes)
    }

    fn any_bytes_never_panic(content: Vec<u8>, probes: Vec<(u16, u8, u8)>) -> bool {
        exercise(&content, &probes)
    }
}

/// Reads the content in every way; all may fail, none may panic or run for ever.
fn exercise(content: &[u8], probes: &[(u16, u8, u8)]) -> bool {
    check_order(content).ok();
    let block = Arc::new(Block::copy_of(&Arc::new(Budget::new(0)), content));
    let Ok(mut cursor) = EntryCursor::new(block) else { return true };
    let Ok(layout) = Layout::decode(content) else { return false };
    for ((key, Reverse(seq)), _) in model(probes, b"p") {
        layout.seek(content, &key, seq).ok();
        cursor.seek(&key, seq).ok();
        cursor.prev().ok();
    }
    let mut steps = 0;
    cursor.seek_first().ok();
    while cursor.valid() && cursor.next().is_ok() {
        steps += 1;
        assert!(steps <= content.len());
    }
    cursor.seek_last().ok();
    while cursor.valid() && cursor.prev().is_ok() {
        steps += 1;
        assert!(steps <= 2 * content.len());
    }
    true
}

#[test]
fn a_value_that_a_restart_puts_outside_is_refused_at_a_place_inside() {
    let mut content = build(&model(&[(7, 3, 5)], b"p"), 4);
    let len = content.len();
    content[len - TAIL_BYTES - 4..len - TAIL_BYTES].copy_from_slice(&(1u32 << 24).to_le_bytes());
    let block = Arc::new(Block::copy_of(&Arc::new(Budget::new(0)), &content));
    let bad = EntryCursor::new(block).unwrap().seek_last().unwrap_err();
    assert!(bad.what.contains("value") && bad.at <= len, "{bad}, but the block has {len} bytes");
}

/// The second key is the first's continuation, written as if it had less in common with it than it has.
#[test]
fn a_key_that_shares_less_than_it_could_is_refused() {
    let mut builder = EntryBlockBuilder::new(16);
    builder.add(b"user1", Seq::new(5), OpKind::Put, b"");
    builder.add(b"user2", Seq::new(5), OpKind::Put, b"");
    let good = builder.finish().to_vec();
    assert_eq!(check_order(&good), Ok(()));
    let second = 4 + b"user1".len();
    assert_eq!(good[second..second + 5], [4, 1, 1, 0, b'2']);
    // Three shared bytes and two of its own; the section of keys is one byte longer.
    let less = [&good[..second], &[3, 2, 1, 0, b'r', b'2'], &good[second + 5..]].concat();
    let mut less = less;
    let keys_len = less.len() - TAIL_BYTES + 16;
    less[keys_len] += 1;
    assert!(check_order(&less).unwrap_err().what.contains("less than it could"));
}
