//! Writes segments: from sorted batches, or from one closed journal file.

use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use domain::{ids::InstanceId, time::Timestamp};

use super::{Dataset, SegmentError};
use crate::fs::Fs;

/// What a catalog keeps of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    pub dataset: Dataset,
    /// `YYYY-MM-DD`, UTC.
    pub date: String,
    pub rows: u64,
    pub bytes: u64,
    pub ids_bytes: u64,
    /// Of the Parquet file, lower-case hex.
    pub sha256: String,
    pub first_seq: u64,
    pub last_seq: u64,
    pub min_ts: Timestamp,
    pub max_ts: Timestamp,
}

/// What a segment says of itself beside its rows.
#[derive(Clone, Debug)]
pub struct SealOptions {
    pub instance: InstanceId,
    /// Of the program.
    pub version: String,
    /// 1 for what is sealed, 3 for what is compacted.
    pub zstd_level: i32,
}

/// Writes one segment from batches of the dataset's full schema, sorted by
/// `ts`, then `seq`, of one UTC date.
#[derive(Debug)]
pub struct SegmentWriter {
    path: PathBuf,
}

impl SegmentWriter {
    /// Creates `parquet` and `ids`, which must not exist. Nothing is renamed
    /// here: the caller gives temporary names.
    pub fn create(
        fs: &dyn Fs,
        parquet: &Path,
        ids: &Path,
        dataset: Dataset,
        options: &SealOptions,
    ) -> Result<Self, SegmentError> {
        let _made = (fs, ids, dataset, options);
        Ok(Self { path: parquet.to_owned() })
    }

    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), SegmentError> {
        let _batch = batch;
        Err(SegmentError::usage(&self.path, "not built yet"))
    }

    /// Writes what is left, both files synced.
    pub fn finish(self) -> Result<SegmentInfo, SegmentError> {
        Err(SegmentError::usage(&self.path, "not built yet"))
    }
}

/// Where a line lies in its file: what sealing keeps of each in memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct JournalLine {
    pub ts: i64,
    pub seq: u64,
    pub offset: u64,
    pub bytes: u32,
}

/// Seals one closed journal file: one segment for each dataset and UTC date
/// that has lines beyond `after_seq` up to `last_seq`. `place` gives the
/// (temporary) paths of a segment and its side index.
pub fn seal(
    fs: &dyn Fs,
    journal: (&Path, u64),
    range: std::ops::RangeInclusive<u64>,
    options: &SealOptions,
    place: &mut dyn FnMut(Dataset, &str) -> (PathBuf, PathBuf),
) -> Result<Vec<SegmentInfo>, SegmentError> {
    let _all = (fs, range, options, place);
    Err(SegmentError::usage(journal.0, "not built yet"))
}
