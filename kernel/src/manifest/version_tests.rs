//! Edits drawn at random keep the rules, and a snapshot holds everything.

use super::*;
use crate::codec::{Reader, put_varint};

fn table(no: u64, a: u8, b: u8, exclusive: bool, seq: u64) -> Arc<TableMeta> {
    let (smallest, largest) = (vec![a.min(b)], vec![a.max(b), 1]);
    let (min_seq, max_seq) = (Seq::new(seq), Seq::new(seq + 5));
    let counts = (no * 3, no / 2, no % 2);
    Arc::new(TableMeta {
        no: FileNo::new(no),
        id: FileId::new(no * 7919),
        bytes: no * 100,
        smallest,
        largest,
        largest_is_exclusive: exclusive,
        min_seq,
        max_seq,
        entries: counts.0,
        deletes: counts.1,
        range_tombstones: counts.2,
        raw_bytes: no * 200,
        superseded_bytes: no * 3,
    })
}

/// One change from a few numbers; often one that breaks a rule.
fn change(draw: (u8, u8, u8, u16)) -> Change {
    let (kind, a, b, n) = draw;
    let keyspace = KeyspaceId::new(u32::from(a % 4));
    let no = FileNo::new(u64::from(n % 60));
    let lsn = Lsn::new(u64::from(n) * 512);
    match kind % 20 {
        0..=2 => Change::CreateKeyspace {
            id: KeyspaceId::new(u32::from(a % 8)),
            name: format!("k{}", b % 6),
            options: KeyspaceOptions { level_ratio: 2 + u32::from(b % 31), ..KeyspaceOptions::default() },
        },
        3..=7 => Change::AddTable {
            keyspace,
            level: b % 4,
            table: table(no.get(), a, b, n.is_multiple_of(2), u64::from(n)),
        },
        8 => Change::RemoveTable { keyspace, level: b % 4, no },
        9 => Change::DropKeyspace { id: keyspace },
        10 => Change::AddLogSegment { no, id: FileId::new(u64::from(n)) },
        11 => Change::RemoveLogSegment { no },
        12 => Change::LogStart { lsn },
        13 => Change::KeyspaceFlushed { keyspace, lsn },
        14 => Change::KnownDurable(KnownDurable { epoch: u32::from(a), lsn }),
        15 => Change::SeqReserved { until: Seq::new(n.into()) },
        16 => Change::LastTimestamp(Timestamp::new(n.into())),
        17 => Change::SeqGap { after: Seq::new(n.into()), until: Seq::new(u64::from(n) + u64::from(b)) },
        18 => Change::RetainedFrom(Seq::new(n.into())),
        _ => Change::CleanClose,
    }
}

fn holds(version: &Version) {
    let mut numbers: Vec<FileNo> = version.log_segments.keys().copied().collect();
    for keyspace in version.keyspaces.values() {
        assert!(keyspace.id.get() < version.next_keyspace_id);
        numbers.extend(keyspace.tables().map(|(_, table)| table.no));
        assert!(keyspace.levels[0].windows(2).all(|w| w[0].max_seq >= w[1].max_seq), "newest first");
        for tables in &keyspace.levels[1..] {
            assert!(tables.windows(2).all(|w| w[0].largest <= w[1].smallest));
        }
    }
    let count = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), count, "a number stands once");
    assert!(numbers.last().is_none_or(|no| *no < version.next_file_no));
}

quickcheck::quickcheck! {
    fn a_snapshot_gives_the_same_version(draws: Vec<(u8, u8, u8, u16)>) -> bool {
        let mut version = Version::default();
        let mut ids = std::collections::BTreeSet::new();
        for draw in draws {
            let edit = Edit::from(vec![change(draw)]);
            assert_eq!(Edit::decode(&edit.encode()), Ok(edit.clone()));
            let Ok(next) = version.apply(&edit) else { continue };
            holds(&next);
            if let Change::CreateKeyspace { id, .. } = edit.changes[0] {
                assert!(ids.insert(id), "a keyspace number is given once");
            }
            let snapshot = Edit::decode(&next.snapshot().encode()).unwrap();
            assert_eq!(Version::default().apply(&snapshot), Ok(next.clone()));
            version = next;
        }
        true
    }

    fn an_edit_is_taken_whole_or_not(draws: Vec<(u8, u8, u8, u16)>) -> bool {
        let edit = Edit::from(draws.into_iter().map(change).collect::<Vec<_>>());
        let mut one_by_one = Ok(Version::default());
        for change in &edit.changes {
            one_by_one = one_by_one.and_then(|version| version.apply(&vec![change.clone()].into()));
        }
        // Overlaps may exist between the changes of one edit, so only success one by one says something.
        one_by_one.is_err() || edit.changes.is_empty() || Version::default().apply(&edit) == one_by_one
    }

    fn no_bytes_make_it_panic(bytes: Vec<u8>, draws: Vec<(u8, u8, u8, u16)>, flips: Vec<(usize, u8)>) -> bool {
        let _ = Edit::decode(&bytes);
        let mut encoded = Edit::from(draws.into_iter().map(change).collect::<Vec<_>>()).encode();
        let len = encoded.len();
        for (at, value) in flips {
            if let Some(byte) = encoded.get_mut(at % len.max(1)) {
                *byte ^= value;
            }
        }
        if let Ok(edit) = Edit::decode(&encoded) {
            let _ = Version::default().apply(&edit);
        }
        TableMeta::decode(&mut Reader::new(&bytes)).is_ok() || bytes.len() < 1 << 20
    }
}

#[test]
fn an_unknown_required_change_is_refused_by_name() {
    let mut bytes = vec![200, 1];
    put_varint(&mut bytes, 2);
    bytes.extend_from_slice(b"xy");
    assert_eq!(
        Edit::decode(&bytes),
        Err(crate::record::Unreadable::Newer("unknown required change 200".into()))
    );
    bytes[1] = 0;
    assert_eq!(Edit::decode(&bytes), Ok(Edit::default()));
}

#[test]
fn a_table_may_move_and_a_neighbour_may_touch() {
    let edit = |changes: Vec<Change>| Edit::from(changes);
    let keyspace = KeyspaceId::new(0);
    let create =
        Change::CreateKeyspace { id: keyspace, name: "a".into(), options: KeyspaceOptions::default() };
    let mut first = (*table(1, 1, 9, true, 1)).clone();
    first.largest = vec![10];
    let mut second = (*table(2, 10, 20, false, 1)).clone();
    second.smallest = vec![10];
    let add = |level, t: &TableMeta| Change::AddTable { keyspace, level, table: Arc::new(t.clone()) };
    let remove = |level, no| Change::RemoveTable { keyspace, level, no: FileNo::new(no) };
    let version = Version::default().apply(&edit(vec![create, add(0, &first), add(1, &second)])).unwrap();
    let moved = version.apply(&edit(vec![remove(0, 1), add(1, &first)])).unwrap();
    assert_eq!(moved.keyspaces[&keyspace].levels[1].len(), 2);
    // The same end as an inclusive bound overlaps; so does adding before removing the old place.
    first.largest_is_exclusive = false;
    assert!(version.apply(&edit(vec![remove(0, 1), add(1, &first)])).is_err());
    assert!(version.apply(&edit(vec![add(1, &first), remove(0, 1)])).is_err());
    assert!(version.apply(&edit(vec![remove(1, 1)])).is_err());
}
