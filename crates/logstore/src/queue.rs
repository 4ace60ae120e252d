//! The way into the journal: room, the queue, and the books.
//!
//! Everything here stands under one mutex that is held for a few dozen
//! nanoseconds: reserving, handing over and reading the books. The writer swaps
//! the queue out as a whole, so no allocation, serialisation or system call
//! happens under the lock, and a caller makes a system call only to wake a
//! sleeping writer.

mod turns;

use std::{
    fmt, mem,
    sync::Arc,
    time::{Duration, Instant},
};

use domain::{
    body::Body,
    capture::Omission,
    record::{Opening, Record},
};
use parking_lot::{Condvar, Mutex, MutexGuard};

use self::turns::Turns;
use crate::{
    accounts::{Accounts, Failure},
    bundle::{Bundle, Until},
};

/// Room that one request takes from reservation until its record is stored: its
/// opening and record in memory, texts at their usual size. The default queue
/// of 64 MiB so holds as many requests as `MAX_CONCURRENT_REQUESTS`.
pub const RESERVATION_BYTES: u64 = 4096;
/// Traces beyond this many queued bytes are dropped and counted.
pub const TRACE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Bodies beyond this many queued bytes are left out and counted.
pub const BODY_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// What a queued line costs beside its text.
const LINE_OVERHEAD_BYTES: u64 = 64;
/// The writer takes as many items in a batch; more of them end its linger.
pub(crate) const BATCH_ITEMS: usize = 1000;
/// So long after a batch the writer looks for items by itself, each `linger`,
/// instead of being woken: a wake costs whoever hands over tens of
/// microseconds, in the middle of a request.
const WATCH: Duration = Duration::from_millis(64);
/// A larger empty queue is given back to the allocator.
const KEPT_ITEMS: usize = 256;

/// Told true when a line is as durable as configured, false when it is lost.
pub type Stored = Box<dyn FnOnce(bool) + Send>;

/// What a line handed over as bytes is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stream {
    /// May be dropped when room is short; drops are counted.
    Trace,
    /// Refused when there is no room at all.
    Entry,
}

/// Why there is no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoRoom {
    #[error("the journal's queue is full")]
    Full,
    #[error("the journal cannot be written")]
    Failed,
}

/// Openings stand unboxed: they are moved once into a buffer that is reused.
pub(crate) enum Item {
    Open(Opening),
    Record(Box<Record>, Vec<Body>, Option<Stored>),
    Line(Stream, Vec<u8>, Option<Stored>),
    Bundle(Bundle, Until, Stored),
}

/// What the writer is doing, so that callers wake it only when it sleeps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writer {
    Busy,
    /// Sleeps until there is anything.
    Idle,
    /// Lets a batch grow until a deadline, or looks whether there is one.
    Lingering,
}

struct State {
    items: Vec<Item>,
    writer: Writer,
    closing: bool,
    /// Somebody wants a new file: not a moment to sleep.
    turning: bool,
    trace_bytes: u64,
    body_bytes: u64,
    accounts: Accounts,
    /// Until when the writer looks by itself.
    watch_until: Option<Instant>,
}

/// What intake, writer and readers of the books share.
pub(crate) struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    queue_bytes_max: u64,
    /// The last committed line, for followers in this process.
    progress: Mutex<u64>,
    progressed: Condvar,
    turns: Mutex<Turns>,
    turned: Condvar,
}

impl Shared {
    pub(crate) fn new(queue_bytes_max: u64, seq: u64) -> Arc<Self> {
        let accounts = Accounts { seq, ..Accounts::default() };
        Arc::new(Self {
            state: Mutex::new(State {
                items: Vec::new(),
                writer: Writer::Busy,
                closing: false,
                turning: false,
                trace_bytes: 0,
                body_bytes: 0,
                accounts,
                watch_until: None,
            }),
            wake: Condvar::new(),
            queue_bytes_max,
            progress: Mutex::new(seq),
            progressed: Condvar::new(),
            turns: Mutex::default(),
            turned: Condvar::new(),
        })
    }

    pub(crate) fn accounts(&self) -> Accounts {
        let state = self.state.lock();
        Accounts { queue_items: state.items.len() as u64, ..state.accounts }
    }

    /// Changes the books in one step, seen whole by every reader.
    pub(crate) fn settle(&self, change: impl FnOnce(&mut Accounts)) -> Accounts {
        let mut state = self.state.lock();
        change(&mut state.accounts);
        debug_assert!(state.accounts.balance(), "{:?}", state.accounts);
        state.accounts
    }

    /// Gives back the room of written or dropped trace lines.
    pub(crate) fn release_traces(&self, bytes: u64) {
        self.state.lock().trace_bytes -= bytes;
    }

    /// Gives back the room of written or lost bodies.
    pub(crate) fn release_bodies(&self, bytes: u64) {
        self.state.lock().body_bytes -= bytes;
    }

