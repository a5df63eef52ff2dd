//! A version as the edit that makes it from nothing.

use std::sync::Arc;

use super::{Change, Edit, Version};

impl Version {
    /// The edit that, applied to [`Version::default`], gives this version.
    pub fn snapshot(&self) -> Edit {
        let mut changes = Vec::new();
        for keyspace in self.keyspaces.values() {
            let id = keyspace.id;
            let (name, options) = (keyspace.name.clone(), keyspace.options.clone());
            changes.push(Change::CreateKeyspace { id, name, options });
            changes.push(Change::KeyspaceFlushed { keyspace: id, lsn: keyspace.flushed });
            changes.extend(keyspace.tables().map(|(level, table)| Change::AddTable {
                keyspace: id,
                level,
                table: Arc::clone(table),
            }));
        }
        changes.extend(self.log_segments.iter().map(|(no, id)| Change::AddLogSegment { no: *no, id: *id }));
        changes.extend(self.known_durable.map(Change::KnownDurable));
        changes.push(Change::LogStart { lsn: self.log_start });
        changes.push(Change::NextFileNo(self.next_file_no));
        changes.push(Change::NextKeyspaceId(self.next_keyspace_id));
        changes.push(Change::SeqReserved { until: self.seq_reserved });
        changes.push(Change::LastSeq(self.last_seq));
        changes.push(Change::RetainedFrom(self.retained_from));
        changes.extend(self.seq_gaps.iter().map(|(after, until)| Change::SeqGap { after, until }));
        changes.push(Change::LastTimestamp(self.last_timestamp));
        changes.push(Change::Epoch(self.epoch));
        if self.clean {
            changes.push(Change::CleanClose);
        }
        Edit { changes }
    }
}
