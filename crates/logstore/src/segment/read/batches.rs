//! Rows of a segment, one row group after the other.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow_schema::{DataType, Schema, SchemaRef};

use super::{Segment, Selection, chunk::Chunk, column::Column, nested, source::ReadError};
use crate::segment::{
    BATCH_ROWS, SegmentError,
    page::{Physical, Shape},
    schema,
};

/// Rows at once where a row may have a captured body.
const BODY_ROWS: usize = 128;

/// Batches of at most 8192 rows (fewer of bodies), none across row groups.
pub struct Batches {
    segment: Segment,
    /// What is wanted, and where the leaves of it lie in the file.
    schema: SchemaRef,
    leaves: Vec<Option<Leaf>>,
    batch_rows: u64,
    /// Row groups to come, and their rows (within them).
    groups: VecDeque<(usize, Vec<Range<u64>>)>,
    reading: Option<Reading>,
}

/// A column of the file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Leaf {
    Flat(usize, Shape),
    /// Keys and values of a map.
    Map(usize, u8),
}

/// A row group at work.
struct Reading {
    rows: Arc<[Range<u64>]>,
    /// Which of these are next, and from which row of the first on.
    at: usize,
    from: u64,
    columns: Vec<Option<Reader>>,
}

enum Reader {
    Flat(Box<Chunk>),
    Map(Box<(Chunk, Chunk, u8)>),
}

impl std::fmt::Debug for Batches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batches").field("groups", &self.groups.len()).finish()
    }
}

impl Leaf {
    /// Where a column of this type, whose first leaf has this number, lies.
    pub(super) fn of(data_type: &DataType, first: usize, is_nullable: bool) -> Self {
        let definition_max = u8::from(is_nullable);
        let flat =
            |physical| Self::Flat(first, Shape { physical, definition_max, repetition_max: 0 });
        match data_type {
            // Its entries repeat, and a value may be missing where a key is not.
            DataType::Map(..) => Self::Map(first, definition_max + 1),
            DataType::Boolean => flat(Physical::Bits),
            DataType::Utf8 | DataType::Binary | DataType::Dictionary(..) => flat(Physical::Bytes),
            _ => flat(Physical::Whole),
        }
    }

    /// How many leaves a column of this type has.
    pub(super) fn count(data_type: &DataType) -> usize {
        if matches!(data_type, DataType::Map(..)) { 2 } else { 1 }
    }
}

impl Reader {
    fn open(
        segment: &Segment,
        group: usize,
        leaf: Leaf,
        rows: &Arc<[Range<u64>]>,
    ) -> Result<Self, SegmentError> {
        Ok(match leaf {
            Leaf::Flat(leaf, shape) => {
                Self::Flat(Box::new(Chunk::open(segment, group, leaf, shape, rows)?))
            }
            Leaf::Map(leaf, definition_max) => {
                let shape = |definition_max| Shape {
                    physical: Physical::Bytes,
                    definition_max,
                    repetition_max: 1,
                };
                let keys = Chunk::open(segment, group, leaf, shape(definition_max), rows)?;
                let of_values = shape(definition_max + 1);
                let values = Chunk::open(segment, group, leaf + 1, of_values, rows)?;
                Self::Map(Box::new((keys, values, definition_max)))
            }
        })
    }

    fn read(
        &mut self,
        ranges: &[Range<u64>],
        rows: usize,
        data_type: &DataType,
    ) -> Result<ArrayRef, ReadError> {
        match self {
            Self::Flat(chunk) => {
                let mut column = Column::new(data_type, rows);
                for range in ranges {
                    chunk.visit(range, &mut |piece| column.append(&piece))?;
                }
                column.finish(data_type)
            }
            Self::Map(both) => {
                let (keys, values, definition_max) = &mut **both;
                let mut of_keys = nested::Side::new(*definition_max);
                let mut of_values = nested::Side::new(*definition_max + 1);
                for range in ranges {
                    keys.visit(range, &mut |piece| of_keys.append(&piece))?;
                    values.visit(range, &mut |piece| of_values.append(&piece))?;
                }
                nested::finish(of_keys, of_values, data_type)
            }
        }
    }
}

impl Reading {
    /// The ranges of the next rows, at most so many; none behind the last.
    fn next_ranges(&mut self, most: u64) -> Vec<Range<u64>> {
        let mut ranges = Vec::new();
        let mut room = most;
        while room > 0 {
            let Some(range) = self.rows.get(self.at) else { break };
            let from = range.start.max(self.from);
            let to = range.end.min(from + room);
            if from < to {
                ranges.push(from..to);
                room -= to - from;
            }
            self.from = to;
            if to == range.end {
                self.at += 1;
            }
        }
        ranges
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
        let leaves = fields.iter().map(|field| segment.place_of(field.name())).collect();
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
        let batch_rows = if large { BODY_ROWS } else { BATCH_ROWS } as u64;
        Ok(Self { segment, schema, leaves, batch_rows, groups, reading: None })
    }

    /// The columns of the batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn open(&self, group: usize, rows: Vec<Range<u64>>) -> Result<Reading, SegmentError> {
        let rows: Arc<[Range<u64>]> = rows.into();
        let open = |leaf: &Option<Leaf>| {
            leaf.map(|leaf| Reader::open(&self.segment, group, leaf, &rows)).transpose()
        };
        let columns = self.leaves.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Reading { rows, at: 0, from: 0, columns })
    }

    /// The next rows of the group at hand, if there are any.
    fn next_of_group(&mut self) -> Result<Option<RecordBatch>, SegmentError> {
        let Some(reading) = &mut self.reading else { return Ok(None) };
        let ranges = reading.next_ranges(self.batch_rows);
        let rows: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        if rows == 0 {
            return Ok(None);
        }
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        let fields = self.schema.fields().iter().zip(&mut reading.columns);
        let columns = fields.map(|(field, reader)| match reader {
            // A file that is too old to have it.
            None => Ok(new_null_array(field.data_type(), rows)),
            Some(reader) => reader.read(&ranges, rows, field.data_type()),
        });
        let schema = Arc::clone(&self.schema);
        self.segment
            .guard(|| {
                let columns = columns.collect::<Result<Vec<ArrayRef>, ReadError>>()?;
                if columns.iter().any(|column| column.len() != rows) {
                    return Err("rows are missing".into());
                }
                let options = RecordBatchOptions::new().with_row_count(Some(rows));
                Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
            })
            .map(Some)
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
            match self.next_of_group() {
                Ok(Some(batch)) => return Some(Ok(batch)),
                Ok(None) => {}
                Err(error) => return Some(Err(self.fail(error))),
            }
            self.reading = None;
            let (group, rows) = self.groups.pop_front()?;
            match self.open(group, rows) {
                Ok(reading) => self.reading = Some(reading),
                Err(error) => return Some(Err(self.fail(error))),
            }
        }
    }
}

impl Batches {
    /// Nothing comes behind an error.
    fn fail(&mut self, error: SegmentError) -> SegmentError {
        self.reading = None;
        self.groups.clear();
        error
    }
}
