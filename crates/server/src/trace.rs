//! Our own diagnostics: one subscriber, one line of JSON an event.
//!
//! Owns what becomes of every `tracing` and `log` event of this process and of
//! the libraries in it, and of panics. Promises that a line carries component,
//! instance, version and the ids of the request at hand; that no value that
//! looks like a credential is written; that nobody ever waits for a line: when
//! there is no room it is dropped, counted and the count is said. Must never be
//! filtered into records or entries, and must never trace about itself.
//!
//! It is a subscriber of its own and not a registry with layers, because spans
//! are what a registry is for, and ids come from [`dataplane::scope`] here.

pub mod level;
mod line;
mod panics;
mod sink;

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use dataplane::scope;
use domain::{ids::InstanceId, record::Envelope, time::Clock};
use tracing::{
    Event, Level, Metadata, Subscriber,
    level_filters::LevelFilter,
    span,
    subscriber::{Interest, SetGlobalDefaultError},
};
use tracing_log::NormalizeEvent as _;

pub use level::{LevelControl, Subject, TraceLevel};
pub use sink::{Fallback, Sink, Taken};

thread_local! {
    /// Set while a line is written: a sink that traces would otherwise call
    /// itself.
    static WRITING: Cell<bool> = const { Cell::new(false) };
}

/// The subscriber. Clones share everything.
#[derive(Clone)]
pub struct Traces(Arc<Shared>);

struct Shared {
    levels: Arc<LevelControl>,
    clock: Arc<dyn Clock>,
    envelope: ArcSwapOption<Envelope>,
    version: &'static str,
    fallback: Fallback,
    journal: ArcSwapOption<Box<dyn Sink>>,
    dropped: AtomicU64,
    /// Of those, not yet said.
    unsaid: AtomicU64,
}

impl std::fmt::Debug for Traces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Traces")
    }
}

impl Traces {
    pub fn new(
        levels: Arc<LevelControl>,
        clock: Arc<dyn Clock>,
        version: &'static str,
        fallback: Fallback,
    ) -> Self {
        Self(Arc::new(Shared {
            levels,
            clock,
            envelope: ArcSwapOption::empty(),
            version,
            fallback,
            journal: ArcSwapOption::empty(),
            dropped: AtomicU64::new(0),
            unsaid: AtomicU64::new(0),
        }))
    }

    /// Makes this the subscriber of the process, for `log` and panics too.
    pub fn install(&self) -> Result<(), SetGlobalDefaultError> {
        tracing::subscriber::set_global_default(self.clone())?;
        // A second bridge or hook can only be one of our own, set before.
        if tracing_log::LogTracer::init().is_ok() {
            self.0.levels.follow();
            panics::install();
        }
        Ok(())
    }

    /// Lines name the instance from here on.
    pub fn identify(&self, instance: InstanceId) {
        let envelope = Envelope { instance, version: self.0.version };
        self.0.envelope.store(Some(Arc::new(envelope)));
    }

    /// Lines go to the journal from here on, and to the fallback only while the
    /// journal refuses for good.
    pub fn attach(&self, journal: Box<dyn Sink>) {
        self.0.journal.store(Some(Arc::new(journal)));
    }

    /// Lines go to the fallback again: the journal is about to close.
    pub fn detach(&self) {
        self.0.journal.store(None);
    }

    /// Lines dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Waits until the fallback has written what it took, at most so long.
    pub fn flush(&self, timeout: std::time::Duration) -> bool {
        self.0.fallback.flush(timeout)
    }

    fn write(&self, line: Vec<u8>) {
        let unsaid = self.0.unsaid.swap(0, Ordering::Relaxed);
        if unsaid > 0 && !self.hand_over(line::dropped(&self.0.head(), unsaid)) {
            self.0.unsaid.fetch_add(unsaid, Ordering::Relaxed);
        }
        if !self.hand_over(line) {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            self.0.unsaid.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn hand_over(&self, line: Vec<u8>) -> bool {
        let line = match &*self.0.journal.load() {
            None => line,
            Some(journal) => match journal.take(line) {
                Taken::Yes => return true,
                Taken::Full => return false,
                Taken::Failed(line) => line,
            },
        };
        self.0.fallback.take(line)
    }
}

impl Shared {
    fn head(&self) -> line::Head {
        line::Head {
            ts: self.clock.now(),
            envelope: self.envelope.load_full(),
            version: self.version,
        }
    }
}

impl Subscriber for Traces {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Nothing reads spans here, so they cost one comparison.
        if metadata.is_span() { Interest::never() } else { Interest::sometimes() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        if metadata.is_span() {
            return false;
        }
        let levels = &self.0.levels;
        // The `log` bridge asks with the record's own target.
        levels.passes(metadata.level(), metadata.target(), || {
            scope::with_current(|scope| scope.map_or(0, scope::RequestScope::verbosity))
        })
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0.levels.highest())
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let normalized = event.normalized_metadata();
        let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
        if WRITING.replace(true) {
            return;
        }
        let _writing = Writing;
        let line = scope::with_current(|scope| line::of(&self.0.head(), metadata, event, scope));
        self.write(line);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Ends the guard against recursion, on panics too.
struct Writing;

impl Drop for Writing {
    fn drop(&mut self) {
        WRITING.set(false);
    }
}

/// The number of a level in [`dataplane::scope`]: error 1 to trace 5.
pub(crate) fn number_of(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

#[cfg(test)]
mod tests;
