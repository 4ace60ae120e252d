//! The use cases of the management side: what the API, the command line and
//! later the pages can do.
//!
//! Owns validation, who may touch which project, and the entry that each change
//! leaves. Promises that a change and its entry are one transaction, that the
//! token directory of this process knows of a change before the caller does,
//! and that no secret stands in a view other than the one that creates it. Must
//! never know HTTP: callers bring a [`access::Caller`] and get views back.

pub mod access;
pub mod credentials;
pub mod entered;
pub mod error;
pub mod fields;
pub mod keys;
pub mod levels;
pub mod ping;
pub mod projects;
pub mod reading;
pub mod segments;
pub mod tags;
pub mod story;
pub mod tokens;
pub mod validate;
pub mod verify;

use std::sync::Arc;

use domain::{audit::Action, ids::EntryId, rng::Rng, time::Clock};
use store::Store;
/// Words of the store that callers of use cases speak too.
pub use store::{Listing, ManagementKey, Page};

use crate::{directory::TokenDirectory, events::Events, trace::LevelControl};

use self::{
    credentials::Credentials,
    error::{Error, Kind},
};

/// What every use case works with.
pub struct Manage {
    pub store: Store,
    pub directory: Arc<TokenDirectory>,
    pub credentials: Credentials,
    pub levels: Arc<LevelControl>,
    pub segments: segments::Segments,
    pub reader: reading::Reader,
    pub events: Events,
    /// Looks that left their entry lately.
    pub said: entered::Said,
    /// `AUDIT_REQUIRE_REASON`.
    pub reasons_required: Vec<Action>,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    /// Whose key `api_key` is.
    pub default_provider: Arc<str>,
    /// The configured providers; a project holds keys for these only.
    pub providers: Vec<Arc<str>>,
}

/// What was done: the view of it and the entry that stands for it. A call that
/// changed nothing leaves no entry.
#[derive(Debug)]
pub struct Done<T> {
    pub view: T,
    pub entry: Option<EntryId>,
    pub version: u64,
}

impl From<store::Error> for Error {
    /// The text is the store's public one; its detail stays in the source.
    fn from(error: store::Error) -> Self {
        let kind = match error.kind() {
            store::ErrorKind::NotFound => Kind::NotFound,
            store::ErrorKind::Conflict => Kind::Duplicate,
            store::ErrorKind::Invalid => Kind::Invalid,
            store::ErrorKind::Unavailable => Kind::Unavailable,
            store::ErrorKind::AuditUnavailable => Kind::AuditUnavailable,
            store::ErrorKind::Corrupt | store::ErrorKind::Internal => Kind::Internal,
        };
        Self::new(kind, error.public().to_owned()).with_source(error)
    }
}

/// Refuses a change of something that is no longer what the caller read.
fn check_version(expected: Option<u64>, current: u64) -> error::Result<()> {
    if expected.is_none_or(|expected| expected == current) {
        return Ok(());
    }
    Err(Error::new(Kind::VersionConflict, "it was changed since you read it; read it again"))
}
