//! Harms with the checksum over them mended: wrong bytes that the kernel must believe.
//!
//! No kernel can notice these, so each that meets data gives a wrong answer, and a judge that lets all of them pass is
//! worth nothing. The checksums are computed here from the description of the formats, not by the kernel's code; before
//! anything is harmed they are compared with those on disk.
//!
//! ```text
//! table   frame: CRC-32 at 12 of identity (8), offset (8), bytes 0 to 11, payload from 16, as long as bytes 4 to 7 say
//!         the first frame follows the header: 24 bytes, its fields (length at 12), 4 bytes; the identity stands at 16
//! log     sector: CRC-32 at 0 of identity (8), number in the file (8), bytes 4 to 511; the identity stands at 12
//! ```

use std::ops::Range;

use super::world::SECTOR;

const FRAME_HEAD: usize = 16;
/// The role of a block with entries.
const ROLE_DATA: u8 = 1;

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn checksum(parts: &[&[u8]]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().to_le_bytes()
}

/// Where the data blocks of a table stand, heads included.
pub fn data_blocks(table: &[u8]) -> Vec<Range<usize>> {
    let mut blocks = Vec::new();
    let Some(fields) = field(table, 12).map(u32::from_le_bytes) else { return blocks };
    let mut at = 24 + fields as usize + 4;
    while let Some(len) = field(table, at + 4).map(u32::from_le_bytes) {
        let block = at..at + FRAME_HEAD + len as usize;
        // Zeros follow the last frame.
        if table.get(at).is_none_or(|role| *role == 0) || block.end > table.len() {
            break;
        }
        at = block.end;
        if table[block.start] == ROLE_DATA {
            blocks.push(block);
        }
    }
    blocks
}

fn block_checksum(table: &[u8], block: &Range<usize>) -> Option<[u8; 4]> {
    let (identity, offset) = (field::<8>(table, 16)?, (block.start as u64).to_le_bytes());
    let (head, payload) =
        (table.get(block.start..block.start + 12)?, table.get(block.start + FRAME_HEAD..block.end)?);
    Some(checksum(&[&identity, &offset, head, payload]))
}

/// Flips a bit of the byte at `offset` of a table, inside `block`, and mends the block's checksum.
///
/// # Errors
/// If the checksum on disk is not what the format says.
pub fn flip_in_block(table: &mut [u8], block: &Range<usize>, offset: usize) -> Result<(), String> {
    let place = block.start + 12..block.start + FRAME_HEAD;
    if block_checksum(table, block).as_ref().map(|sum| &sum[..]) != table.get(place.clone()) {
        return Err(format!(
            "the block at {} does not have the checksum that the format gives it",
            block.start
        ));
    }
    table[offset] ^= 1;
    if let Some(sum) = block_checksum(table, block) {
        table[place].copy_from_slice(&sum);
    }
    Ok(())
}

fn sector_checksum(file: &[u8], number: usize) -> Option<[u8; 4]> {
    let (identity, sector) = (field::<8>(file, 12)?, file.get(number * SECTOR..(number + 1) * SECTOR)?);
    Some(checksum(&[&identity, &(number as u64).to_le_bytes(), &sector[4..]]))
}

/// Flips a bit of the byte at `offset` of a log and mends the sector's checksum.
///
/// # Errors
/// If the checksum on disk is not what the format says.
pub fn flip_in_log(log: &mut [u8], offset: usize) -> Result<(), String> {
    let number = offset / SECTOR;
    let place = number * SECTOR..number * SECTOR + 4;
    if sector_checksum(log, number).as_ref().map(|sum| &sum[..]) != log.get(place.clone()) {
        return Err(format!("sector {number} does not have the checksum that the format gives it"));
    }
    log[offset] ^= 1;
    if let Some(sum) = sector_checksum(log, number) {
        log[place].copy_from_slice(&sum);
    }
    Ok(())
}
