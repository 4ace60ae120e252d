//! Indexes in the tree: given in the order in which entries were committed, by
//! the one sequencer that holds the chain's epoch and knows its size.
//!
//! The lease only keeps two sequencers from working against each other; what
//! makes a second one harmless is the comparison of epoch and size in the
//! transaction that gives the indexes.

use std::{collections::BTreeMap, time::Duration};

use domain::{
    audit::{Leaf, leaf_hash},
    ids::EntryId,
    time::Timestamp,
};

use super::row::{self, Place};
use crate::{
    Store,
    dialect::{Connection, Row},
    error::{Error, Result},
    rows,
};

/// Published checkpoints that are remembered; the tiles have the newest, and
/// who wants older ones keeps them elsewhere.
const CHECKPOINTS_KEPT: i64 = 256;

/// The chain as the database has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChainState {
    pub epoch: u64,
    pub holder: String,
    pub held_until: Timestamp,
    /// Entries with an index.
    pub size: u64,
    /// Entries before this index have left the table, as retention wants it.
    pub pruned_to: u64,
    /// The newest checkpoint that was published.
    pub published: Option<Remembered>,
}

/// A checkpoint that was published.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remembered {
    pub size: u64,
    /// Lower-case hexadecimal.
    pub root: String,
    pub at: Timestamp,
    /// The signed note.
    pub note: String,
}

/// The answer to whoever wants to sequence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Lead {
    Leading { epoch: u64, size: u64 },
    Following { holder: String, until: Timestamp },
}

/// Numbers of a producer that no row has, or that come a second time: somebody
/// took rows away, or put some there.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Gap {
    pub producer: String,
    pub expected: u64,
    pub found: u64,
}

/// What a round did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sequenced {
    Done {
        size: u64,
        moved: u64,
        gaps: Vec<Gap>,
        /// Rows that are not what was written; they are set aside.
        damaged: Vec<String>,
    },
    /// Another sequencer has taken over.
    Lost,
}

impl Store {
    pub async fn audit_chain(&self) -> Result<ChainState> {
        let mut tx = self.readable()?.begin().await?;
        chain(&mut tx).await
    }

