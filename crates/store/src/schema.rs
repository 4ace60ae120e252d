//! Migrations, embedded and applied in order, each in a transaction.
//!
//! A migration that has been released never changes: its checksum is stored and
//! compared. A database of a newer release is refused, not guessed at.

use domain::time::{Clock, Timestamp};
use sha2::{Digest, Sha256};
use sqlx::Row as _;

use crate::{
    dialect::{self, Connection, Pool},
    error::{Error, Result},
    rows,
};

struct Migration {
    version: i64,
    name: &'static str,
    sql: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "first", sql: include_str!("../migrations/0001_first.sql") },
    Migration { version: 2, name: "audit", sql: include_str!("../migrations/0002_audit.sql") },
    Migration {
        version: 3,
        name: "token_networks",
        sql: include_str!("../migrations/0003_token_networks.sql"),
    },
];

const CREATE_HISTORY: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (\
    version BIGINT NOT NULL PRIMARY KEY, name VARCHAR(64) NOT NULL, \
    checksum VARCHAR(64) NOT NULL, applied_at BIGINT NOT NULL)";

/// One migration and when it was applied, if it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MigrationStatus {
    pub version: u64,
    pub name: String,
    pub applied_at: Option<Timestamp>,
}

/// Applies what is missing; returns every migration with its time.
pub(crate) async fn migrate(pool: &Pool, clock: &dyn Clock) -> Result<Vec<MigrationStatus>> {
    // Most starts have nothing to do and need no write lock.
    let current = status(pool).await?;
    if current.iter().all(|migration| migration.applied_at.is_some()) {
        return Ok(current);
    }
    let mut tx = pool.begin_with(dialect::BEGIN_WRITE).await?;
    sqlx::query(CREATE_HISTORY).execute(&mut *tx).await?;
    let applied = applied(&mut tx).await?;
    for migration in MIGRATIONS.iter().skip(applied.len()) {
        apply(&mut tx, migration, clock.now()).await?;
    }
    tx.commit().await?;
    status(pool).await
}

/// What is applied, without changing anything.
pub(crate) async fn status(pool: &Pool) -> Result<Vec<MigrationStatus>> {
    let mut connection = pool.acquire().await?;
    let applied = match applied(&mut connection).await {
        Ok(applied) => applied,
        // A new database has no history; any other failure stands.
        Err(_) if is_empty(&mut connection).await? => Vec::new(),
        Err(error) => return Err(error),
    };
    let status = MIGRATIONS.iter().enumerate().map(|(at, migration)| MigrationStatus {
        version: migration.version.unsigned_abs(),
        name: migration.name.to_owned(),
        applied_at: applied.get(at).copied(),
    });
    Ok(status.collect())
}

/// The only question to the database's own catalogue.
async fn is_empty(connection: &mut Connection) -> Result<bool> {
    let row = sqlx::query("SELECT COUNT(*) AS n FROM sqlite_master").fetch_one(connection).await?;
    Ok(row.try_get::<i64, _>("n")? == 0)
}

/// The times of the applied migrations, which must be a prefix of ours.
async fn applied(connection: &mut Connection) -> Result<Vec<Timestamp>> {
    let rows =
        sqlx::query("SELECT version, checksum, applied_at FROM schema_migrations ORDER BY version")
            .fetch_all(connection)
            .await?;
    let mut times = Vec::with_capacity(rows.len());
    for (at, row) in rows.iter().enumerate() {
        let version: i64 = row.try_get("version")?;
        let Some(known) = MIGRATIONS.get(at) else {
            return Err(Error::invalid(format!(
                "the database has migration {version}, which this release does not know: \
                 it was used by a newer one"
            )));
        };
        let checksum: String = row.try_get("checksum")?;
        if version != known.version || checksum != checksum_of(known) {
            return Err(Error::corrupt(format!(
                "migration {version} of the database is not the one of this release"
            )));
        }
        times.push(rows::time(row, "applied_at")?);
    }
    Ok(times)
}

async fn apply(connection: &mut Connection, migration: &Migration, now: Timestamp) -> Result<()> {
    // One statement at a time: not every driver takes several.
    for statement in migration.sql.split(";\n").map(str::trim).filter(|text| !text.is_empty()) {
        sqlx::query(statement).execute(&mut *connection).await?;
    }
    sqlx::query(
        "INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES (?, ?, ?, ?)",
    )
    .bind(migration.version)
    .bind(migration.name)
    .bind(checksum_of(migration))
    .bind(now.as_micros())
    .execute(connection)
    .await?;
    Ok(())
}

fn checksum_of(migration: &Migration) -> String {
    rows::hex(&Sha256::digest(migration.sql))
}
