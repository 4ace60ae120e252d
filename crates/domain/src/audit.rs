//! The audit entry: one canonical JSON leaf, and what it commits to.
//!
//! Owns the format of the leaf (version 1), its hash, the commitments of sealed
//! values and their openings. Promises that bytes which [`Leaf::parse`] accepts
//! are the only bytes for what they say, and that [`EntryDraft::seal`] makes
//! nothing else. Must never take a [`Secret`](crate::secret::Secret), never
//! re-serialise a stored leaf, and never change what version 1 means: the
//! hashes of every leaf ever written depend on it.
//!
//! A leaf is an RFC 8785 object of at most 16 KiB with closed ASCII keys and no
//! floats. Values that may name a person, and text that others wrote, do not
//! stand in it: they stand under `sealed` as salted commitments, and their
//! openings lie elsewhere, where they can be erased without breaking a proof.
//!
//! New actions and new details are added to version 1; a reader that does not
//! know one refuses the leaf by name. Anything else takes a new version.

mod action;
mod change;
mod detail;
mod draft;
pub mod inventory;
pub mod jcs;
mod leaf;
mod line;
mod sealing;
pub mod tree;
mod value;
pub mod verify;
mod view;

pub use self::{
    action::{Action, ActorKind, AuthMethod, Outcome, TargetKind},
    change::{Audited, Change, Field, FieldValue},
    detail::{Detail, DetailKey, DetailKind},
    draft::{Actor, DraftError, EntryContext, EntryDraft, Origin, SealedEntry},
    leaf::{Leaf, LeafError, LeafHash, leaf_hash},
    line::{parse_openings, write_line, write_openings},
    sealing::{Commitment, Opening, commitment},
    value::{TEXT_BYTES_MAX, Text, Value, WORD_BYTES_MAX, Word, is_deceptive},
    view::{ActorView, ChangeView, EntryView, TargetView},
};

/// The version that this build writes and reads.
pub const LEAF_VERSION: u64 = 1;
/// Bound of one leaf.
pub const LEAF_BYTES_MAX: usize = 16 * 1024;
/// Bound of one sealed value; what is longer is replaced by its length.
pub const SEALED_VALUE_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests;