    /// Takes the lease, or renews it for whoever has `epoch`. A holder of the
    /// same name is this one before it was started again.
    pub async fn lead(&self, holder: &str, held: Duration, epoch: Option<u64>) -> Result<Lead> {
        let (mut tx, _gate) = self.begin_write().await?;
        let now = self.0.clock.now();
        let chain = chain(&mut tx).await?;
        let is_ours = epoch == Some(chain.epoch) && chain.holder == holder;
        let is_free = chain.holder.is_empty() || chain.held_until <= now;
        let begins = epoch.is_none() && chain.holder == holder;
        if !(is_ours || is_free || begins) {
            return Ok(Lead::Following { holder: chain.holder, until: chain.held_until });
        }
        let epoch = if is_ours { chain.epoch } else { chain.epoch + 1 };
        let until = now.plus_micros(i64::try_from(held.as_micros()).unwrap_or(i64::MAX));
        sqlx::query(
            "UPDATE audit_chain SET epoch = ?, holder = ?, held_until = ? WHERE name = 'main'",
        )
        .bind(rows::stored(epoch))
        .bind(holder)
        .bind(until.as_micros())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Lead::Leading { epoch, size: chain.size })
    }

    /// Gives waiting entries their index, in order, at most `limit` at once.
    pub async fn sequence(&self, epoch: u64, size: u64, limit: u32) -> Result<Sequenced> {
        let (mut tx, _gate) = self.begin_write().await?;
        let chain = chain(&mut tx).await?;
        if (chain.epoch, chain.size) != (epoch, size) {
            return Ok(Sequenced::Lost);
        }
        let found = sqlx::query(
            "SELECT position, id, producer, seq, leaf, leaf_hash FROM audit_pending \
             WHERE position > 0 ORDER BY position LIMIT ?",
        )
        .bind(i64::from(limit))
        .fetch_all(&mut *tx)
        .await?;
        let mut round = Round::begin(&mut tx, size).await?;
        for row in in_order(&found)? {
            self.give_index(&mut tx, &mut round, row).await?;
        }
        if let Some(last) = found.last() {
            sqlx::query("DELETE FROM audit_pending WHERE position > 0 AND position <= ?")
                .bind(rows::stored(rows::count(last, "position")?))
                .execute(&mut *tx)
                .await?;
        }
        if found.len() < limit as usize {
            round.check_ends();
        }
        let moved = round.size - size;
        let updated = sqlx::query(
            "UPDATE audit_chain SET size = ? WHERE name = 'main' AND epoch = ? AND size = ?",
        )
        .bind(rows::stored(round.size))
        .bind(rows::stored(epoch))
        .bind(rows::stored(size))
        .execute(&mut *tx)
        .await?;
        if updated.rows_affected() != 1 {
            return Ok(Sequenced::Lost);
        }
        round.keep_producers(&mut tx).await?;
        let left = sqlx::query("SELECT COUNT(*) AS n FROM audit_pending").fetch_one(&mut *tx);
        let left = rows::count(&left.await?, "n")?;
        tx.commit().await?;
        self.0.written.set_pending(left);
        let Round { size, gaps, damaged, .. } = round;
        Ok(Sequenced::Done { size, moved, gaps, damaged })
    }

    async fn give_index(
        &self,
        connection: &mut Connection,
        round: &mut Round,
        row: &Row,
    ) -> Result<()> {
        let (id, text) = (rows::text(row, "id")?, rows::text(row, "leaf")?);
        let Some(leaf) = self.leaf_of(row, &text)? else {
            // Out of the order, and out of the way of those behind it.
            sqlx::query("UPDATE audit_pending SET position = -position WHERE id = ?")
                .bind(id.as_str())
                .execute(connection)
                .await?;
            round.damaged.push(id);
            return Ok(());
        };
        let place = Place::Sequenced { index: round.size };
        row::insert(connection, place, &leaf, &text, leaf_hash(text.as_bytes())).await?;
        round.follow(leaf.producer.as_str(), leaf.seq);
        round.size += 1;
        Ok(())
    }

    /// The leaf of a row, if the row is what was written.
    fn leaf_of(&self, row: &Row, text: &str) -> Result<Option<Leaf>> {
        let Ok(leaf) = Leaf::parse(text.as_bytes()) else { return Ok(None) };
        let is_same = leaf_hash(text.as_bytes()).to_string() == rows::text(row, "leaf_hash")?
            && leaf.id == rows::parsed::<EntryId>(row, "id")?
            && leaf.producer.as_str() == rows::text(row, "producer")?
            && leaf.seq == rows::count(row, "seq")?
            && leaf.log == self.0.origin.log;
        Ok(is_same.then_some(leaf))
    }

    /// The leaves of the tree from `index` on, without a hole.
    pub async fn sequenced_leaves(&self, index: u64, limit: u32) -> Result<Vec<String>> {
        let found =
            sqlx::query("SELECT idx, leaf FROM audit_entry WHERE idx >= ? ORDER BY idx LIMIT ?")
                .bind(rows::stored(index))
                .bind(i64::from(limit))
                .fetch_all(self.readable()?)
                .await?;
        let mut leaves = Vec::with_capacity(found.len());
        for (expected, row) in (index..).zip(&found) {
            if rows::count(row, "idx")? != expected {
                return Err(Error::corrupt(format!("the audit entry {expected} is missing")));
            }
            leaves.push(rows::text(row, "leaf")?);
        }
        Ok(leaves)
    }

    /// Remembers what was published. Another root at the same size is a fork.
    pub async fn remember_checkpoint(&self, checkpoint: &Remembered) -> Result<()> {
        let (mut tx, _gate) = self.begin_write().await?;
        let known = sqlx::query("SELECT root FROM audit_checkpoint WHERE size = ?")
            .bind(rows::stored(checkpoint.size))
            .fetch_optional(&mut *tx)
            .await?;
        if let Some(known) = known {
            if rows::text(&known, "root")? == checkpoint.root {
                return Ok(());
            }
            return Err(Error::corrupt("another root was published for this size of the tree"));
        }
        sqlx::query("INSERT INTO audit_checkpoint (size, root, at, note) VALUES (?, ?, ?, ?)")
            .bind(rows::stored(checkpoint.size))
            .bind(checkpoint.root.as_str())
            .bind(checkpoint.at.as_micros())
            .bind(checkpoint.note.as_str())
            .execute(&mut *tx)
            .await?;
        let oldest =
            sqlx::query("SELECT size FROM audit_checkpoint ORDER BY size DESC LIMIT 1 OFFSET ?")
                .bind(CHECKPOINTS_KEPT - 1)
                .fetch_optional(&mut *tx)
                .await?;
        if let Some(oldest) = oldest {
            sqlx::query("DELETE FROM audit_checkpoint WHERE size < ?")
                .bind(rows::stored(rows::count(&oldest, "size")?))
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }

    /// The last number of each producer.
    pub async fn producer_seqs(&self) -> Result<BTreeMap<String, u64>> {
        let found = sqlx::query("SELECT producer, seq FROM audit_producer")
            .fetch_all(self.readable()?)
            .await?;
        let pair = |row: &Row| Ok((rows::text(row, "producer")?, rows::count(row, "seq")?));
        found.iter().map(pair).collect()
    }

    /// Refuses every change until told otherwise: the database is not the one
    /// that the tree was made from.
    pub fn refuse_changes(&self, why: Option<&'static str>) {
        self.0.written.refuse(why);
    }
}

