//! What is known without asking: grants by hash in shards, hashes known to be
//! absent, and the live counters of tokens.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use dataplane::ports::{Found, Grant, Live};
use domain::{
    ids::{ProjectId, TokenId},
    time::Timestamp,
    token::TokenHash,
};
use parking_lot::{Mutex, RwLock};

use super::Bounds;

/// Enough that two cores rarely meet; a power of two at most 256, because the
/// first byte of the hash chooses.
const SHARDS: usize = 64;
/// How exactly a grant's last use is noted: writing it at every look-up would
/// make readers fight for the line.
const TOUCH_US: i64 = 10_000_000;

#[derive(Default)]
struct Shard {
    grants: HashMap<TokenHash, Known>,
    /// Hash to the time until which its absence is believed.
    absent: HashMap<TokenHash, i64>,
}

struct Known {
    grant: Arc<Grant>,
    touched_us: AtomicI64,
}

/// The other ways to a grant. Locked before a shard, never after one.
#[derive(Default)]
struct Index {
    hashes: HashMap<TokenId, TokenHash>,
    tokens: HashMap<ProjectId, HashSet<TokenId>>,
}

pub(super) struct Memory {
    shards: Box<[RwLock<Shard>]>,
    index: Mutex<Index>,
    lives: Mutex<HashMap<TokenId, Arc<Live>>>,
    bounds: Bounds,
}

