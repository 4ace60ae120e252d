//! The thread that looks after the catalog beside a running journal: seals what
//! is closed, removes journal files that nobody needs any more, drops what is
//! too old and merges what is too small.
//!
//! Sealing comes first: between two of the other steps it looks for closed
//! files. A step that fails is said once, and tried again after a pause.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, sync_channel},
    },
    time::{Duration, Instant},
};

use super::{Catalog, CatalogError, Policy};
use crate::ClosedFiles;

/// Requests go first; but a core that is busy with them leaves a quarter of
/// itself, or closed files would pile up for as long as it is busy.
const NICENESS: i32 = 5;

/// When what is done.
pub struct SealerConfig {
    /// Up to where every reader that must see the journal has seen it.
    pub required: Box<dyn Fn() -> u64 + Send>,
    pub policy: Policy,
    /// How often old and small files are looked for.
    pub upkeep_interval: Duration,
    /// How often journal files are looked at that a reader still held.
    pub drop_interval: Duration,
    /// How long a failed step is left alone.
    pub retry: Duration,
}

impl std::fmt::Debug for SealerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealerConfig").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl SealerConfig {
    pub fn new(required: Box<dyn Fn() -> u64 + Send>, policy: Policy) -> Self {
        Self {
            required,
            policy,
            upkeep_interval: Duration::from_secs(60),
            drop_interval: Duration::from_secs(5),
            retry: Duration::from_secs(5),
        }
    }
}

/// The running thread. Dropping it lets it go on; [`Sealer::stop`] ends it.
#[derive(Debug)]
pub struct Sealer {
    catalog: Arc<Catalog>,
    closed: ClosedFiles,
    stop: Arc<AtomicBool>,
    ended: Receiver<()>,
}

impl Sealer {
    pub fn start(
        catalog: Arc<Catalog>,
        closed: ClosedFiles,
        config: SealerConfig,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (done, ended) = sync_channel(1);
        let now = Instant::now();
        let mut work = Work {
            catalog: Arc::clone(&catalog),
            closed: closed.clone(),
            config,
            stop: Arc::clone(&stop),
            upkeep_at: now,
            failing: false,
        };
        std::thread::Builder::new().name("sealer".to_owned()).spawn(move || {
            work.run();
            // Whoever stopped waiting need not know.
            let _told = done.try_send(());
        })?;
        Ok(Self { catalog, closed, stop, ended })
    }

    /// Seals what is closed by now and ends; gives up after `timeout`. Call it
    /// after the journal is closed and its readers have ended.
    pub fn stop(self, timeout: Duration) -> bool {
        self.stop.store(true, Ordering::Relaxed);
        self.catalog.hurry();
        self.closed.nudge();
        if self.ended.recv_timeout(timeout).is_ok() {
            return true;
        }
        self.catalog.interrupt();
        false
    }
}

struct Work {
    catalog: Arc<Catalog>,
    closed: ClosedFiles,
    config: SealerConfig,
    stop: Arc<AtomicBool>,
    upkeep_at: Instant,
    failing: bool,
}

impl Work {
    fn run(&mut self) {
        // On Linux this is the thread's own niceness.
        if let Err(error) = rustix::process::nice(NICENESS) {
            tracing::debug!(%error, "the sealer runs at normal priority");
        }
        loop {
            // Read before the round: what was closed before the stop is sealed.
            let stopping = self.stop.load(Ordering::Relaxed);
            let result = self.round(stopping);
            match &result {
                Ok(_) | Err(CatalogError::Stopped) => self.failing = false,
                Err(error) if !self.failing => {
                    self.failing = true;
                    let error = error as &(dyn std::error::Error + 'static);
                    tracing::error!(error, "segments cannot be written; trying on");
                }
                Err(_) => {}
            }
            if stopping {
                return;
            }
            match result {
                Ok(closed_to) => self.closed.wait_beyond(closed_to, self.config.drop_interval),
                // Nothing new ends this wait, only a nudge.
                Err(_) => self.closed.wait_beyond(u64::MAX, self.config.retry),
            }
        }
    }

    /// Says up to where closed files were seen.
    fn round(&mut self, stopping: bool) -> Result<u64, CatalogError> {
        let mut closed_to = self.seal()?;
        if stopping || self.upkeep_at.elapsed() < self.config.upkeep_interval {
            return Ok(closed_to);
        }
        self.upkeep_at = Instant::now();
        self.catalog.tell_pending()?;
        self.catalog.prune(&self.config.policy, false)?;
        while !self.stop.load(Ordering::Relaxed) && self.catalog.compact_one()?.is_some() {
            closed_to = self.seal()?;
        }
        self.catalog.sweep()?;
        Ok(closed_to)
    }

    fn seal(&self) -> Result<u64, CatalogError> {
        let closed_to = self.closed.closed_to();
        if closed_to > self.catalog.figures().sealed_to {
            let report = self.catalog.seal_closed(closed_to)?;
            if report.files > 0 {
                let (files, rows) = (report.files, report.rows);
                tracing::debug!(files, rows, seconds = report.seconds, "sealed journal files");
            }
        }
        self.catalog.drop_sealed((self.config.required)())?;
        Ok(closed_to)
    }
}
