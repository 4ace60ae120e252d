//! Entries that reach the database by the journal: those that were born there,
//! and those of ours that somebody took out of the database before they had
//! their index.
//!
//! The place up to which the journal was read commits with what was read, and a
//! producer's number is taken once, so reading a part again changes nothing.

use std::collections::BTreeSet;

use domain::{
    audit::{Leaf, Opening, leaf_hash},
    ids::InstanceId,
};

use super::{
    pending::{next_count, raise_producer},
    row::{self, Place},
};
use crate::{Store, dialect::Connection, error::Result, rows};

/// An entry as the journal has it.
#[derive(Clone, Debug)]
pub struct JournalEntry {
    /// The exact text of its leaf.
    pub leaf: String,
    /// Of those that were born there.
    pub openings: Vec<Opening>,
}

/// What became of entries from the journal.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Taken {
    /// New ones.
    pub inserted: u64,
    /// Of this process's transactions, which the database should have had.
    pub restored: u64,
    /// Ids of entries that the database had otherwise.
    pub altered: Vec<String>,
    /// Not leaves of this chain.
    pub foreign: u64,
}

impl Store {
    /// Up to where the journal of `instance` was read.
    pub async fn audit_cursor(&self, instance: &InstanceId) -> Result<u64> {
        let row = sqlx::query("SELECT seq FROM audit_cursor WHERE instance = ?")
            .bind(instance.as_str())
            .fetch_optional(self.readable()?)
            .await?;
        row.map_or(Ok(0), |row| rows::count(&row, "seq"))
    }

    /// Takes entries that the journal of `instance` holds up to line `seq`.
    pub async fn take_journal_entries(
        &self,
        instance: &InstanceId,
        entries: &[JournalEntry],
        seq: u64,
    ) -> Result<Taken> {
        let (mut tx, _gate) = self.begin_write().await?;
        let mut taken = Taken::default();
        for entry in entries {
            self.take(&mut tx, entry, &mut taken).await?;
        }
        move_cursor(&mut tx, instance, seq).await?;
        let left = sqlx::query("SELECT COUNT(*) AS n FROM audit_pending").fetch_one(&mut *tx);
        let left = rows::count(&left.await?, "n")?;
        tx.commit().await?;
        self.0.written.set_pending(left);
        Ok(taken)
    }

    /// Sets the place back to `seq` where it is beyond it: the journal ends
    /// there, and its next lines must be read.
    pub async fn rewind_audit_cursor(&self, instance: &InstanceId, seq: u64) -> Result<bool> {
        let (mut tx, _gate) = self.begin_write().await?;
        let moved = sqlx::query("UPDATE audit_cursor SET seq = ? WHERE instance = ? AND seq > ?")
            .bind(rows::stored(seq))
            .bind(instance.as_str())
            .bind(rows::stored(seq))
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(moved.rows_affected() > 0)
    }

    /// The last number that the database knows of a producer; 0 before the first.
    pub async fn producer_seq(&self, producer: &str) -> Result<u64> {
        let row = sqlx::query("SELECT seq FROM audit_producer WHERE producer = ?")
            .bind(producer)
            .fetch_optional(self.readable()?)
            .await?;
        row.map_or(Ok(0), |row| rows::count(&row, "seq"))
    }

