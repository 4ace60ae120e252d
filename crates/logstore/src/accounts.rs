//! The journal's books, and why it cannot be written.

/// Why the journal takes no new requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    DiskFull,
    WriteFailed,
    SyncFailed,
    /// Closed, or its thread is gone.
    Stopped,
}

impl Failure {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DiskFull => "disk_full",
            Self::WriteFailed => "write_failed",
            Self::SyncFailed => "sync_failed",
            Self::Stopped => "stopped",
        }
    }
}

/// Records lost, by reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lost {
    pub disk_full: u64,
    pub write_failed: u64,
    pub sync_failed: u64,
}

/// The books, read under one lock: `accepted = stored + coalesced + lost + in
/// flight` in every reading. Figures count from the start of the process.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Accounts {
    pub accepted: u64,
    /// Covered by an appended commit line.
    pub stored: u64,
    pub coalesced: u64,
    pub lost: Lost,
    /// Reserved and not yet any of the others.
    pub in_flight: u64,
    /// Of the stored, known to survive a loss of power.
    pub synced: u64,
    /// Records written for openings that the last process left behind.
    pub interrupted: u64,
    pub traces_dropped: u64,
    pub entries_refused: u64,
    pub queue_items: u64,
    pub queue_bytes: u64,
    pub failed: Option<Failure>,
    /// The last committed line.
    pub seq: u64,
    /// Appended since the start, commit lines included.
    pub journal_bytes: u64,
    pub batches: u64,
    pub syncs: u64,
    pub sync_seconds: f64,
    pub file_reopens: u64,
    /// Captured bodies appended, and lost for want of room or disk.
    pub bodies_stored: u64,
    pub bodies_lost: u64,
    pub bodies_bytes: u64,
}

impl Accounts {
    pub fn balance(&self) -> bool {
        self.accepted == self.stored + self.coalesced + self.lost.total() + self.in_flight
    }
}
