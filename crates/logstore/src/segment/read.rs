//! Reads parts of a segment: the columns, pages and rows that are asked for,
//! and nothing else of the file.
//!
//! With its side index the footer is never read: places and checksums of pages
//! come from there, for one row group at a time. Without one (it is missing, or
//! damaged) the segment is read by its own footer, slower and without the
//! checksums; [`Segment::ids_problem`] says so.

mod batches;
mod bounds;
mod chunk;
mod column;
mod nested;
mod open;
mod shelf;
mod source;

use std::{collections::BTreeMap, ops::Range, path::Path, sync::Arc};

use arrow_array::{Array, ArrayRef, StringArray, cast::AsArray, types::Int32Type};
use arrow_buffer::BooleanBuffer;
use arrow_schema::SchemaRef;
use domain::{ids::InstanceId, time::Timestamp};
use parking_lot::Mutex;
use parquet::bloom_filter::Sbbf;

pub use self::{
    batches::Batches,
    bounds::{Bounds, PageBounds},
};
use self::{batches::Leaf, open::Places, shelf::Dictionaries, source::Source};
use super::{
    Dataset, SegmentError,
    ids::INDEXED_COLUMNS,
    map::Group,
    page::{Dictionary, Physical},
    schema::{FileSchema, TS},
};
use crate::fs::Fs;

/// Row groups whose places are kept decoded.
const GROUPS_KEPT: usize = 64;

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

/// An open segment. Cheap to clone and to keep.
#[derive(Clone, Debug)]
pub struct Segment(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    dataset: Dataset,
    instance: Option<InstanceId>,
    rows: u64,
    seqs: (u64, u64),
    times: (Timestamp, Timestamp),
    groups: Vec<GroupPlace>,
    schema: Arc<FileSchema>,
    source: Arc<Source>,
    places: Places,
    ids_problem: Option<SegmentError>,
    opened: Mutex<BTreeMap<usize, Arc<Opened>>>,
    dictionaries: Mutex<Dictionaries>,
}

/// A row group among the others.
#[derive(Clone, Debug)]
struct GroupPlace {
    rows: Range<u64>,
    min_ts: i64,
    max_ts: i64,
}

/// A row group whose places are known.
#[derive(Debug)]
struct Opened {
    map: Arc<Group>,
}

impl Segment {
    /// Opens `<name>.parquet` and `<name>.ids` beside it. Without a usable side
    /// index the segment is read by its own footer.
    pub fn open(fs: &Arc<dyn Fs>, parquet: &Path) -> Result<Self, SegmentError> {
        open::open(&**fs, parquet).map(|inner| Self(Arc::new(inner)))
    }

    pub fn dataset(&self) -> Dataset {
        self.0.dataset
    }

    /// Whose journal it was.
    pub fn instance(&self) -> Option<&InstanceId> {
        self.0.instance.as_ref()
    }

    pub fn rows(&self) -> u64 {
        self.0.rows
    }

    /// The lowest and the highest number of its lines.
    pub fn seqs(&self) -> (u64, u64) {
        self.0.seqs
    }

    /// The time of its first and of its last row.
    pub fn times(&self) -> (Timestamp, Timestamp) {
        self.0.times
    }

    /// Why the side index is not used.
    pub fn ids_problem(&self) -> Option<&SegmentError> {
        self.0.ids_problem.as_ref()
    }

    /// The columns of the file itself, which may lack what later builds added.
    pub fn file_schema(&self) -> &SchemaRef {
        &self.0.schema.arrow
    }

    /// The rows of each row group, in order.
    pub fn groups(&self) -> Vec<Range<u64>> {
        self.0.groups.iter().map(|group| group.rows.clone()).collect()
    }