    async fn take(
        &self,
        connection: &mut Connection,
        entry: &JournalEntry,
        taken: &mut Taken,
    ) -> Result<()> {
        let leaf = Leaf::parse(entry.leaf.as_bytes()).ok();
        let Some(leaf) = leaf.filter(|leaf| leaf.log == self.0.origin.log) else {
            taken.foreign += 1;
            return Ok(());
        };
        let hash = leaf_hash(entry.leaf.as_bytes());
        let own = leaf.producer.as_str() == self.0.origin.producer.as_str();
        match known(connection, &leaf).await? {
            Known::Sequenced(found) | Known::Waiting(found) if found == hash.to_string() => {
                return Ok(());
            }
            Known::Sequenced(_) => {
                taken.altered.push(leaf.id.to_string());
                return Ok(());
            }
            Known::Waiting(_) => {
                // It has no index yet: what the journal has takes its place.
                taken.altered.push(leaf.id.to_string());
                sqlx::query("DELETE FROM audit_pending WHERE producer = ? AND seq = ?")
                    .bind(leaf.producer.as_str())
                    .bind(rows::stored(leaf.seq))
                    .execute(&mut *connection)
                    .await?;
            }
            Known::Passed => return Ok(()),
            Known::No if own => taken.restored += 1,
            Known::No => taken.inserted += 1,
        }
        let position = next_count(connection, "pending").await?;
        let place = Place::Pending { position };
        row::insert(connection, place, &leaf, &entry.leaf, hash).await?;
        let id = leaf.id.to_string();
        let openings = openings_to_add(connection, &leaf, &entry.openings).await?;
        row::insert_openings(connection, &id, &openings).await?;
        raise_producer(connection, leaf.producer.as_str(), leaf.seq, 0).await
    }
}

/// What the database has under a producer's number: the hash of its leaf.
enum Known {
    Sequenced(String),
    Waiting(String),
    /// It had its index once and has left the table since.
    Passed,
    No,
}

async fn known(connection: &mut Connection, leaf: &Leaf) -> Result<Known> {
    for (statement, known) in [
        (
            "SELECT leaf, leaf_hash FROM audit_entry WHERE producer = ? AND seq = ?",
            Known::Sequenced as fn(String) -> Known,
        ),
        (
            "SELECT leaf, leaf_hash FROM audit_pending WHERE producer = ? AND seq = ?",
            Known::Waiting,
        ),
    ] {
        let row = sqlx::query(statement)
            .bind(leaf.producer.as_str())
            .bind(rows::stored(leaf.seq))
            .fetch_optional(&mut *connection)
            .await?;
        if let Some(row) = row {
            // Of the leaf itself: the column may say anything.
            return Ok(known(leaf_hash(rows::text(&row, "leaf")?.as_bytes()).to_string()));
        }
    }
    let sequenced = sqlx::query("SELECT sequenced FROM audit_producer WHERE producer = ?")
        .bind(leaf.producer.as_str())
        .fetch_optional(connection)
        .await?;
    let sequenced = sequenced.map_or(Ok(0), |row| rows::count(&row, "sequenced"))?;
    Ok(if leaf.seq <= sequenced { Known::Passed } else { Known::No })
}

/// Those that open a commitment of the leaf and are not there yet.
async fn openings_to_add(
    connection: &mut Connection,
    leaf: &Leaf,
    openings: &[Opening],
) -> Result<Vec<Opening>> {
    let found = sqlx::query("SELECT path FROM audit_opening WHERE entry_id = ?")
        .bind(leaf.id.to_string())
        .fetch_all(connection)
        .await?;
    let there = found.iter().map(|row| rows::text(row, "path")).collect::<Result<BTreeSet<_>>>()?;
    let opens = |opening: &&Opening| {
        let commitment = leaf.sealed.get(&opening.path);
        !there.contains(&opening.path) && commitment.is_some_and(|it| opening.open(it).is_some())
    };
    Ok(openings.iter().filter(opens).cloned().collect())
}

async fn move_cursor(connection: &mut Connection, instance: &InstanceId, seq: u64) -> Result<()> {
    let known = sqlx::query("SELECT seq FROM audit_cursor WHERE instance = ?")
        .bind(instance.as_str())
        .fetch_optional(&mut *connection)
        .await?;
    let statement = match known {
        None => "INSERT INTO audit_cursor (seq, instance) VALUES (?, ?)",
        Some(row) if rows::count(&row, "seq")? >= seq => return Ok(()),
        Some(_) => "UPDATE audit_cursor SET seq = ? WHERE instance = ?",
    };
    sqlx::query(statement)
        .bind(rows::stored(seq))
        .bind(instance.as_str())
        .execute(connection)
        .await?;
    Ok(())
}
