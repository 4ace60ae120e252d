//! Who may, from memory: a sharded map from token hashes to grants, filled from
//! the store.
//!
//! Owns the snapshots that the data plane reads and the one [`Live`] of each
//! token. Promises that a change made here is seen here before its answer is
//! sent, one made elsewhere within a poll, and that with the store away known
//! tokens go on for as long as configured and unknown ones are never called
//! absent. Must never make a request wait for the store when the answer is in
//! memory, and never grow without bound.
//!
//! Everything that writes grants does so under one asynchronous lock that spans
//! the question to the store, so an older answer cannot overwrite a newer one.

mod grant;
mod lookup;
mod memory;
pub mod usage;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use dataplane::{
    ports::{BoxFuture, Directory, Found, Grant, Live, Unavailable},
    provider::Providers,
};
use domain::{
    capture::Capture,
    ids::{ProjectId, TokenId},
    time::{Clock, Timestamp},
    token::TokenHash,
};
use store::{ChangedId, DirectoryRow, Store};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{lookup::Lookups, memory::Memory};

/// Rows that one question to the store may name (the store's own bound).
const IDS_A_QUERY: usize = 256;
/// Changes read at a time while catching up.
const CHANGES_A_QUERY: u32 = 1000;
/// No question to the store takes longer; the poll must go on.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// `DIRECTORY_MAX_STALE`.
    pub max_stale: Duration,
    /// How often other instances' changes are asked for.
    pub poll_interval: Duration,
    pub bounds: Bounds,
    /// For tokens and projects without a wish of their own.
    pub capture: Capture,
}

impl Config {
    pub fn new(max_stale: Duration) -> Self {
        Self {
            max_stale,
            poll_interval: Duration::from_secs(2),
            bounds: Bounds::default(),
            capture: Capture::Off,
        }
    }
}

/// What the directory may hold.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Grants; the longest unused go first.
    pub grants: usize,
    /// Hashes known to be absent.
    pub absent: usize,
    /// How long an absence is believed.
    pub absent_ttl: Duration,
    /// Requests waiting for the store at once.
    pub waiters: usize,
    /// A grant unused for this long may be dropped.
    pub idle: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            grants: 1 << 20,
            absent: 1 << 16,
            absent_ttl: Duration::from_secs(30),
            waiters: 4096,
            idle: Duration::from_secs(3600),
        }
    }
}

/// The directory of one process.
pub struct TokenDirectory {
    memory: Memory,
    lookups: Lookups,
    store: Store,
    providers: Arc<Providers>,
    clock: Arc<dyn Clock>,
    config: Config,
    /// Held while the store is asked for rows and they are put in place.
    writing: tokio::sync::Mutex<()>,
    /// When the store last confirmed that nothing else has changed.
    confirmed_us: AtomicI64,
    /// The last change that memory reflects.
    change_seq: AtomicU64,
}

