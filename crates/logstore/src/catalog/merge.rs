//! Reads several sorted segments as one: rows by time, then number.
//!
//! A segment is opened when its first row is due and holds one batch in memory,
//! so that merging files which follow each other costs no more than copying.

use std::{path::PathBuf, sync::Arc};

use arrow_array::{
    Array, Int64Array, RecordBatch,
    cast::AsArray as _,
    types::{Int64Type, TimestampMicrosecondType},
};
use arrow_select::interleave::interleave_record_batch;

use super::{CatalogError, manifest::SealedFile};
use crate::{
    fs::Fs,
    segment::{Dataset, Segment, SegmentError, Selection, schema::SEQ, schema::TS},
};

/// Rows are read in pieces of about so many bytes as they lie in the file.
const PIECE_BYTES: u64 = 512 * 1024;
const PIECE_ROWS_MIN: u64 = 64;
const PIECE_ROWS_MAX: u64 = 8192;

type Key = (i64, i64);

/// A segment that is read from its beginning to its end.
pub(crate) struct Rows {
    path: PathBuf,
    segment: Segment,
    columns: Vec<String>,
    at: u64,
    piece: u64,
}

impl Rows {
    pub(crate) fn open(
        fs: &Arc<dyn Fs>,
        path: PathBuf,
        info: &SealedFile,
    ) -> Result<Self, SegmentError> {
        let segment = Segment::open(fs, &path)?;
        if segment.rows() != info.rows {
            let what = format!("it has {} rows, {} are listed", segment.rows(), info.rows);
            return Err(SegmentError::damaged(&path, what));
        }
        let row_bytes = (info.bytes / info.rows.max(1)).max(1);
        let piece = (PIECE_BYTES / row_bytes).clamp(PIECE_ROWS_MIN, PIECE_ROWS_MAX);
        let columns = all_columns(info.dataset);
        Ok(Self { path, segment, columns, at: 0, piece })
    }

    pub(crate) fn damaged(&self, what: &str) -> SegmentError {
        SegmentError::damaged(&self.path, what)
    }

    /// The next rows; `None` behind the last.
    pub(crate) fn next(&mut self) -> Result<Option<RecordBatch>, SegmentError> {
        if self.at >= self.segment.rows() {
            return Ok(None);
        }
        let end = (self.at + self.piece).min(self.segment.rows());
        let selection = Selection::Rows(std::iter::once(self.at..end).collect());
        let columns: Vec<&str> = self.columns.iter().map(String::as_str).collect();
        let batches = self.segment.read(&selection, &columns)?;
        let batches = batches.collect::<Result<Vec<RecordBatch>, SegmentError>>()?;
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        if rows as u64 != end - self.at {
            return Err(SegmentError::damaged(&self.path, "rows are missing"));
        }
        self.at = end;
        let whole = match <[RecordBatch; 1]>::try_from(batches) {
            Ok([batch]) => batch,
            Err(batches) => {
                let schema = crate::segment::schema(self.segment.dataset());
                arrow_select::concat::concat_batches(&schema, &batches)
                    .map_err(|error| SegmentError::damaged(&self.path, error))?
            }
        };
        Ok(Some(whole))
    }
}

pub(crate) fn all_columns(dataset: Dataset) -> Vec<String> {
    let schema = crate::segment::schema(dataset);
    schema.fields().iter().map(|field| field.name().clone()).collect()
}

/// The keys of a batch.
struct Keys {
    ts: arrow_array::TimestampMicrosecondArray,
    seq: Int64Array,
}

impl Keys {
    fn of(batch: &RecordBatch) -> Option<Self> {
        let ts = batch.column_by_name(TS)?.as_primitive_opt::<TimestampMicrosecondType>()?;
        let seq = batch.column_by_name(SEQ)?.as_primitive_opt::<Int64Type>()?;
        Some(Self { ts: ts.clone(), seq: seq.clone() })
    }

    fn at(&self, row: usize) -> Key {
        let ts = if self.ts.is_null(row) { i64::MIN } else { self.ts.value(row) };
        (ts, if self.seq.is_null(row) { 0 } else { self.seq.value(row) })
    }
}

struct Open {
    rows: Rows,
    batch: RecordBatch,
    keys: Keys,
    at: usize,
}