/// Rows as they came, but those of one producer by their numbers: what came back
/// from the journal came late.
fn in_order(found: &[Row]) -> Result<Vec<&Row>> {
    let mut numbered: BTreeMap<String, BTreeMap<u64, &Row>> = BTreeMap::new();
    let mut order = Vec::with_capacity(found.len());
    for row in found {
        let (producer, seq) = (rows::text(row, "producer")?, rows::count(row, "seq")?);
        numbered.entry(producer.clone()).or_default().insert(seq, row);
        order.push(producer);
    }
    let next = |producer: &String| numbered.get_mut(producer)?.pop_first().map(|(_, row)| row);
    Ok(order.iter().filter_map(next).collect())
}

/// A round under way.
struct Round {
    size: u64,
    /// Sequenced up to where, and the last number taken, by producer.
    producers: BTreeMap<String, (u64, u64)>,
    moved: BTreeMap<String, u64>,
    gaps: Vec<Gap>,
    damaged: Vec<String>,
}

impl Round {
    async fn begin(connection: &mut Connection, size: u64) -> Result<Self> {
        let found = sqlx::query("SELECT producer, seq, sequenced FROM audit_producer")
            .fetch_all(connection)
            .await?;
        let mut producers = BTreeMap::new();
        for row in &found {
            let numbers = (rows::count(row, "sequenced")?, rows::count(row, "seq")?);
            producers.insert(rows::text(row, "producer")?, numbers);
        }
        let (moved, gaps, damaged) = (BTreeMap::new(), Vec::new(), Vec::new());
        Ok(Self { size, producers, moved, gaps, damaged })
    }

    fn follow(&mut self, producer: &str, seq: u64) {
        let (sequenced, _) = self.producers.entry(producer.to_owned()).or_insert((0, seq));
        let expected = *sequenced + 1;
        if seq != expected {
            let producer = producer.to_owned();
            self.gaps.push(Gap { producer, expected, found: seq });
        }
        *sequenced = (*sequenced).max(seq);
        self.moved.insert(producer.to_owned(), *sequenced);
    }

    /// With nothing left to wait, every number that was taken has its index; if
    /// not, the newest rows were taken away.
    fn check_ends(&mut self) {
        for (producer, (sequenced, taken)) in &self.producers {
            if sequenced < taken {
                let (producer, expected) = (producer.clone(), *sequenced + 1);
                self.gaps.push(Gap { producer, expected, found: *taken + 1 });
            }
        }
    }

    async fn keep_producers(&self, connection: &mut Connection) -> Result<()> {
        for (producer, sequenced) in &self.moved {
            super::pending::raise_producer(connection, producer, *sequenced, *sequenced).await?;
        }
        Ok(())
    }
}

pub(super) async fn chain(connection: &mut Connection) -> Result<ChainState> {
    let row = sqlx::query(
        "SELECT epoch, holder, held_until, size, pruned_to FROM audit_chain WHERE name = 'main'",
    )
    .fetch_optional(&mut *connection)
    .await?
    .ok_or_else(|| Error::corrupt("the state of the audit chain is gone"))?;
    let newest =
        sqlx::query("SELECT size, root, at, note FROM audit_checkpoint ORDER BY size DESC LIMIT 1")
            .fetch_optional(connection)
            .await?;
    let published = newest.map(|row| -> Result<Remembered> {
        Ok(Remembered {
            size: rows::count(&row, "size")?,
            root: rows::text(&row, "root")?,
            at: rows::time(&row, "at")?,
            note: rows::text(&row, "note")?,
        })
    });
    Ok(ChainState {
        epoch: rows::count(&row, "epoch")?,
        holder: rows::text(&row, "holder")?,
        held_until: rows::time(&row, "held_until")?,
        size: rows::count(&row, "size")?,
        pruned_to: rows::count(&row, "pruned_to")?,
        published: published.transpose()?,
    })
}
