//! What the in-memory directory asks: many tokens at once with all that a
//! request needs of them, and what has changed since.

use std::collections::BTreeMap;

use domain::{
    ids::{ProjectId, TokenId},
    secret::Secret,
    token::TokenHash,
};
use sqlx::{QueryBuilder, Row as _};

use crate::{
    Store,
    dialect::Db,
    error::{Error, Result},
    model::{Project, TokenRow},
    read::{provider_key_rows, push_in},
    rows,
};

/// The most tokens that one look-up may ask for.
pub const LOOKUP_MAX: usize = 256;

/// A token, its project, and the project's keys.
#[derive(Clone, Debug)]
pub struct DirectoryRow {
    pub hash: TokenHash,
    pub token: TokenRow,
    pub project: Project,
    /// By provider, decrypted.
    pub keys: BTreeMap<String, Secret>,
    /// Providers whose stored key does not open: damage, already reported.
    /// Other keys and other projects are served all the same.
    pub damaged_keys: Vec<String>,
}

/// Something that a copy in memory may hold. A project stands for all of its
/// tokens too: whoever holds some must ask for them again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ChangedId {
    Project(ProjectId),
    Token(TokenId),
}

impl ChangedId {
    pub(crate) const fn kind(self) -> &'static str {
        match self {
            Self::Project(_) => "project",
            Self::Token(_) => "token",
        }
    }

    pub(crate) fn id(self) -> String {
        match self {
            Self::Project(id) => id.to_string(),
            Self::Token(id) => id.to_string(),
        }
    }
}

/// What changed after a number that the caller had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Changes {
    /// Ask from here next time.
    pub seq: u64,
    pub items: Vec<ChangedId>,
    /// The list has a hole (too long ago, or the database is another one):
    /// everything in memory must be asked for again.
    pub reset: bool,
}

impl Store {
    /// The tokens of up to [`LOOKUP_MAX`] hashes, in one statement; a hash that
    /// is not known has no row.
    pub async fn tokens_by_hash(&self, hashes: &[TokenHash]) -> Result<Vec<DirectoryRow>> {
        let hashes: Vec<String> = hashes.iter().map(|hash| rows::hex(hash.as_bytes())).collect();
        self.look_up("t.hash", &hashes).await
    }

    /// The same by id, for what [`Store::changes_since`] names.
    pub async fn tokens_by_id(&self, ids: &[TokenId]) -> Result<Vec<DirectoryRow>> {
        self.look_up("t.id", ids).await
    }

    async fn look_up<T: ToString>(
        &self,
        column: &'static str,
        values: &[T],
    ) -> Result<Vec<DirectoryRow>> {
        if values.len() > LOOKUP_MAX {
            return Err(Error::invalid(format!("at most {LOOKUP_MAX} tokens in one look-up")));
        }
        self.check_file()?;
        let mut query: QueryBuilder<Db> = QueryBuilder::new(format!(
            "SELECT {}, {} FROM {} JOIN projects p ON p.id = t.project_id WHERE 1 = 1",
            rows::TOKEN_COLUMNS,
            rows::PROJECT_COLUMNS,
            rows::TOKEN_TABLES
        ));
        push_in(&mut query, column, values);
        // One snapshot for tokens, projects and keys.
        let mut tx = self.0.pool.begin().await?;
        let mut found = Vec::with_capacity(values.len());
        for row in query.build().fetch_all(&mut *tx).await? {
            found.push(DirectoryRow {
                hash: rows::token_hash(&row, "hash")?,
                token: rows::token(&row)?,
                project: rows::project(&row)?,
                keys: BTreeMap::new(),
                damaged_keys: Vec::new(),
            });
        }
        let mut projects: Vec<_> = found.iter().map(|row| row.project.id).collect();
        projects.sort_unstable();
        projects.dedup();
        let keys = provider_key_rows(&mut tx, &projects).await?;
        for row in &mut found {
            for key in keys.get(&row.project.id).into_iter().flatten() {
                self.open_into(row, key);
            }
        }
        Ok(found)
    }

    fn open_into(&self, row: &mut DirectoryRow, key: &rows::KeyRow) {
        let project = row.project.id;
        let provider = key.provider.clone();
        row.project.provider_keys.insert(provider.clone(), key.shown.clone());
        match self.0.keys.open_provider_key(&key.key_id, &key.ciphertext, project, &provider) {
            Ok(secret) => {
                row.keys.insert(provider, secret);
            }
            Err(error) => {
                tracing::error!(project_id = %project, provider, %error,
                    "a provider key cannot be opened");
                row.damaged_keys.push(provider);
            }
        }
    }

    /// What changed after `since` (0: from the beginning of what is kept), in
    /// order, at most `limit` at once: ask again while items come.
    pub async fn changes_since(&self, since: u64, limit: u32) -> Result<Changes> {
        self.check_file()?;
        let mut tx = self.0.pool.begin().await?;
        let newest = sqlx::query("SELECT value FROM counters WHERE name = 'change'")
            .fetch_one(&mut *tx)
            .await?;
        let newest = rows::count(&newest, "value")?;
        let found = sqlx::query(
            "SELECT seq, kind, entity_id FROM changes WHERE seq > ? ORDER BY seq LIMIT ?",
        )
        .bind(rows::stored(since))
        .bind(i64::from(limit))
        .fetch_all(&mut *tx)
        .await?;
        let first = found.first().map(|row| rows::count(row, "seq")).transpose()?;
        let hole = match first {
            Some(first) => first != since + 1,
            None => newest != since,
        };
        if hole {
            return Ok(Changes { seq: newest, items: Vec::new(), reset: true });
        }
        let mut items = Vec::with_capacity(found.len());
        let mut seq = since;
        for row in &found {
            seq = rows::count(row, "seq")?;
            items.push(match row.try_get::<&str, _>("kind")? {
                "project" => ChangedId::Project(rows::parsed(row, "entity_id")?),
                "token" => ChangedId::Token(rows::parsed(row, "entity_id")?),
                _ => return Err(Error::corrupt("a change is of an unknown kind")),
            });
        }
        items.sort_unstable();
        items.dedup();
        Ok(Changes { seq, items, reset: false })
    }
}
