//! The journal: the append-only record of what happened, and its readers.
//!
//! Owns the files under `DATA_DIR/journal` (format: [`mod@format`]), their
//! recovery, cursors, checking and search. Promises that a line covered by a
//! commit line is read back exactly once and in order, whatever moment the
//! process died at, and that `accepted = stored + coalesced + lost + in flight`
//! at every reading. Must never know HTTP, tenancy rules or an SQL database;
//! it opens a directory offline.
//!
//! One thread writes ([`Journal`]); everything else reads committed batches
//! through [`scan::Scanner`], so there is one place that decides what is valid.
//! Closed files become segments ([`segment`]), which the [`catalog`] lists;
//! [`engine`] searches both, and [`foreign`] the lines of others.

pub mod catalog;
pub mod bodies;
pub mod check;
pub mod cursor;
pub mod engine;
pub mod foreign;
pub mod follow;
pub mod format;
pub mod fs;
mod journal;
mod lock;
mod queue;
mod recover;
pub mod replay;
pub mod scan;
pub mod segment;
mod writer;

pub use journal::{
    CloseReport, ClosedFiles, CommitObserver, Journal, JournalConfig, JournalError, Sync,
};
pub use lock::{DataDirLock, LockError};
pub use queue::{Accounts, Failure, Intake, Lost, NoRoom, Stored, Stream};
pub use recover::RecoveryReport;

/// Where the journal lies inside a data directory.
pub fn journal_dir(data_dir: &std::path::Path) -> std::path::PathBuf {
    data_dir.join("journal")
}
