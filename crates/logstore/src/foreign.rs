//! Searches any JSON-lines input in the language of our own records: files, plain
//! or compressed by gzip or zstd, and streams, mixed with lines that are not JSON.
//!
//! Owns what such lines mean to a query. Promises the same answer as parsing
//! every line would give, in memory that no line length and no file size moves,
//! and that what could not be read is named while the rest is still searched.
//! Must never write, follow directories, or take a field for one of ours: names
//! are those of the file.
//!
//! - A field is any key; dots reach into objects (or are part of the key: `json`).
//!   What tests make of values stands in `value`. `level` is `log.level`, too.
//! - A text is looked for in the whole line, as it stands and with its escapes
//!   resolved, in any case.
//! - The time of a line is its `ts`, `timestamp`, `time` or `@timestamp`.
//! - A line that is no JSON object has no fields and no time, but its text.
//! - A line of more than [`LINE_BYTES_MAX`] is passed over and counted.
//!
//! Most lines are never looked at: what must stand in a line that matches is
//! found in whole blocks first (`needle`), on two threads for a plain file.

mod block;
mod census;
mod emit;
mod folded;
mod json;
mod needle;
mod plan;
mod run;
mod source;
mod stats;
mod tail;
mod value;

#[cfg(test)]
mod tests;

use std::{fmt, io::Read, ops::ControlFlow, path::Path, path::PathBuf, sync::Arc, time::Duration};

use domain::{
    query::{Expr, FieldRef, Stats},
    time::Timestamp,
};

use self::{
    emit::{Backwards, Emitter},
    plan::{Plan, TimeRange},
    run::Run,
    source::Sizes,
    stats::Sums,
};
pub use self::{source::LINE_BYTES_MAX, tail::Tail};
use crate::{
    engine::{Budget, Cancel, EngineError, Problem, Progress, Stop, Table},
    fs::Fs,
};

/// Lines shown around a match.
pub const CONTEXT_MAX: usize = 10_000;

/// Something to search.
pub enum Input<'r> {
    File(PathBuf),
    /// A name for messages, and where the bytes come from.
    Stream(PathBuf, Box<dyn Read + 'r>),
}

impl Input<'_> {
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Stream(path, _) => path,
        }
    }
}

impl fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Input").field(&self.path()).finish()
    }
}

/// Told how far a search is.
pub type Watch = Arc<dyn Fn(&Progress) + Send + Sync>;

/// A question. [`Search::new`] asks for all lines that match.
#[derive(Clone)]
pub struct Search {
    pub expr: Expr,
    /// From this moment on, itself included. Lines without a time are left out.
    pub since: Option<Timestamp>,
    /// Before this moment.
    pub until: Option<Timestamp>,
    pub take: Take,
    /// Neighbours of each match in its input, on both sides.
    pub context: usize,
    pub budget: Budget,
    pub cancel: Cancel,
    /// Called for each block, on the thread that asks.
    pub progress: Option<Watch>,
}

impl Search {
    pub fn new(expr: Expr) -> Self {
        Self {
            expr,
            since: None,
            until: None,
            take: Take::All,
            context: 0,
            budget: Budget::default(),
            cancel: Cancel::default(),
            progress: None,
        }
    }

    fn plan(&self, asked: &[FieldRef]) -> Result<Plan, EngineError> {
        if self.context > CONTEXT_MAX {
            let what = format!("more than {CONTEXT_MAX} lines of context");
            return Err(EngineError::Question(what));
        }
        let range = TimeRange { since: self.since, until: self.until };
        Plan::new(&self.expr, range, asked)
    }
}

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search")
            .field("expr", &self.expr)
            .field("since", &self.since)
            .field("until", &self.until)
            .field("take", &self.take)
            .field("context", &self.context)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}

/// Which matches are visited, always in the order of the inputs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Take {
    /// As they are found: a stream is answered while it runs.
    All,
    First(usize),
    /// After everything was read; without context, plain files are read from
    /// their end and only as far as needed.
    Last(usize),
}

