//! The one thread that writes the journal: takes what was handed over,
//! serialises, appends a batch with one write, syncs, tells whoever waits.
//!
//! When the disk fails: a batch that cannot be appended is cut off again and
//! tried once more (behind a released reserve file when the disk is full, in a
//! new file otherwise); if that fails too, its records are counted as lost,
//! their waiters told, and no new request is accepted until a later attempt
//! succeeds. A file whose sync failed is never trusted or synced again.

mod bodies;
mod disk;

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use domain::{
    ids::RecordId,
    record::{Envelope, Opening, Record},
    time::Clock,
};

use crate::{
    accounts::{Accounts, Failure},
    bundle::{Until, push_line},
    format::{self, Reason},
    fs::Fs,
    journal::{CommitObserver, JournalConfig, Sync},
    queue::{BATCH_ITEMS, Item, RESERVATION_BYTES, Shared, Stored, Stream},
    recover::Recovered,
};
use bodies::Bodies;
use disk::Current;

/// Serialised bytes after which a batch is closed.
const BATCH_BYTES: usize = 1024 * 1024;
/// Buffers above this are given back when the writer has nothing to do.
const KEPT_BYTES: usize = 256 * 1024;

/// Record ids are random already: their bits need no more hashing.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0u8; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = (self.0 ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        self.0 ^= self.0 >> 32;
    }
}

type Openings = HashMap<RecordId, Opening, BuildHasherDefault<IdHasher>>;

/// Lines of one batch, serialised, and who belongs to them.
#[expect(clippy::vec_box, reason = "records arrive boxed: moving the box is cheaper")]
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    lines: u64,
    records: Vec<Box<Record>>,
    waiters: Vec<Stored>,
    /// These want to be told after a sync only.
    syncing: Vec<Stored>,
    trace_bytes: u64,
    queue_bytes: u64,
    traces: u64,
    entries: u64,
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    fs: Arc<dyn Fs>,
    clock: Arc<dyn Clock>,
    config: JournalConfig,
    envelope: Envelope,
    observer: Box<dyn CommitObserver>,
    current: Option<Current>,
    bodies: Bodies,
    boot: u64,
    /// The last committed line.
    seq: u64,
    /// Appended openings without an end.
    open: Openings,
    /// Openings of the batch at hand without an end in it.
    fresh: Openings,
    batch: Batch,
    /// Openings whose end is in the batch at hand. They count as open until it
    /// is appended; if it is lost, the next start records them as interrupted.
    ending: Vec<RecordId>,
    /// Waiters whose lines are appended and must be synced first.
    unsynced_waiters: Vec<Stored>,
    unsynced_since: Option<Instant>,
    /// Of `stored`, those appended since the last good sync.
    unsynced_records: u64,
    noted: Accounts,
    noted_at: Instant,
    checked_at: Instant,
}

/// Marks the journal as stopped however its thread ends, a panic included.
struct StopGuard(Arc<Shared>);

