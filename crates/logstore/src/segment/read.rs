//! Reads parts of a segment.

use std::{ops::Range, path::Path, sync::Arc};

use arrow_array::RecordBatch;
use domain::{ids::InstanceId, time::Timestamp};

use super::{Dataset, SegmentError};
use crate::fs::Fs;

/// Which rows: numbers within the segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    All,
    /// Ascending, not overlapping.
    Rows(Vec<Range<u64>>),
}

/// What was read from a segment's files so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadCounts {
    pub pages: u64,
    pub bytes: u64,
}

/// A bound of a page's values. Texts may be cut (still a bound).
#[derive(Clone, Debug, PartialEq)]
pub enum Bounds {
    /// Integers, and times in microseconds.
    Integer(i64, i64),
    Number(f64, f64),
    /// Units of 10^-9 dollars.
    Decimal(i128, i128),
    Text(Vec<u8>, Vec<u8>),
    Boolean(bool, bool),
    /// Nothing is known.
    Unknown,
}

/// What the file says of the values of one page.
#[derive(Clone, Debug, PartialEq)]
pub struct PageBounds {
    /// Row numbers within the segment.
    pub rows: Range<u64>,
    /// `None`: only nulls.
    pub bounds: Option<Bounds>,
    pub nulls: Option<u64>,
}

/// An open segment. Cheap to keep; reading it needs no lock.
#[derive(Debug)]
pub struct Segment {}

impl Segment {
    /// Opens a segment and its side index. Without a usable side index the
    /// segment is read by its own footer, and [`Segment::ids_problem`] says why.
    pub fn open(fs: &Arc<dyn Fs>, parquet: &Path) -> Result<Self, SegmentError> {
        let _fs = fs;
        Err(SegmentError::usage(parquet, "not built yet"))
    }

    pub fn dataset(&self) -> Dataset {
        Dataset::Records
    }

    pub fn instance(&self) -> Option<&InstanceId> {
        None
    }

    pub fn rows(&self) -> u64 {
        0
    }

    pub fn ids_problem(&self) -> Option<&SegmentError> {
        None
    }

    /// The rows of each row group, in order.
    pub fn groups(&self) -> Vec<Range<u64>> {
        Vec::new()
    }

    /// Rows that may lie in `[since, until)`: one range, rows are sorted by
    /// time. Exact up to a page.
    pub fn rows_between(
        &self,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<Range<u64>, SegmentError> {
        let _range = (since, until);
        Ok(0..0)
    }

    /// The bounds of a column's pages in one row group; empty if it has none.
    pub fn pages(&self, group: usize, column: &str) -> Result<Vec<PageBounds>, SegmentError> {
        let _page = (group, column);
        Ok(Vec::new())
    }

    /// False if no row of the row group can have this value in an id column
    /// (bloom filter).
    pub fn may_contain(
        &self,
        group: usize,
        column: &str,
        value: &str,
    ) -> Result<bool, SegmentError> {
        let _value = (group, column, value);
        Ok(true)
    }

    /// Rows that may have `id` as their record, request, correlation or trace
    /// id: ranges of [`super::BLOCK_ROWS`], by the side index. `None` without one.
    pub fn candidates(&self, id: &str) -> Result<Option<Vec<Range<u64>>>, SegmentError> {
        let _id = id;
        Ok(None)
    }

    /// The rows that have `id` in one of `columns` (all four without): the
    /// candidates, verified. Without a side index every row is looked at.
    pub fn find(&self, id: &str, columns: &[&str]) -> Result<Vec<u64>, SegmentError> {
        let _find = (id, columns);
        Ok(Vec::new())
    }

    /// Reads rows in ascending order, `columns` in the order of the schema
    /// (columns that this file is too old to have are null), text as dictionaries.
    pub fn read(&self, rows: &Selection, columns: &[&str]) -> Result<Batches, SegmentError> {
        let _read = (rows, columns);
        Ok(Batches {})
    }

    /// What was read so far, by all readers.
    pub fn counts(&self) -> ReadCounts {
        ReadCounts::default()
    }
}

/// Batches of rows of one row group after the other.
#[derive(Debug)]
pub struct Batches {}

impl Iterator for Batches {
    type Item = Result<RecordBatch, SegmentError>;

    fn next(&mut self) -> Option<Self::Item> {
        None
    }
}