impl Open {
    fn begin(mut rows: Rows) -> Result<Option<Self>, SegmentError> {
        let Some(batch) = rows.next()? else { return Ok(None) };
        let keys = Keys::of(&batch);
        let keys = keys.ok_or_else(|| SegmentError::damaged(&rows.path, "it has no times"))?;
        Ok(Some(Self { rows, batch, keys, at: 0 }))
    }

    fn key(&self) -> Key {
        self.keys.at(self.at)
    }

    /// How many rows from here on come before `bound`.
    fn run(&self, bound: Option<Key>) -> usize {
        let rest = self.batch.num_rows() - self.at;
        let Some(bound) = bound else { return rest };
        let (mut low, mut high) = (1, rest);
        while low < high {
            let middle = low.midpoint(high);
            match self.keys.at(self.at + middle) <= bound {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }
}

/// Several segments as one. Yields batches of the full schema.
pub(crate) struct Merge {
    fs: Arc<dyn Fs>,
    /// Not begun yet, the one with the latest beginning first.
    waiting: Vec<(PathBuf, SealedFile)>,
    open: Vec<Open>,
}

impl Merge {
    pub(crate) fn new(fs: &Arc<dyn Fs>, mut inputs: Vec<(PathBuf, SealedFile)>) -> Self {
        inputs.sort_by_key(|(_, info)| std::cmp::Reverse((info.min_ts, info.first_seq)));
        Self { fs: Arc::clone(fs), waiting: inputs, open: Vec::new() }
    }

    /// Opens what may have the next row.
    fn open_due(&mut self) -> Result<(), CatalogError> {
        loop {
            let head = self.open.iter().map(Open::key).min();
            let due = self
                .waiting
                .last()
                .is_some_and(|(_, next)| head.is_none_or(|(ts, _)| next.min_ts.as_micros() <= ts));
            let Some((path, info)) = self.waiting.pop_if(|_| due) else { return Ok(()) };
            let rows = Rows::open(&self.fs, path, &info)?;
            self.open.extend(Open::begin(rows)?);
        }
    }

    /// The next rows, `None` behind the last.
    pub(crate) fn next(&mut self) -> Result<Option<RecordBatch>, CatalogError> {
        self.open_due()?;
        let mut taken: Vec<(usize, usize)> = Vec::new();
        // Rows are taken until a batch is used up: it must be let go first.
        while let Some(from) = (0..self.open.len()).min_by_key(|at| self.open[*at].key()) {
            let others = self.open.iter().enumerate().filter(|(at, _)| *at != from);
            let mut bound = others.map(|(_, open)| open.key()).min();
            if let Some((_, next)) = self.waiting.last() {
                let due = (next.min_ts.as_micros(), i64::MIN);
                bound = Some(bound.map_or(due, |bound| bound.min(due)));
            }
            let open = &mut self.open[from];
            if self.waiting.last().is_some_and(|(_, next)| next.min_ts.as_micros() <= open.key().0)
            {
                // Its rows may come before this one.
                break;
            }
            let run = open.run(bound);
            taken.extend((open.at..open.at + run).map(|row| (from, row)));
            open.at += run;
            if open.at == open.batch.num_rows() {
                break;
            }
        }
        let merged = self.gather(&taken)?;
        self.refill()?;
        match merged {
            Some(batch) => Ok(Some(batch)),
            None if self.open.is_empty() && self.waiting.is_empty() => Ok(None),
            None => self.next(),
        }
    }

    fn gather(&self, taken: &[(usize, usize)]) -> Result<Option<RecordBatch>, CatalogError> {
        let (Some((first, start)), Some((last, _))) = (taken.first(), taken.last()) else {
            return Ok(None);
        };
        let one = first == last && taken.iter().all(|(from, _)| from == first);
        if one {
            return Ok(Some(self.open[*first].batch.slice(*start, taken.len())));
        }
        let batches: Vec<&RecordBatch> = self.open.iter().map(|open| &open.batch).collect();
        let path = &self.open[*first].rows.path;
        let merged = interleave_record_batch(&batches, taken);
        Ok(Some(merged.map_err(|error| SegmentError::damaged(path, error))?))
    }

    /// Replaces batches that are used up, and closes segments without more.
    fn refill(&mut self) -> Result<(), CatalogError> {
        let open = std::mem::take(&mut self.open);
        for it in open {
            if it.at < it.batch.num_rows() {
                self.open.push(it);
            } else {
                self.open.extend(Open::begin(it.rows)?);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
