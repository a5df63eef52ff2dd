//! Damage is told, never believed.

use super::super::salvage::SalvagedEntry;
use super::*;
use crate::error::Error;
use crate::types::EntryRef;

const KEYS: u32 = 26;

/// A table of a few blocks of each kind, so that every bit of it can be tried.
pub(super) fn small() -> (World, Model, TableMeta, Vec<u8>) {
    let world = World::new(0);
    let (model, tombstones) = sample(KEYS);
    let meta = world.build(3, options(512, Compression::Lz4, 8), &model, &tombstones).unwrap();
    let bytes = world.memory.contents(&World::path(3)).unwrap();
    (world, model, meta, bytes)
}

/// Opens the file as it stands and reads it in every way. True if all was fine; wrong data panics.
fn reads_right(world: &World, meta: &TableMeta, model: &Model, by_key: bool) -> bool {
    let Ok(table) = world.open(meta) else { return false };
    let mut iter = table.iter(false);
    let mut fine = run(iter.seek_first()).is_ok();
    let mut expected = model.iter();
    while fine && iter.valid() {
        let ((key, Reverse(seq)), (kind, value)) = expected.next().unwrap();
        assert_eq!(iter.entry(), Some(EntryRef { key, seq: *seq, kind: *kind }));
        assert_eq!(iter.value(), &value[..]);
        fine = run(iter.next()).is_ok();
    }
    assert!(!fine || expected.next().is_none());
    for ((key, Reverse(seq)), (kind, value)) in model.iter().filter(|_| by_key) {
        match run(table.get(key, *seq)) {
            Ok(found) => {
                let found = found.unwrap();
                assert_eq!((found.seq, found.kind, &found.value[..]), (*seq, *kind, &value[..]));
            }
            Err(error) => {
                assert!(matches!(error, Error::Corrupt { .. }), "{error}");
                fine = false;
            }
        }
    }
    run(table.verify(&mut |_| ())).is_ok() && fine
}

