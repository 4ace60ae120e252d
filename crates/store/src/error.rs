//! The one error of this crate: a kind to react to, a text that a client may
//! see, and a source for operators.

use std::{borrow::Cow, error::Error as StdError, fmt};

pub type Result<T> = std::result::Result<T, Error>;

/// What the caller can do about it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ErrorKind {
    /// There is no such row.
    NotFound,
    /// The name is taken, or somebody else changed the row first.
    Conflict,
    /// The input or the configuration is wrong.
    Invalid,
    /// The database cannot be used now; later it may.
    Unavailable,
    /// The entry that a change needs cannot be promised now; later it may.
    AuditUnavailable,
    /// What is stored cannot be right: damaged, tampered with, or by a key that
    /// is not here.
    Corrupt,
    /// A mistake of ours.
    Internal,
}

/// An error of the store. `Display` tells this level only and holds nothing
/// that a client may not see; the source is for operators.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: Cow<'static, str>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub(crate) fn with_source(self, source: impl StdError + Send + Sync + 'static) -> Self {
        Self { source: Some(Box::new(source)), ..self }
    }

    pub(crate) fn not_found(what: &'static str) -> Self {
        Self::new(ErrorKind::NotFound, format!("{what} not found"))
    }

    pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    pub(crate) fn conflict(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    pub(crate) fn corrupt(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    pub(crate) fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The text for a client.
    pub fn public(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let (kind, message) = classify(&error);
        Self::new(kind, message).with_source(error)
    }
}

fn classify(error: &sqlx::Error) -> (ErrorKind, &'static str) {
    use sqlx::Error as Sql;
    match error {
        Sql::Database(database) => crate::dialect::classify(database.as_ref()),
        Sql::PoolTimedOut => (ErrorKind::Unavailable, "no database connection became free"),
        Sql::PoolClosed => (ErrorKind::Unavailable, "the database is closed"),
        Sql::Io(_) | Sql::WorkerCrashed | Sql::BeginFailed => {
            (ErrorKind::Unavailable, "the database does not answer")
        }
        Sql::ColumnDecode { .. } | Sql::Decode(_) => {
            (ErrorKind::Corrupt, "a stored value cannot be read")
        }
        _ => (ErrorKind::Internal, "a database statement failed"),
    }
}
