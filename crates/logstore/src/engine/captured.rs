//! Words in captured bodies: bodies lie apart from their records, so they are
//! looked through first, and a record matches if it is among those that were found.

use std::{collections::HashSet, convert::Infallible};

use arrow_array::cast::AsArray;
use domain::{fields::Stream, query::Expr};

use super::{
    EngineError, Report, Search, Sources, Stop,
    context::add,
    plan::Words,
    queue::Work,
    run::{AtWork, Done, Run},
    source::{Halt, Scan},
    tally::in_parallel,
};
use crate::segment::Dataset;

const RECORD_ID: &str = "record_id";
/// What one id takes in the set of a thread and in the plan.
const ID_BYTES: usize = 160;

/// What was found in bodies before a question is asked of the records.
#[derive(Default)]
pub(crate) struct Captured {
    pub(crate) words: Box<Words>,
    report: Option<Report>,
}

impl Captured {
    /// Looks for every word of a question that may look into bodies.
    pub(crate) fn of(sources: &Sources, search: &Search) -> Result<Self, EngineError> {
        let mut captured = Self::default();
        if !search.bodies || !search.streams.contains(&Stream::Record) {
            return Ok(captured);
        }
        let mut words = Vec::new();
        words_of(&search.expr, &mut words);
        let mut found = Vec::with_capacity(words.len());
        // Together the words may take what one question may.
        let ids_max = search.budget.memory_bytes / ID_BYTES / words.len().max(1);
        for word in words {
            let (records, report) = records_with(sources, search, word, ids_max)?;
            found.push((word.to_owned(), records));
            match &mut captured.report {
                Some(all) => add(all, report),
                None => captured.report = Some(report),
            }
        }
        captured.words = found.into();
        Ok(captured)
    }

    /// The report with what looking into bodies took.
    pub(crate) fn told_in(self, mut report: Report) -> Report {
        if let Some(more) = self.report {
            add(&mut report, more);
        }
        report
    }
}

fn words_of<'e>(expr: &'e Expr, words: &mut Vec<&'e str>) {
    match expr {
        Expr::And(all) | Expr::Or(all) => all.iter().for_each(|expr| words_of(expr, words)),
        Expr::Not(expr) => words_of(expr, words),
        Expr::Text(word) if !words.contains(&word.as_str()) => words.push(word),
        Expr::Text(_) | Expr::All | Expr::Field(..) => {}
    }
}

/// The ids of records with a body that holds a word.
fn records_with(
    sources: &Sources,
    search: &Search,
    word: &str,
    ids_max: usize,
) -> Result<(Vec<String>, Report), EngineError> {
    let asked = Search {
        expr: Expr::Text(word.to_owned()),
        limit: None,
        after: None,
        context: 0,
        ..search.clone()
    };
    let run = Run::over(sources, &asked, &[Dataset::Bodies], &[])?;
    let scan = |work: Work<Infallible>, at: &mut AtWork<'_, HashSet<String>>| {
        let Work::Scan(unit) = work else { return Ok(Done::NOTHING) };
        let AtWork { source, state: ids, evaluator, counters } = at;
        let plan = run.plan_of(*source);
        let scan = Scan { plan, columns: &[RECORD_ID], handles: false, meter: &run.meter };
        let mut is_full = false;
        run.source(*source).scan(&unit, &scan, evaluator, counters, &mut |rows| {
            let column = rows.batch.column_by_name(RECORD_ID);
            let texts = column.and_then(|column| column.as_string_opt::<i32>());
            for id in texts.into_iter().flatten().flatten().filter(|_| !is_full) {
                if !ids.contains(id) {
                    ids.insert(id.to_owned());
                }
            }
            is_full = ids.len() > ids_max;
        })?;
        if is_full { Err(Halt::Stop(Stop::Memory)) } else { Ok(Done::NOTHING) }
    };
    let (states, report) =
        in_parallel(&run, HashSet::new, &scan, &|ids: &HashSet<String>| ids.len() as u64)?;
    let mut all = HashSet::new();
    states.into_iter().for_each(|ids: HashSet<String>| all.extend(ids));
    Ok((all.into_iter().collect(), report))
}
