//! Builds a side index: hashes as rows come, everything else at the end.

use std::path::Path;

use super::{BUCKET_BITS_MAX, CHUNK_OFFSETS, GroupSummary, MAGIC, Summary, Tail, hash};
use crate::{
    fs::{Fs, JournalFile},
    segment::{
        BLOCK_ROWS, SegmentError,
        codec::{BitWriter, put_varint},
        map::Group,
    },
};

/// Entries of a bucket, on average at least half of it.
const BUCKET_ENTRIES: u64 = 256;
/// Entries that are sorted at once: bounds the memory beside the hashes.
const PASS_ENTRIES: u64 = 1 << 20;
const BUFFER_BYTES: usize = 256 * 1024;

/// Collects hashes, four bytes for each different id of a block.
#[derive(Debug, Default)]
pub(crate) struct Hashes {
    hashes: Vec<u32>,
    /// How many hashes there are at the end of each block.
    ends: Vec<usize>,
    rows: usize,
}

impl Hashes {
    pub(crate) fn add(&mut self, id: &[u8]) {
        self.hashes.push(hash(id));
    }

    pub(crate) fn end_row(&mut self) {
        self.rows += 1;
        if self.rows.is_multiple_of(BLOCK_ROWS) {
            self.end_block();
        }
    }

    fn end_block(&mut self) {
        let begin = self.ends.last().copied().unwrap_or(0);
        self.hashes[begin..].sort_unstable();
        let mut kept = begin;
        for at in begin..self.hashes.len() {
            if at == begin || self.hashes[at] != self.hashes[kept - 1] {
                self.hashes[kept] = self.hashes[at];
                kept += 1;
            }
        }
        self.hashes.truncate(kept);
        self.ends.push(kept);
    }

    fn finish(&mut self) {
        if !self.rows.is_multiple_of(BLOCK_ROWS) {
            self.end_block();
        }
    }

    /// Entries of hashes in `[from, to)`, sorted.
    fn collect(&self, from: u64, to: u64, out: &mut Vec<(u32, u32)>) {
        out.clear();
        let mut begin = 0;
        for (block, end) in self.ends.iter().enumerate() {
            let sorted = &self.hashes[begin..*end];
            let first = sorted.partition_point(|hash| u64::from(*hash) < from);
            let last = sorted.partition_point(|hash| u64::from(*hash) < to);
            let block = u32::try_from(block).unwrap_or(u32::MAX);
            out.extend(sorted[first..last].iter().map(|hash| (*hash, block)));
            begin = *end;
        }
        out.sort_unstable();
    }
}

/// Writes a file piece by piece.
struct Out<'a> {
    file: &'a dyn JournalFile,
    path: &'a Path,
    buffer: Vec<u8>,
    written: u64,
}

