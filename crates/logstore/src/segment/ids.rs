//! The side index: from an id to the rows that may have it, and where in the
//! Parquet file they lie, in a few small reads. This page is its format,
//! version 1.
//!
//! `<segment>.ids` beside `<segment>.parquet`, mode 0600, all numbers little
//! endian, all checksums CRC-32C:
//!
//! ```text
//! "LPIDS\0\0\x01"
//! buckets    entries of one range of hashes each, and their checksum
//! directory  where buckets begin: chunks of 513 u32 (the last is the next
//!            chunk's first) and their checksum
//! map        one block for each row group: see `map`
//! summary    JSON: what the segment is ([`Summary`]), and its checksum
//! tail       88 bytes: see [`Tail`]
//! ```
//! An entry is the hash of an id (CRC-32C of its text) and a block: rows
//! `[b × 1024, (b + 1) × 1024)`. Entries are sorted and each stands once. The
//! highest bits of a hash are the number of its bucket. In a bucket: the number
//! of entries (varint), then for each the difference of its hash to the one
//! before (to the bucket's lowest at first) as a Rice code (quotient in unary,
//! then `rice` bits) and its block in `block_bits`.
//!
//! A look-up reads the tail, one chunk of the directory and one bucket. It may
//! name blocks where the id is not (about one in a thousand for a segment of a
//! million ids), never miss one where it is.

pub(crate) mod build;

use std::{ops::Range, path::Path, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    BLOCK_ROWS, FORMAT, SegmentError,
    codec::{BitReader, Bytes},
    map::Group,
};
use crate::fs::{Fs, JournalFile};

pub(crate) const MAGIC: &[u8; 8] = b"LPIDS\0\0\x01";
/// Offsets in one chunk of the directory, beside the next chunk's first.
pub(crate) const CHUNK_OFFSETS: usize = 512;
pub(crate) const CHUNK_BYTES: usize = (CHUNK_OFFSETS + 1) * 4 + 4;
pub(crate) const TAIL_BYTES: usize = 88;
/// Buckets are numbered by at most so many bits of a hash.
pub(crate) const BUCKET_BITS_MAX: u32 = 24;
/// Larger ones cannot have been written: a look-up must stay small.
const BUCKET_BYTES_MAX: u64 = 64 * 1024 * 1024;
const SUMMARY_BYTES_MAX: u64 = 64 * 1024 * 1024;
const GROUP_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The tail and most summaries come with the first read.
const FIRST_READ_BYTES: u64 = 8 * 1024;

/// The columns whose values are in the index.
pub const INDEXED_COLUMNS: &[&str] =
    &["record_id", "request_id", "correlation_id", "trace_id", "id"];

pub(crate) fn hash(id: &[u8]) -> u32 {
    crc32c::crc32c(id)
}

/// What a segment is, without its rows. Keys may be added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub format: u64,
    pub dataset: String,
    pub instance: String,
    /// Of the program that wrote it.
    pub version: String,
    pub parquet_bytes: u64,
    pub rows: u64,
    pub first_seq: u64,
    pub last_seq: u64,
    pub min_ts: i64,
    pub max_ts: i64,
    /// Name and kind of each column of the file, in its order.
    pub columns: Vec<(String, String)>,
    pub groups: Vec<GroupSummary>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GroupSummary {
    pub rows: u64,
    pub min_ts: i64,
    pub max_ts: i64,
    /// Where its map block lies in the side index.
    pub at: u64,
    pub bytes: u64,
}

/// The fixed end of the file: u64 each of the format, where buckets, directory
/// and summary begin, the summary's bytes and the number of entries and blocks;
/// then u32 each of bucket bits, Rice bits, block bits and 0; then "LPIDSEND",
/// u32 0 and the u32 checksum of all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    pub buckets_at: u64,
    pub directory_at: u64,
    pub summary_at: u64,
    pub summary_bytes: u64,
    pub entries: u64,
    pub blocks: u64,
    pub bucket_bits: u32,
    pub rice: u32,
    pub block_bits: u32,
}

const TAIL_MAGIC: &[u8; 8] = b"LPIDSEND";

