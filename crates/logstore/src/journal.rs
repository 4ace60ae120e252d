//! The journal as its owner sees it: open, hand out ways in and out, close.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use domain::{
    ids::InstanceId,
    record::{Envelope, Record},
    time::Clock,
};
use parking_lot::Mutex;

use crate::{
    accounts::{Accounts, Failure},
    cursor::Cursor,
    follow::Follower,
    fs::Fs,
    queue::{Intake, Shared},
    recover::{self, RecoverError, RecoveryReport},
    replay::{self, Replayed},
    writer::Writer,
};

/// When appended lines are made to survive a loss of power.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sync {
    /// Every batch, before its waiters are told.
    Each,
    /// At most this long after a batch.
    Interval(Duration),
    /// When the operating system likes.
    Os,
}

/// Bounds and places of a journal.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// `DATA_DIR/journal`.
    pub dir: PathBuf,
    pub sync: Sync,
    /// Room for unfinished requests and unwritten lines.
    pub queue_bytes_max: u64,
    /// A file that has reached this is followed by the next.
    pub file_bytes_max: u64,
    /// So is one that has been written for as long and holds records or traces.
    pub file_age_max: Duration,
    /// A clean end closes the last file too, so that it can be sealed.
    pub closes_last_file: bool,
    /// Numbers up to here are taken whatever the files say: their lines are
    /// sealed. See [`crate::catalog::sealed_to`].
    pub seq_floor: u64,
    /// How long a batch may grow before it is appended.
    pub linger: Duration,
    /// How often a failed journal tries again, and a good one is looked at.
    pub check_interval: Duration,
    /// The least time between two `_n` lines.
    pub counters_interval: Duration,
    /// Kept aside for the last lines of a full disk.
    pub reserve_bytes: u64,
}

impl JournalConfig {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            sync: Sync::Interval(Duration::from_millis(100)),
            queue_bytes_max: 64 * 1024 * 1024,
            file_bytes_max: 128 * 1024 * 1024,
            file_age_max: Duration::from_secs(15 * 60),
            closes_last_file: false,
            seq_floor: 0,
            linger: Duration::from_millis(1),
            check_interval: Duration::from_secs(1),
            counters_interval: Duration::from_millis(100),
            reserve_bytes: 1024 * 1024,
        }
    }
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("{operation} {path}")]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("read {path}: its format {format} is newer than this build")]
    Newer { path: PathBuf, format: u64 },
    #[error("start the journal's thread")]
    Thread(#[source] io::Error),
}

impl From<RecoverError> for JournalError {
    fn from(error: RecoverError) -> Self {
        match error {
            RecoverError::Io { operation, path, source } => Self::Io { operation, path, source },
            RecoverError::Newer { path, format } => Self::Newer { path, format },
        }
    }
}

/// Told by the writer's thread of every appended batch of records, so that
/// metrics and tallies cost the request path nothing.
pub trait CommitObserver: Send {
    /// `last_seq` is the last line of the batch. Records written by recovery
    /// are not told: [`Journal::replay`] has them.
    fn committed(&mut self, records: &[Box<Record>], last_seq: u64);

    /// Told of what happens to the journal itself. Must not block.
    fn happened(&mut self, _incident: Incident) {}
}

/// What befalls the journal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Incident {
    /// It takes no new requests.
    Failed(Failure),
    /// It does again.
    Works,
    /// Its file was changed under us; a new one is begun.
    Tampered {
        file: String,
        /// `unlinked`, `replaced`, `truncated` or `appended`.
        finding: &'static str,
        /// The last line that was committed to it.
        seq: u64,
    },
}

/// For whoever wants to be told nothing.
impl CommitObserver for () {
    fn committed(&mut self, _records: &[Box<Record>], _last_seq: u64) {}
}

/// How a journal ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CloseReport {
    pub accounts: Accounts,
    /// Everything stored is also synced.
    pub synced: bool,
}

/// The open journal of one instance. Dropping it closes it.
pub struct Journal {
    shared: Arc<Shared>,
    fs: Arc<dyn Fs>,
    config: JournalConfig,
    envelope: Envelope,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("dir", &self.config.dir).finish_non_exhaustive()
    }
}