impl Out<'_> {
    fn at(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), SegmentError> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    fn put_checked(&mut self, bytes: &[u8]) -> Result<(), SegmentError> {
        self.put(bytes)?;
        self.put(&crc32c::crc32c(bytes).to_le_bytes())
    }

    fn flush(&mut self) -> Result<(), SegmentError> {
        let written = self.file.append(&self.buffer);
        written.map_err(|source| SegmentError::io(self.path, "write", source))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// Writes and syncs the side index; gives its bytes. `summary` lacks the places
/// of `groups`.
pub(crate) fn write(
    fs: &dyn Fs,
    path: &Path,
    mut hashes: Hashes,
    mut summary: Summary,
    groups: &[Group],
) -> Result<u64, SegmentError> {
    hashes.finish();
    let file = fs.create(path).map_err(|source| SegmentError::io(path, "create", source))?;
    let mut out = Out { file: &*file, path, buffer: Vec::new(), written: 0 };
    out.put(MAGIC)?;
    let mut tail = shape(&hashes);
    tail.buckets_at = out.at();
    let starts = buckets(&mut out, &hashes, &tail)?;
    tail.directory_at = out.at();
    for chunk in 0..starts.len().div_ceil(CHUNK_OFFSETS) {
        let last = starts.last().copied().unwrap_or(0);
        let offset = |at: usize| starts.get(chunk * CHUNK_OFFSETS + at).copied().unwrap_or(last);
        let bytes: Vec<u8> = (0..=CHUNK_OFFSETS).flat_map(|at| offset(at).to_le_bytes()).collect();
        out.put_checked(&bytes)?;
    }
    for (group, place) in groups.iter().zip(&mut summary.groups) {
        let block = group.encode();
        *place = GroupSummary { at: out.at(), bytes: block.len() as u64, ..place.clone() };
        out.put(&block)?;
    }
    let json = serde_json::to_vec(&summary);
    let json = json.map_err(|error| SegmentError::usage(path, error))?;
    (tail.summary_at, tail.summary_bytes) = (out.at(), json.len() as u64);
    out.put_checked(&json)?;
    out.put(&tail.encode())?;
    out.flush()?;
    file.sync().map_err(|source| SegmentError::io(path, "sync", source))?;
    Ok(out.written)
}

/// How many bits the parts of an entry take.
fn shape(hashes: &Hashes) -> Tail {
    let entries = hashes.hashes.len() as u64;
    let blocks = hashes.ends.len() as u64;
    let bucket_bits = (entries / BUCKET_ENTRIES).checked_ilog2().unwrap_or(0);
    // The best Rice parameter is near the logarithm of the mean step.
    let step = (1u64 << 32) / entries.max(1);
    let rice = (step * 7 / 10).checked_ilog2().unwrap_or(0).min(31);
    Tail {
        buckets_at: 0,
        directory_at: 0,
        summary_at: 0,
        summary_bytes: 0,
        entries,
        blocks,
        bucket_bits: bucket_bits.min(BUCKET_BITS_MAX),
        rice,
        block_bits: 64 - blocks.saturating_sub(1).leading_zeros(),
    }
}

/// Writes the buckets; gives where each begins, and the end of the last.
fn buckets(out: &mut Out<'_>, hashes: &Hashes, tail: &Tail) -> Result<Vec<u32>, SegmentError> {
    let count = 1u64 << tail.bucket_bits;
    let width = (1u64 << 32) / count;
    let begin = out.at();
    let path = out.path;
    let offset =
        |at: u64| u32::try_from(at - begin).map_err(|_| SegmentError::usage(path, "too many ids"));
    let mut starts = Vec::with_capacity(usize::try_from(count).unwrap_or(0) + 1);
    let mut entries = Vec::new();
    let per_pass = (PASS_ENTRIES / (tail.entries / count).max(1)).clamp(1, count);
    let mut bits = BitWriter::default();
    let mut bytes = Vec::new();
    for pass in (0..count).step_by(usize::try_from(per_pass).unwrap_or(1)) {
        let buckets = pass..(pass + per_pass).min(count);
        hashes.collect(buckets.start * width, buckets.end * width, &mut entries);
        let mut left = entries.as_slice();
        for bucket in buckets {
            let lowest = u32::try_from(bucket * width).unwrap_or(u32::MAX);
            let end = (bucket + 1) * width;
            let inside = left.partition_point(|(hash, _)| u64::from(*hash) < end);
            let (own, rest) = left.split_at(inside);
            left = rest;
            bytes.clear();
            put_varint(&mut bytes, own.len() as u64);
            let mut last = lowest;
            for (hash, block) in own {
                let step = hash - last;
                bits.put_unary(step >> tail.rice);
                bits.put(step, tail.rice);
                bits.put(*block, tail.block_bits);
                last = *hash;
            }
            bytes.extend_from_slice(&bits.finish());
            starts.push(offset(out.at())?);
            out.put_checked(&bytes)?;
        }
    }
    starts.push(offset(out.at())?);
    Ok(starts)
}
