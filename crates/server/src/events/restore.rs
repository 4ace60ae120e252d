//! What the last process of an instance left: the last number that it gave, and
//! how many refusals it had counted and entered.
//!
//! Entries that carry totals (start, stop, heartbeats) and `_counters` lines of
//! the journal are where counting goes on from; refusals that were entered
//! behind the newer of them are added. What was counted and never entered is
//! entered by the next process.

use std::{collections::BTreeMap, io, ops::ControlFlow, path::Path, sync::Arc};

use domain::{
    audit::{Action, Leaf, Word},
    fields::{self, Stream},
    ids::InstanceId,
    query::{Comparison, Expr, FieldRef, Literal, Test},
    time::Timestamp,
};
use logstore::{
    engine::{self, EngineError, Search, Sources},
    fs::Fs,
    notes,
};
use serde::{Deserialize, Serialize};

use super::denials::Totals;

/// The key of the journal's lines that carry the counts.
pub(super) const COUNTERS_KEY: &str = "_counters";

/// How the last process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PreviousEnd {
    /// There was none.
    #[default]
    None,
    Clean,
    Crash,
}

impl PreviousEnd {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Clean => "clean",
            Self::Crash => "crash",
        }
    }
}

/// Where this process goes on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Restored {
    /// The last number of the producer.
    pub seq: u64,
    pub entered: Totals,
    /// Counted and not entered.
    pub unentered: Totals,
    pub previous_end: PreviousEnd,
}

impl Restored {
    /// All refusals until now.
    pub(super) fn counted(&self) -> Totals {
        let mut counted = self.entered.clone();
        for (reason, count) in &self.unentered {
            *counted.entry(reason.clone()).or_default() += count;
        }
        counted
    }
}

/// What a `_counters` line says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Counters {
    ts: Timestamp,
    /// The last number that the producer had given then.
    seq: u64,
    counted: BTreeMap<String, u64>,
    entered: BTreeMap<String, u64>,
}

impl Counters {
    pub(super) fn of(seq: u64, counted: &Totals, entered: &Totals, ts: Timestamp) -> Self {
        let named = |totals: &Totals| {
            totals.iter().map(|(reason, count)| (reason.to_string(), *count)).collect()
        };
        Self { ts, seq, counted: named(counted), entered: named(entered) }
    }
}

fn totals(named: &BTreeMap<String, u64>) -> Totals {
    named.iter().map(|(reason, count)| (Word::lossy(reason), *count)).collect()
}

/// Why the past cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("read the journal's notes")]
    Notes(#[source] io::Error),
    #[error("read the entries of the last process")]
    Entries(#[from] EngineError),
}

/// Reads what `producer` left; `seq` is the last number that files or database
/// know. Reads files: not for an asynchronous thread.
pub fn restore(
    fs: &Arc<dyn Fs>,
    data_dir: &Path,
    instance: &InstanceId,
    producer: &str,
    seq: u64,
) -> Result<Restored, RestoreError> {
    let dir = logstore::journal_dir(data_dir);
    let noted = notes::last(fs, &dir, instance, COUNTERS_KEY).map_err(RestoreError::Notes)?;
    let noted = noted.and_then(|(_, line)| noted_counters(&line));
    let sources = Sources::open(fs, data_dir)?;
    let marks = [Action::SystemStart, Action::SystemStop, Action::AuditHeartbeat];
    let mut newest = None;
    visit(&sources, producer, 0, &marks, &mut |leaf| {
        if newest.as_ref().is_none_or(|found: &Leaf| found.seq < leaf.seq) {
            newest = Some(leaf);
        }
    })?;
    let previous_end = match newest.as_ref().map(|leaf| leaf.action) {
        None => PreviousEnd::None,
        Some(Action::SystemStop) => PreviousEnd::Clean,
        Some(_) => PreviousEnd::Crash,
    };
    let (mut from, mut entered) = newest.as_ref().map_or((0, Totals::new()), carried);
    if let Some(noted) = noted.as_ref().filter(|noted| noted.seq >= from) {
        (from, entered) = (noted.seq, totals(&noted.entered));
    }
    let refusals = [Action::AccessDenied, Action::AccessDeniedAggregate, Action::AuthFailed];
    visit(&sources, producer, from, &refusals, &mut |leaf| {
        let details = leaf.details.as_ref();
        let count = details.and_then(|details| details.get("count")?.as_u64()).unwrap_or(1);
        if let Some(reason) = leaf.reason_code {
            *entered.entry(reason).or_default() += count;
        }
    })?;
    let counted = noted.map(|noted| totals(&noted.counted)).unwrap_or_default();
    let missing = |(reason, count): (Word, u64)| {
        let missing = count.saturating_sub(entered.get(&reason).copied().unwrap_or(0));
        (missing > 0).then_some((reason, missing))
    };
    let unentered = counted.into_iter().filter_map(missing).collect();
    Ok(Restored { seq, entered, unentered, previous_end })
}

fn noted_counters(line: &[u8]) -> Option<Counters> {
    let mut line: BTreeMap<String, Counters> = serde_json::from_slice(line).ok()?;
    line.remove(COUNTERS_KEY)
}

/// The totals that an entry carries, with its number.
fn carried(leaf: &Leaf) -> (u64, Totals) {
    let told = leaf.details.as_ref().and_then(|details| details.get("denied_totals")?.as_object());
    let counts = told.into_iter().flatten();
    let counts = counts.filter_map(|(reason, count)| Some((Word::lossy(reason), count.as_u64()?)));
    (leaf.seq, counts.collect())
}

/// Calls `each` with the leaves of a producer behind a number.
fn visit(
    sources: &Sources,
    producer: &str,
    after: u64,
    actions: &[Action],
    each: &mut dyn FnMut(Leaf),
) -> Result<(), EngineError> {
    let known = |name| fields::find(name).map(FieldRef::Known);
    let parts = known("producer").zip(known("action")).zip(known("seq"));
    let Some(((by, action), seq)) = parts else { return Ok(()) };
    let names = actions.iter().map(|action| Literal::Text(action.as_str().to_owned()));
    let expr = Expr::and([
        Expr::Field(by, Test::Any(vec![Literal::Text(producer.to_owned())])),
        Expr::Field(action, Test::Any(names.collect())),
        Expr::Field(seq, Test::Compare(Comparison::Greater, Literal::Integer(after))),
    ]);
    let question = Search { streams: vec![Stream::Entry], ..Search::new(expr) };
    let report = engine::search(sources, &question, &mut |hit| {
        if let Some(leaf) = leaf_of(hit.line) {
            each(leaf);
        }
        ControlFlow::Continue(())
    })?;
    for problem in &report.problems {
        tracing::warn!(%problem, "restoring the counts of refusals, a file could not be read");
    }
    Ok(())
}

#[derive(Deserialize)]
struct EntryLine {
    leaf: String,
}

fn leaf_of(line: &[u8]) -> Option<Leaf> {
    let line: EntryLine = serde_json::from_slice(line).ok()?;
    Leaf::parse(line.leaf.as_bytes()).ok()
}