impl TokenDirectory {
    /// Asks the store for where its changes stand and starts the tasks that
    /// look up and follow. They end with `stop`.
    pub async fn start(
        store: Store,
        providers: Arc<Providers>,
        clock: Arc<dyn Clock>,
        config: Config,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, store::Error> {
        let (lookups, questions) = Lookups::new(config.bounds.waiters);
        let started = clock.now();
        let changes = store.changes_since(u64::MAX, 1).await?;
        let directory = Arc::new(Self {
            memory: Memory::new(config.bounds),
            lookups,
            store,
            providers,
            clock,
            config,
            writing: tokio::sync::Mutex::default(),
            confirmed_us: started.as_micros().into(),
            change_seq: changes.seq.into(),
        });
        tasks.spawn(lookup::serve(Arc::clone(&directory), questions, stop.clone()));
        tasks.spawn(follow(Arc::clone(&directory), stop));
        Ok(directory)
    }

    fn is_stale(&self, now: Timestamp) -> bool {
        let confirmed = self.confirmed_us.load(Ordering::Relaxed);
        let max_stale = i64::try_from(self.config.max_stale.as_micros()).unwrap_or(i64::MAX);
        now.as_micros().saturating_sub(confirmed) > max_stale
    }

    /// Since when the store has been silent, when that is longer than polls
    /// explain: for readiness.
    pub fn silent_since(&self) -> Option<Timestamp> {
        let confirmed = Timestamp::from_micros(self.confirmed_us.load(Ordering::Relaxed));
        let polls = i64::try_from(3 * self.config.poll_interval.as_micros()).unwrap_or(i64::MAX);
        (self.clock.now() > confirmed.plus_micros(polls)).then_some(confirmed)
    }

    /// The readiness check of the database: from memory.
    pub fn health(&self) -> Result<(), String> {
        match self.silent_since() {
            None => Ok(()),
            Some(since) => Err(format!("token changes cannot be followed since {since}")),
        }
    }

    /// Grants in memory and hashes known to be absent: for metrics.
    pub fn sizes(&self) -> (usize, usize) {
        self.memory.sizes()
    }

    /// Uses counted by this process, those not yet handed to the store included;
    /// `None` when it has not met the token.
    pub fn used(&self, id: TokenId) -> Option<u64> {
        self.memory.live(id).map(|live| live.used())
    }

    /// A token was created here: its hash is no longer absent.
    pub fn created(&self, hash: TokenHash) {
        self.memory.forget_absent(&hash);
    }

    /// Reads these tokens again. When the store cannot be read after all, they
    /// leave memory, so that nothing goes on by an old grant.
    pub async fn refresh_tokens(&self, ids: &[TokenId]) {
        let writing = self.writing.lock().await;
        for ids in ids.chunks(IDS_A_QUERY) {
            match tokio::time::timeout(QUERY_TIMEOUT, self.store.tokens_by_id(ids)).await {
                Ok(Ok(rows)) => {
                    let met: Vec<TokenId> = rows.iter().map(|row| row.token.id).collect();
                    self.put(rows);
                    let gone = ids.iter().filter(|id| !met.contains(id)).copied();
                    gone.for_each(|id| self.memory.forget_token(id));
                }
                failed => {
                    report_refresh(failed);
                    ids.iter().for_each(|id| self.memory.forget_token(*id));
                }
            }
        }
        drop(writing);
    }

    /// Reads the tokens of this project that are in memory again.
    pub async fn refresh_project(&self, id: ProjectId) {
        self.refresh_tokens(&self.memory.tokens_of(id)).await;
    }

    /// Ends the running requests of these tokens. Requests that come later, if
    /// a token is activated again, are not concerned.
    pub fn terminate_tokens(&self, ids: &[TokenId]) {
        for id in ids {
            self.memory.terminate(*id);
        }
    }

    pub fn terminate_project(&self, id: ProjectId) {
        self.terminate_tokens(&self.memory.tokens_of(id));
    }

    /// Puts rows in place of what memory holds. Call with `writing` held.
    fn put(&self, rows: Vec<DirectoryRow>) -> Vec<(TokenHash, Arc<Grant>)> {
        let now = self.clock.now();
        rows.into_iter()
            .map(|row| {
                let used = row.token.request_count;
                let live = self.memory.live_or(row.token.id, || Live::with_used(used));
                let hash = row.hash;
                let capture = self.config.capture;
                let grant = Arc::new(grant::build(row, &self.providers, capture, live));
                self.memory.insert(hash, Arc::clone(&grant), now);
                (hash, grant)
            })
            .collect()
    }

    /// Catches up with the changes of every instance, this one included.
    async fn catch_up(&self) -> Result<(), store::Error> {
        loop {
            let asked = self.clock.now();
            let seq = self.change_seq.load(Ordering::Relaxed);
            let changes = self.store.changes_since(seq, CHANGES_A_QUERY).await?;
            if changes.reset {
                // The store was put back to another state: trust nothing, and
                // no answer that is on its way from before.
                let writing = self.writing.lock().await;
                self.memory.clear();
                drop(writing);
            }
            let mut tokens = Vec::new();
            for changed in &changes.items {
                match changed {
                    ChangedId::Token(id) => tokens.push(*id),
                    ChangedId::Project(id) => tokens.extend(self.memory.tokens_of(*id)),
                }
            }
            self.follow_tokens(tokens).await;
            self.change_seq.store(changes.seq, Ordering::Relaxed);
            if changes.items.is_empty() {
                self.confirmed_us.store(asked.as_micros(), Ordering::Relaxed);
                return Ok(());
            }
        }
    }

    async fn follow_tokens(&self, mut tokens: Vec<TokenId>) {
        tokens.sort_unstable();
        tokens.dedup();
        if tokens.is_empty() {
            return;
        }
        // A token created elsewhere is unknown here, unless somebody tried it
        // too early: then its hash must not stay absent.
        if tokens.iter().any(|id| !self.memory.knows(*id)) {
            self.memory.forget_all_absent();
        }
        tokens.retain(|id| self.memory.knows(*id));
        self.refresh_tokens(&tokens).await;
    }
}

/// Polls until told to stop; says once when the store falls silent and once
/// when it is back.
async fn follow(directory: Arc<TokenDirectory>, stop: CancellationToken) {
    let mut silent = false;
    let mut ticks = tokio::time::interval(directory.config.poll_interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let polled = tokio::time::timeout(QUERY_TIMEOUT, directory.catch_up()).await;
        let failure = match polled {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the store does not answer in time".to_owned()),
        };
        match failure {
            Some(error) if !silent => {
                silent = true;
                let seconds = directory.config.max_stale.as_secs();
                tracing::error!(
                    error,
                    max_stale_seconds = seconds,
                    "token changes cannot be followed; known tokens go on for a while"
                );
            }
            None if silent => {
                silent = false;
                tracing::info!("token changes are followed again");
            }
            _ => {}
        }
        directory.memory.evict(directory.clock.now());
    }
}

fn report_refresh<E>(failed: Result<Result<Vec<DirectoryRow>, store::Error>, E>) {
    let error = match failed {
        Ok(Err(error)) => error.to_string(),
        _ => "the store does not answer in time".to_owned(),
    };
    tracing::warn!(error, "changed tokens cannot be read again; they leave memory");
}

impl Directory for TokenDirectory {
    fn find(&self, hash: &TokenHash) -> Found {
        let now = self.clock.now();
        match self.memory.find(hash, now) {
            Found::Grant(_) if self.is_stale(now) => Found::Stale,
            // An absence is only as good as our knowledge of what was created.
            Found::Absent if self.is_stale(now) => Found::Unknown,
            found => found,
        }
    }

    fn load(&self, hash: TokenHash) -> BoxFuture<'_, Result<Option<Arc<Grant>>, Unavailable>> {
        Box::pin(self.lookups.ask(hash))
    }
}

#[cfg(test)]
mod tests;
