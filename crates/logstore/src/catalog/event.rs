//! What the catalog did, for whoever must write it down.
//!
//! An event is kept in the manifest that made it true until an observer says
//! that it has it, so that none is lost with the process; one may be told twice,
//! and its file and checksum say that it is the same.

use serde::{Deserialize, Serialize};

/// What happened to a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    Sealed,
    Compacted,
    Pruned,
    Erased,
}

/// One segment came, went or took the place of others.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CatalogEvent {
    pub kind: EventKind,
    pub dataset: String,
    /// Relative to `logs/v1`. Of an erasure that left nothing: the old file.
    pub file: String,
    /// Rows of the segment; of an erasure, rows that are gone.
    pub rows: u64,
    pub bytes: u64,
    pub sha256: String,
    pub instance: String,
    pub first_seq: u64,
    pub last_seq: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<String>,
}

/// Told of every event, on the catalog's thread. May block for a while.
pub trait CatalogObserver: Send + Sync {
    /// True once the event is safe elsewhere; otherwise it is told again later.
    fn told(&self, event: &CatalogEvent) -> bool;
}

/// For whoever wants to be told nothing.
impl CatalogObserver for () {
    fn told(&self, _event: &CatalogEvent) -> bool {
        true
    }
}
