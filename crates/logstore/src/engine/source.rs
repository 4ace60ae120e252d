//! What the engine asks of a part of the data, sealed or hot: leave out what
//! cannot match, scan the rest, give the lines of rows.

use std::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use arrow_array::RecordBatch;
use domain::ids::InstanceId;

use super::{Budget, Cancel, Problem, Stop, evaluate::Evaluator, plan::Plan};
use crate::segment::Dataset;

/// Microseconds of the oldest and the newest row, both included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    pub(crate) min_ts: i64,
    pub(crate) max_ts: i64,
}

impl Span {
    /// Nothing is known.
    pub(crate) const ALWAYS: Self = Self { min_ts: i64::MIN, max_ts: i64::MAX };
}

/// Rows that are scanned at once, by one thread.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    pub(crate) span: Span,
    /// What numbers count, and what more of a source a unit is, is the source's.
    pub(crate) ranges: Vec<Range<u64>>,
}

/// Matching rows with the columns that were asked for, older rows first where
/// the source is sorted.
pub(crate) struct Rows {
    pub(crate) batch: RecordBatch,
    /// How the source finds each row again; empty if nobody wanted them.
    pub(crate) handles: Vec<u64>,
}

/// What a scan reads and hands on.
pub(crate) struct Scan<'a> {
    pub(crate) plan: &'a Plan,
    /// Beside those that the plan needs.
    pub(crate) columns: &'a [&'static str],
    /// Whether rows need their handles.
    pub(crate) handles: bool,
    pub(crate) meter: &'a Meter,
}

/// Lines of some rows, in the order in which they were asked for.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    pub(crate) bytes: Vec<u8>,
    pub(crate) ends: Vec<usize>,
}

impl Lines {
    pub(crate) fn get(&self, at: usize) -> &[u8] {
        let from = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.bytes[from..self.ends[at]]
    }
}

/// Why a scan did not reach its end.
#[derive(Debug)]
pub(crate) enum Halt {
    Stop(Stop),
    Problem(Problem),
}

impl From<Problem> for Halt {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// One file, as one dataset of one question.
pub(crate) trait Source: Send + Sync {
    fn dataset(&self) -> Dataset;
    fn instance(&self) -> &InstanceId;
    fn span(&self) -> Span;
    /// Rows, as far as that is known.
    fn rows(&self) -> u64;
    /// Opens the file and gives what may match.
    fn prune(&self, plan: &Plan, counters: &mut Counters) -> Result<Vec<Unit>, Halt>;
    /// Visits every row of a unit that matches.
    fn scan(
        &self,
        unit: &Unit,
        scan: &Scan<'_>,
        evaluator: &mut Evaluator,
        counters: &mut Counters,
        visit: &mut dyn FnMut(Rows),
    ) -> Result<(), Halt>;
    /// Counts the rows of a unit that match.
    fn count(
        &self,
        unit: &Unit,
        scan: &Scan<'_>,
        evaluator: &mut Evaluator,
        counters: &mut Counters,
    ) -> Result<u64, Halt> {
        let mut rows = 0;
        self.scan(unit, scan, evaluator, counters, &mut |found| {
            rows += found.batch.num_rows() as u64;
        })?;
        Ok(rows)
    }
    /// The lines of rows, by their handles.
    fn lines(&self, handles: &[u64], counters: &mut Counters) -> Result<Lines, Problem>;
}

/// What one thread did; see [`super::Explain`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) pruned_by_time: u64,
    pub(crate) pruned_by_ids: u64,
    pub(crate) pruned_by_statistics: u64,
    pub(crate) opened: u64,
    pub(crate) groups_total: u64,
    pub(crate) groups_read: u64,
    pub(crate) hot_bytes: u64,
    pub(crate) hot_lines_decoded: u64,
    /// Parts of the journal of which only the bytes were looked at.
    pub(crate) hot_unproven: u64,
    pub(crate) prune: Duration,
    pub(crate) scan: Duration,
    pub(crate) fetch: Duration,
    /// What could not be read, without an end to the scan.
    pub(crate) problems: Vec<Problem>,
}

impl Counters {
    pub(crate) fn add(&mut self, other: Self) {
        self.pruned_by_time += other.pruned_by_time;
        self.pruned_by_ids += other.pruned_by_ids;
        self.pruned_by_statistics += other.pruned_by_statistics;
        self.opened += other.opened;
        self.groups_total += other.groups_total;
        self.groups_read += other.groups_read;
        self.hot_bytes += other.hot_bytes;
        self.hot_lines_decoded += other.hot_lines_decoded;
        self.hot_unproven += other.hot_unproven;
        self.prune += other.prune;
        self.scan += other.scan;
        self.fetch += other.fetch;
        for problem in other.problems {
            self.problem(problem);
        }
    }

    /// Files are looked at once for each stream: what is wrong is said once.
    pub(crate) fn problem(&mut self, problem: Problem) {
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }
}

/// What is left of a budget, for all threads of a question.
#[derive(Debug)]
pub(crate) struct Meter {
    budget: Budget,
    cancel: Cancel,
    rows_scanned: AtomicU64,
}

impl Meter {
    pub(crate) fn new(budget: Budget, cancel: Cancel) -> Self {
        Self { budget, cancel, rows_scanned: AtomicU64::new(0) }
    }

    pub(crate) fn rows_scanned(&self) -> u64 {
        self.rows_scanned.load(Ordering::Relaxed)
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.budget.memory_bytes
    }

    /// Accounts for rows about to be looked at; an error ends the work.
    pub(crate) fn scan(&self, rows: usize) -> Result<(), Halt> {
        let before = self.rows_scanned.fetch_add(rows as u64, Ordering::Relaxed);
        match self.budget.rows_scanned {
            Some(max) if before >= max => Err(Halt::Stop(Stop::RowsScanned)),
            _ => self.check(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), Halt> {
        if self.cancel.is_cancelled() {
            return Err(Halt::Stop(Stop::Cancelled));
        }
        match self.budget.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(Halt::Stop(Stop::Deadline)),
            _ => Ok(()),
        }
    }
}
