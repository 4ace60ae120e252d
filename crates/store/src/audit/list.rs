//! Entries read back: those that wait and those in the tree as one list, newest
//! first, with what their openings reveal.

use std::collections::BTreeMap;

use domain::{
    audit::{Action, ActorKind, EntryView, Opening, Outcome, TargetKind},
    ids::{EntryId, ProjectId, TokenId},
    time::Timestamp,
};
use sqlx::{QueryBuilder, Row as _};
use tokio::sync::watch;

use super::row::{lookup, opening};
use crate::{
    Store,
    dialect::{Connection, Db, Row},
    error::{Error, Result},
    model::{Listing, Page},
    read::{check_limit, invalid_cursor, push_in, select},
    rows,
};

const PENDING: (&str, &str) = ("position, id, leaf", "audit_pending");
const SEQUENCED: (&str, &str) = ("idx, id, leaf", "audit_entry");
/// Characters of a search.
const SEARCH_CHARS_MAX: usize = 256;

/// Which entries are wanted; the default is all.
#[derive(Clone, Debug, Default)]
pub struct EntryFilter {
    pub action: Option<Action>,
    pub result: Option<Outcome>,
    pub reason_code: Option<String>,
    pub actor_kind: Option<ActorKind>,
    pub actor_id: Option<String>,
    pub actor_name: Option<String>,
    pub project_id: Option<ProjectId>,
    /// Only entries of these projects; an empty list finds nothing.
    pub project_ids: Option<Vec<ProjectId>>,
    pub token_id: Option<TokenId>,
    pub target_type: Option<TargetKind>,
    pub target_id: Option<String>,
    /// Matches the request's own id or its correlation id.
    pub request_id: Option<String>,
    pub correlation_id: Option<String>,
    pub trace_id: Option<String>,
    pub client_ip: Option<String>,
    pub user_agent: Option<String>,
    pub method: Option<String>,
    pub route: Option<String>,
    pub instance: Option<String>,
    pub leaf_hash: Option<String>,
    /// Stands in the leaf or in a value that is not erased, in any case of its
    /// letters.
    pub search: Option<String>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

/// A sequenced entry with everything that proves it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SequencedEntry {
    pub index: u64,
    pub id: EntryId,
    /// The exact text that is hashed.
    pub leaf: String,
    pub openings: Vec<Opening>,
}

/// Where a page begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum From {
    Newest,
    /// Behind this place among those that wait.
    Position(i64),
    /// Behind this index.
    Index(i64),
}

impl Store {
    /// Entries, newest first. Those in the tree have their index.
    pub async fn audit_entries(
        &self,
        filter: &EntryFilter,
        page: &Page,
    ) -> Result<Listing<EntryView>> {
        check_limit(page)?;
        // One snapshot for both tables and the openings.
        let mut tx = self.readable()?.begin().await?;
        let from = match &page.cursor {
            None => From::Newest,
            Some(cursor) => parse_cursor(&mut tx, cursor).await?,
        };
        // One more than asked tells whether there is a next page.
        let wanted = i64::from(page.limit) + 1;
        let mut found = Vec::new();
        if !matches!(from, From::Index(_)) {
            let mut query = select(PENDING.0, PENDING.1);
            push_filter(&mut query, filter)?;
            if let From::Position(position) = from {
                query.push(" AND position < ").push_bind(position);
            }
            query.push(" ORDER BY position DESC LIMIT ").push_bind(wanted);
            let rows = query.build().fetch_all(&mut *tx).await?;
            found.extend(rows.into_iter().map(|row| (None, row)));
        }
        let rest = wanted - i64::try_from(found.len()).unwrap_or(wanted);
        if rest > 0 {
            let mut query = select(SEQUENCED.0, SEQUENCED.1);
            push_filter(&mut query, filter)?;
            if let From::Index(index) = from {
                query.push(" AND idx < ").push_bind(index);
            }
            query.push(" ORDER BY idx DESC LIMIT ").push_bind(rest);
            for row in query.build().fetch_all(&mut *tx).await? {
                found.push((Some(rows::count(&row, "idx")?), row));
            }
        }
        let more = found.len() > page.limit as usize;
        found.truncate(page.limit as usize);
        let next_cursor = match found.last().filter(|_| more) {
            None => None,
            Some((Some(index), _)) => Some(format!("i{index}")),
            Some((None, row)) => Some(format!("p{}", rows::text(row, "id")?)),
        };
        let items = views(&mut tx, &found).await?;
        Ok(Listing { items, next_cursor })
    }

    pub async fn audit_entry(&self, id: EntryId) -> Result<Option<EntryView>> {
        let mut tx = self.readable()?.begin().await?;
        let found = find(&mut tx, id).await?;
        let found: Vec<_> = found.into_iter().collect();
        Ok(views(&mut tx, &found).await?.pop())
    }

