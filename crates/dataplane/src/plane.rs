//! The data plane as one value: what every request needs, passed in once.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use domain::{price::PriceTable, rng::Rng, time::Clock, token::TokenHashKey};
use ipnet::IpNet;

use crate::{
    capture::Capturing,
    circuit::Circuit,
    coalesce::Coalescer,
    limits::Limits,
    observe::Estimator,
    ports::{Denials, Directory, Outbox},
    provider::Providers,
    scope::Verbosity,
};

/// Everything that the server decides before the first request.
pub struct Parts {
    pub directory: Arc<dyn Directory>,
    pub outbox: Arc<dyn Outbox>,
    pub denials: Arc<dyn Denials>,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    pub hash_key: TokenHashKey,
    pub providers: Arc<Providers>,
    pub prices: Arc<PriceTable>,
    pub estimator: Estimator,
    pub capturing: Capturing,
    pub verbosity: Arc<dyn Verbosity>,
    pub limits: Limits,
    pub trusted_proxies: Vec<IpNet>,
}

/// Shared by all connections. Nothing in it is locked on the way of a request
/// that is answered.
pub struct Plane {
    pub(crate) parts: Parts,
    /// One for each provider, in the order of `providers.all`.
    pub(crate) circuits: Vec<Circuit>,
    pub(crate) coalescer: Coalescer,
    pub(crate) active: AtomicUsize,
    pub(crate) buffered_bytes: AtomicUsize,
    /// Set when the time to drain is over: what ends now was interrupted.
    pub(crate) stopping: AtomicBool,
    pub counters: Counters,
}

impl Plane {
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            circuits: parts.providers.all.iter().map(|_| Circuit::default()).collect(),
            coalescer: Coalescer::new(Arc::clone(&parts.outbox)),
            active: AtomicUsize::new(0),
            buffered_bytes: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            counters: Counters::default(),
            parts,
        })
    }

    pub fn providers(&self) -> Arc<Providers> {
        Arc::clone(&self.parts.providers)
    }

    /// Requests at work now.
    pub fn active_requests(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// Writes the aggregate records whose window is over; all of them with
    /// `all`. Called a few times a second, and once at the end.
    pub fn flush_coalesced(&self, all: bool) {
        self.coalescer.flush(self.parts.clock.now(), all);
    }

    /// What the copies of bodies cost, for whoever measures.
    pub fn capturing(&self) -> &Capturing {
        &self.parts.capturing
    }

    /// From now on, whatever ends did not end by itself.
    pub fn interrupt(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Ends the estimator and the redactor after the records that wait in them;
    /// without estimates and bodies when there is no time left for them. Blocks.
    pub fn shut_down_workers(&self, in_time: bool) {
        self.parts.estimator.shut_down(in_time);
        self.parts.capturing.redactor.shut_down(in_time);
    }
}

/// Why connections ended before a head was parsed; such ends leave no record.
#[derive(Debug, Default)]
pub struct Counters {
    pub connections_open: AtomicUsize,
    pub connections_total: AtomicU64,
    pub connection_errors: [AtomicU64; ConnectionError::ALL.len()],
}

impl Counters {
    pub(crate) fn connection_error(&self, reason: ConnectionError) {
        self.connection_errors[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Reasons with their counts, for the metrics page.
    pub fn connection_errors(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.connection_errors.iter().map(|count| count.load(Ordering::Relaxed));
        ConnectionError::ALL.iter().map(|reason| reason.as_str()).zip(counts)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum ConnectionError {
    Accept,
    Tls,
    Parse,
    HeaderTimeout,
    Io,
    Incomplete,
    Other,
}

impl ConnectionError {
    pub const ALL: [Self; 7] = [
        Self::Accept,
        Self::Tls,
        Self::Parse,
        Self::HeaderTimeout,
        Self::Io,
        Self::Incomplete,
        Self::Other,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Tls => "tls",
            Self::Parse => "parse",
            Self::HeaderTimeout => "header_timeout",
            Self::Io => "io",
            Self::Incomplete => "incomplete",
            Self::Other => "other",
        }
    }
}
