//! Whether this instance can do its work, and if not, why (CONTRACT §7).
//!
//! Owns the list of checks that `/ready` shows. Promises that asking is cheap:
//! each part tells its state when it changes or is asked a question that it
//! answers from memory. Must never itself touch a database or a disk.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::RwLock;

/// What can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    Database,
    Journal,
    Audit,
    Disk,
}

impl Check {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Journal => "journal",
            Self::Audit => "audit",
            Self::Disk => "disk",
        }
    }
}

/// A check that fails, and a reason for the operator (no secrets, no paths of
/// clients).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    pub check: Check,
    pub reason: String,
}

type Probe = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The checks and the state of the lifecycle.
#[derive(Default)]
pub struct Readiness {
    probes: RwLock<Vec<(Check, Probe)>>,
    started: AtomicBool,
    stopping: AtomicBool,
}

impl std::fmt::Debug for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readiness").field("failing", &self.failing()).finish_non_exhaustive()
    }
}

/// The answer to `/ready`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Ready,
    Starting,
    /// Draining: a load balancer should send nothing new.
    Stopping,
    Failing(Vec<Failing>),
}

impl Readiness {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Adds a check; `probe` answers from memory.
    pub fn watch(
        &self,
        check: Check,
        probe: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) {
        self.probes.write().push((check, Box::new(probe)));
    }

    pub fn started(&self) {
        self.started.store(true, Ordering::Relaxed);
    }

    pub fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub fn state(&self) -> State {
        if let Some(state) = self.in_the_way() {
            return state;
        }
        let failing = self.failing();
        if failing.is_empty() { State::Ready } else { State::Failing(failing) }
    }

    /// Every check with its answer, and the lifecycle as a check of its own
    /// where it stands in the way.
    pub fn checks(&self) -> Vec<(&'static str, Result<(), String>)> {
        let mut checks: Vec<_> = {
            let probes = self.probes.read();
            probes.iter().map(|(check, probe)| (check.as_str(), probe())).collect()
        };
        if let Some(state) = self.in_the_way() {
            let word = if state == State::Stopping { "stopping" } else { "starting" };
            checks.push(("process", Err(word.to_owned())));
        }
        checks
    }

    /// The state of the lifecycle while that is what keeps it from its work.
    fn in_the_way(&self) -> Option<State> {
        match (self.stopping.load(Ordering::Relaxed), self.started.load(Ordering::Relaxed)) {
            (true, _) => Some(State::Stopping),
            (false, false) => Some(State::Starting),
            (false, true) => None,
        }
    }

    fn failing(&self) -> Vec<Failing> {
        let probes = self.probes.read();
        let asked = probes.iter().map(|(check, probe)| (*check, probe()));
        asked.filter_map(|(check, answer)| Some(Failing { check, reason: answer.err()? })).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_named() {
        let readiness = Readiness::new();
        let broken = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&broken);
        readiness.watch(Check::Disk, || Ok(()));
        readiness.watch(Check::Journal, move || {
            if seen.load(Ordering::Relaxed) { Err("the disk is full".to_owned()) } else { Ok(()) }
        });
        assert_eq!(readiness.state(), State::Starting);
        readiness.started();
        assert_eq!(readiness.state(), State::Ready);
        broken.store(true, Ordering::Relaxed);
        let reason = "the disk is full".to_owned();
        let failing = vec![Failing { check: Check::Journal, reason }];
        assert_eq!(readiness.state(), State::Failing(failing));
        readiness.stopping();
        assert_eq!(readiness.state(), State::Stopping);
        let names: Vec<_> = readiness.checks().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["disk", "journal", "process"]);
    }
}
