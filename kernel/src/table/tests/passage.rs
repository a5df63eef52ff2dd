//! Copies: byte for byte, and any damage is told before it has passed by.

use super::super::passage::{Passage, Refused};
use super::damage::small;
use super::*;
use crate::error::Error;
use crate::table::fields::Unreadable;

fn pass(meta: &TableMeta, bytes: &[u8], piece: usize) -> std::result::Result<(), Refused> {
    let mut passage = Passage::new(meta);
    bytes.chunks(piece).try_for_each(|piece| passage.take(piece))?;
    passage.finish()
}

fn place(refused: &Refused) -> u64 {
    match &refused.why {
        Unreadable::Bad(bad) => refused.base + bad.at as u64,
        Unreadable::Newer(what) => panic!("damage is no newer format: {what}"),
    }
}

#[test]
fn a_whole_table_passes_however_it_is_cut() {
    let world = World::new(0);
    let (model, tombstones) = sample(300);
    for (no, compression) in [(1, Compression::None), (2, Compression::Lz4), (3, Compression::Zstd)] {
        let meta = world.build(no, options(512, compression, 10), &model, &tombstones).unwrap();
        let bytes = world.memory.contents(&World::path(no)).unwrap();
        for piece in [1, 2, 15, 16, 17, 511, 4096, 4097, bytes.len()] {
            assert_eq!(pass(&meta, &bytes, piece), Ok(()), "pieces of {piece}");
        }
    }
}

#[test]
fn every_flipped_bit_is_named_where_it_passes_or_before() {
    let (_, _, meta, mut bytes) = small();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let refused = pass(&meta, &bytes, 1000).unwrap_err();
        assert!(place(&refused) <= (bit / 8) as u64, "bit {bit}: {refused:?}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    assert_eq!(pass(&meta, &bytes, 1000), Ok(()));
}

#[test]
fn every_other_length_and_every_stranger_is_refused() {
    let (world, model, meta, bytes) = small();
    for len in (0..bytes.len() + 600).filter(|len| *len != bytes.len()) {
        let mut cut = bytes.clone();
        cut.resize(len, 0);
        // Whether the manifest knows that length or not.
        for meta in [meta.clone(), TableMeta { bytes: len as u64, ..meta.clone() }] {
            let refused = pass(&meta, &cut, 333).unwrap_err();
            assert!(place(&refused) <= len as u64, "length {len}: {refused:?}");
        }
    }
    world.build(4, options(512, Compression::Lz4, 8), &model, &sample(26).1).unwrap();
    let foreign = world.memory.contents(&World::path(4)).unwrap();
    assert_eq!(place(&pass(&meta, &foreign, 100).unwrap_err()), 16);
    for sector in 0..bytes.len() / 512 {
        let at = sector * 512..(sector + 1) * 512;
        let mut mixed = bytes.clone();
        mixed[at.clone()].copy_from_slice(&foreign[at]);
        assert_eq!(pass(&meta, &mixed, 100).is_ok(), mixed == bytes, "sector {sector}");
    }
    let wrong = TableMeta { entries: meta.entries + 1, ..meta.clone() };
    assert!(pass(&wrong, &bytes, 100).is_err());
}

quickcheck::quickcheck! {
    fn any_bytes_are_judged(tail: Vec<u8>, keep: u16, bytes: u16, piece: u8) -> bool {
        let (_, _, meta, whole) = small();
        let mut other = whole[..whole.len().min(usize::from(keep))].to_vec();
        other.extend(tail);
        let expected = TableMeta { bytes: u64::from(bytes), ..meta.clone() };
        let passed = pass(&expected, &other, usize::from(piece) + 1).is_ok();
        passed == (other == whole && expected == meta)
    }
}

#[test]
fn a_copy_is_the_same_bytes_or_names_its_source() {
    let (world, _, meta, bytes) = small();
    let copy = |to: u64| {
        run(async {
            let source = world.env.disk().open(&World::path(3), crate::env::OpenOptions::read()).await?;
            let copy = TableCopy::begin(&*world.env, source, World::path(3), World::path(to), &meta);
            let (mut copy, mut sum) = (copy.await?, 0);
            while let Some(bytes) = copy.step().await? {
                sum += bytes;
            }
            Result::Ok(sum)
        })
    };
    assert_eq!(copy(7).unwrap(), meta.bytes);
    assert_eq!(world.memory.contents(&World::path(7)), Some(bytes));
    assert!(matches!(copy(7), Err(Error::Io(_))), "it writes over nothing");
    world.memory.damage(&World::path(3), |bytes| bytes[700] ^= 1);
    let damaged = copy(8);
    assert!(
        matches!(&damaged, Err(Error::Corrupt { file, offset, .. }) if *file == World::path(3) && *offset <= 700),
        "{damaged:?}"
    );
    world.memory.damage(&World::path(3), Vec::clear);
    assert!(matches!(copy(9), Err(Error::Corrupt { offset: 0, .. })));
}
