//! Salvage of tables whose contents look like blocks, or were made to keep it busy: the work is bounded by the file.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;

use super::super::block::EntryBlockBuilder;
use super::super::compress::Codec;
use super::super::frame::{Role, frame_head};
use super::super::header::Header;
use super::*;

const NO: u64 = 3;
const SMALL_VALUES: u32 = 40;

/// The keys before and behind a loss, as far as any were read.
type Neighbours = (Option<Vec<u8>>, Option<Vec<u8>>);

/// What a salvage gave.
#[derive(Default)]
struct Outcome {
    keys: BTreeSet<Vec<u8>>,
    /// Offset, length, and the keys between which it lies if it may hold entries.
    losses: Vec<(u64, u64, Option<Neighbours>)>,
    searching: usize,
    read_bytes: u64,
    read_max: u64,
}

impl Outcome {
    fn misses(&self, key: &[u8]) -> bool {
        self.losses.iter().any(|(_, _, keys)| {
            keys.as_ref().is_some_and(|(after, before)| {
                after.as_ref().is_none_or(|after| **after <= *key)
                    && before.as_ref().is_none_or(|before| *key <= **before)
            })
        })
    }
}

fn salvage(world: &World, id: Option<FileId>) -> Outcome {
    let faults = world.memory.faults();
    let before = faults.read_bytes.load(Relaxed);
    faults.read_max.store(0, Relaxed);
    let mut outcome = Outcome::default();
    run(async {
        let mut walk = Salvage::begin(&world.env, world.cache.budget(), &World::path(NO), id).await.unwrap();
        let mut position = walk.position();
        while let Some(found) = walk.next().await.unwrap() {
            match found {
                Salvaged::Entries(entries) => outcome.keys.extend(entries.into_iter().map(|entry| entry.key)),
                Salvaged::Tombstones(_) => {}
                Salvaged::Searching => {
                    outcome.searching += 1;
                    assert!(walk.position() > position, "a search goes forward");
                }
                Salvaged::Lost { offset, len, may_hold_entries, after, before } => {
                    outcome.losses.push((offset, len, may_hold_entries.then_some((after, before))));
                }
            }
            assert!(walk.position() >= position, "the walk goes forward");
            position = walk.position();
        }
    });
    outcome.read_bytes = faults.read_bytes.load(Relaxed) - before;
    outcome.read_max = faults.read_max.load(Relaxed);
    outcome
}

/// Small values, the large one under `m`, and small ones.
fn around(value: Vec<u8>) -> (World, Model, Vec<u8>) {
    let world = World::new(0);
    let mut model = Model::new();
    for part in ["a", "z"] {
        for i in 0..SMALL_VALUES {
            let key = format!("{part}{i:02}").into_bytes();
            model.insert((key, Reverse(Seq::new(1))), (OpKind::Put, vec![i as u8; 100]));
        }
    }
    model.insert((b"m".to_vec(), Reverse(Seq::new(1))), (OpKind::Put, value));
    world.build(NO, options(512, Compression::None, 8), &model, &[]).unwrap();
    let bytes = world.memory.contents(&World::path(NO)).unwrap();
    (world, model, bytes)
}

/// Flips a bit in the middle of the large value: all but its block comes back, and no more is read than a few times the
/// file.
fn costs_its_block_and_little_work(value: Vec<u8>) {
    let (world, model, bytes) = around(value);
    world.memory.damage(&World::path(NO), |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x40;
    });
    let outcome = salvage(&world, None);
    assert!(!outcome.keys.contains(&b"m"[..]));
    for (key, _) in model.keys().filter(|(key, _)| !outcome.keys.contains(key)) {
        assert!(outcome.misses(key), "{} is missing and not told", key.escape_ascii());
    }
    let mates = model.len() - outcome.keys.len();
    assert!(mates < 10, "{mates} entries are lost with one block");
    let file = bytes.len() as u64;
    assert!(outcome.read_bytes < 4 * file, "{} bytes read of a file of {file}", outcome.read_bytes);
    assert!(outcome.read_max <= 1 << 20, "{} bytes read at once", outcome.read_max);
    assert!(outcome.searching as u64 > file / (128 << 10), "{} times heard of", outcome.searching);
}

