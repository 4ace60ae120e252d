//! Statistics over foreign lines: the values that groups and measures need, taken
//! from each line that matches, for the same tables as our own.

use domain::{
    fields::Kind,
    query::{FieldRef, Stats},
    time::Timestamp,
};

use super::{
    block::Tally,
    plan::LineReader,
    run::THREADS,
    value::{Number, number, text, time_of},
};
use crate::engine::{Aggregate, Cell, EngineError, Row, Table};

/// The fields that statistics name, each once.
pub(super) fn fields(stats: &Stats) -> Vec<FieldRef> {
    let measured = stats.measures.iter().filter_map(|measure| measure.field.as_ref());
    let mut fields: Vec<FieldRef> = Vec::new();
    for field in stats.by.iter().chain(measured) {
        if !fields.contains(field) {
            fields.push(field.clone());
        }
    }
    fields
}

/// What one thread has added up.
pub(super) struct Sums<'f> {
    fields: &'f [FieldRef],
    aggregate: Result<Aggregate, EngineError>,
    needs_time: bool,
}

impl<'f> Sums<'f> {
    pub(super) fn of_threads(
        stats: &Stats,
        fields: &'f [FieldRef],
        memory_bytes: usize,
    ) -> Result<[Self; THREADS], EngineError> {
        let first = Aggregate::new(stats, memory_bytes)?;
        let other = first.sibling()?;
        let needs_time = stats.bucket_micros.is_some();
        Ok([first, other].map(|aggregate| Self { fields, aggregate: Ok(aggregate), needs_time }))
    }

    /// The table of all threads, and how many lines are in it.
    pub(super) fn table(
        sums: [Self; THREADS],
        limit: Option<usize>,
    ) -> Result<(Table, u64), EngineError> {
        let [first, others @ ..] = sums;
        let mut whole = first.aggregate?;
        for other in others {
            whole.join(other.aggregate?)?;
        }
        let lines = whole.lines();
        Ok((whole.table(limit), lines))
    }
}

impl Tally for Sums<'_> {
    fn add(&mut self, reader: &mut LineReader<'_>, line: &[u8]) {
        let Ok(aggregate) = &mut self.aggregate else { return };
        let time = if self.needs_time { reader.time(line) } else { None };
        let values = (0..self.fields.len()).map(|nth| reader.asked(nth, line)).collect();
        let row = LineRow { fields: self.fields, values, time };
        if let Err(error) = aggregate.add(&row) {
            self.aggregate = Err(error);
        }
    }

    fn is_full(&self) -> bool {
        self.aggregate.is_err()
    }
}

struct LineRow<'a> {
    fields: &'a [FieldRef],
    values: Vec<Option<&'a [u8]>>,
    time: Option<Timestamp>,
}

impl Row for LineRow<'_> {
    fn time(&self) -> Option<Timestamp> {
        self.time
    }

    fn value(&self, field: &FieldRef) -> Cell {
        let nth = self.fields.iter().position(|known| known == field);
        let raw = nth.and_then(|nth| self.values.get(nth).copied().flatten());
        raw.map_or(Cell::Absent, |raw| cell(field, raw))
    }
}

/// A value as what it is, whatever the name of its field promises; but a time
/// where the field is one of ours that is.
fn cell(field: &FieldRef, raw: &[u8]) -> Cell {
    if let FieldRef::Known(known) = field
        && known.kind == Kind::Time
        && let Some(time) = time_of(raw)
    {
        return Cell::Time(time);
    }
    match raw.first() {
        Some(b't') => Cell::Boolean(true),
        Some(b'f') => Cell::Boolean(false),
        Some(b'-' | b'0'..=b'9') => match number(raw) {
            Some(Number::Integer(integer)) => Cell::Integer(integer),
            Some(Number::Float(float)) => Cell::Number(float),
            None => Cell::Absent,
        },
        _ => Cell::Text(String::from_utf8_lossy(&text(raw)).into_owned()),
    }
}
