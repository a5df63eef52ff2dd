//! The ledger of acknowledgements, and the verdict on a database that was opened again.

use std::collections::BTreeMap;

use holdfast::{Db, Scan};

use super::child::{counter, keyspace};
use super::record::{COUNTERS, KEPT, KEYSPACES, Record};
use crate::report::Report;

/// What was acknowledged, kept outside the process that is killed.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// For each writer, the `Seq` of each acknowledged transaction that may still be judged.
    acknowledged: Vec<BTreeMap<u64, u64>>,
    /// For each writer the last transaction that is known to stand in the database.
    last: Vec<u64>,
    /// For each writer, how many transactions beyond `last` may stand: one for each child since that may have died
    /// with one under way.
    under_way: Vec<u64>,
    /// Transactions acknowledged in all.
    count: u64,
    /// The greatest `Seq` that was visible when the database was judged last.
    visible: u64,
}

impl Ledger {
    /// Nothing acknowledged yet.
    pub fn new(writers: u32) -> Self {
        let writers = writers as usize;
        Self {
            acknowledged: vec![BTreeMap::new(); writers],
            last: vec![0; writers],
            under_way: vec![0; writers],
            count: 0,
            visible: 0,
        }
    }

    /// Transactions acknowledged in all.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Takes the lines of one child, which is dead.
    pub fn take(&mut self, lines: &[String], report: &mut Report) {
        for line in lines {
            let mut words = line.split(' ');
            match words.next() {
                Some("A") => {
                    let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
                    match numbers[..] {
                        [writer, number, seq] => {
                            self.acknowledge(writer as usize, number, seq, report);
                        }
                        _ => report.wrong(format!("the child told {line:?}")),
                    }
                }
                Some("X") => report.wrong(format!("the child failed: {}", &line[2..])),
                _ => {}
            }
        }
        // Its writers have started, so each may have died between the commit and its acknowledgement.
        if lines.iter().any(|line| line == "R") {
            self.under_way.iter_mut().for_each(|count| *count += 1);
        }
    }

    /// A writer of a fresh child goes on behind what was under way when the children before it died, as far as that
    /// stands. Its acknowledgement tells that all before it stands.
    fn acknowledge(&mut self, writer: usize, number: u64, seq: u64, report: &mut Report) {
        let last = self.last[writer];
        let under_way = std::mem::take(&mut self.under_way[writer]);
        report.check(number > last && number <= last + 1 + under_way, || {
            format!(
                "writer {writer} was acknowledged transaction {number} after {last}, {under_way} under way"
            )
        });
        let before = self.acknowledged[writer].last_key_value().map_or(self.visible, |(_, seq)| *seq);
        report.check(seq > before, || {
            format!("writer {writer}: commit {seq} of transaction {number} follows commit {before}")
        });
        self.acknowledged[writer].insert(number, seq);
        self.last[writer] = number;
        self.count += 1;
    }

    /// Forgets the newest acknowledgements of a writer: a defect of the ledger, planted.
    pub fn drop_newest(&mut self, writer: usize) {
        // One more than may have been under way, so that what stands cannot be explained by that.
        for _ in 0..=self.under_way[writer] {
            if let Some((number, _)) = self.acknowledged[writer].pop_last() {
                self.last[writer] = number - 1;
            }
        }
    }
}

/// What was looked at.
#[derive(Clone, Copy, Default, Debug)]
pub struct Judged {
    /// Records read.
    pub records: u64,
    /// Transactions that had been under way and stand.
    pub unacknowledged: u64,
}

