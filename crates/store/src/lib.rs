//! Projects, tokens, management keys, settings, and the audit tables beside
//! them, in one SQL database.
//!
//! Owns the only SQL of the product, its migrations, provider keys at rest and
//! the dense numbers of audit entries. Promises that a governed row changes only
//! inside an [`AuditedTx`], which has no way out but a commit with at least one
//! entry in the same transaction; that a lookup returns `None` for what is not
//! there and an error only when it could not look; and that a database that is
//! locked, gone or read-only is an [`ErrorKind::Unavailable`] within bounded
//! time. Must never show a decrypted key to anything that prints, never write a
//! token, and never make a new encryption key where an old one is missing.
//!
//! Writes take the time and the randomness that the store was opened with, one
//! time for all rows and entries of a transaction. Statements are one text for
//! every database (`docs/adr/0010-sql.md`); what differs is in `dialect`.

mod error;

mod model;

mod store;

mod crypto;

mod dialect;

mod schema;

mod rows;

mod read;

mod directory;

mod audit;

mod tx;

mod operational;

mod credentials;

pub use self::{
    audit::{
        ChainState, EntryFilter, Gap, JournalEntry, Lead, PENDING_MAX, Remembered, Restored,
        Sequenced, SequencedEntry, Stored, StoredRow, Taken,
    },
    credentials::{TAG_PERIODS_KEPT, TOKEN_NETWORKS_MAX, Use},
    crypto::EncryptionKeys,
    directory::{ChangedId, Changes, DirectoryRow, LOOKUP_MAX},
    error::{Error, ErrorKind, Result},
    model::{
        Listing, ManagementKey, ManagementKeyPatch, NewManagementKey, NewProject, NewToken,
        PAGE_LIMIT_MAX, Page, Project, ProjectFilter, ProjectPatch, ProviderKeyRow, Setting,
        TokenFilter, TokenPatch, TokenRow, Updated,
    },
    operational::{OperationalTx, Usage},
    schema::MigrationStatus,
    store::{Options, Store},
    tx::{AuditedTx, Committed, Entries, RevokedBatch},
};
