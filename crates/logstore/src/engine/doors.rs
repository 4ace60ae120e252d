//! The four questions, and the filter of a line that just arrived.

use std::{ops::ControlFlow, path::Path, sync::Arc};

use domain::query::Stats;

use super::{EngineError, Hit, Report, Search, Table};
use crate::fs::Fs;

/// The files of a data directory as of one moment.
pub struct Sources {
    _fs: Arc<dyn Fs>,
}

impl Sources {
    /// Every instance's segments and journal. Beside a running server too.
    pub fn open(fs: &Arc<dyn Fs>, data_dir: &Path) -> Result<Self, EngineError> {
        let _ = data_dir;
        Ok(Self { _fs: Arc::clone(fs) })
    }
}

/// Visits the lines that match, in order.
pub fn search(
    _sources: &Sources,
    _search: &Search,
    _visit: &mut dyn FnMut(Hit<'_>) -> ControlFlow<()>,
) -> Result<Report, EngineError> {
    Err(EngineError::Question("the engine follows".into()))
}

/// Counts the lines that match: [`Report::matched`].
pub fn count(_sources: &Sources, _search: &Search) -> Result<Report, EngineError> {
    Err(EngineError::Question("the engine follows".into()))
}

/// Statistics of the lines that match. A limit keeps the first groups.
pub fn stats(
    _sources: &Sources,
    _search: &Search,
    _stats: &Stats,
) -> Result<(Table, Report), EngineError> {
    Err(EngineError::Question("the engine follows".into()))
}

/// A question asked of lines one by one, as they come (`--follow`, live tail).
pub struct Filter;

impl Filter {
    pub fn new(_search: &Search) -> Result<Self, EngineError> {
        Ok(Self)
    }

    /// Whether a line of the journal matches; its order and limit do not count.
    pub fn matches(&mut self, _line: &[u8]) -> bool {
        false
    }
}
