//! Reads committed batches out of one journal file: the one place that decides
//! what is valid. It never hands out a byte that no valid commit line covers,
//! and goes on behind damage at the next batch that proves itself.

use std::{io, sync::Arc};

use memchr::memmem::Finder;

use crate::{
    format::{COMMIT_PREFIX, Commit, INTERNAL_PREFIX},
    fs::JournalFile,
};

/// Read at once; also what an idle reader keeps.
const CHUNK_BYTES: usize = 128 * 1024;
/// Bytes without a valid commit line that are kept in the hope of one. More
/// than any batch: the largest holds the openings of 16 384 requests.
const PENDING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes that belong to no valid batch, with a valid one behind them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damage {
    pub offset: u64,
    pub bytes: u64,
    /// Lines that the commit lines on both sides prove to be missing.
    pub lines: u64,
}

/// A valid batch.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Whole lines, the commit line not among them.
    pub bytes: &'a [u8],
    pub first_seq: u64,
    pub last_seq: u64,
    /// Where in the file its first line begins.
    pub start: u64,
    /// Where in the file the batch ends, commit line included.
    pub end: u64,
    /// What was skipped on the way to this batch.
    pub damage: Option<Damage>,
}

impl<'a> Batch<'a> {
    /// Each line with its number, without its newline.
    pub fn lines(&self) -> impl Iterator<Item = (u64, &'a [u8])> + use<'a> {
        let bytes = self.bytes;
        let mut from = 0;
        let ends = memchr::memchr_iter(b'\n', bytes);
        (self.first_seq..).zip(ends.map(move |end| {
            let line = &bytes[from..end];
            from = end + 1;
            line
        }))
    }

    /// Contiguous runs of lines that are not the journal's own, with the number
    /// of the last line of each.
    pub fn runs(&self) -> Runs<'a> {
        Runs { bytes: self.bytes, seq: self.first_seq - 1 }
    }
}

/// See [`Batch::runs`].
#[derive(Debug)]
pub struct Runs<'a> {
    bytes: &'a [u8],
    /// The number of the last line before `bytes`.
    seq: u64,
}

impl<'a> Iterator for Runs<'a> {
    type Item = (u64, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while self.bytes.starts_with(INTERNAL_PREFIX) {
            let end = memchr::memchr(b'\n', self.bytes)?;
            self.bytes = &self.bytes[end + 1..];
            self.seq += 1;
        }
        if self.bytes.is_empty() {
            return None;
        }
        let end = match memchr::memmem::find(self.bytes, b"\n{\"_") {
            Some(at) => at + 1,
            None => self.bytes.len(),
        };
        let (run, rest) = self.bytes.split_at(end);
        self.bytes = rest;
        self.seq += count_lines(run);
        Some((self.seq, run))
    }
}

fn count_lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// Walks through the batches of one file; asked again at the end of a growing
/// file, it reads on.
pub struct Scanner {
    file: Arc<dyn JournalFile>,
    finder: Finder<'static>,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that hold file contents not yet handed out.
    head: usize,
    filled: usize,
    /// File offset of `buffer[head]`.
    offset: u64,
    /// From here on no commit line was looked for yet.
    searched: usize,
    /// File offset of the end of the last valid batch, and its last line.
    good_end: u64,
    seq: u64,
}

impl std::fmt::Debug for Scanner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scanner").field("good_end", &self.good_end).field("seq", &self.seq).finish()
    }
}

impl Scanner {
    /// Begins at the start of a file whose first line is `first_seq`.
    pub fn new(file: Arc<dyn JournalFile>, first_seq: u64) -> Self {
        Self {
            file,
            finder: Finder::new(b"\n{\"_c\":"),
            buffer: Vec::new(),
            head: 0,
            filled: 0,
            offset: 0,
            searched: 0,
            good_end: 0,
            seq: first_seq.saturating_sub(1),
        }
    }

