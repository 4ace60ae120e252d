//! Entries on their way: numbered and written with their change.

use domain::audit::SealedEntry;

use super::row::{self, Place};
use crate::{dialect::Connection, error::Result, rows};

/// Takes the next number of a producer. It is given back if the transaction
/// ends without a commit, so the numbers that exist have no gap.
pub(crate) async fn next_seq(connection: &mut Connection, producer: &str) -> Result<u64> {
    let updated = sqlx::query("UPDATE audit_producer SET seq = seq + 1 WHERE producer = ?")
        .bind(producer)
        .execute(&mut *connection)
        .await?;
    if updated.rows_affected() == 0 {
        sqlx::query("INSERT INTO audit_producer (producer, seq, sequenced) VALUES (?, 1, 0)")
            .bind(producer)
            .execute(&mut *connection)
            .await?;
    }
    let row = sqlx::query("SELECT seq FROM audit_producer WHERE producer = ?")
        .bind(producer)
        .fetch_one(connection)
        .await?;
    rows::count(&row, "seq")
}

/// Raises a producer's last number, and up to where it is sequenced.
pub(super) async fn raise_producer(
    connection: &mut Connection,
    producer: &str,
    seq: u64,
    sequenced: u64,
) -> Result<()> {
    let known = sqlx::query("SELECT seq FROM audit_producer WHERE producer = ?")
        .bind(producer)
        .fetch_optional(&mut *connection)
        .await?;
    if known.is_none() {
        sqlx::query("INSERT INTO audit_producer (producer, seq, sequenced) VALUES (?, 0, 0)")
            .bind(producer)
            .execute(&mut *connection)
            .await?;
    }
    for (statement, number) in [
        ("UPDATE audit_producer SET seq = ? WHERE producer = ? AND seq < ?", seq),
        ("UPDATE audit_producer SET sequenced = ? WHERE producer = ? AND sequenced < ?", sequenced),
    ] {
        sqlx::query(statement)
            .bind(rows::stored(number))
            .bind(producer)
            .bind(rows::stored(number))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Takes the next number of a counter of ours.
pub(crate) async fn next_count(connection: &mut Connection, name: &'static str) -> Result<u64> {
    sqlx::query("UPDATE counters SET value = value + 1 WHERE name = ?")
        .bind(name)
        .execute(&mut *connection)
        .await?;
    let row = sqlx::query("SELECT value FROM counters WHERE name = ?")
        .bind(name)
        .fetch_one(connection)
        .await?;
    rows::count(&row, "value")
}

pub(crate) async fn insert(connection: &mut Connection, entry: &SealedEntry) -> Result<()> {
    let position = next_count(connection, "pending").await?;
    let place = Place::Pending { position };
    row::insert(connection, place, &entry.leaf, &entry.text, entry.hash).await?;
    row::insert_openings(connection, &entry.leaf.id.to_string(), &entry.openings).await
}