/// One line of an answer.
#[derive(Debug)]
pub struct Hit<'a> {
    /// As it stands in the input, without its line end. It may be no UTF-8.
    pub line: &'a [u8],
    /// Which of the inputs it is from.
    pub input: usize,
    /// A neighbour of a match, not a match.
    pub context: bool,
    /// With context: lines were left out before this one.
    pub gap: bool,
    /// The next line may be long in coming: whoever buffers should not now.
    pub at_once: bool,
}

/// What an answer rests on.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub matched: u64,
    /// Lines read, without blank ones and those passed over.
    pub lines: u64,
    /// Lines among them that are no JSON objects by their first byte.
    pub not_json: u64,
    /// Lines whose text was looked at beyond what must stand in a match.
    pub looked_at: u64,
    /// Lines longer than [`LINE_BYTES_MAX`], which were not searched.
    pub passed_over: u64,
    /// Decompressed.
    pub bytes: u64,
    pub inputs: u64,
    pub inputs_failed: u64,
    /// What could not be read. The answer is right for everything else.
    pub problems: Vec<Problem>,
    pub stopped: Option<Stop>,
    pub elapsed: Duration,
}

impl Report {
    /// Whether the answer rests on every line that it should.
    pub fn is_complete(&self) -> bool {
        self.problems.is_empty() && self.stopped.is_none()
    }
}

/// What `--explain` prints.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "inputs       {}, {} failed", self.inputs, self.inputs_failed)?;
        writeln!(
            f,
            "lines        {} in {} bytes; {} looked at, {} not JSON, {} too long",
            self.lines, self.bytes, self.looked_at, self.not_json, self.passed_over,
        )?;
        writeln!(f, "time         {:.1} ms", self.elapsed.as_secs_f64() * 1000.0)
    }
}

/// Visits the lines that match. What cannot be read becomes a problem of the
/// report; the rest of the inputs is still searched.
pub fn search(
    fs: &Arc<dyn Fs>,
    inputs: Vec<Input<'_>>,
    search: &Search,
    visit: &mut dyn FnMut(Hit<'_>) -> ControlFlow<()>,
) -> Result<Report, EngineError> {
    search_in(fs, inputs, search, visit, Sizes::default())
}

fn search_in(
    fs: &Arc<dyn Fs>,
    inputs: Vec<Input<'_>>,
    search: &Search,
    visit: &mut dyn FnMut(Hit<'_>) -> ControlFlow<()>,
    sizes: Sizes,
) -> Result<Report, EngineError> {
    let plan = search.plan(&[])?;
    let run = Run::new(fs, search, &plan, sizes);
    let memory_bytes = search.budget.memory_bytes;
    match (search.take, search.context) {
        (Take::Last(count), 0) => {
            let mut sink = Backwards::new(count, memory_bytes, visit);
            run.over(inputs, Some(&mut sink), &mut [(), ()])
        }
        (take, context) => {
            let mut sink = Emitter::new(take, context, memory_bytes, visit);
            run.over(inputs, Some(&mut sink), &mut [(), ()])
        }
    }
}

/// Counts the lines that match: [`Report::matched`].
pub fn count(
    fs: &Arc<dyn Fs>,
    inputs: Vec<Input<'_>>,
    search: &Search,
) -> Result<Report, EngineError> {
    let plan = search.plan(&[])?;
    Run::new(fs, search, &plan, Sizes::default()).over(inputs, None, &mut [(), ()])
}

/// Statistics of the lines that match; `limit` keeps the first groups. Lines
/// without a time are in no bucket.
pub fn stats(
    fs: &Arc<dyn Fs>,
    inputs: Vec<Input<'_>>,
    search: &Search,
    stats: &Stats,
    limit: Option<usize>,
) -> Result<(Table, Report), EngineError> {
    let fields = stats::fields(stats);
    let plan = search.plan(&fields)?;
    let mut sums = Sums::of_threads(stats, &fields, search.budget.memory_bytes)?;
    let run = Run::new(fs, search, &plan, Sizes::default());
    let mut report = run.over(inputs, None, &mut sums)?;
    let (table, lines) = Sums::table(sums, limit)?;
    report.matched = lines;
    Ok((table, report))
}
