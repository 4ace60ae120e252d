//! The sequencer: gives entries their index, writes the tree, publishes its
//! checkpoints.
//!
//! Owns one task. A round takes what the journal has, gives indexes in the
//! database, adds the leaves to the tree (written, read back, signed, published)
//! and tells whoever keeps checkpoints; there is one a second at most, and one
//! only when something changed. Promises that the tree grows out of the
//! database's order and nothing else, that a database or a tree which is not the
//! one that was left is refused, not mended, and that nobody waits for it: when
//! it fails, entries wait. Must never be on the way of a request.

mod beat;
mod journal;
mod start;
mod told;
mod tree;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use domain::{
    audit::tree::SignedCheckpoint,
    rng::Rng,
    time::{Clock, Timestamp},
};
use logstore::{Intake, follow::Follower};
use store::{Lead, PENDING_MAX, Remembered, Sequenced, Store};
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

pub use self::{
    beat::beats,
    start::{alone, beside, tree_config, watch_tree},
    tree::{TreeConfig, open},
};
use self::{
    journal::JournalEntries,
    told::Told,
    tree::{Mismatch, OpenTree},
};
use crate::manage::tree::{Failing, Status, Tree};

/// Rounds are at least so far apart.
const ROUND_INTERVAL: Duration = Duration::from_secs(1);
/// How often a sequencer with nothing to do looks at the journal and at what
/// other processes committed.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// The lease of whoever sequences; renewed when a third of it is over.
const HELD: Duration = Duration::from_secs(30);
/// Entries that get their index in one transaction, which others wait for.
const MOVED_MAX: u32 = 1024;
/// Leaves of one signature.
const LEAVES_MAX: u32 = 4096;
/// The place in the journal is kept at least so often while it moves.
const CURSOR_INTERVAL: Duration = Duration::from_secs(10);

/// What a sequencer works with.
pub struct Parts {
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    pub tree: TreeConfig,
    /// Follows this instance's journal, its own lines too.
    pub follower: Follower,
    /// Up to where there is something to follow.
    pub committed: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Where the lines of checkpoints go.
    pub intake: Option<Intake>,
    /// Runs with each checkpoint.
    pub command: Option<String>,
}

/// The running task.
pub struct Sequencer {
    stop: CancellationToken,
    task: JoinHandle<()>,
    pub tree: Tree,
    reached: Arc<AtomicU64>,
}

