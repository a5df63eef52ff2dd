//! Reading where some sectors may be unreadable: those are left out, the others are given.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use super::{SECTOR, read_full};
use crate::env::{Buf, File};

/// The sectors of `offset..offset + len`, `None` for each that cannot be read; fewer at the end of the file. Both
/// numbers are multiples of 512, but for a file's odd tail, which is given as a short last sector.
pub(crate) async fn read_leniently(file: &dyn File, offset: u64, len: usize) -> Vec<Option<Vec<u8>>> {
    let (outcome, buf) = read_full(file, offset, len, Buf::default()).await;
    if outcome.is_ok() {
        return buf.chunks(SECTOR).map(|sector| Some(sector.to_vec())).collect();
    }
    let mut sectors = Vec::new();
    for at in (0..len).step_by(SECTOR) {
        let wanted = SECTOR.min(len.saturating_sub(at));
        let (outcome, buf) = read_full(file, offset.saturating_add(at as u64), wanted, Buf::default()).await;
        sectors.push(outcome.is_ok().then(|| buf.to_vec()));
    }
    sectors
}
