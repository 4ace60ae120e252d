//! Counters and cursors: rows that change with every request and tell nobody.
//! The tables of [`AuditedTx`](crate::AuditedTx) cannot be named from here.

use domain::{
    ids::{InstanceId, TokenId},
    time::Timestamp,
};
use tokio::sync::OwnedMutexGuard;

use crate::{Store, dialect::Transaction, error::Result, rows};

/// Uses of one token since the last report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    pub token_id: TokenId,
    pub count: u64,
    pub last_used_at: Timestamp,
}

/// A transaction over counters and cursors. Dropping it changes nothing.
#[must_use = "what it did is lost unless it is committed"]
pub struct OperationalTx {
    tx: Transaction,
    _gate: OwnedMutexGuard<()>,
}

impl std::fmt::Debug for OperationalTx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OperationalTx")
    }
}

impl OperationalTx {
    pub(crate) fn new(tx: Transaction, gate: OwnedMutexGuard<()>) -> Self {
        Self { tx, _gate: gate }
    }

    /// Adds uses that the journal of `instance` holds up to `seq`, once: a
    /// position that is not newer than the last one changes nothing and
    /// returns false. Tokens that do not exist are passed over.
    pub async fn add_usage(
        &mut self,
        uses: &[Usage],
        instance: &InstanceId,
        seq: u64,
    ) -> Result<bool> {
        if !self.advance(instance, seq).await? {
            return Ok(false);
        }
        for used in uses {
            let at = used.last_used_at.as_micros();
            sqlx::query(
                "UPDATE token_usage SET request_count = request_count + ?, last_used_at = \
                 CASE WHEN last_used_at > ? THEN last_used_at ELSE ? END WHERE token_id = ?",
            )
            .bind(rows::stored(used.count))
            .bind(at)
            .bind(at)
            .bind(used.token_id.to_string())
            .execute(&mut *self.tx)
            .await?;
        }
        Ok(true)
    }

    /// Moves the cursor, if `seq` is newer.
    async fn advance(&mut self, instance: &InstanceId, seq: u64) -> Result<bool> {
        let moved = sqlx::query("UPDATE usage_cursor SET seq = ? WHERE instance = ? AND seq < ?")
            .bind(rows::stored(seq))
            .bind(instance.as_str())
            .bind(rows::stored(seq))
            .execute(&mut *self.tx)
            .await?;
        if moved.rows_affected() > 0 {
            return Ok(true);
        }
        let known = sqlx::query("SELECT seq FROM usage_cursor WHERE instance = ?")
            .bind(instance.as_str())
            .fetch_optional(&mut *self.tx)
            .await?;
        if known.is_some() || seq == 0 {
            return Ok(false);
        }
        sqlx::query("INSERT INTO usage_cursor (instance, seq) VALUES (?, ?)")
            .bind(instance.as_str())
            .bind(rows::stored(seq))
            .execute(&mut *self.tx)
            .await?;
        Ok(true)
    }

    /// Sets the cursor back to `seq` where it is beyond it: the journal ends
    /// there, and its next lines must count. Says whether it was beyond.
    pub async fn rewind_usage(&mut self, instance: &InstanceId, seq: u64) -> Result<bool> {
        let moved = sqlx::query("UPDATE usage_cursor SET seq = ? WHERE instance = ? AND seq > ?")
            .bind(rows::stored(seq))
            .bind(instance.as_str())
            .bind(rows::stored(seq))
            .execute(&mut *self.tx)
            .await?;
        Ok(moved.rows_affected() > 0)
    }

    pub async fn commit(self) -> Result<()> {
        Ok(self.tx.commit().await?)
    }
}

impl Store {
    /// Up to where the journal of `instance` is counted; 0 before the first.
    pub async fn usage_position(&self, instance: &InstanceId) -> Result<u64> {
        let row = sqlx::query("SELECT seq FROM usage_cursor WHERE instance = ?")
            .bind(instance.as_str())
            .fetch_optional(&self.0.pool)
            .await?;
        row.map_or(Ok(0), |row| rows::count(&row, "seq"))
    }
}
