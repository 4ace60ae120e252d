//! Rows made anew from the tiles: after the database was lost, or came back
//! from an older copy of itself.

use domain::audit::{Leaf, leaf_hash};

use super::{
    pending::raise_producer,
    row::{self, Place},
};
use crate::{
    Store,
    dialect::Connection,
    error::{Error, Result},
    rows,
};

/// What restoring rows did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Restored {
    /// Rows that were as they should be.
    pub kept: u64,
    pub added: u64,
    pub replaced: u64,
    /// Rows beyond the tree, and waiting ones that have their index.
    pub removed: u64,
}

impl Store {
    /// Makes the rows from `index` on what these leaves of the tree say.
    pub async fn restore_entries(&self, index: u64, leaves: &[String]) -> Result<Restored> {
        let (mut tx, _gate) = self.begin_write().await?;
        let mut restored = Restored::default();
        for (index, text) in (index..).zip(leaves) {
            let leaf = Leaf::parse(text.as_bytes()).map_err(|error| {
                Error::corrupt(format!("the leaf {index} of the tree cannot be read"))
                    .with_source(error)
            })?;
            if leaf.log != self.0.origin.log {
                return Err(Error::invalid(format!(
                    "the tree belongs to {}, not to this database",
                    leaf.log
                )));
            }
            restore(&mut tx, index, &leaf, text, &mut restored).await?;
        }
        tx.commit().await?;
        Ok(restored)
    }

    /// Ends a restoration: the tree has `size` leaves, and no row is beyond it.
    pub async fn restore_size(&self, size: u64) -> Result<u64> {
        let (mut tx, _gate) = self.begin_write().await?;
        let removed = sqlx::query("DELETE FROM audit_entry WHERE idx >= ?")
            .bind(rows::stored(size))
            .execute(&mut *tx)
            .await?;
        sqlx::query("DELETE FROM audit_checkpoint WHERE size > ?")
            .bind(rows::stored(size))
            .execute(&mut *tx)
            .await?;
        sqlx::query("UPDATE audit_chain SET size = ?, epoch = epoch + 1 WHERE name = 'main'")
            .bind(rows::stored(size))
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        self.0.written.set_pending(self.audit_pending().await?);
        Ok(removed.rows_affected())
    }
}

async fn restore(
    connection: &mut Connection,
    index: u64,
    leaf: &Leaf,
    text: &str,
    restored: &mut Restored,
) -> Result<()> {
    let waiting = sqlx::query("DELETE FROM audit_pending WHERE producer = ? AND seq = ?")
        .bind(leaf.producer.as_str())
        .bind(rows::stored(leaf.seq))
        .execute(&mut *connection)
        .await?;
    restored.removed += waiting.rows_affected();
    raise_producer(connection, leaf.producer.as_str(), leaf.seq, leaf.seq).await?;
    let hash = leaf_hash(text.as_bytes());
    if is_there(connection, index, leaf, text).await? {
        restored.kept += 1;
        return Ok(());
    }
    let wrong = sqlx::query(
        "DELETE FROM audit_entry WHERE idx = ? OR id = ? OR (producer = ? AND seq = ?)",
    )
    .bind(rows::stored(index))
    .bind(leaf.id.to_string())
    .bind(leaf.producer.as_str())
    .bind(rows::stored(leaf.seq))
    .execute(&mut *connection)
    .await?;
    match wrong.rows_affected() {
        0 => restored.added += 1,
        _ => restored.replaced += 1,
    }
    row::insert(connection, Place::Sequenced { index }, leaf, text, hash).await
}

/// Whether the row of an index says in every column what the leaf says.
async fn is_there(
    connection: &mut Connection,
    index: u64,
    leaf: &Leaf,
    text: &str,
) -> Result<bool> {
    let row =
        sqlx::query(row::SELECT_ENTRY).bind(rows::stored(index)).fetch_optional(connection).await?;
    match row {
        None => Ok(false),
        Some(row) => row::says(&row, leaf, text),
    }
}