impl Drop for StopGuard {
    fn drop(&mut self) {
        self.0.settle(|accounts| accounts.failed = Some(Failure::Stopped));
        self.0.turns_ended();
    }
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
        config: JournalConfig,
        envelope: Envelope,
        observer: Box<dyn CommitObserver>,
    ) -> Self {
        let now = Instant::now();
        Self {
            shared,
            fs,
            clock,
            config,
            envelope,
            observer,
            current: None,
            bodies: Bodies::default(),
            boot: 0,
            seq: 0,
            open: Openings::default(),
            fresh: Openings::default(),
            batch: Batch::default(),
            ending: Vec::new(),
            unsynced_waiters: Vec::new(),
            unsynced_since: None,
            unsynced_records: 0,
            noted: Accounts::default(),
            noted_at: now,
            checked_at: now,
        }
    }

    /// Begins this boot's first file: header and interrupted records as one
    /// batch, synced.
    pub(crate) fn begin(&mut self, recovered: Recovered) -> io::Result<()> {
        self.seq = recovered.seq;
        self.boot = recovered.boot + 1;
        let now = self.clock.now();
        let mut lines = Vec::new();
        let mut openings: Vec<Opening> = recovered.open.into_values().collect();
        openings.sort_by_key(|opening| opening.record_id);
        let interrupted = openings.len() as u64;
        for opening in openings {
            Record::interrupted(opening, now).write_json(&self.envelope, &mut lines);
            lines.push(b'\n');
        }
        self.begin_file(Reason::Start, self.seq + 1, &lines, interrupted)?;
        self.shared.settle(|accounts| accounts.interrupted = interrupted);
        if let Err(error) = self.take_reserve() {
            tracing::warn!(%error, "could not set disk space aside for the journal");
        }
        Ok(())
    }

    pub(crate) fn run(mut self) {
        let _guard = StopGuard(Arc::clone(&self.shared));
        let mut items = Vec::new();
        loop {
            // Group sync gathers a batch by itself: lingering would only add.
            let linger = match self.config.sync {
                Sync::Each => Duration::ZERO,
                Sync::Interval(_) | Sync::Os => self.config.linger,
            };
            let closing = self.shared.take(&mut items, self.idle_time(), linger);
            let done = closing && items.is_empty();
            self.write_bodies(&mut items);
            self.write_items(&mut items);
            self.sync_if_due(done);
            self.look_after(done);
            self.turn_if_asked();
            if done {
                break;
            }
            self.shrink_buffers();
        }
    }

    /// How long there is nothing to do without new items.
    fn idle_time(&self) -> Duration {
        let now = Instant::now();
        let mut due = self.checked_at + self.config.check_interval;
        if let (Sync::Interval(interval), Some(since)) = (self.config.sync, self.unsynced_since) {
            due = due.min(since + interval);
        }
        if self.shared.accounts().accepted != self.noted.accepted || self.books_changed() {
            due = due.min(self.noted_at + self.config.counters_interval);
        }
        due.saturating_duration_since(now)
    }

    fn books_changed(&self) -> bool {
        books(&self.shared.accounts()) != books(&self.noted)
    }

    fn write_items(&mut self, items: &mut Vec<Item>) {
        let mut items = items.drain(..);
        loop {
            let mut taken = 0;
            while taken < BATCH_ITEMS && self.batch.bytes.len() < BATCH_BYTES {
                let Some(item) = items.next() else { break };
                self.encode(item);
                taken += 1;
            }
            self.encode_openings();
            let books_due = self.noted_at.elapsed() >= self.config.counters_interval;
            if books_due && (taken > 0 || self.books_changed()) {
                self.encode_books();
            }
            if self.batch.lines > 0 {
                self.commit_batch();
            }
            if items.len() == 0 {
                break;
            }
        }
    }

    fn encode(&mut self, item: Item) {
        let batch = &mut self.batch;
        match item {
            Item::Open(opening) => {
                self.fresh.insert(opening.record_id, opening);
            }
            Item::Record(record, _, stored) => {
                // An opening whose end is in the same batch needs no line.
                let elided = self.fresh.remove(&record.record_id).is_some();
                if !elided && self.open.contains_key(&record.record_id) {
                    self.ending.push(record.record_id);
                }
                record.write_json(&self.envelope, &mut batch.bytes);
                batch.bytes.push(b'\n');
                batch.lines += 1;
                batch.queue_bytes += RESERVATION_BYTES;
                batch.records.push(record);
                batch.waiters.extend(stored);
            }
            Item::Line(stream, line, stored) => {
                let cost = crate::queue::line_cost(&line);
                batch.queue_bytes += cost;
                if stream == Stream::Trace {
                    batch.trace_bytes += cost;
                    batch.traces += 1;
                } else {
                    batch.entries += 1;
                }
                push_line(&mut batch.bytes, &line);
                batch.lines += 1;
                batch.waiters.extend(stored);
            }
            Item::Bundle(bundle, until, told) => {
                batch.queue_bytes += bundle.cost();
                batch.entries += bundle.entries();
                batch.lines += bundle.lines();
                batch.bytes.extend_from_slice(bundle.bytes());
                match until {
                    Until::Stored => batch.waiters.push(told),
                    Until::Synced => batch.syncing.push(told),
                }
            }
        }
    }

    fn encode_openings(&mut self) {
        for (id, opening) in self.fresh.drain() {
            format::write_opening(&mut self.batch.bytes, &opening);
            self.batch.lines += 1;
            self.open.insert(id, opening);
        }
    }

    /// The books as they will stand when this batch is appended.
    fn encode_books(&mut self) {
        let mut accounts = self.shared.accounts();
        let records = self.batch.records.len() as u64;
        accounts.stored += records;
        accounts.in_flight -= records;
        format::write_counters(&mut self.batch.bytes, &accounts, self.clock.now());
        self.batch.lines += 1;
        self.noted = accounts;
        self.noted_at = Instant::now();
    }

    fn commit_batch(&mut self) {
        let outcome = self.append_batch();
        let count = self.batch.records.len() as u64;
        let traces = std::mem::take(&mut self.batch.traces);
        let queue_bytes = std::mem::take(&mut self.batch.queue_bytes);
        let trace_bytes = std::mem::take(&mut self.batch.trace_bytes);
        let appended = self.batch.bytes.len() as u64;
        if trace_bytes > 0 {
            self.shared.release_traces(trace_bytes);
        }
        let seq = self.seq;
        self.shared.settle(|accounts| {
            accounts.queue_bytes -= queue_bytes;
            accounts.in_flight -= count;
            accounts.seq = seq;
            match outcome {
                Ok(()) => {
                    accounts.stored += count;
                    accounts.journal_bytes += appended;
                    accounts.batches += 1;
                }
                Err(failure) => {
                    accounts.traces_dropped += traces;
                    match failure {
                        Failure::DiskFull => accounts.lost.disk_full += count,
                        Failure::SyncFailed => accounts.lost.sync_failed += count,
                        _ => accounts.lost.write_failed += count,
                    }
                }
            }
        });
        if outcome.is_ok() {
            for id in self.ending.drain(..) {
                self.open.remove(&id);
            }
            self.unsynced_records += count;
            self.unsynced_since.get_or_insert_with(Instant::now);
            if count > 0 {
                self.observer.committed(&self.batch.records, seq);
            }
            self.shared.publish(seq);
        }
        self.finish_batch(outcome.is_ok());
    }

    fn finish_batch(&mut self, appended: bool) {
        if appended && self.config.sync == Sync::Each {
            self.unsynced_waiters.append(&mut self.batch.waiters);
        } else {
            self.batch.waiters.drain(..).for_each(|tell| tell(appended));
        }
        if appended {
            self.unsynced_waiters.append(&mut self.batch.syncing);
        } else {
            self.batch.syncing.drain(..).for_each(|tell| tell(false));
        }
        self.ending.clear();
        self.batch.records.clear();
        self.batch.entries = 0;
        self.batch.bytes.clear();
        self.batch.lines = 0;
    }

    /// Appends the batch, by all means there are.
    fn append_batch(&mut self) -> Result<(), Failure> {
        self.rotate_if_due();
        let error = match self.append_once() {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if let Some(known) = self.shared.accounts().failed {
            // Repairs are tried by the clock then, not by every batch.
            return Err(known);
        }
        if is_full(&error) {
            self.release_reserve();
            self.fail(Failure::DiskFull, &error);
            self.note_full_disk();
            return self.append_once().map_err(|_| Failure::DiskFull);
        }
        tracing::error!(%error, "could not append to the journal: beginning a new file");
        match self.reopen().and_then(|()| self.append_once()) {
            Ok(()) => Ok(()),
            Err(error) => {
                let failure =
                    if is_full(&error) { Failure::DiskFull } else { Failure::WriteFailed };
                self.fail(failure, &error);
                Err(failure)
            }
        }
    }

    fn sync_if_due(&mut self, closing: bool) {
        let Some(since) = self.unsynced_since else { return };
        let due = match self.config.sync {
            Sync::Each => true,
            Sync::Interval(interval) => closing || since.elapsed() >= interval,
            Sync::Os => closing,
        };
        if due || !self.unsynced_waiters.is_empty() {
            self.sync_now();
        }
    }

    /// Puts a line into the released reserve, so that the journal itself says
    /// where and why it ends.
    fn note_full_disk(&mut self) {
        let envelope = &self.envelope;
        let line = &mut self.batch.bytes;
        let mut trace = domain::json::Object::begin(line);
        trace.text(domain::key!("stream"), "trace");
        trace.text(domain::key!("ts"), self.clock.now().to_rfc3339().as_str());
        trace.text(domain::key!("level"), "error");
        trace.text(domain::key!("msg"), "the disk is full: the journal takes no new requests");
        trace.text(domain::key!("component"), "journal");
        trace.text(domain::key!("instance"), envelope.instance.as_str());
        trace.text(domain::key!("version"), envelope.version);
        trace.end();
        line.push(b'\n');
        self.batch.lines += 1;
    }

    /// Once a second: is the file still the one we write, does a failed journal
    /// work again, are there books to note.
    fn look_after(&mut self, closing: bool) {
        if self.checked_at.elapsed() < self.config.check_interval && !closing {
            return;
        }
        self.checked_at = Instant::now();
        if closing {
            if self.books_changed() {
                self.encode_books();
                self.commit_batch();
                self.unsynced_since = Some(Instant::now());
            }
            self.sync_if_due(true);
            if self.config.closes_last_file {
                self.turn();
            }
            return;
        }
        match self.shared.accounts().failed {
            Some(_) => self.try_again(),
            None => {
                self.check_identity();
                self.turn_if_old();
            }
        }
    }

    fn shrink_buffers(&mut self) {
        if self.batch.bytes.capacity() > KEPT_BYTES {
            self.batch.bytes.shrink_to(KEPT_BYTES);
        }
        self.bodies.shrink();
        for table in [&mut self.open, &mut self.fresh] {
            if table.capacity() > 1024 && table.len() < table.capacity() / 8 {
                table.shrink_to(128);
            }
        }
    }
}

/// The figures whose change is worth a `_n` line.
fn books(accounts: &Accounts) -> [u64; 5] {
    let Accounts { accepted, stored, coalesced, lost, traces_dropped, .. } = accounts;
    [*accepted, *stored, *coalesced, lost.total(), *traces_dropped]
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
