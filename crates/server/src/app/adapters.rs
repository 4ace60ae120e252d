//! Small bridges between parts that do not know each other.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use dataplane::plane::Plane;
use domain::{
    audit::{self, Action},
    ids::InstanceId,
    record::Record,
    time::Clock,
};
use logstore::{
    CommitObserver, Incident, Intake, Journal, NoRoom, Stream, cursor::CursorStore,
    follow::Follower, fs::StdFs,
};
use store::Store;

use crate::{
    delivery::Lines,
    directory::TokenDirectory,
    events::{Events, Mailbox, uses::UseObserver},
    metrics::{Books, Kind, Metrics, MetricsError, Reading},
    readiness::{Check, Readiness},
    trace::{Sink, Taken},
};

/// Traces into the journal.
pub struct JournalTraces(pub Intake);

impl Sink for JournalTraces {
    fn take(&self, line: Vec<u8>) -> Taken {
        // A copy only where the line has to go elsewhere: a journal that failed
        // is asked first.
        if self.0.accounts().failed.is_some() {
            return Taken::Failed(line);
        }
        match self.0.line(Stream::Trace, line) {
            Ok(()) => Taken::Yes,
            Err(NoRoom::Full | NoRoom::Failed) => Taken::Full,
        }
    }
}

/// The journal's lines for delivery, with a kept cursor where it is wanted.
pub struct JournalLines {
    follower: Follower,
    cursor: Option<CursorStore>,
    kept_seq: u64,
    reached: Reached,
}

/// Up to where delivery needs the journal no more: shown, and kept over a
/// restart where that is wanted.
#[derive(Clone, Debug)]
pub struct Reached(Arc<AtomicU64>);

impl Reached {
    /// For whoever shows nothing.
    pub fn everything() -> Self {
        Self(Arc::new(AtomicU64::new(u64::MAX)))
    }