    /// Goes on behind a valid batch, as [`resume_point`] finds one.
    pub fn resume(file: Arc<dyn JournalFile>, point: ResumePoint) -> Self {
        let mut scanner = Self::new(file, point.seq + 1);
        scanner.offset = point.offset;
        scanner.good_end = point.offset;
        scanner
    }

    /// Where the last valid batch ends.
    pub fn good_end(&self) -> u64 {
        self.good_end
    }

    /// The number of the last valid line (of the line before the file at its
    /// beginning).
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The next valid batch, or `None` where the file has none (yet).
    pub fn next_batch(&mut self) -> io::Result<Option<Batch<'_>>> {
        let found = loop {
            if let Some(found) = self.find_batch() {
                break found;
            }
            if !self.fill()? {
                self.shrink();
                return Ok(None);
            }
        };
        let Found { from, to, end, commit } = found;
        let batch_offset = self.offset + (from - self.head) as u64;
        let first_seq = commit.seq - commit.lines + 1;
        let damage = (batch_offset > self.good_end).then(|| Damage {
            offset: self.good_end,
            bytes: batch_offset - self.good_end,
            lines: first_seq - 1 - self.seq,
        });
        self.offset += (end - self.head) as u64;
        self.head = end;
        self.searched = end;
        self.good_end = self.offset;
        self.seq = commit.seq;
        let bytes = &self.buffer[from..to];
        let (start, end, last_seq) = (batch_offset, self.offset, commit.seq);
        Ok(Some(Batch { bytes, first_seq, last_seq, start, end, damage }))
    }

    fn find_batch(&mut self) -> Option<Found> {
        loop {
            // A commit line begins behind the newline of the line before it.
            let window = &self.buffer[self.searched..self.filled];
            let Some(at) = self.finder.find(window) else {
                let keep = COMMIT_PREFIX.len();
                self.searched = self.searched.max(self.filled.saturating_sub(keep));
                return None;
            };
            let to = self.searched + at + 1;
            let length = memchr::memchr(b'\n', &self.buffer[to..self.filled])?;
            self.searched = to;
            let Some(commit) = Commit::parse(&self.buffer[to..to + length]) else { continue };
            if let Some(from) = self.verify(to, commit) {
                return Some(Found { from, to, end: to + length + 1, commit });
            }
        }
    }

    /// Where the batch that `commit` closes begins, if it proves itself.
    fn verify(&self, to: usize, commit: Commit) -> Option<usize> {
        let pending = &self.buffer[self.head..to];
        let contiguous = self.offset == self.good_end && count_lines(pending) == commit.lines;
        let start = if contiguous {
            0
        } else {
            // Damage lies before it: its own lines are the last `n`.
            let mut ends = memchr::memrchr_iter(b'\n', pending);
            let lines = usize::try_from(commit.lines).ok()?;
            match ends.nth(lines) {
                Some(end) => end + 1,
                None if count_lines(pending) == commit.lines => 0,
                None => return None,
            }
        };
        let before = commit.seq - commit.lines;
        let fits = if contiguous { before == self.seq } else { before >= self.seq };
        (fits && crc32c::crc32c(&pending[start..]) == commit.crc).then_some(self.head + start)
    }

    /// Reads more; false at the end of the file.
    fn fill(&mut self) -> io::Result<bool> {
        if self.filled - self.head > PENDING_BYTES_MAX {
            let drop = (self.filled - self.head) / 2;
            self.head += drop;
            self.offset += drop as u64;
            self.searched = self.searched.max(self.head);
        }
        if self.head > 0 {
            self.buffer.copy_within(self.head..self.filled, 0);
            self.searched -= self.head;
            self.filled -= self.head;
            self.head = 0;
        }
        if self.buffer.len() < self.filled + CHUNK_BYTES {
            // Doubling, so that a large batch is not copied for every chunk.
            self.buffer.resize((self.filled * 2).max(self.filled + CHUNK_BYTES), 0);
        }
        let at = self.offset + self.filled as u64;
        let read = self.file.read_at(&mut self.buffer[self.filled..], at)?;
        self.filled += read;
        Ok(read > 0)
    }

    /// An idle reader keeps one chunk.
    fn shrink(&mut self) {
        if self.filled < CHUNK_BYTES && self.buffer.len() > 2 * CHUNK_BYTES {
            self.buffer.truncate(2 * CHUNK_BYTES);
            self.buffer.shrink_to_fit();
        }
    }
}

