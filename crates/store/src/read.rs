//! Reads: rows by id and pages of lists, newest first.

use std::collections::BTreeMap;

use domain::{
    ids::{ManagementKeyId, ProjectId, TokenId},
    secret::Secret,
    token::TokenHash,
};
use sqlx::QueryBuilder;

use crate::{
    Store,
    dialect::{Connection, Db, Row},
    error::{Error, Result},
    model::{
        Listing, ManagementKey, PAGE_LIMIT_MAX, Page, Project, ProjectFilter, Setting, TokenFilter,
        TokenRow,
    },
    rows::{self, KeyRow},
};

impl Store {
    pub async fn project(&self, id: ProjectId) -> Result<Option<Project>> {
        project(&mut *self.readable()?.begin().await?, id).await
    }

    pub async fn projects(&self, filter: &ProjectFilter, page: &Page) -> Result<Listing<Project>> {
        let mut query = select(rows::PROJECT_COLUMNS, "projects p");
        if let Some(name) = &filter.name {
            query.push(" AND p.name = ").push_bind(name.clone());
        }
        if let Some(active) = filter.is_active {
            query.push(" AND p.is_active = ").push_bind(i64::from(active));
        }
        if let Some(ids) = &filter.ids {
            push_in(&mut query, "p.id", ids);
        }
        // One snapshot for projects and keys.
        let mut tx = self.readable()?.begin().await?;
        let mut listing =
            list(&mut tx, query, page, "p.id", rows::project, |row| row.id.to_string()).await?;
        let ids: Vec<_> = listing.items.iter().map(|project| project.id).collect();
        let mut keys = provider_key_rows(&mut tx, &ids).await?;
        for project in &mut listing.items {
            project.provider_keys = shown(keys.remove(&project.id).unwrap_or_default());
        }
        Ok(listing)
    }

    /// The keys of a project by provider, decrypted.
    pub async fn provider_keys(&self, id: ProjectId) -> Result<BTreeMap<String, Secret>> {
        let mut connection = self.readable()?.acquire().await?;
        let mut found = provider_key_rows(&mut connection, &[id]).await?;
        let open = |row: KeyRow| {
            let keys = &self.0.keys;
            let key = keys.open_provider_key(&row.key_id, &row.ciphertext, id, &row.provider)?;
            Ok((row.provider, key))
        };
        found.remove(&id).unwrap_or_default().into_iter().map(open).collect()
    }

    pub async fn token(&self, id: TokenId) -> Result<Option<TokenRow>> {
        token(&mut *self.readable()?.acquire().await?, id).await
    }

    pub async fn tokens(&self, filter: &TokenFilter, page: &Page) -> Result<Listing<TokenRow>> {
        let mut query = select(rows::TOKEN_COLUMNS, rows::TOKEN_TABLES);
        if let Some(id) = filter.project_id {
            query.push(" AND t.project_id = ").push_bind(id.to_string());
        }
        if let Some(ids) = &filter.project_ids {
            push_in(&mut query, "t.project_id", ids);
        }
        if filter.active_only {
            query
                .push(" AND t.is_active = 1 AND (t.expires_at IS NULL OR t.expires_at > ")
                .push_bind(self.0.clock.now().as_micros())
                .push(")");
        }
        let mut connection = self.readable()?.acquire().await?;
        list(&mut connection, query, page, "t.id", rows::token, |row| row.id.to_string()).await
    }

    pub async fn management_key(&self, id: ManagementKeyId) -> Result<Option<ManagementKey>> {
        management_key(&mut *self.readable()?.acquire().await?, id).await
    }

    pub async fn management_keys(&self, page: &Page) -> Result<Listing<ManagementKey>> {
        let query = select(rows::MANAGEMENT_KEY_COLUMNS, "management_keys");
        let mut connection = self.readable()?.acquire().await?;
        list(&mut connection, query, page, "id", rows::management_key, |row| row.id.to_string())
            .await
    }

    /// Whatever its state: the caller asks [`ManagementKey::is_usable`].
    pub async fn management_key_by_hash(&self, hash: &TokenHash) -> Result<Option<ManagementKey>> {
        let mut query = select(rows::MANAGEMENT_KEY_COLUMNS, "management_keys");
        query.push(" AND hash = ").push_bind(rows::hex(hash.as_bytes()));
        let row = query.build().fetch_optional(self.readable()?).await?;
        row.as_ref().map(rows::management_key).transpose()
    }

    pub async fn setting(&self, name: &str) -> Result<Option<Setting>> {
        setting(&mut *self.readable()?.acquire().await?, name).await
    }

    pub async fn settings(&self) -> Result<Vec<Setting>> {
        let query = "SELECT name, value, rev, updated_at FROM settings ORDER BY name";
        sqlx::query(query).fetch_all(self.readable()?).await?.iter().map(rows::setting).collect()
    }
}

