//! Which files hold which lines: the catalog of sealed segments, and the steps
//! that move lines from the journal into them and out of them.
//!
//! Owns `DATA_DIR/logs/v1` ([`naming`]): its manifests, which files count, when
//! they are merged, dropped and rewritten. Promises that every committed line is
//! in exactly one place at any moment of a crash: it is read from the journal if
//! its number is beyond the manifest's `sealed_to`, from the listed segments
//! otherwise. Every change is one manifest put in place of another; whatever a
//! crash leaves besides is found and removed by the next writer. Readers take a
//! [`Snapshot`] and lock nothing; one process writes, by the lock of the data
//! directory, on one thread at a time. Must never know what a query is.
//!
//! The steps of sealing one closed journal file: segments and side indexes under
//! temporary names, synced; renamed; directories synced; manifest; and only then
//! the journal file is removed, once every required cursor is past it.

mod adopt;
pub mod books;
mod compact;
mod erase;
pub mod event;
mod files;
pub mod manifest;
mod merge;
pub mod naming;
pub mod rebuild;
mod retain;
mod seal;
mod sealer;
mod snapshot;
mod store;
mod sums;
pub mod verify;

use std::{
    io,
    path::{Path, PathBuf},
};

pub use adopt::{AdoptReport, strangers};
pub use books::{Books, PerDataset};
pub use compact::CompactReport;
pub use erase::{Erase, EraseReport};
pub use event::{CatalogEvent, CatalogObserver, EventKind};
pub use manifest::{Manifest, SealedFile, sealed_to};
pub use retain::{Hold, Policy, PruneReport};
pub use seal::SealReport;
pub use sealer::{Sealer, SealerConfig};
pub(crate) use snapshot::beyond;
pub use snapshot::{HotPart, SegmentRef, Snapshot, snapshot};
pub use store::{Catalog, CatalogConfig, CatalogFigures};
pub use sums::{SealedSum, sums};

use crate::segment::SegmentError;

/// Something that keeps a reader from everything, or that repair met.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    pub path: PathBuf,
    pub what: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

/// Why the catalog cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error("{operation} {path}")]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// What was written is not what was read.
    #[error("{path}: {what}")]
    Contradiction { path: PathBuf, what: String },
    #[error("it was told to stop")]
    Stopped,
    #[error("open the journal of {instance}")]
    Journal { instance: String, source: Box<crate::JournalError> },
    #[error("the journal did not begin a new file in time")]
    NotTurned,
}

impl CatalogError {
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { operation, path, source }
    }
}
