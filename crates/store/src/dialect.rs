//! What differs between databases, all in one place. Today: SQLite.
//!
//! Statements elsewhere are portable: `?` placeholders, no `RETURNING`, no
//! upsert, text and 64-bit integers only. A second database adds its own
//! connect options, its own `begin` that takes the locks, its own error codes,
//! and a translation of `?`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    ConnectOptions, Sqlite,
    error::DatabaseError,
    pool::PoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use crate::{
    error::{Error, ErrorKind, Result},
    store::Options,
};

pub(crate) type Db = Sqlite;
pub(crate) type Pool = sqlx::Pool<Db>;
pub(crate) type Connection = sqlx::SqliteConnection;
pub(crate) type Transaction = sqlx::Transaction<'static, Db>;
pub(crate) type Row = sqlx::sqlite::SqliteRow;

/// Statements stay prepared; there are fewer than this.
const STATEMENT_CACHE: usize = 128;
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The write lock is taken at once, so that what a transaction reads cannot
/// change before it writes.
pub(crate) const BEGIN_WRITE: &str = "BEGIN IMMEDIATE";

pub(crate) async fn connect(options: &Options) -> Result<(Pool, FileIdentity)> {
    if options.create {
        create_private(&options.path)?;
    }
    let identity = FileIdentity::of(&options.path)?;
    let connect = SqliteConnectOptions::new()
        .filename(&options.path)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(options.wait_max)
        .statement_cache_capacity(STATEMENT_CACHE)
        .pragma("trusted_schema", "OFF")
        .pragma("temp_store", "MEMORY")
        .disable_statement_logging();
    let pool = PoolOptions::new()
        .max_connections(options.pool_size.max(1))
        .min_connections(0)
        .acquire_timeout(options.wait_max)
        .idle_timeout(IDLE_TIMEOUT)
        .test_before_acquire(false)
        .connect_with(connect)
        .await
        .map_err(|error| {
            let kind = Error::from(error);
            let message = format!("the database cannot be opened: {}", kind.public());
            Error::new(kind.kind(), message).with_source(kind)
        })?;
    Ok((pool, identity))
}

/// Reaction and text for an error code of the database.
pub(crate) fn classify(error: &dyn DatabaseError) -> (ErrorKind, &'static str) {
    if error.is_unique_violation() {
        return (ErrorKind::Conflict, "a row with this name or id exists");
    }
    // The low byte is the primary code, the rest says which way it came about.
    let code = error.code().and_then(|code| code.parse::<u32>().ok()).unwrap_or(0) & 0xff;
    match code {
        5 | 6 => (ErrorKind::Unavailable, "the database is locked"),
        8 => (ErrorKind::Unavailable, "the database is read-only"),
        10 => (ErrorKind::Unavailable, "the database file cannot be read or written"),
        13 => (ErrorKind::Unavailable, "the disk of the database is full"),
        14 => (ErrorKind::Unavailable, "the database file cannot be opened"),
        11 | 26 => (ErrorKind::Corrupt, "the database file is damaged"),
        _ => (ErrorKind::Internal, "a database statement failed"),
    }
}

/// Which file a path named when it was opened. SQLite goes on writing into a
/// file that has been unlinked, and everything written there is lost.
#[derive(Clone, Debug)]
pub(crate) struct FileIdentity {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl FileIdentity {
    fn of(path: &Path) -> Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(path).map_err(|error| {
            Error::unavailable("the database file does not exist or cannot be opened")
                .with_source(error)
        })?;
        Ok(Self { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() })
    }

    /// Fails once the path names another file, or none.
    pub(crate) fn check(&self) -> Result<()> {
        let now = Self::of(&self.path)
            .map_err(|error| Error::unavailable("the database file is gone").with_source(error))?;
        if (now.device, now.inode) == (self.device, self.inode) {
            Ok(())
        } else {
            Err(Error::unavailable("the database file has been replaced"))
        }
    }
}

/// Creates the file for its owner only, and takes rights of others away from
/// one that exists. The files beside it (`-wal`, `-shm`) get the same mode.
fn create_private(path: &Path) -> Result<()> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let failed = |error| {
        Error::unavailable("the database file cannot be created or opened").with_source(error)
    };
    let mut open = std::fs::OpenOptions::new();
    match open.write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        let private = std::fs::Permissions::from_mode(mode & 0o700);
        std::fs::set_permissions(path, private).map_err(failed)?;
    }
    Ok(())
}
