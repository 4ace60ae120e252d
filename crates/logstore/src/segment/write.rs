//! Writes one segment: sorted batches in, a Parquet file and its side index
//! out, in memory for one row group whatever the number of rows.
//!
//! Nothing here has a final name: the caller gives temporary ones and renames
//! when both files are synced.

mod properties;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow_array::{
    Array, RecordBatch, StringArray,
    cast::AsArray,
    types::{Int64Type, TimestampMicrosecondType},
};
use arrow_schema::SchemaRef;
use domain::{ids::InstanceId, time::Timestamp};
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    file::metadata::{KeyValue, ParquetMetaData},
};
use sha2::{Digest, Sha256};

use super::{
    Dataset, FORMAT, GROUP_ROWS, SegmentError,
    ids::{
        GroupSummary, INDEXED_COLUMNS, Summary,
        build::{self, Hashes},
        read_exact,
    },
    map::Group,
    schema::{self, SEQ, TS},
};
use crate::fs::{Fs, JournalFile};

/// Handed to the file at once.
const BUFFER_BYTES: usize = 1024 * 1024;
/// Encoded bytes of a row group that end it before its rows do: captured bodies.
const GROUP_BYTES_MAX: usize = 32 * 1024 * 1024;

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
    /// The lowest and the highest number of its lines.
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
pub struct SegmentWriter<'f> {
    fs: &'f dyn Fs,
    path: PathBuf,
    ids: PathBuf,
    dataset: Dataset,
    options: SealOptions,
    writer: ArrowWriter<Sink>,
    /// As the file has it.
    schema: SchemaRef,
    hashes: Hashes,
    rows: u64,
    first_seq: i64,
    last_seq: i64,
    min_ts: i64,
    /// Of the last row, and its number.
    last: (i64, i64),
    /// The times of the first and the last row of each row group.
    group_times: Vec<(i64, i64)>,
}

impl std::fmt::Debug for SegmentWriter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentWriter").field("path", &self.path).field("rows", &self.rows).finish()
    }
}

/// The UTC date of a time, as directories have it.
pub fn date_of(ts: i64) -> String {
    Timestamp::from_micros(ts).to_rfc3339().as_str()[..10].to_owned()
}

impl<'f> SegmentWriter<'f> {
    /// Creates `parquet`, and `ids` at the end; neither may exist.
    pub fn create(
        fs: &'f dyn Fs,
        parquet: &Path,
        ids: &Path,
        dataset: Dataset,
        options: &SealOptions,
    ) -> Result<Self, SegmentError> {
        let file = fs.create(parquet);
        let file = file.map_err(|source| SegmentError::io(parquet, "create", source))?;
        let schema = schema::FileSchema::of(dataset, &schema::kinds(dataset));
        let schema = schema.ok_or_else(|| SegmentError::usage(parquet, "no such dataset"))?;
        let schema = Arc::clone(&schema.arrow);
        let properties = properties::of(dataset, options)
            .map_err(|error| SegmentError::usage(parquet, error))?;
        let options_of_writer =
            ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(
            Sink::new(file),
            Arc::clone(&schema),
            options_of_writer,
        );
        Ok(Self {
            fs,
            path: parquet.to_owned(),
            ids: ids.to_owned(),
            dataset,
            options: options.clone(),
            writer: writer.map_err(|error| failed(parquet, error))?,
            schema,
            hashes: Hashes::default(),
            rows: 0,
            first_seq: i64::MAX,
            last_seq: 0,
            min_ts: 0,
            last: (i64::MIN, i64::MIN),
            group_times: Vec::new(),
        })
    }

