//! Statistics over sources: the columns that groups and measures need, read for
//! the rows that match and added up on each thread by itself.

use std::convert::Infallible;

use arrow_array::{Array, RecordBatch};
use domain::query::{FieldRef, Stats};

use super::{
    EngineError, Report, Search, Sources, Table,
    aggregate::Aggregate,
    evaluate::whole,
    groups::Place,
    plan::Words,
    queue::Work,
    run::{AtWork, Done, Run},
    source::{Halt, Scan},
    tally::in_parallel,
};
use crate::segment::{
    Dataset, column_of,
    schema::{ATTRS, TS},
};

/// The column of how many requests a coalesced record stands for.
const WEIGHT: &str = "count";

/// Statistics of the lines that match. The limit keeps the first groups.
pub(crate) fn stats(
    sources: &Sources,
    search: &Search,
    stats: &Stats,
    words: &Words,
) -> Result<(Table, Report), EngineError> {
    let run = Run::new(sources, search, words)?;
    let whole = Aggregate::new(stats, search.budget.memory_bytes)?;
    let columns: Vec<Vec<&'static str>> =
        run.plans.iter().map(|plan| columns(&whole, plan.dataset)).collect();
    let scan = |work: Work<Infallible>, at: &mut AtWork<'_, Result<Aggregate, EngineError>>| {
        let Work::Scan(unit) = work else { return Ok(Done::NOTHING) };
        let AtWork { source, state, evaluator, counters } = at;
        let plan = run.plan_of(*source);
        let columns = &columns[run.parts[*source].plan];
        let scan = Scan { plan, columns, handles: false, meter: &run.meter };
        run.source(*source).scan(&unit, &scan, evaluator, counters, &mut |rows| {
            let Ok(aggregate) = state else { return };
            if let Err(error) = add(aggregate, plan.dataset, &rows.batch) {
                **state = Err(error);
            }
        })?;
        // What cannot be answered need not be read to its end.
        match state {
            Ok(_) => Ok(Done::NOTHING),
            Err(_) => Err(Halt::Stop(super::Stop::Memory)),
        }
    };
    let lines = |state: &Result<Aggregate, EngineError>| state.as_ref().map_or(0, Aggregate::lines);
    let (states, report) = in_parallel(&run, || whole.sibling(), &scan, &lines)?;
    let mut whole = whole;
    for state in states {
        whole.join(state?)?;
    }
    Ok((whole.table(search.limit), report))
}

fn columns(aggregate: &Aggregate, dataset: Dataset) -> Vec<&'static str> {
    let mut columns = Vec::new();
    if aggregate.has_buckets() {
        columns.push(TS);
    }
    if dataset == Dataset::Records {
        columns.push(WEIGHT);
    }
    for field in aggregate.fields() {
        let column = column(field, dataset).0;
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    columns
}

/// Where the values of a field stand, and under which key of a map.
fn column(field: &FieldRef, dataset: Dataset) -> (&'static str, Option<&str>) {
    match field {
        FieldRef::Known(known) => match column_of(dataset, known.name) {
            Some(column) => (column.name, None),
            None => (ATTRS, Some(known.name)),
        },
        FieldRef::Label(name) => match column_of(dataset, "labels") {
            Some(column) => (column.name, Some(name)),
            None => (ATTRS, Some(name)),
        },
        FieldRef::Attribute(name) => (ATTRS, Some(name)),
    }
}

fn add(
    aggregate: &mut Aggregate,
    dataset: Dataset,
    batch: &RecordBatch,
) -> Result<(), EngineError> {
    let times = batch.column_by_name(TS).and_then(whole).unwrap_or_default();
    if aggregate.has_buckets() && times.len() != batch.num_rows() {
        return Ok(());
    }
    // A line that says no number stands for itself.
    let counts = batch.column_by_name(WEIGHT).filter(|counts| counts.null_count() < counts.len());
    let weights: Option<Vec<i64>> = counts.and_then(|counts| {
        let values = whole(counts)?.iter().enumerate();
        Some(values.map(|(row, n)| if counts.is_null(row) { 1 } else { (*n).max(0) }).collect())
    });
    let place = |field: &FieldRef| -> Place<'_> {
        let (name, key) = column(field, dataset);
        let Some(array) = batch.column_by_name(name) else { return Place::Nowhere };
        match key {
            None => Place::Column(array),
            Some(key) if name == ATTRS => {
                let kind = match field {
                    FieldRef::Known(known) => Some(known.kind),
                    FieldRef::Label(_) | FieldRef::Attribute(_) => None,
                };
                Place::Attribute(array, key.into(), kind)
            }
            Some(key) => Place::Label(array, key.into()),
        }
    };
    aggregate.add_batch(batch.num_rows(), times, weights.as_deref(), &place)
}
