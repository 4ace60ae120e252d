//! Seals one closed journal file: its lines, sorted by time, as one segment for
//! each dataset and UTC date.
//!
//! Memory is bounded by the number of lines, not by their bytes: the first walk
//! over the file keeps 32 bytes of each line, the second reads the lines in
//! their new order, which is nearly the old one, through a few cached pieces.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Dataset, Decoder, SegmentError, SegmentInfo, SegmentWriter,
    decode::{self, Head},
    ids::read_exact,
    write::{SealOptions, date_of},
};
use crate::{
    format::INTERNAL_PREFIX,
    fs::{Fs, JournalFile},
    scan::{Damage, Scanner},
};

/// Lines that are decoded together: small pieces, small buffers.
const DECODED_ROWS: usize = 2048;
/// Bytes of lines that end a batch before its rows do.
const BATCH_BYTES: usize = 2 * 1024 * 1024;
/// Pieces of the journal in memory on the second walk.
const PIECE_BYTES: usize = 64 * 1024;
const PIECES_MAX: usize = 64;
const MICROS_A_DAY: i64 = 86_400_000_000;

/// Where a line lies in its file: what sealing keeps of each in memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct JournalLine {
    pub ts: i64,
    pub seq: u64,
    pub offset: u64,
    pub bytes: u32,
}

/// What became of a journal file.
#[derive(Clone, Debug, Default)]
pub struct Sealed {
    pub segments: Vec<SegmentInfo>,
    /// The last valid line of the file within the range, of the journal itself
    /// or not; 0 if there is none.
    pub last_seq: u64,
    /// Lines that are no JSON object, kept as they are among the traces.
    pub opaque: u64,
    /// What no commit line covers, with a valid batch behind it.
    pub damage: Vec<Damage>,
}

/// Which lines of which file.
#[derive(Clone, Debug)]
pub struct ClosedFile<'a> {
    pub path: &'a Path,
    /// The number of its first line.
    pub first_seq: u64,
    /// Lines outside do not count (superseded, or sealed already).
    pub range: RangeInclusive<u64>,
}

/// Seals one file. `place` gives the (temporary) paths of a segment and of its
/// side index, which must not exist; all of them are synced, nothing is renamed.
pub fn seal(
    fs: &dyn Fs,
    journal: &ClosedFile<'_>,
    options: &SealOptions,
    place: &mut dyn FnMut(Dataset, &str) -> (PathBuf, PathBuf),
) -> Result<Sealed, SegmentError> {
    let path = journal.path;
    let file = fs.open_read(path).map_err(|source| SegmentError::io(path, "open", source))?;
    let mut sealed = Sealed::default();
    let groups = index(&file, journal, &mut sealed)?;
    let mut pieces = Pieces::new(file);
    for ((dataset, date), mut lines) in groups {
        lines.sort_unstable();
        let (parquet, ids) = place(dataset, &date);
        let mut writer = SegmentWriter::create(fs, &parquet, &ids, dataset, options)?;
        let mut decoder = Decoder::new(dataset, None);
        for line in &lines {
            let read = pieces.line(line.offset, line.bytes as usize);
            let text = read.map_err(|source| SegmentError::io(path, "read", source))?;
            if decoder.push_at(text, line.seq, line.ts).is_err() {
                decoder.push_opaque(text, line.seq, line.ts);
                sealed.opaque += 1;
            }
            if decoder.rows() == DECODED_ROWS || decoder.bytes() >= BATCH_BYTES {
                writer.write(&decoder.finish())?;
            }
        }
        writer.write(&decoder.finish())?;
        sealed.segments.push(writer.finish()?);
    }
    Ok(sealed)
}

type Groups = BTreeMap<(Dataset, String), Vec<JournalLine>>;

