//! Where records, entries and traces are kept, and how they are found again: the
//! journal, sealed segments, and one search engine over both.
//!
//! Owns the files under `DATA_DIR/journal` (format: [`mod@format`]) and
//! `DATA_DIR/logs` ([`catalog`], [`segment`]), their recovery, cursors and
//! checking. Promises that a line covered by a commit line is read back exactly
//! once, whatever moment the process died at, and that
//! `accepted = stored + coalesced + lost + in flight` at every reading. Must
//! never know HTTP, tenancy rules or an SQL database; it opens a directory
//! offline.
//!
//! One thread writes ([`Journal`]); everything else reads committed batches
//! through [`scan::Scanner`], so there is one place that decides what is valid.
//! The sealer moves closed files into segments; [`engine`] answers from both, and
//! [`foreign`] asks the same questions of anybody's JSON lines.

pub mod catalog;
pub mod bodies;
pub mod check;
pub mod cursor;
pub mod engine;
pub mod foreign;
pub mod follow;
pub mod format;
pub mod fs;
mod accounts;
mod bundle;
mod journal;
mod lock;
mod queue;
mod recover;
pub mod notes;
pub mod replay;
pub mod scan;
pub mod segment;
mod writer;

pub use accounts::{Accounts, Failure, Lost};
pub use bundle::{Bundle, Until};
pub use journal::{
    CloseReport, ClosedFiles, CommitObserver, Incident, Journal, JournalConfig, JournalError, Sync,
};
pub use lock::{DataDirLock, LockError};
pub use queue::{Intake, NoRoom, Stored, Stream};
pub use recover::RecoveryReport;

/// Where the journal lies inside a data directory.
pub fn journal_dir(data_dir: &std::path::Path) -> std::path::PathBuf {
    data_dir.join("journal")
}
