//! The audit tables read back as they are, for whoever holds them against the
//! tree: nothing is repaired and nothing is believed.

use std::collections::BTreeMap;

use domain::audit::{Leaf, Opening, leaf_hash};
use sqlx::Row as _;
use tokio::sync::mpsc::Sender;

use super::row;
use crate::{
    Options, Store,
    dialect::{self, Pool, Row},
    error::Result,
    read::{push_in, select},
    rows,
};

/// Rows of one page.
const PAGE: i64 = 512;

/// A row about one entry.
#[derive(Clone, Debug)]
pub struct StoredRow {
    /// None for an entry that still waits.
    pub index: Option<u64>,
    pub id: String,
    pub producer: String,
    pub seq: u64,
    pub leaf: String,
    /// Whether every column says what the leaf says.
    pub is_derived: bool,
    pub openings: Vec<Opening>,
    /// Paths of openings that cannot be read, or are not found by their value.
    pub openings_damaged: Vec<String>,
}

/// What the tables have, in this order.
#[derive(Clone, Debug)]
pub enum Stored {
    /// Sequenced entries by index, then those that wait, in their order.
    Rows(Vec<StoredRow>),
    /// At the end.
    Totals {
        /// The last number that each producer gave out.
        producers: BTreeMap<String, u64>,
        /// Openings that belong to no entry.
        openings_stray: u64,
    },
}

impl Store {
    /// Reads the audit tables of a database without its keys; changes nothing.
    /// Ends early when nobody receives any more.
    pub async fn stored_entries(options: &Options, to: Sender<Result<Stored>>) {
        let options = Options { create: false, ..options.clone() };
        let sent = match dialect::connect(&options).await {
            Err(error) => to.send(Err(error)).await,
            Ok((pool, _)) => {
                let read = read(&pool, &to).await;
                pool.close().await;
                match read {
                    Err(error) => to.send(Err(error)).await,
                    Ok(()) => Ok(()),
                }
            }
        };
        // Whoever does not listen wants nothing more.
        sent.unwrap_or_default();
    }

    /// The same of the database that is open.
    pub async fn stored_entries_here(&self, to: Sender<Result<Stored>>) {
        let sent = match read(&self.0.pool, &to).await {
            Err(error) => to.send(Err(error)).await,
            Ok(()) => Ok(()),
        };
        // Whoever does not listen wants nothing more.
        sent.unwrap_or_default();
    }
}

async fn read(pool: &Pool, to: &Sender<Result<Stored>>) -> Result<()> {
    // One snapshot of all tables.
    let mut tx = pool.begin().await?;
    for (statement, place) in [
        ("SELECT * FROM audit_entry WHERE idx > ? ORDER BY idx LIMIT ?", "idx"),
        ("SELECT * FROM audit_pending WHERE position > ? ORDER BY position LIMIT ?", "position"),
    ] {
        let mut last = -1;
        loop {
            let page = sqlx::query(statement).bind(last).bind(PAGE).fetch_all(&mut *tx).await?;
            let Some(newest) = page.last() else { break };
            last = newest.try_get(place)?;
            let ids = page.iter().map(|row| rows::text(row, "id")).collect::<Result<Vec<_>>>()?;
            let mut openings = openings(&mut tx, &ids).await?;
            let mut found = Vec::with_capacity(page.len());
            for (row, id) in page.iter().zip(&ids) {
                found.push(stored(row, place, openings.remove(id).unwrap_or_default())?);
            }
            if to.send(Ok(Stored::Rows(found))).await.is_err() {
                return Ok(());
            }
        }
    }
    let mut producers = BTreeMap::new();
    for row in sqlx::query("SELECT producer, seq FROM audit_producer").fetch_all(&mut *tx).await? {
        producers.insert(rows::text(&row, "producer")?, rows::count(&row, "seq")?);
    }
    let stray = sqlx::query(
        "SELECT COUNT(*) AS n FROM audit_opening o \
         WHERE NOT EXISTS (SELECT 1 FROM audit_entry e WHERE e.id = o.entry_id) \
         AND NOT EXISTS (SELECT 1 FROM audit_pending p WHERE p.id = o.entry_id)",
    );
    let openings_stray = rows::count(&stray.fetch_one(&mut *tx).await?, "n")?;
    // Nobody left to hear it is no failure.
    to.send(Ok(Stored::Totals { producers, openings_stray })).await.unwrap_or_default();
    Ok(())
}

type Openings = (Vec<Opening>, Vec<String>);

async fn openings(
    connection: &mut dialect::Connection,
    ids: &[String],
) -> Result<BTreeMap<String, Openings>> {
    let mut found: BTreeMap<String, Openings> = BTreeMap::new();
    let mut query = select("entry_id, path, salt, value, lookup", "audit_opening");
    push_in(&mut query, "entry_id", ids);
    query.push(" ORDER BY entry_id, path");
    for row in query.build().fetch_all(connection).await? {
        let (whole, damaged) = found.entry(rows::text(&row, "entry_id")?).or_default();
        let lookup: Option<String> = row.try_get("lookup")?;
        match row::opening(&row) {
            Ok(opening) => {
                if lookup.is_some_and(|lookup| lookup != row::lookup(&opening.value)) {
                    damaged.push(opening.path.clone());
                }
                whole.push(opening);
            }
            Err(_) => damaged.push(rows::text(&row, "path")?),
        }
    }
    Ok(found)
}

fn stored(row: &Row, place: &str, (openings, damaged): Openings) -> Result<StoredRow> {
    let text = rows::text(row, "leaf")?;
    let is_sequenced = place == "idx";
    // What waits since before the columns came has them empty.
    let is_derived = match Leaf::parse(text.as_bytes()) {
        Ok(leaf) if is_sequenced => row::says(row, &leaf, &text)?,
        Ok(leaf) => {
            rows::text(row, "leaf_hash")? == leaf_hash(text.as_bytes()).to_string()
                && rows::text(row, "id")? == leaf.id.to_string()
        }
        Err(_) => false,
    };
    Ok(StoredRow {
        index: if is_sequenced { Some(rows::count(row, "idx")?) } else { None },
        id: rows::text(row, "id")?,
        producer: rows::text(row, "producer")?,
        seq: rows::count(row, "seq")?,
        leaf: text,
        is_derived,
        openings,
        openings_damaged: damaged,
    })
}
