//! The questions that may be asked.

use std::ops::ControlFlow;

use domain::query::Stats;

use super::{
    EngineError, Hit, Report, Search, Sources, Table, captured::Captured, context, ordered, tally,
};

/// Visits the lines that match, in order; with [`Search::context`], their
/// neighbours too. `visit` breaks when it has enough.
pub fn search(
    sources: &Sources,
    search: &Search,
    visit: &mut dyn FnMut(Hit<'_>) -> ControlFlow<()>,
) -> Result<Report, EngineError> {
    let captured = Captured::of(sources, search)?;
    let report = match search.context {
        0 => ordered::search(sources, search, &captured.words, visit),
        _ => context::search(sources, search, &captured.words, visit),
    };
    Ok(captured.told_in(report?))
}

/// Counts the lines that match: [`Report::matched`]. Order, limit, position and
/// context do not count.
pub fn count(sources: &Sources, search: &Search) -> Result<Report, EngineError> {
    let captured = Captured::of(sources, search)?;
    let report = tally::count(sources, search, &captured.words)?;
    Ok(captured.told_in(report))
}

/// Statistics of the lines that match, in groups. The limit keeps the first
/// groups; order, position and context do not count.
pub fn stats(
    sources: &Sources,
    search: &Search,
    stats: &Stats,
) -> Result<(Table, Report), EngineError> {
    let captured = Captured::of(sources, search)?;
    let (table, report) = super::stats::stats(sources, search, stats, &captured.words)?;
    Ok((table, captured.told_in(report)))
}

/// Visits captured bodies that meet the condition themselves, in order: of a
/// record, say, or with a word. Each is a line as the journal keeps it beside the
/// records. The streams do not count.
pub fn search_bodies(
    sources: &Sources,
    search: &Search,
    visit: &mut dyn FnMut(Hit<'_>) -> ControlFlow<()>,
) -> Result<Report, EngineError> {
    ordered::bodies(sources, search, visit)
}