#[test]
fn every_flipped_bit_is_noticed() {
    let (world, model, meta, bytes) = small();
    let path = World::path(3);
    assert!(reads_right(&world, &meta, &model, true));
    for bit in 0..bytes.len() * 8 {
        world.memory.damage(&path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let noticed = match world.open(&meta) {
            Ok(table) => run(table.verify(&mut |_| ())).is_err(),
            Err(_) => true,
        };
        assert!(noticed, "bit {} of byte {}", bit % 8, bit / 8);
        // Reading everything is slow, so each byte gets one of its bits.
        if bit % 8 == bit / 8 % 8 {
            reads_right(&world, &meta, &model, bit % 64 == 0);
        }
        world.memory.damage(&path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
    }
    assert_eq!(world.memory.contents(&path), Some(bytes));
}

#[test]
fn damage_after_opening_is_noticed_by_verify() {
    let (world, _, meta, bytes) = small();
    let table = world.open(&meta).unwrap();
    for at in 0..bytes.len() {
        world.memory.damage(&World::path(3), |bytes| bytes[at] ^= 0x40);
        assert!(run(table.verify(&mut |_| ())).is_err(), "byte {at}");
        world.memory.damage(&World::path(3), |bytes| bytes[at] ^= 0x40);
    }
    run(table.verify(&mut |_| ())).unwrap();
}

#[test]
fn every_other_length_is_refused() {
    let (world, _, meta, bytes) = small();
    for len in 0..bytes.len() + 600 {
        if len == bytes.len() {
            continue;
        }
        let mut cut = bytes.clone();
        cut.resize(len, 0);
        world.memory.put(&World::path(3), cut);
        assert!(matches!(world.open(&meta), Err(Error::Corrupt { .. })), "length {len}");
        let unknown = run(TableReader::open_unknown(&world.env, &world.cache, &World::path(3)));
        assert!(matches!(unknown, Err(Error::Corrupt { .. })), "length {len}");
    }
}

#[test]
fn a_stranger_and_its_blocks_are_refused() {
    let (world, model, meta, bytes) = small();
    let other = world.build(4, options(512, Compression::Lz4, 8), &model, &sample(KEYS).1).unwrap();
    let foreign = world.memory.contents(&World::path(4)).unwrap();
    assert_eq!((other.bytes, foreign.len()), (meta.bytes, bytes.len()));
    world.memory.put(&World::path(3), foreign.clone());
    let Err(error) = world.open(&meta) else { panic!("another table opened under this one's name") };
    assert!(error.to_string().contains("the manifest names"), "{error}");
    // Every sector of the other table, alike but for the identity, and of this one, in the wrong place.
    for sector in 0..bytes.len() / 512 {
        let place = sector * 512..(sector + 1) * 512;
        for (from, at) in [(&foreign, sector), (&bytes, (sector + 1) % (bytes.len() / 512))] {
            let mut mixed = bytes.clone();
            mixed[place.clone()].copy_from_slice(&from[at * 512..(at + 1) * 512]);
            let same = mixed == bytes;
            world.memory.put(&World::path(3), mixed);
            assert_eq!(reads_right(&world, &meta, &model, false), same, "sector {sector}");
        }
    }
}

#[test]
fn a_manifest_that_disagrees_is_told() {
    let (world, _, meta, _) = small();
    let wrong = [
        TableMeta { entries: meta.entries + 1, ..meta.clone() },
        TableMeta { largest_is_exclusive: !meta.largest_is_exclusive, ..meta.clone() },
        TableMeta { max_seq: Seq::LIMIT, ..meta.clone() },
        TableMeta { bytes: meta.bytes + 512, ..meta.clone() },
    ];
    assert!(wrong.iter().all(|meta| matches!(world.open(meta), Err(Error::Corrupt { .. }))));
}

#[test]
fn a_medium_error_names_its_place_and_leaves_the_rest_readable() {
    let (world, model, meta, _) = small();
    let table = world.open(&meta).unwrap();
    world.memory.faults().bad_offset.store(700, std::sync::atomic::Ordering::Relaxed);
    let (mut failed, mut fine) = (0, 0);
    for (key, Reverse(seq)) in model.keys() {
        match run(table.get(key, *seq)) {
            Ok(found) => {
                assert!(found.is_some());
                fine += 1;
            }
            Err(Error::Io(error)) => {
                assert!(error.path == World::path(3) && error.offset.is_some_and(|at| at <= 700));
                failed += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(failed > 0 && fine > 2 * failed, "{failed} failed, {fine} did not");
}

/// Salvages the file and checks that what it gives is in the model, in order, and that every entry it does not
/// give lies in a stretch it tells of. Gives the number of entries.
fn salvage(world: &World, model: &Model, id: Option<FileId>) -> usize {
    run(async {
        let mut walk = Salvage::begin(&world.env, world.cache.budget(), &World::path(3), id).await.unwrap();
        let (mut entries, mut losses, mut tombstones) = (Vec::new(), Vec::new(), false);
        while let Some(found) = walk.next().await.unwrap() {
            match found {
                Salvaged::Entries(found) => entries.extend(found),
                Salvaged::Searching => {}
                Salvaged::Lost { may_hold_entries, after, before, offset, len } => {
                    let file_bytes = world.memory.contents(&World::path(3)).unwrap().len() as u64;
                    assert!(offset + len <= file_bytes && (len > 0 || before.is_none()));
                    losses.extend(may_hold_entries.then_some((after, before)));
                }
                Salvaged::Tombstones(found) => {
                    assert_eq!(found, crate::types::RangeTombstones::new(sample(KEYS).1));
                    tombstones = true;
                }
            }
        }
        assert_eq!(walk.tombstones_seen(), tombstones);
        let mut missing = model.clone();
        for SalvagedEntry { key, seq, kind, value } in &entries {
            assert_eq!(missing.remove(&(key.clone(), Reverse(*seq))), Some((*kind, value.to_vec())));
        }
        for (key, _) in missing.keys() {
            assert!(losses.iter().any(|(after, before)| {
                after.as_ref().is_none_or(|after| after <= key)
                    && before.as_ref().is_none_or(|before| key <= before)
            }));
        }
        assert!(entries.is_sorted_by_key(|entry| (entry.key.clone(), Reverse(entry.seq))));
        entries.len()
    })
}

#[test]
fn salvage_gives_all_but_the_damaged_blocks() {
    let (world, model, meta, bytes) = small();
    assert_eq!(salvage(&world, &model, None), model.len());
    let mut least = model.len();
    for at in 0..bytes.len() {
        world.memory.damage(&World::path(3), |bytes| bytes[at] ^= 0x20);
        least = least.min(salvage(&world, &model, if at % 2 == 0 { Some(meta.id) } else { None }));
        world.memory.damage(&World::path(3), |bytes| bytes[at] ^= 0x20);
    }
    assert!(least > model.len() / 2, "one damaged byte cost all but {least} of {} entries", model.len());
    for len in (0..bytes.len()).step_by(37) {
        world.memory.put(&World::path(3), bytes[..len].to_vec());
        salvage(&world, &model, Some(meta.id));
    }
}

#[test]
fn a_damaged_length_asks_for_no_more_memory_than_the_file_has() {
    let (world, model, meta, bytes) = small();
    let path = World::path(3);
    for at in 0..bytes.len() {
        world.memory.damage(&path, |bytes| bytes[at] = 0xff);
        reads_right(&world, &meta, &model, false);
        world.memory.put(&path, bytes.clone());
    }
    assert!(
        world.memory.faults().read_max.load(std::sync::atomic::Ordering::Relaxed) <= meta.bytes.max(4096)
    );
}
