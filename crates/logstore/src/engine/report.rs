//! What an answer rests on: how much was read and left out, what could not be
//! read, where each journal ended, and which bound stopped it.

use std::{fmt, path::PathBuf, time::Duration};

use crate::cursor::Cursor;

/// Beside every answer.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Lines that met the condition (and were visited, for a search).
    pub matched: u64,
    pub rows_scanned: u64,
    pub segments_total: u64,
    pub segments_opened: u64,
    /// Pages of columns that were read.
    pub pages: u64,
    pub bytes_read: u64,
    /// Where each instance's journal ended: what follows was not looked at.
    pub complete_to: Vec<Cursor>,
    /// What could not be read. The answer is right for everything else.
    pub problems: Vec<Problem>,
    /// The bound that ended the work early. What was visited until then is right.
    pub stopped: Option<Stop>,
    pub explain: Explain,
}

impl Report {
    /// Whether the answer rests on every line that it should.
    pub fn is_complete(&self) -> bool {
        self.problems.is_empty() && self.stopped.is_none()
    }
}

/// Something that could not be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    pub path: PathBuf,
    pub what: String,
}

impl From<&crate::catalog::Problem> for Problem {
    fn from(problem: &crate::catalog::Problem) -> Self {
        Self { path: problem.path.clone(), what: problem.what.clone() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

/// The bound that ended a question before its answer was whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    Cancelled,
    Deadline,
    /// [`super::Budget::rows_scanned`].
    RowsScanned,
    /// [`super::Budget::memory_bytes`].
    Memory,
}

impl Stop {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Deadline => "the deadline passed",
            Self::RowsScanned => "the bound of scanned rows was reached",
            Self::Memory => "the bound of memory was reached",
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far a running question is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    pub files_total: u64,
    pub files_done: u64,
    pub rows_total: u64,
    pub rows_scanned: u64,
    pub bytes_read: u64,
}

/// Where the work went. `Display` is what `--explain` prints.
#[derive(Clone, Debug, Default)]
pub struct Explain {
    pub segments_total: u64,
    pub segments_pruned_by_time: u64,
    pub segments_pruned_by_ids: u64,
    pub segments_pruned_by_statistics: u64,
    /// Not needed any more when enough was found.
    pub segments_spared: u64,
    pub segments_opened: u64,
    pub row_groups_total: u64,
    pub row_groups_read: u64,
    pub pages: u64,
    pub bytes_read: u64,
    pub rows_total: u64,
    pub rows_scanned: u64,
    pub hot_files: u64,
    pub hot_bytes: u64,
    pub hot_lines_decoded: u64,
    pub threads: usize,
    pub open: Duration,
    /// Thread time, summed.
    pub prune: Duration,
    pub scan: Duration,
    pub fetch: Duration,
    pub total: Duration,
}

impl fmt::Display for Explain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        writeln!(
            f,
            "segments     {} total, {} opened; left out: {} by time, {} by id, {} by statistics, \
             {} not needed",
            self.segments_total,
            self.segments_opened,
            self.segments_pruned_by_time,
            self.segments_pruned_by_ids,
            self.segments_pruned_by_statistics,
            self.segments_spared,
        )?;
        writeln!(f, "row groups   {} of {} read", self.row_groups_read, self.row_groups_total)?;
        writeln!(
            f,
            "rows         {} of {} looked at, {} pages, {} bytes read",
            self.rows_scanned, self.rows_total, self.pages, self.bytes_read,
        )?;
        writeln!(
            f,
            "journal      {} files, {} bytes, {} lines decoded",
            self.hot_files, self.hot_bytes, self.hot_lines_decoded,
        )?;
        writeln!(
            f,
            "time         {:.1} ms: open {:.1}; on {} threads: prune {:.1}, scan {:.1}, fetch {:.1}",
            ms(self.total),
            ms(self.open),
            self.threads,
            ms(self.prune),
            ms(self.scan),
            ms(self.fetch),
        )
    }
}

/// Why there is no answer at all.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The question makes no sense for the data; the message says which part.
    #[error("{0}")]
    Question(String),
    #[error("more than {max} groups: group by fewer fields, or by a longer time")]
    TooManyGroups { max: usize },
    #[error("find the files")]
    Catalog(#[source] Box<crate::catalog::CatalogError>),
    #[error("start a thread")]
    Thread(#[source] std::io::Error),
}