impl Journal {
    /// Recovers what the last process left, begins a new file, and starts the
    /// writer. The caller holds the [`crate::DataDirLock`].
    pub fn open(
        config: JournalConfig,
        envelope: Envelope,
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
        observer: Box<dyn CommitObserver>,
    ) -> Result<(Self, RecoveryReport), JournalError> {
        fs.create_dir(&config.dir).map_err(|source| JournalError::Io {
            operation: "create",
            path: config.dir.clone(),
            source,
        })?;
        let mut recovered = recover::recover(&*fs, &config.dir, &envelope.instance)?;
        recovered.seq = recovered.seq.max(config.seq_floor);
        recovered.report.last_seq = recovered.seq;
        let mut report = recovered.report.clone();
        match crate::bodies::recover(&*fs, &config.dir, &envelope.instance) {
            Ok(bytes) => report.bodies_torn_bytes = bytes,
            // Readers stop before a torn end anyway.
            Err(error) => tracing::warn!(%error, "could not cut the end of captured bodies"),
        }
        let own = |owner: &InstanceId| *owner == envelope.instance;
        match crate::bodies::remove_orphans(&*fs, &config.dir, own) {
            Ok(files) => report.bodies_orphaned = files,
            Err(error) => tracing::warn!(%error, "could not remove captured bodies of no record"),
        }
        report_recovery(&report, &config.dir);
        crate::cursor::clamp_all(&*fs, &config.dir, &envelope.instance, recovered.seq);
        let shared = Shared::new(config.queue_bytes_max, recovered.seq);
        let mut writer = Writer::new(
            Arc::clone(&shared),
            Arc::clone(&fs),
            clock,
            config.clone(),
            envelope.clone(),
            observer,
        );
        writer.begin(recovered).map_err(|source| JournalError::Io {
            operation: "begin a file in",
            path: config.dir.clone(),
            source,
        })?;
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run())
            .map_err(JournalError::Thread)?;
        let thread = Mutex::new(Some(thread));
        Ok((Self { shared, fs, config, envelope, thread }, report))
    }

    /// The last committed line that [`Self::open`] will find, for whoever must
    /// know before anything is repaired or written. 0 where there is none.
    pub fn last_committed(
        dir: &Path,
        instance: &InstanceId,
        fs: &dyn Fs,
    ) -> Result<u64, JournalError> {
        Ok(recover::last_committed(fs, dir, instance)?)
    }

    /// Where its files lie.
    pub fn dir(&self) -> &Path {
        &self.config.dir
    }

    /// The way in.
    pub fn intake(&self) -> Intake {
        Intake(Arc::clone(&self.shared))
    }

    pub fn accounts(&self) -> Accounts {
        self.shared.accounts()
    }

    /// The way out: everything committed after `seq`, as it comes.
    pub fn follower(&self, seq: u64) -> Follower {
        let cursor = Cursor { instance: self.envelope.instance.clone(), seq };
        Follower::new(Arc::clone(&self.fs), &self.config.dir, cursor)
            .with_wake(Arc::clone(&self.shared))
    }

    /// Calls `visit` with every committed record after line `after_seq`;
    /// returns the last committed line that was seen.
    pub fn replay(
        &self,
        after_seq: u64,
        visit: &mut dyn FnMut(Replayed),
    ) -> Result<u64, JournalError> {
        replay::replay(&self.fs, &self.config.dir, &self.envelope.instance, after_seq, visit)
            .map_err(|source| JournalError::Io {
                operation: "read",
                path: self.config.dir.clone(),
                source,
            })
    }

    /// Every line up to here is committed, and the observer was told of it.
    pub fn committed(&self) -> u64 {
        self.shared.committed()
    }

    /// Lines up to here stand in files that are never written again.
    pub fn closed_to(&self) -> u64 {
        self.shared.closed_to()
    }

    /// Begins a new file, so that all that is committed now can be sealed; says
    /// up to where. `None` when the writer did not answer in time.
    pub fn turn(&self, timeout: Duration) -> Option<u64> {
        self.shared.ask_to_turn(timeout)
    }

    /// What the sealer waits on.
    pub fn closed_files(&self) -> ClosedFiles {
        ClosedFiles(Arc::clone(&self.shared))
    }

    /// Writes and syncs what was handed over, and ends the thread. Later
    /// reservations are refused.
    pub fn close(&self) -> CloseReport {
        self.shared.close();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the journal's thread panicked");
        }
        let accounts = self.shared.accounts();
        CloseReport { accounts, synced: accounts.synced == accounts.stored }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}

/// How far the journal's files are done with; outlives the journal.
#[derive(Clone)]
pub struct ClosedFiles(Arc<Shared>);

impl std::fmt::Debug for ClosedFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ClosedFiles").field(&self.closed_to()).finish()
    }
}

impl ClosedFiles {
    /// Lines up to here stand in files that are never written again.
    pub fn closed_to(&self) -> u64 {
        self.0.closed_to()
    }

    /// Asks for a new file, see [`Journal::turn`].
    pub fn turn(&self, timeout: Duration) -> Option<u64> {
        self.0.ask_to_turn(timeout)
    }

    /// Waits until more than `seq` is closed or somebody nudges, at most
    /// `timeout`. Blocks: never call it on a thread of a runtime.
    pub fn wait_beyond(&self, seq: u64, timeout: Duration) {
        self.0.wait_closed_beyond(seq, timeout);
    }

    /// Ends a wait.
    pub fn nudge(&self) {
        self.0.nudge();
    }
}

fn report_recovery(report: &RecoveryReport, dir: &Path) {
    let dir = dir.display();
    if report.torn_bytes > 0 {
        tracing::warn!(
            bytes = report.torn_bytes,
            files = report.files_moved,
            %dir,
            "moved a torn end of the journal to torn/"
        );
    }
    if report.bodies_torn_bytes > 0 {
        tracing::warn!(bytes = report.bodies_torn_bytes, %dir, "cut a torn end of captured bodies");
    }
    if report.bodies_orphaned > 0 {
        let files = report.bodies_orphaned;
        tracing::warn!(files, %dir, "removed captured bodies whose journal file is gone");
    }
    if report.damaged_bytes > 0 {
        tracing::error!(
            bytes = report.damaged_bytes,
            lines = report.damaged_lines,
            %dir,
            "the journal is damaged: copied the damaged bytes to torn/ and went on behind them"
        );
    }
    if report.interrupted > 0 {
        tracing::warn!(
            records = report.interrupted,
            "recorded requests that the last process left unfinished as interrupted"
        );
    }
}
