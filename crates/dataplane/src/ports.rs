//! What the data plane needs of the rest: who may ([`Directory`]), where to tell
//! what happened ([`Outbox`]), and who counts refusals ([`Denials`]). The server
//! implements all three.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use domain::{
    body::Body,
    capture::Capture,
    context::ClientAddress,
    credential::CredentialMark,
    glob::Glob,
    ids::{ProjectId, TokenId},
    record::{Opening, Record},
    secret::Secret,
    time::Timestamp,
    token::TokenHash,
};
use http::HeaderValue;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::{mask::Confidential, provider::Provider};

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Who may. Answers from memory; only an unknown token costs a look-up.
pub trait Directory: Send + Sync + 'static {
    /// Never blocks, never awaits.
    fn find(&self, hash: &TokenHash) -> Found;

    /// Asks the store, grouped with other askers and bounded. `Ok(None)` means
    /// that the store answered and has no such token.
    fn load(&self, hash: TokenHash) -> BoxFuture<'_, Result<Option<Arc<Grant>>, Unavailable>>;
}

/// The answer from memory.
#[derive(Clone, Debug)]
pub enum Found {
    Grant(Arc<Grant>),
    /// The store said recently that there is no such token.
    Absent,
    /// Not in memory: [`Directory::load`] it.
    Unknown,
    /// Known, but the store has been away for longer than `DIRECTORY_MAX_STALE`.
    Stale,
}

/// The store cannot be asked now.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the token store does not answer")]
pub struct Unavailable;

/// Everything the data plane may know of a token and its project: an immutable
/// snapshot, replaced as a whole when either changes. `live` survives that.
#[derive(Debug)]
pub struct Grant {
    pub token_id: TokenId,
    pub project_id: ProjectId,
    pub project: Arc<str>,
    /// Project and token labels merged, as a JSON object.
    pub labels: Option<Arc<str>>,
    pub token_active: bool,
    pub project_active: bool,
    pub expires_at: Option<Timestamp>,
    pub allowed_models: Option<Box<[Glob]>>,
    pub max_requests: Option<u64>,
    pub rate_limit_rpm: Option<u32>,
    /// The token's wish before the project's before everybody's.
    pub capture: Capture,
    /// By provider name; the value is sensitive and ready to send.
    pub keys: BTreeMap<Arc<str>, ProviderKey>,
    pub live: Arc<Live>,
}

/// A provider's credential as it stands in the header (scheme included), marked
/// sensitive so that HTTP libraries neither print nor index it.
#[derive(Clone)]
pub struct ProviderKey {
    pub header: HeaderValue,
    /// The bare key and what else the provider is told, for masking echoes.
    pub confidential: Confidential,
}

impl ProviderKey {
    /// `None` when no header can hold the key.
    pub fn new(key: Secret, provider: &Provider) -> Option<Self> {
        let text = format!("{}{}", provider.auth_scheme, key.expose());
        let value = HeaderValue::from_str(&text);
        // The scheme and the key leave memory with this buffer.
        drop(Secret::new(text));
        let mut header = value.ok()?;
        header.set_sensitive(true);
        Some(Self { header, confidential: Confidential::new(key, provider) })
    }
}

impl std::fmt::Debug for ProviderKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ProviderKey(***)")
    }
}

/// What changes with every request of a token: one for each token id for the
/// life of the process, whatever happens to the snapshots around it.
#[derive(Debug, Default)]
pub struct Live {
    used: AtomicU64,
    /// Theoretical arrival time of the rate limiter, in microseconds (GCRA).
    next_allowed_us: AtomicI64,
    pub last_used_us: AtomicI64,
    /// Cancelled by a revocation that also ends running requests.
    pub terminate: CancellationToken,
}

impl Live {
    pub fn with_used(used: u64) -> Self {
        Self { used: used.into(), ..Self::default() }
    }