    /// Rows written so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Encoded bytes so far.
    pub fn bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    /// Takes rows that follow those before.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), SegmentError> {
        let mut from = 0;
        while from < batch.num_rows() {
            let room = GROUP_ROWS - self.writer.in_progress_rows();
            let rows = room.min(batch.num_rows() - from);
            self.write_in_group(&batch.slice(from, rows))?;
            from += rows;
            let full = self.writer.in_progress_rows() >= GROUP_ROWS
                || self.writer.in_progress_size() >= GROUP_BYTES_MAX;
            if full {
                self.writer.flush().map_err(|error| failed(&self.path, error))?;
            }
        }
        Ok(())
    }

    fn write_in_group(&mut self, batch: &RecordBatch) -> Result<(), SegmentError> {
        let usage = |what: &str| SegmentError::usage(&self.path, what);
        let column = |name: &str| batch.column_by_name(name).ok_or_else(|| usage("no such column"));
        let times = column(TS)?.as_primitive_opt::<TimestampMicrosecondType>();
        let seqs = column(SEQ)?.as_primitive_opt::<Int64Type>();
        let (Some(times), Some(seqs)) = (times, seqs) else {
            return Err(usage("a column has another type"));
        };
        let mut last = self.last;
        for (ts, seq) in times.values().iter().zip(seqs.values()) {
            if (*ts, *seq) < last {
                return Err(usage("rows are not sorted by their time and number"));
            }
            last = (*ts, *seq);
            self.first_seq = self.first_seq.min(*seq);
            self.last_seq = self.last_seq.max(*seq);
        }
        let Some(first) = times.values().first().copied() else { return Ok(()) };
        if self.rows == 0 {
            self.min_ts = first;
        }
        self.last = last;
        if self.writer.in_progress_rows() == 0 {
            self.group_times.push((first, last.0));
        } else if let Some(group) = self.group_times.last_mut() {
            group.1 = last.0;
        }
        self.add_ids(batch);
        self.rows += batch.num_rows() as u64;
        let batch = schema::to_file(batch, &self.schema);
        let batch = batch.map_err(|error| SegmentError::usage(&self.path, error))?;
        self.writer.write(&batch).map_err(|error| failed(&self.path, error))
    }

    fn add_ids(&mut self, batch: &RecordBatch) {
        let columns: Vec<&StringArray> = INDEXED_COLUMNS
            .iter()
            .filter_map(|name| batch.column_by_name(name)?.as_string_opt::<i32>())
            .collect();
        for row in 0..batch.num_rows() {
            let mut last = None;
            for column in columns.iter().filter(|column| column.is_valid(row)) {
                let id = column.value(row);
                // The correlation id is most often the request id.
                if last != Some(id) {
                    self.hashes.add(id.as_bytes());
                }
                last = Some(id);
            }
            self.hashes.end_row();
        }
    }

    /// Writes what is left, the side index too; both files are synced.
    pub fn finish(mut self) -> Result<SegmentInfo, SegmentError> {
        let path = &self.path;
        if self.rows == 0 {
            return Err(SegmentError::usage(path, "a segment has no rows"));
        }
        let number = |seq: i64| seq.to_string();
        for (key, value) in [
            ("first_seq", number(self.first_seq)),
            ("last_seq", number(self.last_seq)),
            ("rows", self.rows.to_string()),
        ] {
            let key = format!("llm_proxy.{key}");
            self.writer.append_key_value_metadata(KeyValue::new(key, value));
        }
        let metadata = self.writer.finish().map_err(|error| failed(path, error))?;
        let sink = self.writer.inner();
        sink.file.sync().map_err(|source| SegmentError::io(path, "sync", source))?;
        let groups = checked_groups(path, &*sink.file, sink.written, &metadata)?;
        let summary = self.summary(sink.written, &groups);
        let hashes = std::mem::take(&mut self.hashes);
        let digest = sink.digest.clone().finalize();
        let ids_bytes = build::write(self.fs, &self.ids, hashes, summary, &groups)?;
        Ok(SegmentInfo {
            dataset: self.dataset,
            date: date_of(self.min_ts),
            rows: self.rows,
            bytes: sink.written,
            ids_bytes,
            sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            first_seq: u64::try_from(self.first_seq).unwrap_or(0),
            last_seq: u64::try_from(self.last_seq).unwrap_or(0),
            min_ts: Timestamp::from_micros(self.min_ts),
            max_ts: Timestamp::from_micros(self.last.0),
        })
    }

    fn summary(&self, parquet_bytes: u64, groups: &[Group]) -> Summary {
        let group = |(group, times): (&Group, &(i64, i64))| GroupSummary {
            rows: group.rows,
            min_ts: times.0,
            max_ts: times.1,
            at: 0,
            bytes: 0,
        };
        Summary {
            format: FORMAT,
            dataset: self.dataset.as_str().to_owned(),
            instance: self.options.instance.as_str().to_owned(),
            version: self.options.version.clone(),
            parquet_bytes,
            rows: self.rows,
            first_seq: u64::try_from(self.first_seq).unwrap_or(0),
            last_seq: u64::try_from(self.last_seq).unwrap_or(0),
            min_ts: self.min_ts,
            max_ts: self.last.0,
            columns: schema::kinds(self.dataset),
            groups: groups.iter().zip(&self.group_times).map(group).collect(),
        }
    }
}

/// Reads back what was written and takes the checksum of every page.
fn checked_groups(
    path: &Path,
    file: &dyn JournalFile,
    written: u64,
    metadata: &ParquetMetaData,
) -> Result<Vec<Group>, SegmentError> {
    let io = |source| SegmentError::io(path, "read back", source);
    let wrong = || SegmentError::damaged(path, "its pages are not where they should be");
    let names = metadata.file_metadata().schema_descr();
    let ts = names.columns().iter().position(|column| column.name() == TS).unwrap_or(0);
    let mut buffer = Vec::new();
    let mut groups = Vec::new();
    for at in 0..metadata.num_row_groups() {
        let mut group = Group::of_metadata(metadata, at, ts).ok_or_else(wrong)?;
        if !group.fits(written) {
            return Err(wrong());
        }
        for extent in group.chunks.iter_mut().flat_map(|chunk| chunk.extents()) {
            buffer.resize(extent.bytes as usize, 0);
            read_exact(file, &mut buffer, extent.offset).map_err(io)?;
            extent.crc = Some(crc32c::crc32c(&buffer));
        }
        groups.push(group);
    }
    Ok(groups)
}

/// A file operation that failed inside the Parquet writer, or what it refused.
fn failed(path: &Path, error: parquet::errors::ParquetError) -> SegmentError {
    match error {
        parquet::errors::ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(source) => SegmentError::io(path, "write", *source),
            Err(other) => SegmentError::usage(path, other),
        },
        other => SegmentError::usage(path, other),
    }
}

/// The file under construction, hashed as it grows.
struct Sink {
    file: Arc<dyn JournalFile>,
    buffer: Vec<u8>,
    digest: Sha256,
    written: u64,
}

impl Sink {
    fn new(file: Arc<dyn JournalFile>) -> Self {
        let buffer = Vec::with_capacity(BUFFER_BYTES);
        Self { file, buffer, digest: Sha256::new(), written: 0 }
    }
}

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.append(&self.buffer)?;
        self.digest.update(&self.buffer);
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