pub(crate) async fn project(connection: &mut Connection, id: ProjectId) -> Result<Option<Project>> {
    let mut query = select(rows::PROJECT_COLUMNS, "projects p");
    query.push(" AND p.id = ").push_bind(id.to_string());
    let Some(row) = query.build().fetch_optional(&mut *connection).await? else {
        return Ok(None);
    };
    let mut project = rows::project(&row)?;
    let keys = provider_key_rows(connection, &[id]).await?.remove(&id);
    project.provider_keys = shown(keys.unwrap_or_default());
    Ok(Some(project))
}

pub(crate) async fn token(connection: &mut Connection, id: TokenId) -> Result<Option<TokenRow>> {
    let mut query = select(rows::TOKEN_COLUMNS, rows::TOKEN_TABLES);
    query.push(" AND t.id = ").push_bind(id.to_string());
    let row = query.build().fetch_optional(connection).await?;
    row.as_ref().map(rows::token).transpose()
}

pub(crate) async fn management_key(
    connection: &mut Connection,
    id: ManagementKeyId,
) -> Result<Option<ManagementKey>> {
    let mut query = select(rows::MANAGEMENT_KEY_COLUMNS, "management_keys");
    query.push(" AND id = ").push_bind(id.to_string());
    let row = query.build().fetch_optional(connection).await?;
    row.as_ref().map(rows::management_key).transpose()
}

pub(crate) async fn setting(connection: &mut Connection, name: &str) -> Result<Option<Setting>> {
    let row = sqlx::query("SELECT name, value, rev, updated_at FROM settings WHERE name = ?")
        .bind(name)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(rows::setting).transpose()
}

/// The sealed provider keys of some projects.
pub(crate) async fn provider_key_rows(
    connection: &mut Connection,
    projects: &[ProjectId],
) -> Result<BTreeMap<ProjectId, Vec<KeyRow>>> {
    let mut found: BTreeMap<ProjectId, Vec<KeyRow>> = BTreeMap::new();
    let mut query = select(rows::KEY_COLUMNS, "provider_keys");
    push_in(&mut query, "project_id", projects);
    for row in query.build().fetch_all(connection).await? {
        let key = rows::provider_key(&row)?;
        found.entry(key.project_id).or_default().push(key);
    }
    Ok(found)
}

fn shown(keys: Vec<KeyRow>) -> BTreeMap<String, crate::ProviderKeyRow> {
    keys.into_iter().map(|key| (key.provider, key.shown)).collect()
}

/// `SELECT columns FROM tables WHERE 1 = 1`, for conditions to follow.
pub(crate) fn select(columns: &'static str, tables: &'static str) -> QueryBuilder<Db> {
    QueryBuilder::new(format!("SELECT {columns} FROM {tables} WHERE 1 = 1"))
}

pub(crate) fn push_in<T: ToString>(
    query: &mut QueryBuilder<Db>,
    column: &'static str,
    values: &[T],
) {
    if values.is_empty() {
        query.push(" AND 1 = 0");
        return;
    }
    query.push(format!(" AND {column} IN ("));
    let mut list = query.separated(", ");
    for value in values {
        list.push_bind(value.to_string());
    }
    query.push(")");
}

/// One page in falling order of a text key that grows with time.
async fn list<T>(
    connection: &mut Connection,
    mut query: QueryBuilder<Db>,
    page: &Page,
    key_column: &'static str,
    read: fn(&Row) -> Result<T>,
    key: fn(&T) -> String,
) -> Result<Listing<T>> {
    check_limit(page)?;
    if let Some(cursor) = &page.cursor {
        let cursor: uuid::Uuid = cursor.parse().map_err(|_| invalid_cursor())?;
        query.push(format!(" AND {key_column} < ")).push_bind(cursor.to_string());
    }
    query.push(format!(" ORDER BY {key_column} DESC LIMIT "));
    // One more than asked tells whether there is a next page.
    query.push_bind(i64::from(page.limit) + 1);
    let rows = query.build().fetch_all(connection).await?;
    let mut items = rows.iter().map(read).collect::<Result<Vec<T>>>()?;
    let next_cursor = cut_page(&mut items, page, key);
    Ok(Listing { items, next_cursor })
}

pub(crate) fn check_limit(page: &Page) -> Result<()> {
    if (1..=PAGE_LIMIT_MAX).contains(&page.limit) {
        return Ok(());
    }
    Err(Error::invalid(format!("limit must be between 1 and {PAGE_LIMIT_MAX}")))
}

pub(crate) fn invalid_cursor() -> Error {
    Error::invalid("the cursor is not one that a list gave")
}

pub(crate) fn cut_page<T>(
    items: &mut Vec<T>,
    page: &Page,
    key: impl Fn(&T) -> String,
) -> Option<String> {
    let limit = page.limit as usize;
    let more = items.len() > limit;
    items.truncate(limit);
    items.last().filter(|_| more).map(key)
}
