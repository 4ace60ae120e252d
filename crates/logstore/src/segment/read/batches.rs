//! Rows of a segment, one row group after the other.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow_schema::{Schema, SchemaRef};
use parquet::arrow::{
    ProjectionMask,
    arrow_reader::{
        ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection, RowSelectionPolicy,
    },
};

use super::{Segment, Selection};
use crate::segment::{PAGE_ROWS, SegmentError, schema};

/// Fewer selected rows than one of so many: skip from row to row; more: decode
/// what lies between and drop it.
const SPARSE: u64 = 64;

/// Rows at once where a row may have a captured body.
const BODY_ROWS: usize = 128;

/// Batches of at most [`PAGE_ROWS`] rows (fewer of bodies), none across row
/// groups.
pub struct Batches {
    segment: Segment,
    /// What is wanted, and which of it the file has.
    schema: SchemaRef,
    present: Vec<usize>,
    batch_rows: usize,
    /// Row groups to come, and their rows (within them).
    groups: VecDeque<(usize, Vec<Range<u64>>)>,
    reader: Option<ParquetRecordBatchReader>,
}

impl std::fmt::Debug for Batches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batches").field("groups", &self.groups.len()).finish()
    }
}

impl Batches {
    pub(super) fn new(
        segment: Segment,
        rows: &Selection,
        columns: &[&str],
    ) -> Result<Self, SegmentError> {
        let full = schema::schema(segment.dataset());
        let wanted = full.fields().iter().filter(|field| columns.contains(&field.name().as_str()));
        let fields: Vec<_> = wanted.cloned().collect();
        let file = &segment.0.schema.arrow;
        let present = fields.iter().filter_map(|field| file.index_of(field.name()).ok()).collect();
        let schema = Arc::new(Schema::new_with_metadata(fields, full.metadata().clone()));
        let groups = match rows {
            Selection::All => split(&segment, std::slice::from_ref(&(0..segment.rows()))),
            Selection::Rows(ranges) => {
                let ordered = ranges.windows(2).all(|pair| pair[0].end <= pair[1].start);
                if !ordered || ranges.iter().any(|range| range.start > range.end) {
                    let file = segment.0.name.clone();
                    let what = "rows are asked for out of order".to_owned();
                    return Err(SegmentError::Usage { file, what });
                }
                split(&segment, ranges)
            }
        };
        let large = schema.fields().iter().any(|field| field.name() == "body");
        let batch_rows = if large { BODY_ROWS } else { PAGE_ROWS };
        Ok(Self { segment, schema, present, batch_rows, groups, reader: None })
    }

    /// The columns of the batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn open(
        &self,
        group: usize,
        rows: &[Range<u64>],
    ) -> Result<ParquetRecordBatchReader, SegmentError> {
        let opened = self.segment.group(group)?;
        let total = opened.map.rows;
        let selected: u64 = rows.iter().map(|range| range.end - range.start).sum();
        let span = rows.last().map_or(0, |last| last.end) - rows.first().map_or(0, |r| r.start);
        let policy = match selected * SPARSE < span {
            true => RowSelectionPolicy::Selectors,
            false => RowSelectionPolicy::default(),
        };
        self.segment.guard(|| {
            let size = |row: u64| usize::try_from(row).unwrap_or(usize::MAX);
            let ranges = rows.iter().map(|range| size(range.start)..size(range.end));
            let leaves = self.segment.0.schema.leaves()?;
            let mask = ProjectionMask::roots(leaves, self.present.iter().copied());
            let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(
                (*opened.source).clone(),
                opened.metadata.clone(),
            )
            .with_projection(mask)
            .with_batch_size(self.batch_rows);
            if selected < total {
                let selection = RowSelection::from_consecutive_ranges(ranges, size(total));
                builder = builder.with_row_selection(selection).with_row_selection_policy(policy);
            }
            Ok(builder.build()?)
        })
    }

    /// Gives a batch of the file the columns that were asked for.
    fn complete(&self, batch: &RecordBatch) -> Result<RecordBatch, SegmentError> {
        let rows = batch.num_rows();
        let columns = self.schema.fields().iter().map(|field| {
            let column = batch.column_by_name(field.name()).map(schema::of_file);
            column.unwrap_or_else(|| new_null_array(field.data_type(), rows))
        });
        let columns: Vec<ArrayRef> = columns.collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let schema = Arc::clone(&self.schema);
        RecordBatch::try_new_with_options(schema, columns, &options)
            .map_err(|error| self.segment.damaged(error))
    }
}

/// The rows of each row group, numbered within it.
fn split(segment: &Segment, ranges: &[Range<u64>]) -> VecDeque<(usize, Vec<Range<u64>>)> {
    let mut groups = VecDeque::new();
    for (at, group) in segment.0.groups.iter().enumerate() {
        let first = ranges.partition_point(|range| range.end <= group.rows.start);
        let own: Vec<Range<u64>> = ranges[first..]
            .iter()
            .take_while(|range| range.start < group.rows.end)
            .map(|range| {
                let from = range.start.max(group.rows.start) - group.rows.start;
                from..range.end.min(group.rows.end) - group.rows.start
            })
            .filter(|range| range.start < range.end)
            .collect();
        if !own.is_empty() {
            groups.push_back((at, own));
        }
    }
    groups
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, SegmentError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(reader) = &mut self.reader {
                let next = self.segment.guard(|| Ok(reader.next().transpose()?));
                match next {
                    Ok(Some(batch)) => return Some(self.complete(&batch)),
                    Ok(None) => self.reader = None,
                    Err(error) => {
                        self.reader = None;
                        self.groups.clear();
                        return Some(Err(error));
                    }
                }
            }
            let (group, rows) = self.groups.pop_front()?;
            match self.open(group, &rows) {
                Ok(reader) => self.reader = Some(reader),
                Err(error) => {
                    self.groups.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}