/// A head that announces `len` bytes behind it.
fn head(len: u32) -> Vec<u8> {
    [&[1, 0, 1, 0], &len.to_le_bytes()[..], &len.to_le_bytes()].concat()
}

#[test]
fn sixteen_bit_ones_that_look_like_heads_everywhere_cost_little() {
    costs_its_block_and_little_work([1, 0].repeat(1 << 19));
}

#[test]
fn heads_that_announce_megabytes_cost_little() {
    let heads = (2 << 20) / 12;
    costs_its_block_and_little_work((0..heads).rev().flat_map(|behind| head(behind * 12)).collect());
}

#[test]
fn more_heads_than_may_wait_cost_no_block_behind_them() {
    let heads = (4 << 20) / 12;
    assert!(heads as usize > super::super::search::WAITING_MAX);
    // Those behind the large value end before all of these do.
    costs_its_block_and_little_work(head(heads * 12).repeat(heads as usize));
}

#[test]
fn a_large_block_that_is_whole_is_given_out() {
    let (world, model, bytes) = around([1, 0].repeat(1 << 20));
    let outcome = salvage(&world, None);
    assert_eq!(outcome.keys.len(), model.len());
    assert!(outcome.losses.is_empty());
    assert!(outcome.read_bytes < 4 * bytes.len() as u64);
}

#[test]
fn blocks_before_an_unreadable_sector_are_found() {
    let (world, model, bytes) = around(vec![5; 100]);
    // Of the small values of `a` the first few are damaged, and the disk cannot read a sector among those of `z`.
    world.memory.damage(&World::path(NO), |bytes| bytes[200] ^= 1);
    let bad = bytes.len() as u64 * 6 / 10;
    world.memory.faults().bad_offset.store(bad, Relaxed);
    let outcome = salvage(&world, None);
    assert!(outcome.losses.iter().any(|(offset, len, _)| (*offset..offset + len).contains(&bad)));
    for (key, _) in model.keys().filter(|(key, _)| !outcome.keys.contains(key)) {
        assert!(outcome.misses(key), "{} is missing and not told", key.escape_ascii());
    }
    let missing = model.len() - outcome.keys.len();
    assert!(missing < 20, "{missing} entries are lost with two blocks");
}

/// Blocks one inside the other, each with a checksum that holds, none with a content that does; then a good one.
#[test]
fn blocks_that_are_none_for_all_their_checksums_cost_little() {
    const DEPTH: usize = 2000;
    let id = FileId::new(77);
    let header = Header::encode(id, KeyspaceId::new(5));
    let start = header.len() as u64;
    let mut nested = vec![0xee; 100 << 10];
    for level in (0..DEPTH).rev() {
        let offset = start + level as u64 * 16;
        let head = frame_head(id, offset, Role::Data, Codec::None, nested.len() as u32, &nested);
        nested.splice(0..0, head);
    }
    let nested_len = nested.len() as u64;
    let mut builder = EntryBlockBuilder::new(16);
    builder.add(b"good", Seq::new(1), OpKind::Put, b"value");
    let content = builder.finish();
    let head = frame_head(id, start + nested_len, Role::Data, Codec::None, content.len() as u32, content);
    let bytes = [&header[..], &nested, &head, content].concat();
    let file = bytes.len() as u64;
    let world = World::new(0);
    world.memory.put(&World::path(NO), bytes);
    let outcome = salvage(&world, None);
    assert_eq!(outcome.keys, BTreeSet::from([b"good".to_vec()]));
    let (offset, len, _) = &outcome.losses[0];
    assert_eq!((*offset, *len), (start, nested_len));
    assert!(outcome.read_bytes < 10 * file, "{} bytes read of a file of {file}", outcome.read_bytes);
}
