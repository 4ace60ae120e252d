//! Committed audit entries as lines of the journal.
//!
//! Owns one task that reads what the store has beyond the last entry line and
//! writes it to the journal. Promises each entry of this instance exactly one
//! line, in order: the place to go on from is read back from the journal and its
//! segments themselves, so a crash between a commit and its line loses nothing
//! and repeats nothing. Must never be waited for by a change: the entry is
//! durable before its line is.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use domain::{
    audit,
    fields::{self, Stream},
    query::{Expr, FieldRef, Function, Literal, Measure, Stats, Test},
    record::Envelope,
};
use logstore::{
    Intake, NoRoom,
    engine::{self, Cell, EngineError, Search, Sources},
    fs::Fs,
};
use store::Store;
use tokio::{sync::oneshot, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// Entries that are read and written together.
const BATCH: u32 = 128;
/// How long a failing store or journal is left alone.
const RETRY: Duration = Duration::from_secs(1);

/// The running task.
pub struct EntryLines {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl EntryLines {
    /// Goes on behind entry `seq`, see [`last_written`].
    pub fn begin(store: Store, intake: Intake, envelope: Envelope, seq: u64) -> Self {
        let stop = CancellationToken::new();
        let writer = Writer { store, intake, envelope, seq, ahead: BTreeSet::new() };
        let task = tokio::spawn(writer.run(stop.clone()));
        Self { stop, task }
    }

    /// Writes what is committed by now, and ends. Call it before the journal is
    /// closed; what comes later is written after the next start.
    pub async fn stop(self) {
        self.stop.cancel();
        if self.task.await.is_err() {
            tracing::error!("the writer of entry lines panicked");
        }
    }
}

/// The number of the last entry of `producer` that has a line. Reads files: not
/// for an asynchronous thread.
pub fn last_written(fs: &Arc<dyn Fs>, data_dir: &Path, producer: &str) -> Result<u64, EngineError> {
    let known = |name| fields::find(name).map(FieldRef::Known);
    let (Some(by), Some(seq)) = (known("producer"), known("seq")) else { return Ok(0) };
    let expr = Expr::Field(by, Test::Any(vec![Literal::Text(producer.to_owned())]));
    let question = Search { streams: vec![Stream::Entry], ..Search::new(expr) };
    let measures = vec![Measure { function: Function::Maximum, field: Some(seq) }];
    let stats = Stats { measures, by: Vec::new(), bucket_micros: None };
    let (table, report) = engine::stats(&Sources::open(fs, data_dir)?, &question, &stats)?;
    // Lines that cannot be read any more are written again, from the store.
    for problem in &report.problems {
        tracing::warn!(%problem, "looking for the last entry line, a file could not be read");
    }
    let last = table.rows.first().and_then(|row| row.first());
    Ok(match last {
        Some(Cell::Integer(seq)) => u64::try_from(*seq).unwrap_or(0),
        Some(Cell::Number(seq)) if *seq >= 0.0 => *seq as u64,
        _ => 0,
    })
}

struct Writer {
    store: Store,
    intake: Intake,
    envelope: Envelope,
    /// All entries up to here have their line.
    seq: u64,
    /// So have these, whose predecessors failed.
    ahead: BTreeSet<u64>,
}

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("read committed entries")]
    Store(#[from] store::Error),
    #[error("write the lines of entries")]
    Journal(#[from] NoRoom),
    #[error("a line was lost by the journal")]
    Lost,
}

impl Writer {
    async fn run(mut self, stop: CancellationToken) {
        let mut committed = self.store.entries_committed();
        let mut is_failing = false;
        loop {
            let stopping = stop.is_cancelled();
            committed.borrow_and_update();
            match self.catch_up().await {
                Ok(()) => is_failing = false,
                Err(error) => {
                    if !is_failing {
                        let error: &dyn std::error::Error = &error;
                        tracing::warn!(error, "entries wait for their lines in the journal");
                    }
                    is_failing = true;
                }
            }
            if stopping {
                return;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(RETRY), if is_failing => {}
                changed = committed.changed(), if !is_failing => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn catch_up(&mut self) -> Result<(), Trouble> {
        loop {
            let leaves = self.store.own_leaves_after(self.seq, BATCH).await?;
            if leaves.is_empty() {
                return Ok(());
            }
            self.write(leaves).await?;
        }
    }

    async fn write(&mut self, leaves: Vec<(u64, String)>) -> Result<(), Trouble> {
        let mut waiting = Vec::with_capacity(leaves.len());
        let mut refused = None;
        for (seq, leaf) in leaves {
            if self.ahead.remove(&seq) {
                waiting.push((seq, None));
                continue;
            }
            let mut line = Vec::new();
            if let Err(error) = audit::write_line(&leaf, self.envelope.version, &mut line) {
                let error: &dyn std::error::Error = &error;
                tracing::error!(error, seq, "an entry is damaged and gets no line");
                waiting.push((seq, None));
                continue;
            }
            let (told, stored) = oneshot::channel();
            let then = Box::new(move |is_stored| told.send(is_stored).unwrap_or_default());
            if let Err(error) = self.intake.line_then(logstore::Stream::Entry, line, Some(then)) {
                refused = Some(error);
                break;
            }
            waiting.push((seq, Some(stored)));
        }
        let mut lost = false;
        for (seq, stored) in waiting {
            let is_stored = match stored {
                None => true,
                Some(stored) => stored.await.unwrap_or(false),
            };
            match (is_stored, lost) {
                (true, false) => self.seq = seq,
                (true, true) => drop(self.ahead.insert(seq)),
                (false, _) => lost = true,
            }
        }
        match (refused, lost) {
            (Some(error), _) => Err(error.into()),
            (None, true) => Err(Trouble::Lost),
            (None, false) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
