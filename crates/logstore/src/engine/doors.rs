//! The questions that may be asked.

use std::ops::ControlFlow;

use domain::query::Stats;

use super::{EngineError, Hit, Report, Search, Sources, Table, context, ordered, tally};

/// Visits the lines that match, in order; with [`Search::context`], their
/// neighbours too. `visit` breaks when it has enough.
pub fn search(
    sources: &Sources,
    search: &Search,
    visit: &mut dyn FnMut(Hit<'_>) -> ControlFlow<()>,
) -> Result<Report, EngineError> {
    match search.context {
        0 => ordered::search(sources, search, &[], visit),
        _ => context::search(sources, search, &[], visit),
    }
}

/// Counts the lines that match: [`Report::matched`]. Order, limit, position and
/// context do not count.
pub fn count(sources: &Sources, search: &Search) -> Result<Report, EngineError> {
    tally::count(sources, search, &[])
}

/// Statistics of the lines that match, in groups. The limit keeps the first
/// groups; order, position and context do not count.
pub fn stats(
    sources: &Sources,
    search: &Search,
    stats: &Stats,
) -> Result<(Table, Report), EngineError> {
    super::stats::stats(sources, search, stats, &[])
}