    pub fn seq(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for JournalLines {
    /// Nobody shows anything any more, so nothing waits for it in this process;
    /// a kept cursor still counts at the next start.
    fn drop(&mut self) {
        if self.cursor.is_none() {
            self.reached.0.store(u64::MAX, Ordering::Relaxed);
        }
    }
}

impl From<Follower> for JournalLines {
    fn from(follower: Follower) -> Self {
        let reached = Reached(Arc::new(AtomicU64::new(follower.cursor().seq)));
        Self { follower, cursor: None, kept_seq: 0, reached }
    }
}

impl JournalLines {
    /// Goes on where the last process stopped; `seq` where there was none.
    pub fn kept(
        journal: &Journal,
        journal_dir: &Path,
        instance: &InstanceId,
        seq: u64,
    ) -> io::Result<Self> {
        let cursor = CursorStore::new(Arc::new(StdFs), journal_dir, "file")?;
        let kept = cursor.load()?.filter(|kept| kept.instance == *instance);
        let seq = kept.map_or(seq, |kept| kept.seq);
        let reached = Reached(Arc::new(AtomicU64::new(seq)));
        let follower = journal.follower(seq);
        Ok(Self { follower, cursor: Some(cursor), kept_seq: seq, reached })
    }

    pub fn reached(&self) -> Reached {
        self.reached.clone()
    }
}

/// The kept cursor of `LOG_FILE`, for whoever runs beside no delivery.
pub fn kept_seq(journal_dir: &Path, instance: &InstanceId, delivers_file: bool) -> u64 {
    if !delivers_file {
        return u64::MAX;
    }
    let kept = CursorStore::new(Arc::new(StdFs), journal_dir, "file").and_then(|it| it.load());
    let kept = kept.ok().flatten().filter(|kept| kept.instance == *instance);
    kept.map_or(0, |kept| kept.seq)
}

impl Lines for JournalLines {
    fn poll(&mut self, deliver: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<bool> {
        let moved = self.follower.poll(deliver)?;
        if self.cursor.is_none() {
            self.reached.0.store(self.follower.cursor().seq, Ordering::Relaxed);
        }
        Ok(moved)
    }

    fn wait(&self, timeout: Duration) {
        self.follower.wait(timeout);
    }

    fn keep(&mut self) -> io::Result<()> {
        let Some(cursor) = &self.cursor else { return Ok(()) };
        let reached = self.follower.cursor();
        if reached.seq == self.kept_seq {
            return Ok(());
        }
        cursor.save(reached)?;
        self.kept_seq = reached.seq;
        self.reached.0.store(reached.seq, Ordering::Relaxed);
        Ok(())
    }
}

/// Metrics and then whoever else wants to know what was appended.
pub struct Observers {
    pub metrics: Arc<Metrics>,
    pub uses: UseObserver,
    pub mailbox: Mailbox,
    pub clock: Arc<dyn Clock>,
    pub next: Box<dyn CommitObserver>,
}

impl CommitObserver for Observers {
    fn committed(&mut self, records: &[Box<Record>], last_seq: u64) {
        for record in records {
            self.metrics.observe(record);
        }
        self.uses.stored(records);
        self.next.committed(records, last_seq);
    }

    fn happened(&mut self, incident: Incident) {
        self.mailbox.happened(incident, self.clock.now());
    }
}

/// The journal's books as metrics show them.
pub fn books(intake: &Intake) -> Books {
    let accounts = intake.accounts();
    Books {
        accepted: accounts.accepted,
        stored: accounts.stored,
        synced: accounts.synced,
        coalesced: accounts.coalesced,
        in_flight: accounts.in_flight,
        lost: vec![
            ("disk_full", accounts.lost.disk_full),
            ("write_failed", accounts.lost.write_failed),
            ("sync_failed", accounts.lost.sync_failed),
        ],
    }
}

/// Makes the journal's state part of readiness: its disk, and its being
/// writable, without which no request may be forwarded.
pub fn watch_journal(readiness: &Readiness, intake: &Intake) {
    let journal = intake.clone();
    readiness.watch(Check::Journal, move || match journal.accounts().failed {
        Some(failure) => Err(failure.as_str().to_owned()),
        None => Ok(()),
    });
    let disk = intake.clone();
    readiness.watch(Check::Disk, move || match disk.accounts().failed {
        Some(logstore::Failure::DiskFull) => Err("the disk is full".to_owned()),
        _ => Ok(()),
    });
}

/// What must work for this instance to be ready.
pub fn readiness(intake: &Intake, directory: &Arc<TokenDirectory>) -> Arc<Readiness> {
    let readiness = Readiness::new();
    watch_journal(&readiness, intake);
    let directory = Arc::clone(directory);
    readiness.watch(Check::Audit, move || directory.health());
    readiness
}

/// Everything that the journal counts, on the page of metrics.
pub fn measure_journal(metrics: &Metrics, intake: &Intake) -> Result<(), MetricsError> {
    let journal = intake.clone();
    metrics.read(Reading::books(move || books(&journal)))?;
    let journal = intake.clone();
    let names = vec![
        (Kind::Counter, "llm_proxy_journal_bytes_total", "Bytes appended to the journal."),
        (Kind::Counter, "llm_proxy_journal_batches_total", "Batches appended to the journal."),
        (Kind::Counter, "llm_proxy_journal_syncs_total", "Syncs of the journal."),
        (Kind::Counter, "llm_proxy_journal_sync_seconds_total", "Time spent in syncs."),
        (Kind::Counter, "llm_proxy_journal_reopens_total", "Files replaced under the journal."),
        (Kind::Gauge, "llm_proxy_journal_queue_items", "Items that wait to be appended."),
        (Kind::Gauge, "llm_proxy_journal_queue_bytes", "Room taken in the queue."),
        (Kind::Gauge, "llm_proxy_journal_failed", "1 while the journal cannot be written."),
        (Kind::Counter, "llm_proxy_traces_dropped_total", "Trace lines without room."),
        (Kind::Counter, "llm_proxy_bodies_bytes_total", "Bytes of captured bodies appended."),
    ];
    metrics.read(Reading::many(names, move || {
        let now = journal.accounts();
        vec![
            now.journal_bytes as f64,
            now.batches as f64,
            now.syncs as f64,
            now.sync_seconds,
            now.file_reopens as f64,
            now.queue_items as f64,
            now.queue_bytes as f64,
            f64::from(u8::from(now.failed.is_some())),
            now.traces_dropped as f64,
            now.bodies_bytes as f64,
        ]
    }))
}

/// What the store counts of audit entries.
pub fn measure_entries(
    metrics: &Metrics,
    store: &Store,
    events: &Events,
) -> Result<(), MetricsError> {
    let (store, events) = (store.clone(), events.clone());
    metrics.read(Reading::entries(move || {
        let (mut written, pending) = store.entry_counts();
        for (action, result, count) in events.written() {
            match written.iter_mut().find(|it| (it.0, it.1) == (action, result)) {
                Some(known) => known.2 += count,
                None => written.push((action, result, count)),
            }
        }
        let names = |(action, result, count): (Action, audit::Outcome, u64)| {
            (action.as_str(), result.as_str(), count)
        };
        (written.into_iter().map(names).collect(), pending)
    }))
}

/// What the data plane counts outside of records.
pub fn measure_plane(metrics: &Metrics, plane: &Arc<Plane>) -> Result<(), MetricsError> {
    let active = Arc::clone(plane);
    metrics.read(Reading::one(
        Kind::Gauge,
        "llm_proxy_active_requests",
        "Requests at work.",
        move || active.active_requests() as f64,
    ))?;
    let open = Arc::clone(plane);
    metrics.read(Reading::one(
        Kind::Gauge,
        "llm_proxy_connections_open",
        "Connections of clients.",
        move || open.counters.connections_open.load(Ordering::Relaxed) as f64,
    ))?;
    let errors = Arc::clone(plane);
    metrics.read(Reading::labelled(
        "llm_proxy_connection_errors_total",
        "Connections that ended before a head was parsed; they leave no record.",
        "reason",
        move || errors.counters.connection_errors().collect(),
    ))
}
