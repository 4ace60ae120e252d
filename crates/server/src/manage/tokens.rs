//! Withering tokens: create, read, list, update, revoke, revoke a project's.

use std::collections::BTreeMap;

use domain::{
    audit::{Action, Change, Detail, EntryDraft, TargetKind},
    capture::Capture,
    ids::{EntryId, ProjectId, TokenId},
    labels::Labels,
    time::Timestamp,
    token::Token,
};
use serde::Serialize;
use store::{Listing, NewToken, Page, TokenFilter, TokenPatch, TokenRow};

use super::{
    Done, Manage,
    access::Caller,
    check_version,
    error::{Error, Kind, Result},
    projects::time,
};

const MINUTE_US: i64 = 60_000_000;

/// A token as it is shown: obfuscated, except in the answer that creates it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct TokenView {
    pub id: String,
    /// Obfuscated; the whole token only in the answer to its creation.
    pub token: String,
    pub project_id: String,
    pub expires_at: Option<String>,
    pub is_active: bool,
    pub revoked_at: Option<String>,
    pub request_count: u64,
    pub max_requests: Option<u64>,
    pub rate_limit_rpm: Option<u32>,
    pub allowed_models: Option<Vec<String>>,
    pub capture_bodies: Option<String>,
    pub description: Option<String>,
    pub created_at: String,
    pub last_used_at: Option<String>,
    pub labels: BTreeMap<String, String>,
}

/// How long a token lives from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    Minutes(u64),
    Forever,
}

impl Lifetime {
    fn end(self, now: Timestamp) -> Option<Timestamp> {
        match self {
            // At most a year, so it fits.
            Self::Minutes(minutes) => Some(now.plus_micros(minutes as i64 * MINUTE_US)),
            Self::Forever => None,
        }
    }
}

#[derive(Debug)]
pub struct Create {
    pub project_id: ProjectId,
    pub lifetime: Lifetime,
    pub max_requests: Option<u64>,
    pub rate_limit_rpm: Option<u32>,
    pub allowed_models: Option<Vec<String>>,
    pub labels: Labels,
    pub description: Option<String>,
    pub capture_bodies: Option<Capture>,
}

#[derive(Debug, Default)]
pub struct Update {
    pub lifetime: Option<Lifetime>,
    pub is_active: Option<bool>,
    pub max_requests: Option<Option<u64>>,
    pub rate_limit_rpm: Option<Option<u32>>,
    pub allowed_models: Option<Option<Vec<String>>>,
    pub labels: Option<Labels>,
    pub description: Option<Option<String>>,
    pub capture_bodies: Option<Option<Capture>>,
    pub terminate: bool,
    pub expected_version: Option<u64>,
}

pub async fn create(manage: &Manage, caller: &Caller, new: Create) -> Result<Done<TokenView>> {
    let unknown = || Error::invalid("project_id names no project");
    if !caller.sees(new.project_id) {
        return Err(unknown());
    }
    let token = Token::generate(&*manage.rng);
    let key = manage.store.token_hash_key();
    let mut tx = manage.store.begin(caller.actor.clone(), caller.context.clone()).await?;
    let project = tx.project(new.project_id).await.map_err(|error| match error.kind() {
        store::ErrorKind::NotFound => unknown(),
        _ => error.into(),
    })?;
    if !project.is_active {
        return Err(Error::invalid("project_id names a project that is not active"));
    }
    let row = tx
        .create_token(NewToken {
            expires_at: new.lifetime.end(tx.now()),
            max_requests: new.max_requests,
            rate_limit_rpm: new.rate_limit_rpm,
            allowed_models: new.allowed_models,
            labels: new.labels,
            description: new.description,
            capture_bodies: new.capture_bodies,
            ..NewToken::new(new.project_id, &token, key)
        })
        .await?;
    let draft = EntryDraft::new(Action::TokenCreate)
        .project(row.project_id)
        .token(row.id)
        .target(TargetKind::Token, row.id)
        .revisions(None, Some(row.rev))
        .change(Change::created(&row));
    let committed = tx.commit(caller.explain(draft)).await?;
    manage.directory.created(token.hash(key));
    let mut done = done(&row, Some(committed.audit_id()));
    token.expose().clone_into(&mut done.view.token);
    Ok(done)
}

pub async fn get(manage: &Manage, caller: &Caller, id: TokenId) -> Result<Done<TokenView>> {
    let row = manage.store.token(id).await?.filter(|row| caller.sees(row.project_id));
    let mut row = row.ok_or_else(unknown_token)?;
    count_here(manage, &mut row);
    Ok(done(&row, None))
}

pub async fn list(
    manage: &Manage,
    caller: &Caller,
    project_id: Option<ProjectId>,
    active_only: bool,
    page: &Page,
) -> Result<Listing<TokenView>> {
    let filter = TokenFilter { project_id, project_ids: caller.project_ids(), active_only };
    let mut found = manage.store.tokens(&filter, page).await?;
    for row in &mut found.items {
        count_here(manage, row);
    }
    Ok(Listing { items: found.items.iter().map(view).collect(), next_cursor: found.next_cursor })
}