/// The first walk: where each line lies, and when it was.
fn index(
    file: &Arc<dyn JournalFile>,
    journal: &ClosedFile<'_>,
    sealed: &mut Sealed,
) -> Result<Groups, SegmentError> {
    let mut groups = Groups::new();
    let mut last_ts = 0;
    let mut current: Option<((Dataset, i64), Vec<JournalLine>)> = None;
    let mut scanner = Scanner::new(Arc::clone(file), journal.first_seq);
    let io = |source| SegmentError::io(journal.path, "read", source);
    while let Some(batch) = scanner.next_batch().map_err(io)? {
        sealed.damage.extend(batch.damage);
        let mut offset = batch.start;
        for (seq, line) in batch.lines() {
            let at = offset;
            offset += line.len() as u64 + 1;
            if !journal.range.contains(&seq) {
                continue;
            }
            sealed.last_seq = sealed.last_seq.max(seq);
            if line.starts_with(INTERNAL_PREFIX) {
                continue;
            }
            let Head { dataset, ts } = decode::head(line);
            let dataset = dataset.unwrap_or(Dataset::Traces);
            last_ts = ts.unwrap_or(last_ts);
            let bytes = u32::try_from(line.len()).unwrap_or(u32::MAX);
            let kept = JournalLine { ts: last_ts, seq, offset: at, bytes };
            let group = (dataset, last_ts.div_euclid(MICROS_A_DAY));
            match &mut current {
                Some((of, lines)) if *of == group => lines.push(kept),
                _ => {
                    put_back(&mut groups, current.take());
                    let key = (dataset, date_of(last_ts));
                    let mut lines = groups.remove(&key).unwrap_or_default();
                    lines.push(kept);
                    current = Some((group, lines));
                }
            }
        }
    }
    put_back(&mut groups, current);
    Ok(groups)
}

/// Most lines belong where the line before belongs; its list is held aside.
fn put_back(groups: &mut Groups, current: Option<((Dataset, i64), Vec<JournalLine>)>) {
    if let Some(((dataset, day), lines)) = current {
        groups.insert((dataset, date_of(day.saturating_mul(MICROS_A_DAY))), lines);
    }
}

/// A file through a few cached pieces.
struct Pieces {
    file: Arc<dyn JournalFile>,
    pieces: HashMap<u64, Piece>,
    /// Counts uses, so that the longest unused piece goes.
    clock: u64,
    last: u64,
    joined: Vec<u8>,
}

struct Piece {
    bytes: Vec<u8>,
    used: u64,
}

impl Pieces {
    fn new(file: Arc<dyn JournalFile>) -> Self {
        Self { file, pieces: HashMap::new(), clock: 0, last: u64::MAX, joined: Vec::new() }
    }

    fn line(&mut self, offset: u64, bytes: usize) -> io::Result<&[u8]> {
        let piece_bytes = PIECE_BYTES as u64;
        let (piece, from) = (offset / piece_bytes, offset % piece_bytes);
        let from = usize::try_from(from).unwrap_or(0);
        if from + bytes > PIECE_BYTES {
            // It reaches into the next piece: read by itself.
            self.joined.resize(bytes, 0);
            read_exact(&*self.file, &mut self.joined, offset)?;
            return Ok(&self.joined);
        }
        if piece != self.last {
            self.load(piece)?;
            self.last = piece;
        }
        let found = self.pieces.get(&piece).and_then(|piece| piece.bytes.get(from..from + bytes));
        found.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn load(&mut self, number: u64) -> io::Result<()> {
        self.clock += 1;
        if let Some(piece) = self.pieces.get_mut(&number) {
            piece.used = self.clock;
            return Ok(());
        }
        let mut bytes = Vec::new();
        if self.pieces.len() >= PIECES_MAX {
            let oldest = self.pieces.iter().min_by_key(|(_, piece)| piece.used);
            if let Some(oldest) = oldest.map(|(number, _)| *number) {
                bytes = self.pieces.remove(&oldest).map(|piece| piece.bytes).unwrap_or_default();
            }
        }
        bytes.resize(PIECE_BYTES, 0);
        let mut filled = 0;
        while filled < PIECE_BYTES {
            let at = number * PIECE_BYTES as u64 + filled as u64;
            match self.file.read_at(&mut bytes[filled..], at)? {
                0 => break,
                read => filled += read,
            }
        }
        bytes.truncate(filled);
        self.pieces.insert(number, Piece { bytes, used: self.clock });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