    /// The entry at a place of the tree.
    pub async fn audit_entry_at(&self, index: u64) -> Result<Option<EntryView>> {
        let mut tx = self.readable()?.begin().await?;
        let mut query = select(SEQUENCED.0, SEQUENCED.1);
        query.push(" AND idx = ").push_bind(rows::stored(index));
        let found = query.build().fetch_optional(&mut *tx).await?;
        let found: Vec<_> = found.into_iter().map(|row| (Some(index), row)).collect();
        Ok(views(&mut tx, &found).await?.pop())
    }

    /// The exact text of a leaf, for whoever verifies it.
    pub async fn audit_leaf(&self, id: EntryId) -> Result<Option<String>> {
        let mut tx = self.readable()?.begin().await?;
        let found = find(&mut tx, id).await?;
        found.map(|(_, row)| rows::text(&row, "leaf")).transpose()
    }

    /// An entry of the tree with all that proves it; `None` until it is there.
    pub async fn sequenced_entry(&self, id: EntryId) -> Result<Option<SequencedEntry>> {
        let mut tx = self.readable()?.begin().await?;
        let Some((Some(index), row)) = find(&mut tx, id).await? else { return Ok(None) };
        let mut found = sequenced(&mut tx, &[(index, row)]).await?;
        Ok(found.pop())
    }

    /// Entries of the tree in its order, those of `indexes` that pass.
    pub async fn sequenced_entries(
        &self,
        filter: &EntryFilter,
        indexes: std::ops::Range<u64>,
        limit: u32,
    ) -> Result<Vec<SequencedEntry>> {
        let mut tx = self.readable()?.begin().await?;
        let mut query = select(SEQUENCED.0, SEQUENCED.1);
        push_filter(&mut query, filter)?;
        query.push(" AND idx >= ").push_bind(rows::stored(indexes.start));
        query.push(" AND idx < ").push_bind(rows::stored(indexes.end));
        query.push(" ORDER BY idx LIMIT ").push_bind(i64::from(limit));
        let mut found = Vec::new();
        for row in query.build().fetch_all(&mut *tx).await? {
            found.push((rows::count(&row, "idx")?, row));
        }
        sequenced(&mut tx, &found).await
    }

