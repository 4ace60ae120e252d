//! The one way to change a governed row: together with its audit entry.
//!
//! [`AuditedTx`] holds the write lock from its beginning, so what it reads is
//! what it changes. It has one way out, [`AuditedTx::commit`], which takes at
//! least one entry; dropping it takes everything back, the number of the entry
//! included. Whoever serves a client runs it in a task of its own, so that a
//! client that leaves cannot cut it in half.

mod keys;
mod projects;
mod settings;
mod tokens;

use std::sync::Arc;

use domain::{
    audit::{Action, Actor, EntryContext, EntryDraft, Outcome},
    ids::EntryId,
    time::Timestamp,
};
use tokio::sync::OwnedMutexGuard;

pub use self::tokens::RevokedBatch;
use crate::{
    audit,
    dialect::{Connection, Db, Transaction},
    directory::ChangedId,
    error::{Error, ErrorKind, Result},
    rows,
    store::Inner,
};

/// How many changes are kept for replicas that poll; whoever is further behind
/// loads everything anew.
const CHANGES_KEPT: u64 = 10_000;

type Query = sqlx::query::Query<'static, Db, sqlx::sqlite::SqliteArguments>;

/// A transaction over governed rows.
#[must_use = "dropping it rolls everything back"]
pub struct AuditedTx {
    inner: Arc<Inner>,
    tx: Transaction,
    _gate: OwnedMutexGuard<()>,
    actor: Actor,
    context: EntryContext,
    now: Timestamp,
    changed: Vec<ChangedId>,
    /// The entries to count once they are committed.
    counted: Vec<(Action, Outcome)>,
    /// The number of the last of them.
    last_seq: u64,
    /// A statement failed: what went before must not be committed alone.
    failed: bool,
}

impl std::fmt::Debug for AuditedTx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AuditedTx({})", self.actor.kind)
    }
}

/// One or more entries.
#[derive(Clone, Debug)]
pub struct Entries {
    first: EntryDraft,
    more: Vec<EntryDraft>,
}

impl Entries {
    pub fn one(first: EntryDraft) -> Self {
        Self { first, more: Vec::new() }
    }

    pub fn and(mut self, another: EntryDraft) -> Self {
        self.more.push(another);
        self
    }
}

impl From<EntryDraft> for Entries {
    fn from(first: EntryDraft) -> Self {
        Self::one(first)
    }
}

/// What is durable now.
#[must_use = "the answer names the entry"]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Committed {
    /// At least one, in the order given.
    pub entry_ids: Vec<EntryId>,
    /// The number of the last change for [`Store::changes_since`]; `None` if
    /// nothing that a directory holds has changed.
    ///
    /// [`Store::changes_since`]: crate::Store::changes_since
    pub change_seq: Option<u64>,
}

impl Committed {
    /// The entry that `Audit-Id` names.
    pub fn audit_id(&self) -> EntryId {
        *self.entry_ids.first().expect("a commit writes at least one entry")
    }
}

impl AuditedTx {
    pub(crate) fn new(
        inner: Arc<Inner>,
        tx: Transaction,
        gate: OwnedMutexGuard<()>,
        actor: Actor,
        context: EntryContext,
    ) -> Self {
        let now = inner.clock.now();
        let changed = Vec::new();
        let counted = Vec::new();
        let (last_seq, failed) = (0, false);
        Self { inner, tx, _gate: gate, actor, context, now, changed, counted, last_seq, failed }
    }

    /// The one time of its rows and entries.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Writes the entries and makes everything durable.
    pub async fn commit(mut self, entries: impl Into<Entries>) -> Result<Committed> {
        if self.failed {
            let message = "the transaction cannot be committed after a failed statement";
            return Err(Error::new(ErrorKind::Internal, message));
        }
        let Entries { first, more } = entries.into();
        let mut entry_ids = Vec::with_capacity(1 + more.len());
        for draft in std::iter::once(first).chain(more) {
            entry_ids.push(self.append(draft).await?);
        }
        let change_seq = self.tell_changes().await?;
        self.tx.commit().await?;
        self.inner.written.add(&self.counted);
        self.inner.told.send_replace(self.last_seq);
        Ok(Committed { entry_ids, change_seq })
    }

    /// Takes everything back and waits for it; dropping does it later.
    pub async fn rollback(self) -> Result<()> {
        Ok(self.tx.rollback().await?)
    }

    async fn append(&mut self, draft: EntryDraft) -> Result<EntryId> {
        let Inner { origin, rng, .. } = &*self.inner;
        let seq = audit::next_seq(&mut self.tx, origin.producer.as_str()).await?;
        let entry = draft.seal(&self.actor, &self.context, origin, seq, self.now, &**rng).map_err(
            |error| {
                Error::new(ErrorKind::Internal, "an audit entry could not be made")
                    .with_source(error)
            },
        )?;
        audit::insert(&mut self.tx, &entry).await?;
        self.counted.push((entry.leaf.action, entry.leaf.result));
        self.last_seq = seq;
        Ok(entry.leaf.id)
    }

    /// Writes what replicas must ask for again.
    async fn tell_changes(&mut self) -> Result<Option<u64>> {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        changed.dedup();
        let mut last = None;
        for change in changed {
            let seq = audit::next_count(&mut self.tx, "change").await?;
            sqlx::query("INSERT INTO changes (seq, kind, entity_id) VALUES (?, ?, ?)")
                .bind(rows::stored(seq))
                .bind(change.kind())
                .bind(change.id())
                .execute(&mut *self.tx)
                .await?;
            last = Some(seq);
        }
        if let Some(last) = last.filter(|last| *last > CHANGES_KEPT) {
            sqlx::query("DELETE FROM changes WHERE seq <= ?")
                .bind(rows::stored(last - CHANGES_KEPT))
                .execute(&mut *self.tx)
                .await?;
        }
        Ok(last)
    }

    pub(crate) fn connection(&mut self) -> &mut Connection {
        &mut self.tx
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    pub(crate) fn inner_arc(&self) -> Arc<Inner> {
        Arc::clone(&self.inner)
    }

    /// Runs one writing statement; after a failure nothing can be committed.
    pub(crate) async fn write(&mut self, query: Query) -> Result<u64> {
        match query.execute(&mut *self.tx).await {
            Ok(done) => Ok(done.rows_affected()),
            Err(error) => {
                self.failed = true;
                Err(error.into())
            }
        }
    }
}

/// Refuses a change that was made up against another revision.
fn check_rev(expected: Option<u64>, found: u64) -> Result<()> {
    match expected {
        Some(expected) if expected != found => Err(Error::conflict(format!(
            "the revision is {found}, not {expected}: somebody changed it meanwhile"
        ))),
        _ => Ok(()),
    }
}

/// A stored form of labels, lists and ids.
fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("maps and lists of text have a JSON form")
}
