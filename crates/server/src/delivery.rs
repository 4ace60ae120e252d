//! Shows the journal's lines on stdout or in `LOG_FILE`.
//!
//! Owns one thread that follows the journal by a cursor. Promises that a
//! blocked pipe or a full disk behind `LOG_FILE` delays this thread and nothing
//! else, and that lines come whole and in order: at least once in a file (the
//! cursor is kept over restarts), from the start of the process on stdout. Must
//! never be waited for by a request or by the journal.

pub mod pretty;
pub mod target;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, sync_channel},
    },
    time::{Duration, Instant},
};

use self::target::Target;

/// How long the thread sleeps at most when nothing comes, so that it sees a
/// renamed file and the end.
const WAIT: Duration = Duration::from_millis(250);
/// Lines are written in pieces of about this size.
const PIECE_BYTES: usize = 256 * 1024;
/// How often the cursor of a file is kept.
const CURSOR_INTERVAL: Duration = Duration::from_secs(1);
/// How long a target that failed is left alone.
const RETRY: Duration = Duration::from_secs(1);

/// The journal's committed lines from a cursor on, the journal's own left out.
pub trait Lines: Send {
    /// Hands over whole lines, newlines included. An error of `deliver` comes
    /// back with the cursor before the refused slice. Says whether it moved.
    fn poll(&mut self, deliver: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<bool>;

    /// Waits until there may be more, at most so long.
    fn wait(&self, timeout: Duration);

    /// Keeps the cursor over restarts, where that is wanted.
    fn keep(&mut self) -> io::Result<()>;
}

/// How lines look and which of them are shown.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// `None`: as they stand in the journal.
    pub style: Option<pretty::Style>,
    /// Whether records are shown, or traces and entries only.
    pub records: bool,
}

/// What the thread has done, for metrics.
#[derive(Debug, Default)]
pub struct Counts {
    pub lines: AtomicU64,
    pub bytes: AtomicU64,
    pub failures: AtomicU64,
}

/// The running thread.
#[derive(Debug)]
pub struct Delivery {
    signals: Arc<Signals>,
    counts: Arc<Counts>,
    ended: Receiver<()>,
    thread: std::thread::Thread,
}

#[derive(Debug, Default)]
struct Signals {
    stop: AtomicBool,
    reopen: AtomicBool,
}

impl Delivery {
    pub fn begin(lines: Box<dyn Lines>, target: Box<dyn Target>, look: Look) -> io::Result<Self> {
        let signals = Arc::new(Signals::default());
        let counts = Arc::new(Counts::default());
        let (done, ended) = sync_channel(1);
        let mut state = Thread {
            lines,
            target,
            look,
            signals: Arc::clone(&signals),
            counts: Arc::clone(&counts),
            piece: Vec::with_capacity(PIECE_BYTES),
            kept_at: Instant::now(),
        };
        let thread = std::thread::Builder::new().name("delivery".to_owned()).spawn(move || {
            state.run();
            // Whoever stopped waiting need not know.
            let _told = done.try_send(());
        })?;
        let thread = thread.thread().clone();
        Ok(Self { signals, counts, ended, thread })
    }

    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// What opens the file anew before the next piece (SIGHUP).
    pub fn reopener(&self) -> impl Fn() + Send + use<> {
        let signals = Arc::clone(&self.signals);
        move || signals.reopen.store(true, Ordering::Relaxed)
    }

    /// Shows what is committed by now and ends; gives up after `timeout`, when
    /// a blocked pipe keeps the thread. Call it after the journal is closed.
    pub fn stop(self, timeout: Duration) -> bool {
        self.signals.stop.store(true, Ordering::Relaxed);
        self.thread.unpark();
        self.ended.recv_timeout(timeout).is_ok()
    }
}

/// How long lines are gathered before they are shown.
const GATHER: Duration = Duration::from_millis(5);

struct Thread {
    lines: Box<dyn Lines>,
    target: Box<dyn Target>,
    look: Look,
    signals: Arc<Signals>,
    counts: Arc<Counts>,
    piece: Vec<u8>,
    kept_at: Instant,
}

impl Thread {
    fn run(&mut self) {
        let mut failing = false;
        loop {
            // Read before the poll: what was committed before the stop is shown.
            let stopping = self.signals.stop.load(Ordering::Relaxed);
            if self.signals.reopen.swap(false, Ordering::Relaxed) || self.target.was_moved() {
                self.target.reopen();
            }
            match self.show() {
                Ok(moved) => {
                    failing = false;
                    self.keep(stopping);
                    if stopping && !moved {
                        return;
                    }
                    if !moved {
                        self.lines.wait(WAIT);
                        // A commit comes every millisecond under load; showing
                        // several at once costs less than hurrying after each.
                        std::thread::park_timeout(GATHER);
                    }
                }
                Err(error) if self.target.is_gone(&error) => return,
                Err(error) => {
                    self.counts.failures.fetch_add(1, Ordering::Relaxed);
                    // Said once: the line itself may be among the undeliverable.
                    if !failing {
                        tracing::error!(
                            error = &error as &(dyn std::error::Error + 'static),
                            "lines cannot be shown; trying on"
                        );
                    }
                    failing = true;
                    if stopping {
                        return;
                    }
                    // Woken early when it is time to stop.
                    std::thread::park_timeout(RETRY);
                    self.target.reopen();
                }
            }
        }
    }

    fn show(&mut self) -> io::Result<bool> {
        let Self { lines, target, look, counts, piece, .. } = self;
        lines.poll(&mut |committed| {
            let mut rest = committed;
            while !rest.is_empty() {
                // Pieces end at a line, so a file that is moved in between
                // holds whole lines.
                let end = piece_end(rest);
                let (now, later) = rest.split_at(end);
                rest = later;
                let bytes = rendered(now, look, piece);
                target.write(bytes)?;
                counts.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                let lines = memchr::memchr_iter(b'\n', bytes).count();
                counts.lines.fetch_add(lines as u64, Ordering::Relaxed);
            }
            Ok(())
        })
    }

    fn keep(&mut self, stopping: bool) {
        if !stopping && self.kept_at.elapsed() < CURSOR_INTERVAL {
            return;
        }
        self.kept_at = Instant::now();
        if let Err(error) = self.lines.keep() {
            let error = &error as &(dyn std::error::Error + 'static);
            tracing::warn!(error, "the place in the journal was not kept; lines may repeat");
        }
    }
}

fn piece_end(lines: &[u8]) -> usize {
    if lines.len() <= PIECE_BYTES {
        return lines.len();
    }
    let within = lines[..PIECE_BYTES].iter().rposition(|byte| *byte == b'\n');
    let beyond = || lines.iter().position(|byte| *byte == b'\n');
    within.or_else(beyond).map_or(lines.len(), |at| at + 1)
}

/// The lines as they are shown; borrowed when nothing changes about them.
fn rendered<'a>(lines: &'a [u8], look: &Look, out: &'a mut Vec<u8>) -> &'a [u8] {
    if look.records && look.style.is_none() {
        return lines;
    }
    out.clear();
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        if !look.records && is_record(line) {
            continue;
        }
        match look.style {
            None => out.extend_from_slice(line),
            Some(style) => pretty::write(out, line.trim_ascii_end(), style),
        }
    }
    out
}

/// Records are told by how they begin: the schema fixes it.
fn is_record(line: &[u8]) -> bool {
    line.starts_with(b"{\"schema\":")
        && line[..line.len().min(64)].windows(17).any(|window| window == b"\"stream\":\"record\"")
}

#[cfg(test)]
mod tests;
