//! The audit tree as files: tiles and bundles as evidence, checkpoints signed
//! over them, and the signer's memory.
//!
//! Owns `DATA_DIR/tlog` (what auditors take with them) and `DATA_DIR/audit` (what
//! stays): see [`layout`]. Promises that nothing is signed before it was written,
//! synced and read back; that no checkpoint is published before the signer's
//! state says so on disk; and that the signer never signs a tree that has not
//! grown out of the one it signed last, whatever moment the process died at and
//! whoever changed the files. Must never know SQL, HTTP or what a leaf means
//! (but for the one that names the next key), and never repair evidence: what
//! contradicts the signer's state is said, not fixed.
//!
//! [`Writer`] is the one that changes files, under a lock; [`Reader`] needs
//! none, for files that a checkpoint covers do not change.

pub mod layout;
pub mod fs;
mod error;
mod files;
mod signer;
mod keys;
mod edge;
mod writer;
mod rotate;
mod reader;
mod sweep;
mod rebuild;
pub mod verify;

pub use error::{Error, Kind};
pub use keys::KeySource;
pub use reader::Reader;
pub use rebuild::{adopt_checkpoint, rebuild};
pub use signer::Refusal;
pub use writer::{APPEND_BYTES_MAX, APPEND_LEAVES_MAX, Config, Opened, Writer};