    pub(crate) fn close(&self) {
        self.state.lock().closing = true;
        self.wake.notify_one();
    }

    /// Waits until there is something to write, `idle` has passed or the
    /// journal closes; lets the batch grow for `linger`; swaps it out. True
    /// once the journal closes. No item waits longer than `linger` for this.
    pub(crate) fn take(&self, out: &mut Vec<Item>, idle: Duration, linger: Duration) -> bool {
        debug_assert!(out.is_empty());
        let mut watched = false;
        let mut state = self.state.lock();
        if state.items.is_empty() && !state.closing && !state.turning {
            for items in [&mut *out, &mut state.items] {
                if items.capacity() > KEPT_ITEMS {
                    *items = Vec::new();
                }
            }
            watched = self.watch(&mut state, idle, linger);
        }
        state.turning = false;
        // What a look found has waited already.
        let growing = !watched && !state.items.is_empty() && !state.closing && !linger.is_zero();
        if growing {
            let deadline = Instant::now() + linger;
            while state.items.len() < BATCH_ITEMS && !state.closing {
                state.writer = Writer::Lingering;
                if self.wake.wait_until(&mut state, deadline).timed_out() {
                    break;
                }
            }
        }
        state.writer = Writer::Busy;
        mem::swap(&mut state.items, out);
        if !out.is_empty() && !linger.is_zero() {
            state.watch_until = Some(Instant::now() + WATCH);
        }
        state.closing
    }

    /// Waits for items: looking each `linger` for a while after the last batch,
    /// asleep after that. True if a look found some.
    fn watch(&self, state: &mut MutexGuard<'_, State>, idle: Duration, linger: Duration) -> bool {
        let due = Instant::now() + idle;
        state.writer = Writer::Lingering;
        while state.items.is_empty() && !state.closing && !state.turning {
            let look = Instant::now() + linger;
            if state.watch_until.is_none_or(|until| until < look) {
                state.watch_until = None;
                state.writer = Writer::Idle;
                self.wake.wait_until(state, due);
                return false;
            }
            if self.wake.wait_until(state, look.min(due)).timed_out() && look >= due {
                break;
            }
        }
        true
    }

    /// Tells followers how far the journal is committed.
    pub(crate) fn publish(&self, seq: u64) {
        *self.progress.lock() = seq;
        self.progressed.notify_all();
    }

    pub(crate) fn committed(&self) -> u64 {
        *self.progress.lock()
    }

    /// Waits until more than `seq` is committed, at most `timeout`.
    pub(crate) fn wait_beyond(&self, seq: u64, timeout: Duration) {
        let mut progress = self.progress.lock();
        if *progress <= seq {
            self.progressed.wait_for(&mut progress, timeout);
        }
    }

    /// True when the writer sleeps and this item is what it must be woken for.
    #[must_use]
    fn push(&self, item: Item) -> bool {
        self.push_locked(self.state.lock(), item)
    }

    #[must_use]
    fn push_locked(&self, mut state: MutexGuard<'_, State>, item: Item) -> bool {
        state.items.push(item);
        let sleeps = match state.writer {
            Writer::Busy => false,
            Writer::Idle => true,
            Writer::Lingering => state.items.len() == BATCH_ITEMS,
        };
        if sleeps {
            state.writer = Writer::Busy;
        }
        sleeps
    }
}

/// The caller's side of the journal; clones share it.
#[derive(Clone)]
pub struct Intake(pub(crate) Arc<Shared>);

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Intake")
    }
}

impl Intake {
    /// Takes room for one opening and one record. Every success must be
    /// followed by exactly one [`Intake::finish`] or
    /// [`Intake::release_coalesced`].
    pub fn reserve(&self) -> Result<(), NoRoom> {
        let mut state = self.0.state.lock();
        if state.accounts.failed.is_some() || state.closing {
            return Err(NoRoom::Failed);
        }
        if state.accounts.queue_bytes + RESERVATION_BYTES > self.0.queue_bytes_max {
            return Err(NoRoom::Full);
        }
        state.accounts.queue_bytes += RESERVATION_BYTES;
        state.accounts.accepted += 1;
        state.accounts.in_flight += 1;
        Ok(())
    }

    /// Queues the opening line of a request that is about to be forwarded.
    pub fn open(&self, opening: Opening) {
        if self.0.push(Item::Open(opening)) {
            self.wake();
        }
    }

    /// Queues the record of a reserved request. Never waits, never fails:
    /// `stored` is told how it ended.
    pub fn finish(&self, record: Box<Record>, stored: Option<Stored>) {
        if self.0.push(Item::Record(record, Vec::new(), stored)) {
            self.wake();
        }
    }

