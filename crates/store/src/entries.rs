//! Audit entries on their way to the tree: written with their change, read back
//! newest first with what their openings reveal.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use domain::{
    audit::{Action, EntryView, Opening, Outcome, SealedEntry},
    ids::{EntryId, ProjectId, TokenId},
    time::Timestamp,
};
use parking_lot::Mutex;
use sqlx::{QueryBuilder, Row as _};
use tokio::sync::watch;

use crate::{
    Store,
    dialect::{Connection, Db, Row},
    error::{Error, Result},
    model::{Listing, Page},
    read::{check_limit, cut_page, invalid_cursor, push_in, select},
    rows,
};

/// Which entries are wanted; the default is all.
#[derive(Clone, Debug, Default)]
pub struct EntryFilter {
    pub action: Option<Action>,
    pub project_id: Option<ProjectId>,
    /// Only entries of these projects; an empty list finds nothing.
    pub project_ids: Option<Vec<ProjectId>>,
    pub token_id: Option<TokenId>,
    pub target_id: Option<String>,
    /// Matches the request's own id or its correlation id.
    pub request_id: Option<String>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

/// What this process wrote, for metrics.
#[derive(Debug, Default)]
pub(crate) struct EntryCounts(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    written: BTreeMap<(&'static str, &'static str), (Action, Outcome, u64)>,
    pending: u64,
}

impl EntryCounts {
    pub(crate) fn begin(&self, pending: u64) {
        self.0.lock().pending = pending;
    }

    /// Counts committed entries. Nothing takes them out of `audit_pending` yet.
    pub(crate) fn add(&self, committed: &[(Action, Outcome)]) {
        let mut counts = self.0.lock();
        counts.pending += committed.len() as u64;
        for (action, result) in committed {
            let names = (action.as_str(), result.as_str());
            counts.written.entry(names).or_insert((*action, *result, 0)).2 += 1;
        }
    }

    pub(crate) fn read(&self) -> (Vec<(Action, Outcome, u64)>, u64) {
        let counts = self.0.lock();
        (counts.written.values().copied().collect(), counts.pending)
    }
}

impl Store {
    /// Entries, newest first.
    pub async fn audit_entries(
        &self,
        filter: &EntryFilter,
        page: &Page,
    ) -> Result<Listing<EntryView>> {
        check_limit(page)?;
        let mut query = select("position, id, leaf", "audit_pending");
        push_filter(&mut query, filter);
        if let Some(cursor) = &page.cursor {
            let position: i64 = cursor.parse().map_err(|_| invalid_cursor())?;
            query.push(" AND position < ").push_bind(position);
        }
        query.push(" ORDER BY position DESC LIMIT ").push_bind(i64::from(page.limit) + 1);
        // One snapshot for leaves and openings.
        let mut tx = self.readable()?.begin().await?;
        let mut found = query.build().fetch_all(&mut *tx).await?;
        let position = |row: &Row| row.try_get::<i64, _>("position").unwrap_or(0).to_string();
        let next_cursor = cut_page(&mut found, page, position);
        let items = views(&mut tx, &found).await?;
        Ok(Listing { items, next_cursor })
    }

    pub async fn audit_entry(&self, id: EntryId) -> Result<Option<EntryView>> {
        let mut query = select("position, id, leaf", "audit_pending");
        query.push(" AND id = ").push_bind(id.to_string());
        let mut tx = self.readable()?.begin().await?;
        let found = query.build().fetch_all(&mut *tx).await?;
        Ok(views(&mut tx, &found).await?.pop())
    }

    /// The exact text of a leaf, for whoever verifies it.
    pub async fn audit_leaf(&self, id: EntryId) -> Result<Option<String>> {
        let row = sqlx::query("SELECT leaf FROM audit_pending WHERE id = ?")
            .bind(id.to_string())
            .fetch_optional(self.readable()?)
            .await?;
        row.map(|row| rows::text(&row, "leaf")).transpose()
    }

    /// The leaves of this process that follow the entry numbered `seq`, in
    /// order, each with its number; no more than `limit`.
    pub async fn own_leaves_after(&self, seq: u64, limit: u32) -> Result<Vec<(u64, String)>> {
        let found = sqlx::query(
            "SELECT seq, leaf FROM audit_pending WHERE producer = ? AND seq > ? \
             ORDER BY seq LIMIT ?",
        )
        .bind(self.0.origin.producer.as_str())
        .bind(rows::stored(seq))
        .bind(i64::from(limit))
        .fetch_all(self.readable()?)
        .await?;
        found.iter().map(|row| Ok((rows::count(row, "seq")?, rows::text(row, "leaf")?))).collect()
    }

    /// Under which name this process numbers its entries.
    pub fn producer(&self) -> &str {
        self.0.origin.producer.as_str()
    }