/// Why a round did not end well.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("sequence entries")]
    Store(#[from] store::Error),
    #[error("write the audit tree")]
    Tree(#[from] tlog::Error),
    #[error("read the journal's entries")]
    Journal(#[source] std::io::Error),
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    #[error("the work on files broke off")]
    Broken(#[from] tokio::task::JoinError),
}

impl Sequencer {
    /// Looks whether tree and database belong together, then goes on where they
    /// end. A tree that cannot be opened does not stop a start: entries wait.
    pub async fn begin(parts: Parts) -> Self {
        let stop = CancellationToken::new();
        let reader = tlog::Reader::of_dir(&parts.tree.data_dir);
        let (sender, status) = watch::channel(Status::default());
        let reached = Arc::new(AtomicU64::new(parts.follower.cursor().seq));
        let told = Told::begin(parts.intake, parts.command, parts.tree.envelope.clone());
        let mut runner = Runner {
            journal: JournalEntries::new(parts.follower, parts.committed),
            store: parts.store,
            clock: parts.clock,
            rng: parts.rng,
            config: Arc::new(parts.tree),
            reached: Arc::clone(&reached),
            told,
            status: sender,
            lead: None,
            tree: None,
            kept_at: Instant::now(),
            looked_at: None,
        };
        // Whether changes are refused is known before the first is asked for.
        let opened = runner.open().await;
        runner.judge(opened);
        let task = tokio::spawn(runner.run(stop.clone()));
        Self { stop, task, tree: Tree::new(reader, status), reached }
    }

    /// Up to where the journal was read and what it had is in the database.
    pub fn reached(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.reached)
    }

    /// Ends with a last round, for what was committed until now.
    pub async fn stop(self) {
        self.stop.cancel();
        if self.task.await.is_err() {
            tracing::error!("the sequencer of audit entries panicked");
        }
    }
}

struct Runner {
    store: Store,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    config: Arc<TreeConfig>,
    journal: JournalEntries,
    reached: Arc<AtomicU64>,
    told: Told,
    status: watch::Sender<Status>,
    /// The epoch that is ours, and when its lease was taken.
    lead: Option<(u64, Instant)>,
    tree: Option<OpenTree>,
    kept_at: Instant,
    /// When the database was last asked for entries of other processes.
    looked_at: Option<Instant>,
}

impl Runner {
    async fn run(mut self, stop: CancellationToken) {
        let mut committed = self.store.entries_committed();
        loop {
            let stopping = stop.is_cancelled();
            let begun = Instant::now();
            committed.borrow_and_update();
            let ended = self.round(stopping).await;
            self.judge(ended);
            self.told.tick(self.clock.now());
            if stopping {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep_until(begun + ROUND_INTERVAL) => {}
                () = stop.cancelled() => continue,
            }
            while !self.has_work(&committed) {
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(LOOK_INTERVAL) => {}
                    changed = committed.changed() => if changed.is_err() { return },
                }
                self.told.tick(self.clock.now());
            }
        }
    }

    fn has_work(&self, committed: &watch::Receiver<u64>) -> bool {
        let renewal = self.lead.is_none_or(|(_, at)| at.elapsed() > HELD / 3);
        committed.has_changed().unwrap_or(true)
            || self.journal.has_more()
            || self.store.entry_counts().1 > 0
            || self.status.borrow().failing.is_some()
            || renewal
    }

    async fn round(&mut self, stopping: bool) -> Result<(), Trouble> {
        self.open().await?;
        let Some(epoch) = self.lead.map(|(epoch, _)| epoch) else {
            // Another process sequences; what our journal has goes to it.
            return self.take_journal(stopping).await;
        };
        self.take_journal(stopping).await?;
        self.give_indexes(epoch).await?;
        self.grow().await
    }

    /// Takes or renews the lease, and opens the tree for whoever has it.
    async fn open(&mut self) -> Result<(), Trouble> {
        let is_due = self.lead.is_none_or(|(_, at)| at.elapsed() > HELD / 3);
        if is_due {
            let holder = self.config.envelope.instance.as_str();
            let epoch = self.lead.map(|(epoch, _)| epoch);
            match self.store.lead(holder, HELD, epoch).await? {
                Lead::Leading { epoch, .. } => self.lead = Some((epoch, Instant::now())),
                Lead::Following { .. } => {
                    self.lead = None;
                    self.tree = None;
                    return Ok(());
                }
            }
        }
        if self.tree.is_some() {
            return Ok(());
        }
        let opened = OpenTree::open(&self.config, &self.store, Arc::clone(&self.rng)).await;
        let tree = match opened {
            Ok(tree) => tree,
            Err(Trouble::Mismatch(mismatch)) => {
                self.store.refuse_changes(Some(mismatch.refusal()));
                return Err(mismatch.into());
            }
            Err(error) => return Err(error),
        };
        self.store.refuse_changes(None);
        let key = tree.key();
        self.status.send_modify(|status| status.key = Some(key));
        if let Some(checkpoint) = tree.checkpoint() {
            self.publish(&checkpoint);
        }
        self.tree = Some(tree);
        Ok(())
    }

    /// Entries of the journal, and the place up to which it was read.
    async fn take_journal(&mut self, stopping: bool) -> Result<(), Trouble> {
        let instance = self.config.envelope.instance.clone();
        while self.journal.has_more() && self.store.entry_counts().1 < PENDING_MAX {
            let before = self.journal.cursor();
            let entries = self.journal.read().await.map_err(Trouble::Journal)?;
            let seq = self.journal.cursor();
            let is_due = self.kept_at.elapsed() > CURSOR_INTERVAL;
            if !entries.is_empty() || is_due {
                let taken = self.store.take_journal_entries(&instance, &entries, seq).await;
                let taken = match taken {
                    Ok(taken) => taken,
                    Err(error) => {
                        // Read them again: nothing of it is in the database.
                        self.journal.rewind(before);
                        return Err(error.into());
                    }
                };
                self.kept_at = Instant::now();
                self.tell_taken(&taken);
            }
            self.reached.store(seq, Ordering::Relaxed);
            if seq == before {
                break;
            }
        }
        if stopping {
            let seq = self.journal.cursor();
            self.store.take_journal_entries(&instance, &[], seq).await?;
        }
        Ok(())
    }

    fn tell_taken(&self, taken: &store::Taken) {
        if taken.restored > 0 {
            let entries = taken.restored;
            tracing::error!(entries, "audit entries had left the database; the journal had them");
        }
        for id in &taken.altered {
            tracing::error!(id, "an audit entry in the database is not what was written");
        }
        if taken.foreign > 0 {
            let entries = taken.foreign;
            tracing::warn!(entries, "the journal has audit entries of another database");
        }
        let tampered = taken.restored + taken.altered.len() as u64;
        if tampered > 0 {
            self.status.send_modify(|status| status.tampered += tampered);
        }
    }

    async fn give_indexes(&mut self, epoch: u64) -> Result<(), Trouble> {
        let is_due = self.looked_at.is_none_or(|at| at.elapsed() > 2 * ROUND_INTERVAL);
        if self.store.entry_counts().1 == 0 && !is_due {
            return Ok(());
        }
        self.looked_at = Some(Instant::now());
        if self.store.entry_counts().1 == 0 && self.store.audit_pending().await? == 0 {
            return Ok(());
        }
        let mut size = self.store.audit_chain().await?.size;
        loop {
            match self.store.sequence(epoch, size, MOVED_MAX).await? {
                Sequenced::Lost => {
                    self.lead = None;
                    self.tree = None;
                    return Ok(());
                }
                Sequenced::Done { size: reached, moved, gaps, damaged } => {
                    self.tell_odd(&gaps, &damaged);
                    size = reached;
                    if moved < u64::from(MOVED_MAX) {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn tell_odd(&self, gaps: &[store::Gap], damaged: &[String]) {
        for store::Gap { producer, expected, found } in gaps {
            tracing::error!(producer, expected, found, "audit entries are missing");
        }
        for id in damaged {
            tracing::error!(id, "a waiting audit entry is not what was written; it is set aside");
        }
        let tampered = (gaps.len() + damaged.len()) as u64;
        if tampered > 0 {
            self.status.send_modify(|status| status.tampered += tampered);
        }
    }

    /// Adds to the tree what has its index.
    async fn grow(&mut self) -> Result<(), Trouble> {
        loop {
            let Some(tree) = self.tree.take() else { return Ok(()) };
            let first = tree.size();
            let leaves = self.store.sequenced_leaves(first, LEAVES_MAX).await;
            let leaves = match leaves {
                Ok(leaves) if leaves.is_empty() => {
                    self.tree = Some(tree);
                    return Ok(());
                }
                Ok(leaves) => leaves,
                Err(error) => {
                    self.tree = Some(tree);
                    return Err(error.into());
                }
            };
            // After an error the tree is opened again.
            let (tree, checkpoint) = tree.append(first, leaves).await?;
            self.tree = Some(tree);
            let remembered = Remembered {
                size: checkpoint.size(),
                root: checkpoint.root().to_string(),
                at: self.clock.now(),
                note: checkpoint.to_string(),
            };
            self.publish(&checkpoint);
            self.store.remember_checkpoint(&remembered).await?;
        }
    }

    fn publish(&mut self, checkpoint: &Arc<SignedCheckpoint>) {
        let now = self.clock.now();
        self.status.send_modify(|status| {
            status.checkpoint = Some(Arc::clone(checkpoint));
            status.published_at = Some(now);
        });
        self.told.tell(checkpoint, now);
    }

    fn judge(&mut self, ended: Result<(), Trouble>) {
        let was_failing = self.status.borrow().failing.clone();
        let Err(trouble) = ended else {
            if was_failing.is_some() {
                tracing::info!("audit entries are sequenced again");
                self.status.send_modify(|status| status.failing = None);
            }
            return;
        };
        let why = chain(&trouble);
        let is_final = matches!(trouble, Trouble::Mismatch(_));
        if was_failing.as_ref().is_none_or(|failing| failing.why != why) {
            tracing::error!(why, "audit entries cannot be sequenced");
        }
        let since: Timestamp = was_failing.map_or_else(|| self.clock.now(), |it| it.since);
        self.status.send_modify(|status| {
            status.failing = Some(Failing { since, why, is_final });
        });
    }
}

/// An error with what is behind it, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}