    /// The same with bodies, for which there may be no room: the record says so.
    pub fn finish_with_bodies(
        &self,
        mut record: Box<Record>,
        mut bodies: Vec<Body>,
        stored: Option<Stored>,
    ) {
        let cost: u64 = bodies.iter().map(Body::cost).sum();
        let mut state = self.0.state.lock();
        if state.body_bytes + cost > BODY_BYTES_MAX {
            state.accounts.bodies_lost += bodies.len() as u64;
            record.captured.lose(Omission::Disk);
            bodies.clear();
        } else {
            state.body_bytes += cost;
        }
        if self.0.push_locked(state, Item::Record(record, bodies, stored)) {
            self.wake();
        }
    }

    /// Wakes the writer.
    fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// Gives a reservation back: the request is counted in an aggregate.
    pub fn release_coalesced(&self) {
        let mut state = self.0.state.lock();
        state.accounts.coalesced += 1;
        state.accounts.in_flight -= 1;
        state.accounts.queue_bytes -= RESERVATION_BYTES;
    }

    /// Counts requests that never found room and stand in an aggregate record.
    pub fn coalesced_unreserved(&self, requests: u64) {
        let mut state = self.0.state.lock();
        state.accounts.accepted += requests;
        state.accounts.coalesced += requests;
    }

    /// Queues a line: one JSON object without newlines, its first key not one
    /// of the journal's own.
    pub fn line(&self, stream: Stream, line: Vec<u8>) -> Result<(), NoRoom> {
        self.line_then(stream, line, None)
    }

    /// As [`Intake::line`], and tells `stored` how it ended. It is dropped
    /// untold when this returns an error.
    pub fn line_then(
        &self,
        stream: Stream,
        line: Vec<u8>,
        stored: Option<Stored>,
    ) -> Result<(), NoRoom> {
        debug_assert!(line.starts_with(b"{") && !line.starts_with(crate::format::INTERNAL_PREFIX));
        let cost = line_cost(&line);
        let mut state = self.0.state.lock();
        let refused = match (stream, state.accounts.failed) {
            (_, Some(_)) => Some(NoRoom::Failed),
            (Stream::Trace, None) if state.trace_bytes + cost > TRACE_BYTES_MAX => {
                Some(NoRoom::Full)
            }
            _ if state.accounts.queue_bytes + cost > self.0.queue_bytes_max => Some(NoRoom::Full),
            _ => None,
        };
        if let Some(reason) = refused {
            match stream {
                Stream::Trace => state.accounts.traces_dropped += 1,
                Stream::Entry => state.accounts.entries_refused += 1,
            }
            return Err(reason);
        }
        state.accounts.queue_bytes += cost;
        if stream == Stream::Trace {
            state.trace_bytes += cost;
        }
        if self.0.push_locked(state, Item::Line(stream, line, stored)) {
            self.wake();
        }
        Ok(())
    }

    /// Queues lines that are appended together or not at all, and tells `told`
    /// once they are as durable as `until` says. `told` is dropped untold when
    /// this returns an error.
    pub fn bundle(&self, bundle: Bundle, until: Until, told: Stored) -> Result<(), NoRoom> {
        self.push_bundle(bundle, until, told, false)
    }

    /// As [`Intake::bundle`], though the journal has failed: what may still be
    /// said in the room that its reserve left. It may be lost all the same.
    pub fn last_words(&self, bundle: Bundle, told: Stored) -> Result<(), NoRoom> {
        self.push_bundle(bundle, Until::Stored, told, true)
    }

    fn push_bundle(
        &self,
        bundle: Bundle,
        until: Until,
        told: Stored,
        despite_failure: bool,
    ) -> Result<(), NoRoom> {
        let cost = bundle.cost();
        let mut state = self.0.state.lock();
        let stopped = state.accounts.failed == Some(Failure::Stopped);
        let refused = if stopped || (state.accounts.failed.is_some() && !despite_failure) {
            Some(NoRoom::Failed)
        } else if state.accounts.queue_bytes + cost > self.0.queue_bytes_max {
            Some(NoRoom::Full)
        } else {
            None
        };
        if let Some(reason) = refused {
            state.accounts.entries_refused += bundle.entries();
            return Err(reason);
        }
        state.accounts.queue_bytes += cost;
        if self.0.push_locked(state, Item::Bundle(bundle, until, told)) {
            self.wake();
        }
        Ok(())
    }

    /// Counts a request that is served though no record of it can be kept.
    pub fn unrecorded(&self) {
        let mut state = self.0.state.lock();
        let accounts = &mut state.accounts;
        accounts.accepted += 1;
        match accounts.failed {
            Some(Failure::DiskFull) => accounts.lost.disk_full += 1,
            Some(Failure::SyncFailed) => accounts.lost.sync_failed += 1,
            _ => accounts.lost.write_failed += 1,
        }
    }

    /// The books, consistent in themselves.
    pub fn accounts(&self) -> Accounts {
        self.0.accounts()
    }
}

pub(crate) fn line_cost(line: &[u8]) -> u64 {
    line.len() as u64 + LINE_OVERHEAD_BYTES
}
