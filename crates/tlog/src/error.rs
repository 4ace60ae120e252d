//! What can go wrong with the files of the tree, by what to do about it.

use std::{
    io,
    path::{Path, PathBuf},
};

use domain::audit::tree::{
    BundleError, CheckpointError, KeyError, KeyringError, NoteError, ProofError, ReceiptError,
    TileError,
};

use crate::signer::Refusal;

/// Reactions to an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Open the writer again, later.
    Unavailable,
    /// The caller asked for what cannot be.
    Invalid,
    /// The files contradict each other or themselves: a person must look.
    Corrupt,
    /// Signing would contradict what was signed: a person must look.
    Refused,
}

/// An error of the tree. Each names its file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{action} {path}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("lock {path}: another process writes this audit tree")]
    Taken { path: PathBuf },
    #[error("an earlier write of the audit tree failed; it must be opened again")]
    Stale,
    #[error("the next leaf of the audit tree is {size}, not {first}")]
    NotNext { first: u64, size: u64 },
    #[error("a batch of {leaves} leaves and {bytes} bytes is empty or too large")]
    Batch { leaves: usize, bytes: usize },
    #[error("leaf {index} of the audit tree cannot be kept")]
    Leaf { index: u64, source: BundleError },
    #[error("{path} is missing, though {because}")]
    Missing { path: PathBuf, because: String },
    #[error("{path} is not what was written to it")]
    ReadBack { path: PathBuf },
    #[error("{path}: {what}")]
    Damaged { path: PathBuf, what: String },
    #[error("{path} is malformed")]
    Malformed { path: PathBuf, source: Malformed },
    #[error("{path} is of a tree of {found}, the signer has signed one of {signed}")]
    Behind { path: PathBuf, found: u64, signed: u64 },
    #[error("the tiles in {path} have another root than the one that was signed at size {size}")]
    OtherRoot { path: PathBuf, size: u64 },
    #[error("the tree in {path} is signed by {expected}, and the key at hand is {found}")]
    OtherKey { path: PathBuf, expected: String, found: String },
    #[error("the configured audit signing key cannot be used")]
    Key(#[source] KeyError),
    #[error("the signer refuses")]
    Refused(#[from] Refusal),
    #[error("leaf {index} does not name {key} as the next key")]
    NotNamed { index: u64, key: String },
    #[error("no key is prepared to follow")]
    NothingPrepared,
    #[error("the key cannot follow")]
    Keyring(#[source] KeyringError),
    #[error("prove that the audit tree has grown")]
    Proof(#[from] ProofError),
}

/// Why the content of a file is not what its name says.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub enum Malformed {
    Checkpoint(#[from] CheckpointError),
    Note(#[from] NoteError),
    Bundle(#[from] BundleError),
    Tile(#[from] TileError),
    Key(#[from] KeyError),
    Keyring(#[from] KeyringError),
    Receipt(#[from] ReceiptError),
    Json(#[from] serde_json::Error),
    Text(#[from] std::str::Utf8Error),
}

impl Error {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Io { .. } | Self::Taken { .. } | Self::Stale => Kind::Unavailable,
            Self::NotNext { .. }
            | Self::Batch { .. }
            | Self::Leaf { .. }
            | Self::Key(_)
            | Self::OtherKey { .. }
            | Self::NotNamed { .. }
            | Self::NothingPrepared
            | Self::Keyring(_) => Kind::Invalid,
            Self::Missing { .. }
            | Self::ReadBack { .. }
            | Self::Damaged { .. }
            | Self::Malformed { .. }
            | Self::Behind { .. }
            | Self::OtherRoot { .. }
            | Self::Proof(_) => Kind::Corrupt,
            Self::Refused(_) => Kind::Refused,
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }

    pub(crate) fn missing(path: &Path, because: impl Into<String>) -> Self {
        Self::Missing { path: path.to_owned(), because: because.into() }
    }

    pub(crate) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.into() }
    }

    pub(crate) fn malformed(path: &Path, source: impl Into<Malformed>) -> Self {
        Self::Malformed { path: path.to_owned(), source: source.into() }
    }
}