impl Memory {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            index: Mutex::default(),
            lives: Mutex::default(),
            bounds,
        }
    }

    fn shard(&self, hash: &TokenHash) -> &RwLock<Shard> {
        &self.shards[usize::from(hash.as_bytes()[0]) % SHARDS]
    }

    pub(super) fn find(&self, hash: &TokenHash, now: Timestamp) -> Found {
        let now = now.as_micros();
        let shard = self.shard(hash).read();
        if let Some(known) = shard.grants.get(hash) {
            if now - known.touched_us.load(Ordering::Relaxed) > TOUCH_US {
                known.touched_us.store(now, Ordering::Relaxed);
            }
            return Found::Grant(Arc::clone(&known.grant));
        }
        match shard.absent.get(hash) {
            Some(until) if *until > now => Found::Absent,
            _ => Found::Unknown,
        }
    }

    pub(super) fn insert(&self, hash: TokenHash, grant: Arc<Grant>, now: Timestamp) {
        let mut index = self.index.lock();
        index.hashes.insert(grant.token_id, hash);
        index.tokens.entry(grant.project_id).or_default().insert(grant.token_id);
        let mut shard = self.shard(&hash).write();
        shard.absent.remove(&hash);
        let touched_us = shard
            .grants
            .get(&hash)
            .map_or(now.as_micros(), |known| known.touched_us.load(Ordering::Relaxed));
        shard.grants.insert(hash, Known { grant, touched_us: touched_us.into() });
    }

    pub(super) fn insert_absent(&self, hash: TokenHash, now: Timestamp) {
        let now = now.as_micros();
        let ttl = i64::try_from(self.bounds.absent_ttl.as_micros()).unwrap_or(i64::MAX);
        let mut shard = self.shard(&hash).write();
        if shard.absent.len() >= (self.bounds.absent / SHARDS).max(1) {
            shard.absent.retain(|_, until| *until > now);
            if shard.absent.len() >= (self.bounds.absent / SHARDS).max(1) {
                // A flood of guesses: forgetting costs look-ups, not memory.
                shard.absent.clear();
            }
        }
        shard.absent.insert(hash, now.saturating_add(ttl));
    }

    pub(super) fn forget_absent(&self, hash: &TokenHash) {
        self.shard(hash).write().absent.remove(hash);
    }

    pub(super) fn forget_all_absent(&self) {
        for shard in &self.shards {
            shard.write().absent.clear();
        }
    }

    pub(super) fn knows(&self, id: TokenId) -> bool {
        self.index.lock().hashes.contains_key(&id)
    }

    pub(super) fn tokens_of(&self, id: ProjectId) -> Vec<TokenId> {
        let index = self.index.lock();
        index.tokens.get(&id).map(|tokens| tokens.iter().copied().collect()).unwrap_or_default()
    }

    pub(super) fn forget_token(&self, id: TokenId) {
        let mut index = self.index.lock();
        let Some(hash) = index.hashes.remove(&id) else { return };
        let forgotten = self.shard(&hash).write().grants.remove(&hash);
        if let Some(known) = forgotten {
            index.forget_member(known.grant.project_id, id);
        }
    }

    /// Forgets every grant and absence; the counters stay.
    pub(super) fn clear(&self) {
        let mut index = self.index.lock();
        *index = Index::default();
        for shard in &self.shards {
            *shard.write() = Shard::default();
        }
    }

    pub(super) fn live(&self, id: TokenId) -> Option<Arc<Live>> {
        self.lives.lock().get(&id).cloned()
    }

    /// The one live of a token, made on the first meeting.
    pub(super) fn live_or(&self, id: TokenId, make: impl FnOnce() -> Live) -> Arc<Live> {
        Arc::clone(self.lives.lock().entry(id).or_insert_with(|| Arc::new(make())))
    }

    /// Ends what runs by the token's present live, and gives the grant a fresh
    /// one with the same count: a cancelled token cannot be taken back, and the
    /// requests of a later activation must not find it.
    pub(super) fn terminate(&self, id: TokenId) {
        let ended = {
            let mut lives = self.lives.lock();
            let Some(live) = lives.get_mut(&id) else { return };
            let fresh = Arc::new(Live::with_used(live.used()));
            std::mem::replace(live, fresh)
        };
        let fresh = self.live(id);
        if let (Some(hash), Some(fresh)) = (self.index.lock().hashes.get(&id).copied(), fresh) {
            let mut shard = self.shard(&hash).write();
            if let Some(known) = shard.grants.get_mut(&hash) {
                known.grant = Arc::new(with_live(&known.grant, fresh));
            }
        }
        ended.terminate.cancel();
    }

    pub(super) fn sizes(&self) -> (usize, usize) {
        self.shards.iter().fold((0, 0), |(grants, absent), shard| {
            let shard = shard.read();
            (grants + shard.grants.len(), absent + shard.absent.len())
        })
    }

    /// Keeps memory within its bounds: drops grants that nobody used for a
    /// while, and past the bound the longest unused. A live goes with its grant
    /// only when no request holds it and its uses had an idle time to be counted.
    pub(super) fn evict(&self, now: Timestamp) {
        let (grants, _) = self.sizes();
        let idle = i64::try_from(self.bounds.idle.as_micros()).unwrap_or(i64::MAX);
        let mut oldest = now.as_micros().saturating_sub(idle);
        if grants > self.bounds.grants {
            let mut touched: Vec<i64> = self.touched();
            let (_, boundary, _) = touched.select_nth_unstable(grants - self.bounds.grants);
            oldest = oldest.max(*boundary);
        }
        for shard in &self.shards {
            let is_old = |known: &Known| known.touched_us.load(Ordering::Relaxed) < oldest;
            let old: Vec<TokenId> = {
                let shard = shard.read();
                shard
                    .grants
                    .values()
                    .filter(|known| is_old(known))
                    .map(|k| k.grant.token_id)
                    .collect()
            };
            old.into_iter().for_each(|id| self.evict_token(id, oldest_counted(now)));
        }
    }

    fn evict_token(&self, id: TokenId, counted_before: i64) {
        self.forget_token(id);
        let mut lives = self.lives.lock();
        let unused = lives.get(&id).is_some_and(|live| {
            Arc::strong_count(live) == 1
                && live.last_used_us.load(Ordering::Relaxed) < counted_before
        });
        if unused {
            lives.remove(&id);
        }
    }

    fn touched(&self) -> Vec<i64> {
        let mut touched = Vec::new();
        for shard in &self.shards {
            let shard = shard.read();
            touched.extend(shard.grants.values().map(|k| k.touched_us.load(Ordering::Relaxed)));
        }
        touched
    }
}

impl Index {
    fn forget_member(&mut self, project: ProjectId, token: TokenId) {
        if let Some(tokens) = self.tokens.get_mut(&project) {
            tokens.remove(&token);
            if tokens.is_empty() {
                self.tokens.remove(&project);
            }
        }
    }
}

/// Uses before this have long been handed to the store.
fn oldest_counted(now: Timestamp) -> i64 {
    const SURELY_COUNTED_US: i64 = 600_000_000;
    now.as_micros().saturating_sub(SURELY_COUNTED_US)
}

fn with_live(grant: &Grant, live: Arc<Live>) -> Grant {
    Grant {
        token_id: grant.token_id,
        project_id: grant.project_id,
        project: Arc::clone(&grant.project),
        labels: grant.labels.clone(),
        token_active: grant.token_active,
        project_active: grant.project_active,
        expires_at: grant.expires_at,
        allowed_models: grant.allowed_models.clone(),
        max_requests: grant.max_requests,
        rate_limit_rpm: grant.rate_limit_rpm,
        capture: grant.capture,
        keys: grant.keys.clone(),
        live,
    }
}