    /// The leaves of this process that follow the entry numbered `seq`, in
    /// order, each with its number; no more than `limit`.
    pub async fn own_leaves_after(&self, seq: u64, limit: u32) -> Result<Vec<(u64, String)>> {
        // One snapshot: an entry that moves meanwhile is in one of the tables.
        let mut tx = self.readable()?.begin().await?;
        let mut leaves = BTreeMap::new();
        for statement in [
            "SELECT seq, leaf FROM audit_entry WHERE producer = ? AND seq > ? ORDER BY seq LIMIT ?",
            "SELECT seq, leaf FROM audit_pending WHERE producer = ? AND seq > ? \
             ORDER BY seq LIMIT ?",
        ] {
            let found = sqlx::query(statement)
                .bind(self.0.origin.producer.as_str())
                .bind(rows::stored(seq))
                .bind(i64::from(limit))
                .fetch_all(&mut *tx)
                .await?;
            for row in &found {
                leaves.insert(rows::count(row, "seq")?, rows::text(row, "leaf")?);
            }
        }
        Ok(leaves.into_iter().take(limit as usize).collect())
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

/// `i<index>`, or `p<id>` of an entry that waited and may have its index by now.
async fn parse_cursor(connection: &mut Connection, cursor: &str) -> Result<From> {
    if let Some(index) = cursor.strip_prefix('i') {
        let index = index.parse().ok().filter(|index| *index >= 0);
        return index.map(From::Index).ok_or_else(invalid_cursor);
    }
    let id = cursor.strip_prefix('p').and_then(|id| id.parse().ok()).ok_or_else(invalid_cursor)?;
    match find(connection, id).await? {
        Some((Some(index), _)) => Ok(From::Index(rows::stored(index))),
        Some((None, row)) => Ok(From::Position(row.try_get("position")?)),
        None => Err(invalid_cursor()),
    }
}

/// An entry by its id, with its index if it has one.
async fn find(connection: &mut Connection, id: EntryId) -> Result<Option<(Option<u64>, Row)>> {
    let mut query = select(SEQUENCED.0, SEQUENCED.1);
    query.push(" AND id = ").push_bind(id.to_string());
    if let Some(row) = query.build().fetch_optional(&mut *connection).await? {
        return Ok(Some((Some(rows::count(&row, "idx")?), row)));
    }
    let mut query = select(PENDING.0, PENDING.1);
    query.push(" AND id = ").push_bind(id.to_string());
    Ok(query.build().fetch_optional(connection).await?.map(|row| (None, row)))
}

fn push_filter(query: &mut QueryBuilder<Db>, filter: &EntryFilter) -> Result<()> {
    let equal: [(&str, Option<String>); 14] = [
        ("action", filter.action.map(|it| it.as_str().to_owned())),
        ("result", filter.result.map(|it| it.as_str().to_owned())),
        ("reason_code", filter.reason_code.clone()),
        ("actor_kind", filter.actor_kind.map(|it| it.as_str().to_owned())),
        ("actor_id", filter.actor_id.clone()),
        ("project_id", filter.project_id.map(|id| id.to_string())),
        ("token_id", filter.token_id.map(|id| id.to_string())),
        ("target_type", filter.target_type.map(|it| it.as_str().to_owned())),
        ("target_id", filter.target_id.clone()),
        ("trace_id", filter.trace_id.clone()),
        ("method", filter.method.clone()),
        ("route", filter.route.clone()),
        ("instance", filter.instance.clone()),
        ("leaf_hash", filter.leaf_hash.clone()),
    ];
    for (column, value) in equal {
        if let Some(value) = value {
            query.push(format!(" AND {column} = ")).push_bind(value);
        }
    }
    if let Some(ids) = &filter.project_ids {
        push_in(query, "project_id", ids);
    }
    for (paths, value) in [
        (&["/request/id", "/request/correlation_id"][..], &filter.request_id),
        (&["/request/correlation_id"], &filter.correlation_id),
        (&["/request/client_ip"], &filter.client_ip),
        (&["/request/user_agent"], &filter.user_agent),
        (&["/actor/name"], &filter.actor_name),
    ] {
        if let Some(value) = value {
            push_opened(query, paths, value);
        }
    }
    if let Some(text) = &filter.search {
        push_search(query, text)?;
    }
    if let Some(since) = filter.since {
        query.push(" AND at >= ").push_bind(since.as_micros());
    }
    if let Some(until) = filter.until {
        query.push(" AND at < ").push_bind(until.as_micros());
    }
    Ok(())
}

/// Entries of which a sealed value, while it is not erased, is this.
fn push_opened(query: &mut QueryBuilder<Db>, paths: &[&str], value: &str) {
    let value = serde_json::Value::from(value).to_string();
    query.push(" AND id IN (SELECT entry_id FROM audit_opening WHERE lookup = ");
    query.push_bind(lookup(&value)).push(" AND value = ").push_bind(value);
    push_in(query, "path", paths);
    query.push(")");
}

fn push_search(query: &mut QueryBuilder<Db>, text: &str) -> Result<()> {
    if text.is_empty() || text.chars().count() > SEARCH_CHARS_MAX {
        let message = format!("search must be 1 to {SEARCH_CHARS_MAX} characters");
        return Err(Error::invalid(message));
    }
    // As it stands in JSON, and no character of it a wildcard.
    let json = serde_json::Value::from(text.to_lowercase()).to_string();
    let mut pattern = String::from("%");
    for character in json[1..json.len() - 1].chars() {
        if matches!(character, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(character);
    }
    pattern.push('%');
    query
        .push(" AND (LOWER(leaf) LIKE ")
        .push_bind(pattern.clone())
        .push(" ESCAPE '!' OR id IN (SELECT entry_id FROM audit_opening WHERE LOWER(value) LIKE ");
    query.push_bind(pattern).push(" ESCAPE '!'))");
    Ok(())
}

async fn views(
    connection: &mut Connection,
    found: &[(Option<u64>, Row)],
) -> Result<Vec<EntryView>> {
    let ids = found.iter().map(|(_, row)| rows::text(row, "id")).collect::<Result<Vec<_>>>()?;
    let openings = openings(connection, &ids).await?;
    let view = |((index, row), id): (&(Option<u64>, Row), &String)| {
        let leaf: &str = row.try_get("leaf")?;
        let openings = openings.get(id).map_or(&[][..], Vec::as_slice);
        EntryView::new(leaf, openings, *index).map_err(|error| {
            Error::corrupt(format!("the audit entry {id} is damaged")).with_source(error)
        })
    };
    found.iter().zip(&ids).map(view).collect()
}

async fn sequenced(
    connection: &mut Connection,
    found: &[(u64, Row)],
) -> Result<Vec<SequencedEntry>> {
    let ids = found.iter().map(|(_, row)| rows::text(row, "id")).collect::<Result<Vec<_>>>()?;
    let mut openings = openings(connection, &ids).await?;
    let entry = |((index, row), id): (&(u64, Row), &String)| {
        Ok(SequencedEntry {
            index: *index,
            id: rows::parsed(row, "id")?,
            leaf: rows::text(row, "leaf")?,
            openings: openings.remove(id).unwrap_or_default(),
        })
    };
    found.iter().zip(&ids).map(entry).collect()
}

async fn openings(
    connection: &mut Connection,
    ids: &[String],
) -> Result<BTreeMap<String, Vec<Opening>>> {
    let mut openings: BTreeMap<String, Vec<Opening>> = BTreeMap::new();
    let mut query = select("entry_id, path, salt, value", "audit_opening");
    push_in(&mut query, "entry_id", ids);
    query.push(" ORDER BY entry_id, path");
    for row in query.build().fetch_all(connection).await? {
        openings.entry(rows::text(&row, "entry_id")?).or_default().push(opening(&row)?);
    }
    Ok(openings)
}
