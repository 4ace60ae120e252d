//! How much is traced: a base level, and what was set over it for a while.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicU8, AtomicUsize, Ordering},
};

use dataplane::scope::Verbosity;
use domain::{
    ids::{ProjectId, TokenId},
    time::{Clock, Timestamp},
};
use parking_lot::{Mutex, RwLock};
use tracing::{Level, level_filters::LevelFilter};

use super::number_of;

/// Levels set at run time at once.
pub const OVERRIDES_MAX: usize = 256;
/// How often expired levels are looked for; a level lasts that much longer at
/// most.
pub const REVERT_INTERVAL: std::time::Duration = std::time::Duration::from_millis(250);

/// The least severe event that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TraceLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl TraceLevel {
    pub const ALL: &[Self] =
        &[Self::Off, Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|level| level.as_str() == text)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    fn of_number(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Trace)
    }
}

/// Whose events a level is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    Everything,
    Project(ProjectId),
    Token(TokenId),
}

/// A level set at run time, and when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Override {
    pub subject: Subject,
    pub level: TraceLevel,
    pub until: Timestamp,
}

/// Too many levels are set.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("at most {OVERRIDES_MAX} levels can be set at once")]
pub struct TooMany;

/// Decides what passes. Cheap where it matters: the events that nobody wants
/// are refused by tracing's own static check, and a request costs one load to
/// learn that nothing is set for it.
pub struct LevelControl {
    configured: TraceLevel,
    /// In force for everything: configured, or set over it.
    base: AtomicU8,
    /// The highest of all that is in force.
    highest: AtomicU8,
    /// Overrides for a project or a token.
    scoped: AtomicUsize,
    overrides: RwLock<Vec<Override>>,
    changing: Mutex<()>,
}

impl std::fmt::Debug for LevelControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LevelControl").field("configured", &self.configured).finish_non_exhaustive()
    }
}

impl LevelControl {
    pub fn new(configured: TraceLevel) -> Arc<Self> {
        let number = configured as u8;
        Arc::new(Self {
            configured,
            base: number.into(),
            highest: number.into(),
            scoped: 0.into(),
            overrides: RwLock::default(),
            changing: Mutex::default(),
        })
    }

    /// What everything reverts to.
    pub fn configured(&self) -> TraceLevel {
        self.configured
    }

    /// What is set now.
    pub fn overrides(&self, now: Timestamp) -> Vec<Override> {
        self.overrides.read().iter().copied().filter(|set| set.until > now).collect()
    }

    /// Sets a level for a subject until then, in place of what was set for it.
    pub fn set(&self, change: Override) -> Result<(), TooMany> {
        let _one_at_a_time = self.changing.lock();
        {
            let mut overrides = self.overrides.write();
            overrides.retain(|set| set.subject != change.subject);
            if overrides.len() >= OVERRIDES_MAX {
                return Err(TooMany);
            }
            overrides.push(change);
        }
        self.apply();
        Ok(())
    }

    /// Takes back what has ended. Called every [`REVERT_INTERVAL`].
    pub fn expire(&self, now: Timestamp) -> usize {
        if self.overrides.read().iter().all(|set| set.until > now) {
            return 0;
        }
        let _one_at_a_time = self.changing.lock();
        let ended = {
            let mut overrides = self.overrides.write();
            let before = overrides.len();
            overrides.retain(|set| set.until > now);
            before - overrides.len()
        };
        self.apply();
        ended
    }

    /// Works out the figures that the hot path reads.
    fn apply(&self) {
        let (base, scoped, highest) = {
            let overrides = self.overrides.read();
            let everything = overrides.iter().find(|set| set.subject == Subject::Everything);
            let base = everything.map_or(self.configured, |set| set.level);
            let scoped = overrides.iter().filter(|set| set.subject != Subject::Everything);
            let highest = scoped.clone().map(|set| set.level).max().unwrap_or(base).max(base);
            (base as u8, scoped.count(), highest as u8)
        };
        self.base.store(base, Ordering::Relaxed);
        self.scoped.store(scoped, Ordering::Relaxed);
        self.highest.store(highest, Ordering::Relaxed);
        self.follow();
    }

    /// Tells tracing and `log` that the highest level may have changed.
    pub(super) fn follow(&self) {
        tracing::callsite::rebuild_interest_cache();
        let level = match TraceLevel::of_number(self.highest.load(Ordering::Relaxed)) {
            TraceLevel::Off => tracing_log::log::LevelFilter::Off,
            TraceLevel::Error => tracing_log::log::LevelFilter::Error,
            TraceLevel::Warn => tracing_log::log::LevelFilter::Warn,
            TraceLevel::Info => tracing_log::log::LevelFilter::Info,
            TraceLevel::Debug => tracing_log::log::LevelFilter::Debug,
            TraceLevel::Trace => tracing_log::log::LevelFilter::Trace,
        };
        tracing_log::log::set_max_level(level);
    }

    pub(super) fn highest(&self) -> LevelFilter {
        match TraceLevel::of_number(self.highest.load(Ordering::Relaxed)) {
            TraceLevel::Off => LevelFilter::OFF,
            TraceLevel::Error => LevelFilter::ERROR,
            TraceLevel::Warn => LevelFilter::WARN,
            TraceLevel::Info => LevelFilter::INFO,
            TraceLevel::Debug => LevelFilter::DEBUG,
            TraceLevel::Trace => LevelFilter::TRACE,
        }
    }

    /// Whether an event is written; `of_scope` is asked only if it decides.
    pub(super) fn passes(
        &self,
        level: &Level,
        target: &str,
        of_scope: impl FnOnce() -> u8,
    ) -> bool {
        let number = number_of(level);
        // Libraries dump frames and buffers at their most verbose level, and no
        // pattern can vouch for bytes.
        if number == 5 && super::line::is_foreign(target) {
            return false;
        }
        if number <= self.base.load(Ordering::Relaxed) {
            return true;
        }
        self.scoped.load(Ordering::Relaxed) > 0 && number <= of_scope()
    }

    /// Reverts what has ended until the control is gone.
    pub async fn revert_loop(control: Weak<Self>, clock: Arc<dyn Clock>) {
        let mut ticks = tokio::time::interval(REVERT_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Some(control) = control.upgrade() else { return };
            let ended = control.expire(clock.now());
            if ended > 0 {
                tracing::info!(ended, "trace levels set at run time have ended");
            }
        }
    }
}

impl Verbosity for LevelControl {
    fn verbosity(&self, project: ProjectId, token: TokenId) -> u8 {
        if self.scoped.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        let overrides = self.overrides.read();
        let wanted = overrides.iter().filter(|set| match set.subject {
            Subject::Everything => false,
            Subject::Project(id) => id == project,
            Subject::Token(id) => id == token,
        });
        wanted.map(|set| set.level as u8).max().unwrap_or(0)
    }
}
