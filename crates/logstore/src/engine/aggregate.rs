//! Statistics on their way: groups, what is measured of each, and the table that
//! they become. Threads each fill one of their own, which are then joined.

use std::cmp::Ordering;

use domain::{
    query::{FieldRef, Function, GROUP_FIELDS_MAX, MEASURES_MAX, Stats},
    time::Timestamp,
};

use super::{
    EngineError,
    groups::{GroupKey, Groups, Place},
    measure::{Measured, field_name, measure_name},
    sketch::{DISTINCT_ERROR, QUANTILE_ERROR, Room},
    table::{Cell, Column, Table},
};

/// The name of the column of time buckets.
const BUCKET: &str = "bucket";

/// A line as statistics see it, where lines do not come as columns.
pub trait Row {
    fn time(&self) -> Option<Timestamp>;
    /// [`Cell::Absent`] where the line does not have the field.
    fn value(&self, field: &FieldRef) -> Cell;
    /// The requests that the line stands for.
    fn weight(&self) -> u64 {
        1
    }
}

/// Statistics of what was added so far.
#[derive(Debug)]
pub struct Aggregate {
    stats: Stats,
    groups: Groups,
    measured: Vec<Measured>,
    /// For each measure, which of the measured fields it is about.
    places: Vec<usize>,
    room: Room,
    lines: u64,
}

impl Aggregate {
    /// `memory_bytes`: for values that are kept one by one.
    pub fn new(stats: &Stats, memory_bytes: usize) -> Result<Self, EngineError> {
        if stats.by.len() > GROUP_FIELDS_MAX || stats.measures.len() > MEASURES_MAX {
            let what = format!(
                "at most {MEASURES_MAX} measures by at most {GROUP_FIELDS_MAX} fields are possible"
            );
            return Err(EngineError::Question(what));
        }
        if stats.bucket_micros.is_some_and(|bucket| bucket <= 0) {
            return Err(EngineError::Question("a bucket of time must be longer than 0".into()));
        }
        let (measured, places) = Measured::of(&stats.measures)?;
        let groups = Groups::new(stats.by.len(), stats.bucket_micros.is_some());
        let mut aggregate = Self {
            stats: stats.clone(),
            groups,
            measured,
            places,
            room: Room::new(memory_bytes),
            lines: 0,
        };
        aggregate.resize();
        Ok(aggregate)
    }

    /// Another one for the same table, for another thread.
    pub fn sibling(&self) -> Result<Self, EngineError> {
        let mut sibling = Self::new(&self.stats, 0)?;
        sibling.room = self.room.clone();
        Ok(sibling)
    }