/// Judges the whole content against the ledger, and brings the ledger up to what is there.
///
/// # Errors
/// What the database says; it is wrong then too.
pub async fn judge(db: &Db, ledger: &mut Ledger, report: &mut Report) -> holdfast::Result<Judged> {
    let mut judged = Judged::default();
    let counters = keyspace(db, COUNTERS, 1).await?;
    let visible = db.last_seq().get();
    check_seqs(ledger, visible, report);
    let mut found = Vec::new();
    for (writer, (last, under_way)) in ledger.last.iter().zip(&ledger.under_way).enumerate() {
        let stands = counter(&counters, writer as u32).await?;
        report.check(stands >= *last, || {
            format!("LOST: writer {writer} was acknowledged {last}, but the database holds {stands}")
        });
        report.check(stands <= last + under_way, || {
            format!("writer {writer} has {stands}, but {last} was acknowledged and at most {under_way} more under way")
        });
        judged.unacknowledged += u64::from(stands > *last);
        found.push(stands);
    }
    let mut records = BTreeMap::new();
    for (index, name) in KEYSPACES.iter().enumerate() {
        let space = keyspace(db, name, index).await?;
        let mut cursor = space.scan(Scan::all()).await?;
        let mut here = BTreeMap::new();
        while let Some(entry) = cursor.next().await? {
            judged.records += 1;
            let place = Record::parse_key(entry.key);
            let record = Record::decode(entry.value, index);
            match (place, record) {
                (Some(place), Some(record)) if place == (record.writer, record.number) => {
                    here.insert(place, record);
                }
                _ => report.wrong(format!("{name}: the record under {place:?} is not what was written")),
            }
        }
        check_complete(name, &here, &found, report);
        if index == 0 {
            records = here;
        } else {
            report.check(here == records, || {
                format!("{name} and {} differ: a transaction is not whole", KEYSPACES[0])
            });
        }
    }
    for record in records.values() {
        check_testimony(record, ledger, &found, report);
    }
    ledger.visible = ledger.visible.max(visible);
    for (writer, stands) in found.iter().enumerate() {
        ledger.last[writer] = *stands;
        ledger.under_way[writer] = 0;
        ledger.acknowledged[writer].retain(|number, _| number + KEPT > *stands);
    }
    Ok(judged)
}

fn check_seqs(ledger: &Ledger, visible: u64, report: &mut Report) {
    report.check(visible >= ledger.visible, || {
        format!("commit {visible} is the newest now, but {} was before", ledger.visible)
    });
    let mut by_seq = BTreeMap::new();
    for (writer, acknowledged) in ledger.acknowledged.iter().enumerate() {
        for (number, seq) in acknowledged {
            report.check(*seq <= visible, || {
                format!("LOST: writer {writer} was acknowledged commit {seq}, the newest now is {visible}")
            });
            if let Some(other) = by_seq.insert(*seq, (writer, *number)) {
                report.wrong(format!("commit {seq} was given to {other:?} and to {:?}", (writer, *number)));
            }
        }
    }
}

/// Exactly the records that follow from the counters.
fn check_complete(name: &str, here: &BTreeMap<(u32, u64), Record>, found: &[u64], report: &mut Report) {
    let mut expected = 0;
    for (writer, last) in found.iter().enumerate() {
        for number in last.saturating_sub(KEPT) + 1..=*last {
            expected += 1;
            report.check(here.contains_key(&(writer as u32, number)), || {
                format!("{name}: transaction {number} of writer {writer} is missing, though {last} is there")
            });
        }
    }
    report.check(here.len() == expected, || {
        format!("{name} holds {} records, {expected} should stand", here.len())
    });
}

/// What a survivor saw survived, and it saw exactly what had been committed.
fn check_testimony(record: &Record, ledger: &Ledger, found: &[u64], report: &mut Report) {
    let who = || format!("transaction {} of writer {}", record.number, record.writer);
    for (writer, seen) in record.seen.iter().enumerate() {
        let stands = found.get(writer).copied().unwrap_or(0);
        report.check(*seen <= stands, || {
            format!("no prefix: {} saw {seen} of writer {writer}, of which {stands} is left", who())
        });
        let Some(acknowledged) = ledger.acknowledged.get(writer) else { continue };
        let next = acknowledged.range(seen + 1..).next();
        if let Some((number, seq)) = next {
            report.check(*seq > record.read_at, || {
                format!(
                    "{} read at {} and missed {number} of writer {writer}, commit {seq}",
                    who(),
                    record.read_at
                )
            });
        }
        if let Some(seq) = acknowledged.get(seen) {
            report.check(*seq <= record.read_at, || {
                format!(
                    "{} read at {} and saw {seen} of writer {writer}, commit {seq}",
                    who(),
                    record.read_at
                )
            });
        }
    }
    let own = ledger.acknowledged.get(record.writer as usize).and_then(|own| own.get(&record.number));
    report.check(own.is_none_or(|seq| *seq > record.read_at), || {
        format!("{} read at {} and is commit {own:?}", who(), record.read_at)
    });
}