pub async fn update(
    manage: &Manage,
    caller: &Caller,
    id: TokenId,
    update: Update,
) -> Result<Done<TokenView>> {
    let mut tx = manage.store.begin(caller.actor.clone(), caller.context.clone()).await?;
    let before = tx.token(id).await.map_err(hide_unknown)?;
    if !caller.sees(before.project_id) {
        return Err(unknown_token());
    }
    check_version(update.expected_version, before.rev)?;
    if before.revoked_at.is_some() && update.is_active == Some(true) {
        return Err(Error::new(
            Kind::Conflict,
            "is_active: a revoked token stays revoked; create another",
        ));
    }
    let patch = TokenPatch {
        is_active: update.is_active,
        expires_at: update.lifetime.map(|lifetime| lifetime.end(tx.now())),
        max_requests: update.max_requests,
        rate_limit_rpm: update.rate_limit_rpm,
        allowed_models: update.allowed_models,
        labels: update.labels,
        description: update.description,
        capture_bodies: update.capture_bodies,
    };
    let updated = tx.update_token(id, None, patch).await?;
    if updated.is_noop() && !update.terminate {
        tx.rollback().await?;
        return Ok(done(&updated.after, None));
    }
    let mut draft = EntryDraft::new(Action::TokenUpdate)
        .project(updated.after.project_id)
        .token(id)
        .target(TargetKind::Token, id)
        .revisions(Some(updated.before.rev), Some(updated.after.rev))
        .change(updated.change());
    if update.terminate {
        draft = draft.detail(Detail::Terminate(true));
    }
    let committed = tx.commit(caller.explain(draft)).await?;
    manage.directory.refresh_tokens(&[id]).await;
    if update.terminate && !updated.after.is_active {
        manage.directory.terminate_tokens(&[id]);
    }
    let mut after = updated.after;
    count_here(manage, &mut after);
    Ok(done(&after, Some(committed.audit_id())))
}

/// Idempotent: revoking again changes nothing and leaves no second entry, but
/// still ends running requests when asked to.
pub async fn revoke(
    manage: &Manage,
    caller: &Caller,
    id: TokenId,
    terminate: bool,
) -> Result<Option<EntryId>> {
    let mut tx = manage.store.begin(caller.actor.clone(), caller.context.clone()).await?;
    let before = tx.token(id).await.map_err(hide_unknown)?;
    if !caller.sees(before.project_id) {
        return Err(unknown_token());
    }
    let updated = tx.revoke_token(id).await?;
    if updated.is_noop() && !terminate {
        tx.rollback().await?;
        return Ok(None);
    }
    let mut draft = EntryDraft::new(Action::TokenRevoke)
        .project(updated.after.project_id)
        .token(id)
        .target(TargetKind::Token, id)
        .revisions(Some(updated.before.rev), Some(updated.after.rev))
        .change(updated.change());
    if terminate {
        draft = draft.detail(Detail::Terminate(true));
    }
    let committed = tx.commit(caller.explain(draft)).await?;
    manage.directory.refresh_tokens(&[id]).await;
    if terminate {
        manage.directory.terminate_tokens(&[id]);
    }
    Ok(Some(committed.audit_id()))
}

/// How many tokens a batch revocation met.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct RevokedView {
    pub revoked_count: u64,
    pub already_revoked_count: u64,
    pub total_tokens: u64,
}

/// Revokes every token of a project in one transaction with one entry.
pub async fn revoke_batch(
    manage: &Manage,
    caller: &Caller,
    project: ProjectId,
    terminate: bool,
) -> Result<(RevokedView, EntryId)> {
    caller.check_project(project)?;
    let mut tx = manage.store.begin(caller.actor.clone(), caller.context.clone()).await?;
    let rev = tx.project(project).await?.rev;
    let batch = tx.revoke_project_tokens(project).await?;
    let view = RevokedView {
        revoked_count: batch.revoked.len() as u64,
        already_revoked_count: batch.already_revoked_count,
        total_tokens: batch.total_tokens,
    };
    let draft = EntryDraft::new(Action::TokenRevokeBatch)
        .project(project)
        .target(TargetKind::Project, project)
        .revisions(Some(rev), Some(rev))
        .detail(Detail::RevokedCount(view.revoked_count))
        .detail(Detail::AlreadyRevokedCount(view.already_revoked_count))
        .detail(Detail::TotalTokens(view.total_tokens))
        .detail(Detail::Terminate(terminate));
    let committed = tx.commit(caller.explain(draft)).await?;
    manage.directory.refresh_project(project).await;
    if terminate {
        manage.directory.terminate_project(project);
    }
    Ok((view, committed.audit_id()))
}

fn unknown_token() -> Error {
    Error::not_found("token")
}

fn hide_unknown(error: store::Error) -> Error {
    let error = Error::from(error);
    if error.kind == Kind::NotFound { unknown_token() } else { error }
}

/// Adds what this process counted and has not yet handed to the store.
fn count_here(manage: &Manage, row: &mut TokenRow) {
    if let Some(used) = manage.directory.used(row.id) {
        row.request_count = row.request_count.max(used);
    }
}

fn done(row: &TokenRow, entry: Option<EntryId>) -> Done<TokenView> {
    Done { view: view(row), entry, version: row.rev }
}

fn view(row: &TokenRow) -> TokenView {
    TokenView {
        id: row.id.to_string(),
        token: row.obfuscated.clone(),
        project_id: row.project_id.to_string(),
        expires_at: time(row.expires_at),
        is_active: row.is_active,
        revoked_at: time(row.revoked_at),
        request_count: row.request_count,
        max_requests: row.max_requests,
        rate_limit_rpm: row.rate_limit_rpm,
        allowed_models: row.allowed_models.clone(),
        capture_bodies: row.capture_bodies.map(|capture| capture.as_str().to_owned()),
        description: row.description.clone(),
        created_at: row.created_at.to_string(),
        last_used_at: time(row.last_used_at),
        labels: row.labels.clone().into(),
    }
}