    /// Changes whenever this process has committed an entry.
    pub fn entries_committed(&self) -> watch::Receiver<u64> {
        self.0.told.subscribe()
    }

    /// How many entries wait to be sequenced.
    pub async fn audit_pending(&self) -> Result<u64> {
        let row = sqlx::query("SELECT COUNT(*) AS n FROM audit_pending")
            .fetch_one(self.readable()?)
            .await?;
        rows::count(&row, "n")
    }
}

fn push_filter(query: &mut QueryBuilder<Db>, filter: &EntryFilter) {
    if let Some(action) = filter.action {
        query.push(" AND action = ").push_bind(action.as_str());
    }
    if let Some(id) = filter.project_id {
        query.push(" AND project_id = ").push_bind(id.to_string());
    }
    if let Some(ids) = &filter.project_ids {
        push_in(query, "project_id", ids);
    }
    if let Some(id) = filter.token_id {
        query.push(" AND token_id = ").push_bind(id.to_string());
    }
    if let Some(id) = &filter.target_id {
        query.push(" AND target_id = ").push_bind(id.clone());
    }
    if let Some(id) = &filter.request_id {
        let value = serde_json::Value::from(id.as_str()).to_string();
        query
            .push(
                " AND id IN (SELECT entry_id FROM audit_opening \
                 WHERE path IN ('/request/id', '/request/correlation_id') AND value = ",
            )
            .push_bind(value)
            .push(")");
    }
    if let Some(since) = filter.since {
        query.push(" AND at >= ").push_bind(since.as_micros());
    }
    if let Some(until) = filter.until {
        query.push(" AND at < ").push_bind(until.as_micros());
    }
}

async fn views(connection: &mut Connection, found: &[Row]) -> Result<Vec<EntryView>> {
    let ids: Vec<String> = found.iter().map(|row| rows::text(row, "id")).collect::<Result<_>>()?;
    let mut openings: BTreeMap<String, Vec<Opening>> = BTreeMap::new();
    let mut query = select("entry_id, path, salt, value", "audit_opening");
    push_in(&mut query, "entry_id", &ids);
    for row in query.build().fetch_all(connection).await? {
        openings.entry(rows::text(&row, "entry_id")?).or_default().push(opening(&row)?);
    }
    let view = |(row, id): (&Row, &String)| {
        let leaf: &str = row.try_get("leaf")?;
        let openings = openings.get(id).map_or(&[][..], Vec::as_slice);
        EntryView::new(leaf, openings, None).map_err(|error| {
            Error::corrupt(format!("the audit entry {id} is damaged")).with_source(error)
        })
    };
    found.iter().zip(&ids).map(view).collect()
}

fn opening(row: &Row) -> Result<Opening> {
    let salt = STANDARD.decode(row.try_get::<&str, _>("salt")?).ok();
    let salt = salt.and_then(|salt| <[u8; 32]>::try_from(salt).ok());
    let salt = salt.ok_or_else(|| Error::corrupt("the salt of an opening cannot be read"))?;
    Ok(Opening { path: rows::text(row, "path")?, salt, value: rows::text(row, "value")? })
}

/// Takes the next number of a producer. It is given back if the transaction
/// ends without a commit, so the numbers that exist have no gap.
pub(crate) async fn next_seq(connection: &mut Connection, producer: &str) -> Result<u64> {
    let updated = sqlx::query("UPDATE audit_producer SET seq = seq + 1 WHERE producer = ?")
        .bind(producer)
        .execute(&mut *connection)
        .await?;
    if updated.rows_affected() == 0 {
        sqlx::query("INSERT INTO audit_producer (producer, seq) VALUES (?, 1)")
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
    let leaf = &entry.leaf;
    sqlx::query(
        "INSERT INTO audit_pending (position, id, producer, seq, at, action, project_id, \
         token_id, target_id, leaf, leaf_hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(rows::stored(position))
    .bind(leaf.id.to_string())
    .bind(leaf.producer.as_str())
    .bind(rows::stored(leaf.seq))
    .bind(leaf.at.as_micros())
    .bind(leaf.action.as_str())
    .bind(leaf.project_id.map(|id| id.to_string()))
    .bind(leaf.token_id.map(|id| id.to_string()))
    .bind(leaf.target.as_ref().map(|target| target.id.as_str().to_owned()))
    .bind(entry.text.as_str())
    .bind(entry.hash.to_string())
    .execute(&mut *connection)
    .await?;
    for opening in &entry.openings {
        sqlx::query("INSERT INTO audit_opening (entry_id, path, salt, value) VALUES (?, ?, ?, ?)")
            .bind(leaf.id.to_string())
            .bind(opening.path.as_str())
            .bind(STANDARD.encode(opening.salt))
            .bind(opening.value.as_str())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
