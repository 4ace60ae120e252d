//! Brings uses from the journal to the store: exact, and once.
//!
//! The journal says which uses it has committed and up to which position; sums
//! and position go to the store in one transaction. After a crash, whatever the
//! journal holds beyond the store's position is counted before serving, so no
//! use is lost and none is counted twice. A journal that lost its end (a loss of
//! power, somebody's hand) sets the position back to where it ends, before
//! anything is written behind it.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use domain::{
    ids::{InstanceId, TokenId},
    record::Record,
    time::Timestamp,
};
use logstore::{CommitObserver, Journal, JournalError, replay::Replayed};
use parking_lot::Mutex;
use store::{Store, Usage};
use tokio_util::sync::CancellationToken;

/// How far the store may be behind.
const FLUSH_INTERVAL: Duration = Duration::from_secs(2);
/// Tokens whose uses wait at once; beyond that a flush is due, and the journal
/// still holds everything.
const FLUSH_AT_TOKENS: usize = 8192;

/// One committed use, as the journal tells it.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    pub token_id: TokenId,
    pub count: u64,
    pub last_used_at: Timestamp,
}

/// Uses that are in the journal and not yet in the store.
#[derive(Debug, Default)]
struct Pending {
    uses: HashMap<TokenId, (u64, Timestamp)>,
    /// The journal position that `uses` reach to.
    seq: u64,
}

pub struct UsageCounter {
    store: Store,
    instance: InstanceId,
    pending: Mutex<Pending>,
    /// The group that the store was given and has not confirmed. Its lock also
    /// keeps flushes apart: sums and positions must not overtake each other.
    unconfirmed: tokio::sync::Mutex<Option<(Vec<Usage>, u64)>>,
    /// What the store has confirmed.
    saved: AtomicU64,
    due: tokio::sync::Notify,
}

impl UsageCounter {
    /// Starts where the store left off, or at `last_committed` where the journal
    /// ends before that. Call it before the journal is opened, because opening
    /// writes: its first lines would stand at positions that count as counted.
    /// The caller then replays the journal and flushes.
    ///
    /// Of the requests that were open when the journal's end was lost, some may
    /// have been counted by the lines that went: they are counted again as
    /// `interrupted`. A limit is then reached a little early, never late.
    pub async fn open(
        store: Store,
        instance: InstanceId,
        last_committed: u64,
    ) -> Result<Arc<Self>, store::Error> {
        let mut seq = store.usage_position(&instance).await?;
        if seq > last_committed {
            tracing::warn!(
                last_committed,
                counted = seq,
                "the journal ends before what was counted"
            );
            let mut tx = store.begin_operational().await?;
            tx.rewind_usage(&instance, last_committed).await?;
            tx.commit().await?;
            seq = last_committed;
        }
        Ok(Arc::new(Self {
            store,
            instance,
            pending: Mutex::new(Pending { seq, ..Pending::default() }),
            unconfirmed: tokio::sync::Mutex::default(),
            saved: AtomicU64::new(seq),
            due: tokio::sync::Notify::new(),
        }))
    }

    /// The journal position up to which uses are counted.
    pub fn position(&self) -> u64 {
        self.pending.lock().seq
    }

    /// Up to where counting needs the journal no more, now or after a restart.
    /// `told` is a line up to which [`Self::committed`] was called.
    pub fn settled(&self, told: u64) -> u64 {
        let saved = || self.saved.load(Ordering::Relaxed);
        let Ok(unconfirmed) = self.unconfirmed.try_lock() else { return saved() };
        let pending = self.pending.lock();
        match unconfirmed.is_none() && pending.uses.is_empty() {
            // Nothing waits: no line up to there holds a use that is not saved.
            true => pending.seq.max(told),
            false => saved(),
        }
    }

    /// The journal's hook: these uses stand in it up to and including `seq`. An
    /// older position is a replay of what was counted.
    pub fn committed(&self, uses: impl IntoIterator<Item = Used>, seq: u64) {
        let mut pending = self.pending.lock();
        if seq <= pending.seq {
            return;
        }
        pending.seq = seq;
        for used in uses {
            let sum = pending.uses.entry(used.token_id).or_insert((0, used.last_used_at));
            sum.0 += used.count;
            sum.1 = sum.1.max(used.last_used_at);
        }
        if pending.uses.len() >= FLUSH_AT_TOKENS {
            self.due.notify_one();
        }
    }

    /// Counts what the journal holds beyond the store, records that recovery
    /// wrote included, and hands it over. Call before serving, and before the
    /// journal's own thread tells of new records. Reads files: not for an
    /// asynchronous thread.
    pub fn replay(&self, journal: &Journal) -> Result<(), JournalError> {
        let mut uses = Vec::new();
        let seq = journal.replay(self.position(), &mut |record: Replayed| {
            uses.extend(used(record.token_id, record.attempts, record.ts));
        })?;
        self.committed(uses, seq);
        Ok(())
    }

    /// Hands sums and position over in one transaction. Nothing is lost when it
    /// fails: the same group is tried again before a later one, so that a
    /// commit whose answer was lost is recognised by its position.
    pub async fn flush(&self) -> Result<(), store::Error> {
        let mut unconfirmed = self.unconfirmed.lock().await;
        if let Some((uses, seq)) = &*unconfirmed {
            self.add(uses, *seq).await?;
            self.saved.store(*seq, Ordering::Relaxed);
            *unconfirmed = None;
        }
        let (uses, seq) = {
            let mut pending = self.pending.lock();
            if pending.uses.is_empty() {
                return Ok(());
            }
            (std::mem::take(&mut pending.uses), pending.seq)
        };
        let uses = uses
            .into_iter()
            .map(|(token_id, (count, last_used_at))| Usage { token_id, count, last_used_at })
            .collect();
        let (uses, seq) = unconfirmed.insert((uses, seq));
        self.add(uses, *seq).await?;
        self.saved.store(*seq, Ordering::Relaxed);
        *unconfirmed = None;
        Ok(())
    }

    async fn add(&self, uses: &[Usage], seq: u64) -> Result<(), store::Error> {
        let mut tx = self.store.begin_operational().await?;
        if !tx.add_usage(uses, &self.instance, seq).await? {
            // The commit of an earlier try took effect though its answer was
            // lost; adding again would count twice.
            tracing::info!(seq, "uses up to this position were counted already");
        }
        tx.commit().await
    }

    /// Flushes every two seconds until told to stop, then once more.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut failing = false;
        loop {
            let stopping = tokio::select! {
                () = stop.cancelled() => true,
                () = tokio::time::sleep(FLUSH_INTERVAL) => false,
                () = self.due.notified() => false,
            };
            match self.flush().await {
                Ok(()) if failing => {
                    failing = false;
                    tracing::info!("uses of tokens reach the store again");
                }
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!(%error, "uses of tokens wait in the journal");
                }
                _ => {}
            }
            if stopping {
                return;
            }
        }
    }
}

/// One use: admitted, and handed to an upstream attempt at least once.
fn used(token_id: Option<TokenId>, attempts: u32, at: Timestamp) -> Option<Used> {
    let token_id = token_id.filter(|_| attempts > 0)?;
    Some(Used { token_id, count: 1, last_used_at: at })
}

/// The journal's thread tells the counter what it appended.
pub struct UsageObserver(pub Arc<UsageCounter>);

impl CommitObserver for UsageObserver {
    fn committed(&mut self, records: &[Box<Record>], last_seq: u64) {
        let uses =
            records.iter().filter_map(|record| used(record.token_id, record.attempts, record.ts));
        self.0.committed(uses, last_seq);
    }
}