/// Where a valid batch ends inside a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResumePoint {
    pub offset: u64,
    /// The number of the last line before it.
    pub seq: u64,
}

/// Read by who looks for a point to resume at: more than two batches of most
/// journals at first, more than two of nearly every batch at most.
const RESUME_BYTES: usize = 256 * 1024;
const RESUME_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The first end of a batch at or behind `from` that the batch behind it proves,
/// if there is one near.
pub fn resume_point(file: &dyn JournalFile, from: u64) -> io::Result<Option<ResumePoint>> {
    let mut window = Vec::new();
    while window.len() < RESUME_BYTES_MAX {
        let filled = window.len();
        window.resize(filled + RESUME_BYTES, 0);
        let read = file.read_at(&mut window[filled..], from + filled as u64)?;
        window.truncate(filled + read);
        let point = proven_end(&window);
        if let Some((end, seq)) = point {
            return Ok(Some(ResumePoint { offset: from + end as u64, seq }));
        }
        if read == 0 {
            break;
        }
    }
    Ok(None)
}

/// Where a batch ends of which the next continues the numbering and proves itself,
/// and the number of its last line.
fn proven_end(window: &[u8]) -> Option<(usize, u64)> {
    let mut last: Option<(Commit, usize)> = None;
    for at in memchr::memmem::find_iter(window, b"\n{\"_c\":") {
        let line = &window[at + 1..];
        let length = memchr::memchr(b'\n', line)?;
        let Some(commit) = Commit::parse(&line[..length]) else { continue };
        if let Some((before, end)) = last {
            let bytes = &window[end..at + 1];
            let follows = commit.seq - commit.lines == before.seq
                && count_lines(bytes) == commit.lines
                && crc32c::crc32c(bytes) == commit.crc;
            if follows {
                return Some((end, before.seq));
            }
        }
        last = Some((commit, at + 1 + length + 1));
    }
    None
}

struct Found {
    from: usize,
    to: usize,
    end: usize,
    commit: Commit,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_are_the_lines_that_are_not_internal(
            lines in proptest::collection::vec("\\{\"[_a-c]{1,3}\":\"[^\\n]{0,9}\"\\}", 1..20),
            first_seq in 1u64..1000,
        ) {
            let bytes: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let last_seq = first_seq + lines.len() as u64 - 1;
            let bytes = bytes.as_bytes();
            let batch = Batch { bytes, first_seq, last_seq, start: 0, end: 0, damage: None };
            let shown: Vec<u8> = batch.runs().flat_map(|(_, run)| run.to_vec()).collect();
            let expected: Vec<u8> = batch
                .lines()
                .filter(|(_, line)| !line.starts_with(INTERNAL_PREFIX))
                .flat_map(|(_, line)| [line, b"\n"].concat())
                .collect();
            prop_assert_eq!(shown, expected);
            for (seq, run) in batch.runs() {
                let last = run.split_inclusive(|b| *b == b'\n').next_back().unwrap_or_default();
                let (_, line) = batch.lines().find(|(at, _)| *at == seq).expect("a line");
                prop_assert_eq!(last.strip_suffix(b"\n").unwrap_or_default(), line);
            }
            let number = |(at, _): (u64, &[u8])| at;
            prop_assert_eq!(batch.lines().map(number).last(), Some(last_seq));
        }
    }
}