    /// Uses since the token was created, those in flight included.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes one use if fewer than `max` are taken: exact under any
    /// concurrency, and never given back.
    pub fn take_use(&self, max: Option<u64>) -> bool {
        let Some(max) = max else {
            self.used.fetch_add(1, Ordering::Relaxed);
            return true;
        };
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                (used < max).then(|| used + 1)
            })
            .is_ok()
    }

    /// Takes one of `per_minute` requests, with a burst of as many. `Err` says
    /// after how many microseconds the next one fits.
    pub fn take_rate(&self, per_minute: u32, now: Timestamp) -> Result<(), i64> {
        const MINUTE_US: i64 = 60_000_000;
        let interval = MINUTE_US / i64::from(per_minute.max(1));
        let now = now.as_micros();
        let advance = |next: i64| {
            let next = next.max(now);
            (next - now <= MINUTE_US - interval).then_some(next + interval)
        };
        match self.next_allowed_us.fetch_update(Ordering::Relaxed, Ordering::Relaxed, advance) {
            Ok(_) => Ok(()),
            Err(next) => Err(next - now - (MINUTE_US - interval)),
        }
    }
}

/// What happened. Room is reserved before a request is looked at, so that the
/// hand-over at its end never waits and never fails.
pub trait Outbox: Send + Sync + 'static {
    /// Takes room for one opening and one record.
    fn reserve(&self) -> Result<(), NoRoom>;

    /// Queues the opening line of a request that takes longer than a moment.
    fn open(&self, opening: Opening);

    /// Queues the record and gives the reservation back. `stored` is told once
    /// the record is as durable as configured; see [`Outbox::holds_answers`].
    fn finish(&self, record: Box<Record>, stored: Option<oneshot::Sender<()>>);

    /// The same with bodies, which may be lost where the record is not: then
    /// the record says so.
    fn finish_with_bodies(
        &self,
        record: Box<Record>,
        bodies: Vec<Body>,
        stored: Option<oneshot::Sender<()>>,
    );

    /// Gives a reservation back without a line of its own: the request is
    /// counted in an aggregate record.
    fn coalesced(&self);

    /// Counts requests that never found room and stand in an aggregate record:
    /// accepted and coalesced at once.
    fn coalesced_unreserved(&self, requests: u64);

    /// Whether the last frame of an answer must wait until its record is synced
    /// (`JOURNAL_SYNC=each`).
    fn holds_answers(&self) -> bool;

    /// Whether requests are served that cannot be recorded
    /// (`AUDIT_POLICY=available`).
    fn serves_unrecorded(&self) -> bool;

    /// Counts such a request as lost: it took no room and leaves no line.
    fn unrecorded(&self);
}

/// Who counts what was refused. Nothing of it is called for a request that is
/// served.
pub trait Denials: Send + Sync + 'static {
    /// What may be kept of a credential that nobody knows.
    fn mark(&self, credential: &[u8]) -> CredentialMark;

    /// Told once of each refused request. Never blocks.
    fn denied(&self, denied: &Denied<'_>);
}

/// A refused request whose record is finished.
#[derive(Clone, Copy, Debug)]
pub struct Denied<'a> {
    pub record: &'a Record,
    pub client: ClientAddress,
    /// Of what was presented, where it is no token of ours.
    pub credential: Option<&'a CredentialMark>,
}

/// Why there is no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoRoom {
    /// Too many unfinished requests or unwritten lines: 503 `overloaded`.
    Full,
    /// The journal cannot be written: 503 `audit_unavailable`.
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_exact_under_concurrency() {
        let live = Live::default();
        let taken = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        if live.take_use(Some(777)) {
                            taken.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(taken.into_inner(), 777);
        assert_eq!(live.used(), 777);
    }

    #[test]
    fn the_rate_refills_evenly() {
        let live = Live::default();
        let now = Timestamp::from_micros(1_000_000_000);
        assert!((0..60).all(|_| live.take_rate(60, now).is_ok()));
        assert_eq!(live.take_rate(60, now), Err(1_000_000));
        assert_eq!(live.take_rate(60, now.plus_micros(999_999)), Err(1));
        assert!(live.take_rate(60, now.plus_micros(1_000_000)).is_ok());
        assert!(live.take_rate(60, now.plus_micros(1_000_000)).is_err());
    }
}