    /// Rows that may lie in `[since, until)`: one range, since rows are sorted by
    /// time. Exact up to a page at both ends.
    pub fn rows_between(
        &self,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<Range<u64>, SegmentError> {
        let begin = match since.map(Timestamp::as_micros) {
            None => 0,
            Some(since) => match self.0.groups.iter().position(|group| group.max_ts >= since) {
                None => self.0.rows,
                Some(at) if self.0.groups[at].min_ts >= since => self.0.groups[at].rows.start,
                // The last page that begins before it may still reach it.
                Some(at) => {
                    let pages = self.page_times(at)?;
                    let first = pages.partition_point(|(ts, _)| *ts < since);
                    let page = first.checked_sub(1).and_then(|at| pages.get(at));
                    page.map_or(self.0.groups[at].rows.start, |(_, row)| *row)
                }
            },
        };
        let end = match until.map(Timestamp::as_micros) {
            None => self.0.rows,
            Some(until) => match self.0.groups.iter().rposition(|group| group.min_ts < until) {
                None => 0,
                Some(at) if self.0.groups[at].max_ts < until => self.0.groups[at].rows.end,
                Some(at) => {
                    let pages = self.page_times(at)?;
                    let page = pages.get(pages.partition_point(|(ts, _)| *ts < until));
                    page.map_or(self.0.groups[at].rows.end, |(_, row)| *row)
                }
            },
        };
        Ok(begin.min(end)..end)
    }

    /// Times between which rows lie, exact up to a page at both ends.
    pub fn times_of(&self, rows: &Range<u64>) -> Result<(i64, i64), SegmentError> {
        let known = self.0.groups.iter().enumerate();
        let mut own = known.filter(|(_, it)| it.rows.start < rows.end && rows.start < it.rows.end);
        let Some((at, first)) = own.next() else { return Ok((i64::MIN, i64::MAX)) };
        let last = own.next_back().map_or(first, |(_, last)| last);
        let (mut min_ts, mut max_ts) = (first.min_ts, last.max_ts);
        if first.rows == last.rows && *rows != first.rows {
            let pages = self.page_times(at)?;
            let before = pages.partition_point(|(_, row)| *row <= rows.start).checked_sub(1);
            min_ts = before.and_then(|at| pages.get(at)).map_or(min_ts, |(ts, _)| *ts);
            let behind = pages.partition_point(|(_, row)| *row < rows.end);
            max_ts = pages.get(behind).map_or(max_ts, |(ts, _)| *ts);
        }
        Ok((min_ts, max_ts))
    }

    /// Time and number of the first row of each page of `ts`.
    fn page_times(&self, group: usize) -> Result<Vec<(i64, u64)>, SegmentError> {
        let opened = self.group(group)?;
        let first = self.0.groups[group].rows.start;
        let pages = match self.leaf(TS).and_then(|leaf| opened.map.chunks.get(leaf)) {
            Some(chunk) if chunk.pages.len() == opened.map.page_times.len() => &chunk.pages,
            _ => return Ok(Vec::new()),
        };
        let times = opened.map.page_times.iter().copied();
        Ok(times.zip(pages.iter().map(|page| first + page.first_row)).collect())
    }

    /// The bounds of a column's pages in one row group; empty if it has none.
    pub fn pages(&self, group: usize, column: &str) -> Result<Vec<PageBounds>, SegmentError> {
        let Some(place) = self.0.groups.get(group) else { return Ok(Vec::new()) };
        let Some(leaf) = self.leaf(column) else { return Ok(Vec::new()) };
        let opened = self.group(group)?;
        let data_type = self.0.schema.arrow.field_with_name(column).map(|field| field.data_type());
        let Ok(data_type) = data_type else { return Ok(Vec::new()) };
        let pages = self.guard(|| bounds::of(&opened.map, leaf, data_type, &self.0.source));
        pages.map(|mut pages| {
            for page in &mut pages {
                page.rows = page.rows.start + place.rows.start..page.rows.end + place.rows.start;
            }
            pages
        })
    }

    /// False if no row of the row group can have this value in an id column
    /// (bloom filter); true where the column has none.
    pub fn may_contain(
        &self,
        group: usize,
        column: &str,
        value: &str,
    ) -> Result<bool, SegmentError> {
        let Some(leaf) = self.leaf(column) else { return Ok(false) };
        if group >= self.0.groups.len() {
            return Ok(false);
        }
        let opened = self.group(group)?;
        let bloom = opened.map.chunks.get(leaf).and_then(|chunk| chunk.bloom);
        let Some(bloom) = bloom else { return Ok(true) };
        self.guard(|| {
            let mut bytes = vec![0; bloom.bytes as usize];
            self.0.source.read(bloom.offset, &mut bytes, 1)?;
            bloom.check(&bytes)?;
            let metadata = opened.map.metadata(self.0.schema.leaves()?)?;
            let column = metadata.row_group(0).column(leaf);
            let filter = Sbbf::read_from_column_chunk(column, &*self.0.source)?;
            Ok(filter.is_none_or(|filter| filter.check(value)))
        })
    }

    /// Rows that may have `id` in an indexed column, by the side index: whole
    /// blocks of [`super::BLOCK_ROWS`]. `None` without a side index.
    pub fn candidates(&self, id: &str) -> Result<Option<Vec<Range<u64>>>, SegmentError> {
        let Places::Ids(ids, _) = &self.0.places else { return Ok(None) };
        let mut ranges = ids.candidates(id)?;
        if let Some(last) = ranges.last_mut() {
            last.end = last.end.min(self.0.rows);
        }
        ranges.retain(|range| !range.is_empty());
        Ok(Some(ranges))
    }

    /// The rows that have `id` in one of `columns` (in an indexed one if none is
    /// named): candidates, verified. Without a side index all rows are read.
    pub fn find(&self, id: &str, columns: &[&str]) -> Result<Vec<u64>, SegmentError> {
        let wanted = if columns.is_empty() { INDEXED_COLUMNS } else { columns };
        let known = |name: &&&str| self.0.schema.arrow.field_with_name(name).is_ok();
        let wanted: Vec<&str> = wanted.iter().filter(known).copied().collect();
        let indexed = wanted.iter().all(|name| INDEXED_COLUMNS.contains(name));
        let candidates = if indexed { self.candidates(id)? } else { None };
        let all = 0..self.0.rows;
        let ranges = candidates.unwrap_or_else(|| std::iter::once(all).collect());
        if wanted.is_empty() || ranges.is_empty() {
            return Ok(Vec::new());
        }
        let mut rows = ranges.clone().into_iter().flatten();
        let mut found = Vec::new();
        for batch in self.read(&Selection::Rows(ranges), &wanted)? {
            let batch = batch?;
            let found_in: Vec<_> = batch.columns().iter().map(|array| equal(array, id)).collect();
            for (at, row) in (0..batch.num_rows()).zip(&mut rows) {
                if found_in.iter().any(|found| found.value(at)) {
                    found.push(row);
                }
            }
        }
        Ok(found)
    }

    /// Reads rows in ascending order, `columns` in the order of the schema
    /// (columns that this file is too old to have are null, names that the
    /// dataset does not have are passed over), text as dictionaries.
    pub fn read(&self, rows: &Selection, columns: &[&str]) -> Result<Batches, SegmentError> {
        Batches::new(self.clone(), rows, columns)
    }

    /// What was read so far, by all readers of this opening.
    pub fn counts(&self) -> ReadCounts {
        let mut counts = self.0.source.counts();
        if let Places::Ids(ids, _) = &self.0.places {
            counts.bytes += ids.bytes_read();
        }
        counts
    }

    /// The leaf of a column that is no map.
    fn leaf(&self, column: &str) -> Option<usize> {
        match self.place_of(column)? {
            Leaf::Flat(leaf, _) => Some(leaf),
            Leaf::Map(..) => None,
        }
    }

    /// Where a column lies in the file; `None`: it is too old to have it.
    fn place_of(&self, column: &str) -> Option<Leaf> {
        let mut first = 0;
        for field in self.0.schema.arrow.fields() {
            if field.name() == column {
                return Some(Leaf::of(field.data_type(), first, field.is_nullable()));
            }
            first += Leaf::count(field.data_type());
        }
        None
    }

    fn leaves(&self) -> usize {
        let fields = self.0.schema.arrow.fields().iter();
        fields.map(|field| Leaf::count(field.data_type())).sum()
    }

    /// Opens a row group, or takes it from those that are open.
    fn group(&self, at: usize) -> Result<Arc<Opened>, SegmentError> {
        if let Some(opened) = self.0.opened.lock().get(&at) {
            return Ok(Arc::clone(opened));
        }
        let map = match &self.0.places {
            Places::Ids(ids, groups) => {
                let map = Arc::new(ids.group(&groups[at])?);
                if !map.fits(self.0.source.bytes()) || map.chunks.len() != self.leaves() {
                    return Err(ids.damaged("the map of a row group is of another file"));
                }
                map
            }
            Places::Footer(groups) => Arc::clone(&groups[at]),
        };
        let opened = Arc::new(Opened { map });
        let mut kept = self.0.opened.lock();
        if kept.len() >= GROUPS_KEPT {
            kept.pop_first();
        }
        kept.insert(at, Arc::clone(&opened));
        Ok(opened)
    }

    /// The dictionary of a leaf in a row group, read or kept.
    fn dictionary(
        &self,
        group: usize,
        leaf: usize,
        physical: Physical,
    ) -> Result<Arc<Dictionary>, source::ReadError> {
        if let Some(known) = self.0.dictionaries.lock().get(group, leaf) {
            return Ok(known);
        }
        let opened = self.group(group)?;
        let extent = opened.map.chunks.get(leaf).and_then(|chunk| chunk.dictionary);
        let extent = extent.ok_or("it has keys and no dictionary")?;
        let mut bytes = vec![0; extent.bytes as usize];
        self.0.source.read(extent.offset, &mut bytes, 1)?;
        extent.check(&bytes)?;
        let decoded = super::page::dictionary(&bytes, physical);
        let dictionary = Arc::new(decoded.map_err(|wrong| chunk::wrong_page(&extent, wrong))?);
        self.0.dictionaries.lock().keep(group, leaf, &dictionary);
        Ok(dictionary)
    }

    /// Runs what decodes. A panic over bytes that are not what was written would be
    /// damage like any other.
    fn guard<T>(
        &self,
        read: impl FnOnce() -> Result<T, source::ReadError>,
    ) -> Result<T, SegmentError> {
        source::guard(&self.0.name, read)
    }
}

/// Rows of a text column that are this text.
fn equal(array: &ArrayRef, text: &str) -> BooleanBuffer {
    let texts = |texts: &StringArray, at: usize| texts.is_valid(at) && texts.value(at) == text;
    let rows = array.len();
    if let Some(array) = array.as_string_opt::<i32>() {
        return BooleanBuffer::collect_bool(rows, |row| texts(array, row));
    }
    let Some(words) = array.as_dictionary_opt::<Int32Type>() else {
        return BooleanBuffer::new_unset(rows);
    };
    let Some(known) = words.values().as_string_opt::<i32>() else {
        return BooleanBuffer::new_unset(rows);
    };
    let same: Vec<bool> = (0..known.len()).map(|at| texts(known, at)).collect();
    let is = |row| words.key(row).is_some_and(|key| same.get(key).copied().unwrap_or(false));
    BooleanBuffer::collect_bool(rows, is)
}

#[cfg(test)]
mod tests;