impl Tail {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(TAIL_BYTES);
        let places = [FORMAT, self.buckets_at, self.directory_at, self.summary_at];
        let counts = [self.summary_bytes, self.entries, self.blocks];
        out.extend(places.iter().chain(&counts).flat_map(|number| number.to_le_bytes()));
        let bits = [self.bucket_bits, self.rice, self.block_bits, 0];
        out.extend(bits.iter().flat_map(|number| number.to_le_bytes()));
        out.extend_from_slice(TAIL_MAGIC);
        out.extend_from_slice(&[0; 4]);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// The format if it is not ours, or what is wrong.
    fn decode(tail: &[u8], file_bytes: u64) -> Result<Self, Result<u64, &'static str>> {
        let wrong = Err("its end is no end of a side index");
        let (body, crc) = tail.split_at_checked(TAIL_BYTES - 4).ok_or(wrong)?;
        if crc != crc32c::crc32c(body).to_le_bytes() {
            return Err(wrong);
        }
        let mut bytes = Bytes(body);
        let mut place = || bytes.u64().ok_or(wrong);
        let format = place()?;
        if format > FORMAT {
            return Err(Ok(format));
        }
        let (buckets_at, directory_at, summary_at) = (place()?, place()?, place()?);
        let (summary_bytes, entries, blocks) = (place()?, place()?, place()?);
        let mut number = || bytes.u32().ok_or(wrong);
        let (bucket_bits, rice, block_bits) = (number()?, number()?, number()?);
        let tail = Self {
            buckets_at,
            directory_at,
            summary_at,
            summary_bytes,
            entries,
            blocks,
            bucket_bits,
            rice,
            block_bits,
        };
        let ordered = buckets_at <= directory_at && directory_at <= summary_at;
        let ends = summary_at.checked_add(summary_bytes).and_then(|end| end.checked_add(4));
        let whole = ends == file_bytes.checked_sub(TAIL_BYTES as u64);
        let bits = bucket_bits <= BUCKET_BITS_MAX && rice < 32 && block_bits <= 32;
        if ordered && whole && bits && summary_bytes <= SUMMARY_BYTES_MAX {
            Ok(tail)
        } else {
            Err(wrong)
        }
    }

    /// Blocks of one hash in its bucket.
    fn find(&self, bytes: &[u8], bucket: u32, wanted: u32) -> Option<Vec<u32>> {
        let mut bytes = Bytes(bytes);
        let count = bytes.count(bytes.0.len().saturating_mul(8))?;
        let mut bits = BitReader::new(bytes.0);
        let shift = 32 - self.bucket_bits;
        let mut hash = if shift == 32 { 0 } else { bucket << shift };
        let mut found = Vec::new();
        for _ in 0..count {
            let quotient = bits.take_unary()?;
            let rest = bits.take(self.rice)?;
            let step = u64::from(quotient) << self.rice | u64::from(rest);
            hash = hash.checked_add(u32::try_from(step).ok()?)?;
            let block = bits.take(self.block_bits)?;
            if hash > wanted {
                break;
            }
            if hash == wanted && u64::from(block) < self.blocks {
                found.push(block);
            }
        }
        Some(found)
    }
}

/// An open side index: its tail is read, nothing else is kept.
pub struct Ids {
    file: Arc<dyn JournalFile>,
    name: String,
    bytes: u64,
    tail: Tail,
    /// What came with the tail, from this offset on.
    first_read: (u64, Vec<u8>),
    read: std::sync::atomic::AtomicU64,
}

impl std::fmt::Debug for Ids {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ids").field("name", &self.name).field("tail", &self.tail).finish()
    }
}

