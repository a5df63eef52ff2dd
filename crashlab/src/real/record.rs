//! The record of a storm on a real disk: one line of JSON for each change of where it stands.
//!
//! The process of the storm writes each line by one call and goes on when that has returned. The kernel of the system
//! has it then, and no kill of the process takes it back. A kill in the middle of a call leaves a line without its end.
//! What that one says had not taken effect, so it is cut off before the next process goes on.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use holdfast_workloads::storm::Line;

/// Its name in the directory of a run.
pub const FILE_NAME: &str = "record.jsonl";

/// Whoever adds to a record.
pub(super) struct Writer {
    file: File,
    path: PathBuf,
}

impl Writer {
    /// Goes on behind the last line of the record at `path`, which is made if it is not there.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let file = OpenOptions::new().append(true).create(true).open(path);
        let file = file.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Adds a line.
    pub(super) fn add(&self, line: &Line) -> Result<(), String> {
        let mut bytes = serde_json::to_vec(line).map_err(|error| error.to_string())?;
        bytes.push(b'\n');
        (&self.file).write_all(&bytes).map_err(|error| format!("{}: {error}", self.path.display()))
    }
}

/// Whoever reads a record, while it grows.
pub struct Reader {
    file: File,
    path: PathBuf,
    /// Bytes of whole lines read so far.
    whole: u64,
    /// The line that has no end yet.
    begun: Vec<u8>,
}

impl Reader {
    /// Begins with the first line.
    ///
    /// # Errors
    /// In words: the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self, String> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { file, path: path.to_owned(), whole: 0, begun: Vec::new() })
    }

    /// The lines that have come to their end since the last call.
    ///
    /// # Errors
    /// In words: the file cannot be read, or a line says nothing that a storm would.
    pub fn read(&mut self) -> Result<Vec<Line>, String> {
        let of_file = |error: &dyn std::fmt::Display| format!("{}: {error}", self.path.display());
        self.file.read_to_end(&mut self.begun).map_err(|error| of_file(&error))?;
        let end = self.begun.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let mut lines = Vec::new();
        for text in self.begun[..end].split_inclusive(|byte| *byte == b'\n') {
            let line = serde_json::from_slice(text)
                .map_err(|error| of_file(&format!("the line at byte {}: {error}", self.whole)))?;
            self.whole += text.len() as u64;
            lines.push(line);
        }
        self.begun.drain(..end);
        Ok(lines)
    }

    /// Cuts off a line without an end. Nobody may be adding to the record. True if there was one.
    ///
    /// # Errors
    /// In words: the file cannot be changed.
    pub fn cut(&mut self) -> Result<bool, String> {
        if self.begun.is_empty() {
            return Ok(false);
        }
        self.begun.clear();
        let cut = self.file.set_len(self.whole).and_then(|()| {
            use std::io::{Seek, SeekFrom};
            self.file.seek(SeekFrom::Start(self.whole))
        });
        cut.map(|_| true).map_err(|error| format!("{}: {error}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_workloads::Scratch;
    use holdfast_workloads::history::{
        Body, Cell, Change, Durable, Ending, Interval, Milestone, Operation, Promise, Stamp, Value,
    };
    use holdfast_workloads::oracle::{Violation, Wrong};
    use holdfast_workloads::storm::Counts;

    fn every_kind_of_line() -> Vec<Line> {
        let cell = Cell { keyspace: 1, key: [0, b'\n', 0xff, b'"'].as_slice().into() };
        let value = |body| Value { stamp: Stamp { txn: 7, operation: 1 }, body };
        let interval = Interval {
            start: std::ops::Bound::Excluded(cell.key.clone()),
            end: std::ops::Bound::Included([].as_slice().into()),
        };
        let operations = [
            Operation::Get { cell: cell.clone(), found: Some(value(Body::Number(-3))) },
            Operation::Get { cell: cell.clone(), found: None },
            Operation::Scan {
                keyspace: 1,
                interval: interval.clone(),
                reverse: true,
                found: vec![(cell.key.clone(), value(Body::List([1, 2].as_slice().into())))],
                complete: false,
            },
            Operation::Put { cell: cell.clone(), value: value(Body::Filler(20_000)) },
            Operation::Delete { cell },
            Operation::DeleteRange { keyspace: 2, interval },
        ];
        let endings = [
            Ending::Committed(u64::MAX),
            Ending::Conflict,
            Ending::Refused("for a reason\nof two lines".to_owned()),
            Ending::Unknown,
        ];
        let milestones = [
            Milestone::Synced(3),
            Milestone::Creating(1),
            Milestone::Created(1, 4),
            Milestone::Dropping(4),
            Milestone::Dropped(4),
            Milestone::Killed,
            Milestone::PowerLost,
            Milestone::Closed,
            Milestone::Opened(9, vec![(0, 1), (1, 4)]),
        ];
        let begins =
            Change::Begins { client: 2, opening: 1, promise: Promise::Serializable, durable: Durable::Flush };
        let mut changes = vec![
            begins,
            Change::Views(0, 4),
            Change::ViewsAtMost(0, 5),
            Change::Blurs(0),
            Change::Commits(0),
        ];
        changes.extend(operations.map(|operation| Change::Did(0, operation)));
        changes.extend(endings.map(|ending| Change::Ends(0, ending)));
        changes.extend(milestones.map(Change::Passes));
        let wrong = Violation { wrong: Wrong::LostWrite, what: "ä".to_owned() };
        let counts = Counts { steps: 3, read: u64::MAX, ..Counts::default() };
        let others = [Line::Opens, Line::Step(5), Line::Copy, Line::Counted(counts), Line::Wrong(wrong)];
        changes.into_iter().map(Line::History).chain(others).collect()
    }

    #[test]
    fn a_record_cut_anywhere_has_the_lines_that_are_whole_and_goes_on_behind_them() {
        let scratch = Scratch::new("record", None).expect("a temporary directory");
        let path = scratch.path().join(FILE_NAME);
        let (lines, writer) = (every_kind_of_line(), Writer::open(&path).expect("it is made"));
        lines.iter().for_each(|line| writer.add(line).expect("it is written"));
        let whole = std::fs::read(&path).expect("it is there");
        assert_eq!(Reader::open(&path).and_then(|mut reader| reader.read()).as_ref(), Ok(&lines));
        for len in 0..=whole.len() {
            std::fs::write(&path, &whole[..len]).expect("it is written");
            let mut reader = Reader::open(&path).expect("it is there");
            let found = reader.read().expect("whole lines are read");
            let ends = whole[..len].iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(found, lines[..ends]);
            assert_eq!(reader.cut(), Ok(len > 0 && whole[len - 1] != b'\n'));
            Writer::open(&path).and_then(|writer| writer.add(&Line::Copy)).expect("it is written");
            assert_eq!(reader.read(), Ok(vec![Line::Copy]));
            assert_eq!(reader.cut(), Ok(false));
        }
    }

    #[test]
    fn a_line_that_nobody_writes_is_refused_with_its_place() {
        let scratch = Scratch::new("record", None).expect("a temporary directory");
        let path = scratch.path().join(FILE_NAME);
        std::fs::write(&path, "\"copy\"\n\"strange\"\n").expect("it is written");
        let refused = Reader::open(&path).and_then(|mut reader| reader.read()).expect_err("it says nothing");
        assert!(refused.contains("the line at byte 7") && refused.contains("strange"), "{refused}");
    }
}