    /// Lines that were added.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Fields of which values are needed.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &FieldRef> {
        self.stats.by.iter().chain(self.measured.iter().filter_map(|m| m.field.as_ref()))
    }

    fn resize(&mut self) {
        let groups = self.groups.keys.len();
        self.measured.iter_mut().for_each(|measured| measured.resize(groups));
    }

    /// Whether lines are told apart by their time.
    pub(crate) fn has_buckets(&self) -> bool {
        self.stats.bucket_micros.is_some()
    }

    /// Adds rows as columns; their times are needed where there are buckets. `place`
    /// says where a field's values stand.
    pub(crate) fn add_batch<'b>(
        &mut self,
        rows: usize,
        times: &[i64],
        weights: Option<&[i64]>,
        place: &dyn Fn(&FieldRef) -> Place<'b>,
    ) -> Result<(), EngineError> {
        self.lines += rows as u64;
        let buckets = self.stats.bucket_micros.map(|length| buckets(times, length));
        let by: Vec<Place<'b>> = self.stats.by.iter().map(place).collect();
        let groups = self.groups.of_batch(rows, buckets.as_deref(), &by)?;
        self.resize();
        for measured in &mut self.measured {
            let place = measured.field.as_ref().map_or(Place::Nowhere, place);
            measured.add_batch(&groups, weights, &place, &self.room);
        }
        self.keep_small()
    }

    /// Adds one line. Without a time it has no place in a bucket.
    pub fn add(&mut self, row: &dyn Row) -> Result<(), EngineError> {
        let bucket = match (self.stats.bucket_micros, row.time()) {
            (None, _) => 0,
            (Some(length), Some(time)) => time.as_micros().div_euclid(length),
            (Some(_), None) => return Ok(()),
        };
        self.lines += 1;
        let by: Vec<Cell> = self.stats.by.iter().map(|field| row.value(field)).collect();
        let group = self.groups.of_row(bucket, &by)?;
        self.resize();
        for measured in &mut self.measured {
            let value = measured.field.as_ref().map_or(Cell::Absent, |field| row.value(field));
            measured.add(group, row.weight(), &value, &self.room);
        }
        self.keep_small()
    }

    fn keep_small(&mut self) -> Result<(), EngineError> {
        if self.room.is_full() {
            self.measured.iter_mut().for_each(|measured| measured.shrink(&self.room));
        }
        if self.room.is_overfull() {
            let what = "so many groups have too many values: group by fewer fields, or leave out \
                        quantiles and distinct counts";
            return Err(EngineError::Question(what.into()));
        }
        Ok(())
    }

    /// Joins what a sibling added.
    pub fn join(&mut self, other: Self) -> Result<(), EngineError> {
        self.lines += other.lines;
        let adopted = self.groups.adopt(&other.groups)?;
        self.resize();
        for (measured, other) in self.measured.iter_mut().zip(other.measured) {
            measured.join(other, &adopted, &self.room);
        }
        self.keep_small()
    }

    /// The table, with at most `limit` rows.
    pub fn table(mut self, limit: Option<usize>) -> Table {
        let mut notes = Vec::new();
        let mut rows: Vec<(GroupKey, Vec<Cell>)> = Vec::with_capacity(self.groups.keys.len());
        let mut exact = vec![true; self.places.len()];
        for (group, key) in self.groups.keys.iter().enumerate() {
            let mut cells = self.key_cells(key);
            for (at, measure) in self.stats.measures.iter().enumerate() {
                let (cell, is_exact) =
                    self.measured[self.places[at]].value(measure.function, group);
                exact[at] &= is_exact;
                cells.push(cell);
            }
            rows.push((*key, cells));
        }
        for (measure, _) in self.stats.measures.iter().zip(&exact).filter(|(_, exact)| !**exact) {
            let error = match measure.function {
                Function::Distinct => DISTINCT_ERROR,
                _ => QUANTILE_ERROR,
            };
            notes.push(format!("{} is within {error}", measure_name(measure)));
        }
        let keys = self.stats.by.len() + usize::from(self.stats.bucket_micros.is_some());
        rows.sort_by(|a, b| order(&a.1, &b.1, keys, self.stats.bucket_micros.is_some()));
        let groups = rows.len();
        rows.truncate(limit.unwrap_or(usize::MAX));
        let rows = rows.into_iter().map(|(_, cells)| cells).collect();
        Table { columns: self.columns(), rows, groups, notes }
    }

    fn key_cells(&self, key: &GroupKey) -> Vec<Cell> {
        let mut cells = Vec::with_capacity(self.stats.by.len() + self.places.len() + 1);
        if let Some(length) = self.stats.bucket_micros {
            let micros = key.bucket.saturating_mul(length);
            cells.push(Cell::Time(Timestamp::from_micros(micros)));
        }
        cells.extend((0..self.stats.by.len()).map(|field| self.groups.value(key, field)));
        cells
    }

    fn columns(&self) -> Vec<Column> {
        let bucket = self.stats.bucket_micros.map(|_| BUCKET.to_owned());
        let keys = bucket.into_iter().chain(self.stats.by.iter().map(field_name));
        let keys = keys.map(|name| Column { name, is_key: true });
        let measures = self.stats.measures.iter().map(measure_name);
        keys.chain(measures.map(|name| Column { name, is_key: false })).collect()
    }
}

/// The number of the bucket of each time. Most are in that of the one before, which
/// two comparisons tell and a division would take longer to.
fn buckets(times: &[i64], length: i64) -> Vec<i64> {
    let (mut bucket, mut begin, mut end) = (0, 0, 0);
    let of_time = |time: &i64| {
        if *time < begin || *time >= end {
            bucket = time.div_euclid(length);
            begin = bucket.saturating_mul(length);
            end = begin.saturating_add(length);
        }
        bucket
    };
    times.iter().map(of_time).collect()
}

/// By time, then the first measure from the largest on, then the names.
fn order(a: &[Cell], b: &[Cell], keys: usize, has_buckets: bool) -> Ordering {
    let buckets = usize::from(has_buckets);
    let by_time = compare(&a[..buckets], &b[..buckets]);
    let (first_a, first_b) = (a.get(keys).into_iter(), b.get(keys).into_iter());
    let by_measure = first_a.zip(first_b).map(|(a, b)| rank(b).total_cmp(&rank(a)));
    let by_measure = by_measure.fold(Ordering::Equal, Ordering::then);
    by_time.then(by_measure).then_with(|| compare(&a[buckets..keys], &b[buckets..keys]))
}

fn rank(cell: &Cell) -> f64 {
    match cell {
        Cell::Absent | Cell::Text(_) => f64::NEG_INFINITY,
        Cell::Integer(number) | Cell::Decimal(number) => *number as f64,
        Cell::Number(number) => *number,
        Cell::Boolean(value) => f64::from(u8::from(*value)),
        Cell::Time(time) => time.as_micros() as f64,
    }
}

fn compare(a: &[Cell], b: &[Cell]) -> Ordering {
    let cells = a.iter().zip(b).map(|(a, b)| match (a, b) {
        (Cell::Text(a), Cell::Text(b)) => a.cmp(b),
        // Numbers come before texts that are none.
        (Cell::Text(_), _) => Ordering::Greater,
        (_, Cell::Text(_)) => Ordering::Less,
        (a, b) => rank(a).total_cmp(&rank(b)),
    });
    cells.fold(Ordering::Equal, Ordering::then)
}
