//! Matches with their neighbours in time: lines of the same stream, of any
//! instance, whatever the condition and the time asked for. Each line comes once,
//! and all in one order.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    ops::ControlFlow,
};

use domain::{fields::Stream, query::Expr};

use super::{
    EngineError, Hit, Order, Position, Report, Search, Sources, Stop, ordered, plan::Words,
};

/// Sorts as [`Order::OldestFirst`] does.
type Place = (i64, String, u64);

struct Kept {
    line: Box<[u8]>,
    position: Position,
    stream: Stream,
    context: bool,
}

/// As [`ordered::search`]; holds the answer before it visits it.
pub(crate) fn search(
    sources: &Sources,
    search: &Search,
    words: &Words,
    visit: &mut dyn FnMut(Hit<'_>) -> ControlFlow<()>,
) -> Result<Report, EngineError> {
    let mut gathered =
        Gathered { kept: BTreeMap::new(), bytes: 0, bytes_max: search.budget.memory_bytes };
    let mut hits: Vec<(Position, Stream)> = Vec::new();
    let mut report = ordered::search(sources, search, words, &mut |hit| {
        hits.push((hit.position.clone(), hit.stream));
        gathered.keep(&hit, false)
    })?;
    for (position, stream) in &hits {
        for order in [Order::NewestFirst, Order::OldestFirst] {
            if gathered.is_full() || report.stopped.is_some() {
                break;
            }
            let around = around(search, position, *stream, order);
            let more =
                ordered::search(sources, &around, &[], &mut |hit| gathered.keep(&hit, true))?;
            add(&mut report, more);
        }
    }
    if gathered.is_full() {
        report.stopped = report.stopped.or(Some(Stop::Memory));
    }
    let mut kept: Vec<Kept> = gathered.kept.into_values().collect();
    if search.order == Order::NewestFirst {
        kept.reverse();
    }
    for Kept { line, position, stream, context } in &kept {
        let hit = Hit { line, position, stream: *stream, context: *context };
        if visit(hit).is_break() {
            break;
        }
    }
    Ok(report)
}

/// The question for what lies on one side of a match.
fn around(search: &Search, position: &Position, stream: Stream, order: Order) -> Search {
    Search {
        expr: Expr::All,
        streams: vec![stream],
        since: None,
        until: None,
        bodies: false,
        order,
        limit: Some(search.context),
        context: 0,
        after: Some(position.clone()),
        progress: None,
        ..search.clone()
    }
}

struct Gathered {
    kept: BTreeMap<Place, Kept>,
    bytes: usize,
    bytes_max: usize,
}

impl Gathered {
    fn is_full(&self) -> bool {
        self.bytes > self.bytes_max
    }

    fn keep(&mut self, hit: &Hit<'_>, context: bool) -> ControlFlow<()> {
        let position = hit.position;
        let place = (position.ts.as_micros(), position.instance.as_str().to_owned(), position.seq);
        if let Entry::Vacant(entry) = self.kept.entry(place) {
            self.bytes += hit.line.len() + size_of::<Kept>() + size_of::<Place>();
            entry.insert(Kept {
                line: hit.line.into(),
                position: position.clone(),
                stream: hit.stream,
                context,
            });
        }
        match self.is_full() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

/// Adds the work of another question to the books of the first.
pub(crate) fn add(report: &mut Report, more: Report) {
    report.rows_scanned += more.rows_scanned;
    report.pages += more.pages;
    report.bytes_read += more.bytes_read;
    report.segments_opened += more.segments_opened;
    report.stopped = report.stopped.or(more.stopped);
    for problem in more.problems {
        if !report.problems.contains(&problem) {
            report.problems.push(problem);
        }
    }
    let (all, new) = (&mut report.explain, more.explain);
    all.segments_opened += new.segments_opened;
    all.row_groups_read += new.row_groups_read;
    all.rows_scanned += new.rows_scanned;
    all.pages += new.pages;
    all.bytes_read += new.bytes_read;
    all.hot_bytes += new.hot_bytes;
    all.hot_lines_decoded += new.hot_lines_decoded;
    all.prune += new.prune;
    all.scan += new.scan;
    all.fetch += new.fetch;
    all.total += new.total;
}
