//! Carries out operations through the kernel's own interface: the same code on Linux and on the simulated disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use holdfast::env::{Advice, Buf, Env, File, IoError, IoErrorKind, IoResult, OpenOptions};

use crate::sequence::{Operation, bytes_of};

/// Open files by slot.
pub type Handles = BTreeMap<usize, Arc<dyn File>>;

/// Carries out one operation below `root`. Calls `begun` when the system was asked and has not answered yet.
pub async fn perform(
    env: &dyn Env,
    root: &Path,
    handles: &mut Handles,
    number: u16,
    operation: &Operation,
    begun: &mut (dyn FnMut() + Send),
) -> IoResult<()> {
    let disk = env.disk();
    let at = |path: &str| if path.is_empty() { root.to_path_buf() } else { root.join(path) };
    let file = |slot: usize| handles.get(&slot).cloned().ok_or_else(|| not_open(root));
    let call = match operation {
        Operation::Create { slot, path, mode } => {
            let options = OpenOptions { direct: mode.direct, dsync: mode.dsync, ..OpenOptions::create() };
            let call = disk.open(&at(path), options);
            begun();
            handles.insert(*slot, call.await?);
            return Ok(());
        }
        Operation::Reopen { slot, path, mode } => {
            let options = OpenOptions { direct: mode.direct, dsync: mode.dsync, ..OpenOptions::write() };
            let call = disk.open(&at(path), options);
            begun();
            handles.insert(*slot, call.await?);
            return Ok(());
        }
        Operation::Write { slot, offset, len } => {
            let file = file(*slot)?;
            let call = file.write_at(*offset, Buf::copy_of(&bytes_of(number, *offset, *len)));
            begun();
            let count = call.await.0?;
            return if count as u64 == *len { Ok(()) } else { Err(short(root, count, *len)) };
        }
        Operation::Allocate { slot, offset, len } => file(*slot)?.allocate(*offset, *len),
        Operation::Zero { slot, offset, len } => file(*slot)?.zero_range(*offset, *len),
        Operation::Punch { slot, offset, len } => file(*slot)?.punch_hole(*offset, *len),
        Operation::Truncate { slot, len } => file(*slot)?.truncate(*len),
        Operation::SyncData { slot } => file(*slot)?.sync_data(),
        Operation::SyncAll { slot } => file(*slot)?.sync_all(),
        Operation::SyncDir { path } => disk.sync_dir(&at(path)),
        Operation::Rename { from, to } => disk.rename(&at(from), &at(to)),
        Operation::Link { from, to } => disk.hard_link(&at(from), &at(to)),
        Operation::Remove { path } => disk.remove(&at(path)),
        Operation::CreateDir { path } => disk.create_dir(&at(path)),
        Operation::WriteBack { slot } => {
            // Linux begins to write what it is told to forget. On the simulated disk it is nothing.
            file(*slot)?.advise(0, 0, Advice::DontNeed);
            begun();
            return Ok(());
        }
        Operation::Commit => {
            begun();
            return Ok(());
        }
    };
    begun();
    call.await
}

fn not_open(root: &Path) -> IoError {
    let detail = "the sequence uses a file that it did not create".to_owned();
    IoError {
        kind: IoErrorKind::Other,
        operation: "sequence",
        path: root.to_path_buf(),
        offset: None,
        detail,
    }
}

fn short(root: &Path, count: usize, len: u64) -> IoError {
    let detail = format!("{count} of {len} bytes were written");
    IoError { kind: IoErrorKind::Other, operation: "write", path: root.to_path_buf(), offset: None, detail }
}

/// Opens the files that these operations created, in their modes.
pub async fn reopen(env: &dyn Env, root: &Path, before: &[Operation]) -> IoResult<Handles> {
    let mut handles = Handles::new();
    for operation in before {
        if let Operation::Create { slot, path, mode } = operation {
            let options = OpenOptions { direct: mode.direct, dsync: mode.dsync, ..OpenOptions::write() };
            handles.insert(*slot, env.disk().open(&root.join(path), options).await?);
        }
    }
    Ok(handles)
}