impl Ids {
    /// Opens `<segment>.ids`, not the segment itself: enough for [`Ids::candidates`].
    pub fn open(fs: &dyn Fs, path: &Path) -> Result<Self, SegmentError> {
        let io = |source| SegmentError::io(path, "open", source);
        let file = fs.open_read(path).map_err(io)?;
        let bytes = file.identity().map_err(io)?.bytes;
        let damaged = |what: &str| SegmentError::damaged(path, what);
        if bytes < (MAGIC.len() + TAIL_BYTES) as u64 {
            return Err(damaged("it is too short for a side index"));
        }
        let at = bytes.saturating_sub(FIRST_READ_BYTES);
        let mut buffer = vec![0; usize::try_from(bytes - at).unwrap_or(0)];
        read_exact(&*file, &mut buffer, at)
            .map_err(|source| SegmentError::io(path, "read", source))?;
        let tail = match Tail::decode(&buffer[buffer.len() - TAIL_BYTES..], bytes) {
            Ok(tail) => tail,
            Err(Ok(found)) => {
                let file = path.display().to_string();
                return Err(SegmentError::Newer { file, found, known: FORMAT });
            }
            Err(Err(what)) => return Err(damaged(what)),
        };
        let read = (buffer.len() as u64).into();
        let name = path.display().to_string();
        Ok(Self { file, name, bytes, tail, first_read: (at, buffer), read })
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes read of it so far.
    pub fn bytes_read(&self) -> u64 {
        self.read.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Rows that may have `id` in an indexed column: whole blocks, ascending,
    /// neighbours joined (the last may reach past the last row).
    pub fn candidates(&self, id: &str) -> Result<Vec<Range<u64>>, SegmentError> {
        let hash = hash(id.as_bytes());
        let bucket =
            if self.tail.bucket_bits == 0 { 0 } else { hash >> (32 - self.tail.bucket_bits) };
        let block = self.bucket(bucket)?;
        let blocks = self.tail.find(&block, bucket, hash);
        let blocks = blocks.ok_or_else(|| self.damaged("a bucket is not as it was written"))?;
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for block in blocks {
            let begin = u64::from(block) * BLOCK_ROWS as u64;
            let end = begin + BLOCK_ROWS as u64;
            match ranges.last_mut().filter(|last| last.end == begin) {
                Some(last) => last.end = end,
                None => ranges.push(begin..end),
            }
        }
        Ok(ranges)
    }

    /// The bytes of a bucket, checked.
    fn bucket(&self, bucket: u32) -> Result<Vec<u8>, SegmentError> {
        let (chunk, place) = (bucket as usize / CHUNK_OFFSETS, bucket as usize % CHUNK_OFFSETS);
        let at = self.tail.directory_at + (chunk * CHUNK_BYTES) as u64;
        let offsets = self.checked(at, CHUNK_BYTES as u64, "the directory")?;
        let mut bytes = Bytes(offsets.get(place * 4..).unwrap_or_default());
        let (from, to) = (bytes.u32().unwrap_or(0), bytes.u32().unwrap_or(0));
        let length = u64::from(to).checked_sub(u64::from(from));
        let length = length.filter(|length| (4..=BUCKET_BYTES_MAX).contains(length));
        let length = length.ok_or_else(|| self.damaged("the directory names no bucket"))?;
        self.checked(self.tail.buckets_at + u64::from(from), length, "a bucket")
    }

    /// What the segment is.
    pub(crate) fn summary(&self) -> Result<Summary, SegmentError> {
        let Tail { summary_at, summary_bytes, .. } = self.tail;
        let json = self.checked(summary_at, summary_bytes + 4, "the summary")?;
        serde_json::from_slice(&json).map_err(|_| self.damaged("the summary is no summary"))
    }

    /// The map of a row group.
    pub(crate) fn group(&self, group: &GroupSummary) -> Result<Group, SegmentError> {
        let (at, bytes) = (group.at, group.bytes);
        if bytes > GROUP_BYTES_MAX || at.checked_add(bytes).is_none_or(|end| end > self.bytes) {
            return Err(self.damaged("the map of a row group lies outside of it"));
        }
        let block = self.read(at, bytes)?;
        let decoded = Group::decode(&block).filter(|map| map.rows == group.rows);
        decoded.ok_or_else(|| self.damaged("the map of a row group is not as it was written"))
    }

    /// Bytes followed by their checksum.
    fn checked(&self, at: u64, bytes: u64, what: &str) -> Result<Vec<u8>, SegmentError> {
        let wrong = || self.damaged(&format!("{what} is not as it was written"));
        let end = at.checked_add(bytes).filter(|end| *end <= self.bytes && bytes >= 4);
        end.ok_or_else(wrong)?;
        let mut read = self.read(at, bytes)?;
        let crc = read.split_off(read.len() - 4);
        if crc != crc32c::crc32c(&read).to_le_bytes() {
            return Err(wrong());
        }
        Ok(read)
    }

    fn read(&self, at: u64, bytes: u64) -> Result<Vec<u8>, SegmentError> {
        let length = usize::try_from(bytes).unwrap_or(0);
        let (first_at, first) = &self.first_read;
        let known = at.checked_sub(*first_at).and_then(|from| usize::try_from(from).ok());
        if let Some(known) = known.and_then(|from| first.get(from..from.checked_add(length)?)) {
            return Ok(known.to_vec());
        }
        let mut buffer = vec![0; length];
        let io = |source| SegmentError::Io { file: self.name.clone(), what: "read", source };
        read_exact(&*self.file, &mut buffer, at).map_err(io)?;
        self.read.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
        Ok(buffer)
    }

    pub(crate) fn damaged(&self, what: &str) -> SegmentError {
        SegmentError::Damaged { file: self.name.clone(), what: what.to_owned() }
    }
}

/// Fills the buffer from one place of a file.
pub(crate) fn read_exact(
    file: &dyn JournalFile,
    mut buffer: &mut [u8],
    mut at: u64,
) -> std::io::Result<()> {
    while !buffer.is_empty() {
        let read = file.read_at(buffer, at)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        buffer = &mut buffer[read..];
        at += read as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
