//! Projects: create, read, list, update.

use std::collections::BTreeMap;

use domain::{
    audit::{Action, Change, Detail, EntryDraft, TargetKind},
    capture::Capture,
    ids::ProjectId,
    labels::Labels,
    secret::Secret,
    time::Timestamp,
};
use serde::Serialize;
use store::{Listing, NewProject, Page, Project, ProjectFilter, ProjectPatch};

use super::{
    Done, Manage,
    access::Caller,
    check_version,
    error::{Error, Result},
};

/// A project as it is shown; its keys only as a person recognises them.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ProjectView {
    pub id: String,
    pub name: String,
    /// The default provider's key, obfuscated.
    pub api_key: Option<String>,
    /// All keys by provider, obfuscated.
    pub provider_keys: BTreeMap<String, String>,
    pub is_active: bool,
    pub deactivated_at: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// `off`, `errors`, `all`; null follows the server's setting.
    pub capture_bodies: Option<String>,
    pub created_at: String,
    pub updated_at: String,
}

/// What a new project is made of, already checked field by field.
#[derive(Debug)]
pub struct Create {
    pub name: String,
    pub api_key: Option<Secret>,
    pub provider_keys: BTreeMap<String, Secret>,
    pub labels: Labels,
    pub capture_bodies: Option<Capture>,
}

/// What an update changes; the rest stays.
#[derive(Debug, Default)]
pub struct Update {
    pub name: Option<String>,
    /// `Some(None)` removes the default provider's key.
    pub api_key: Option<Option<Secret>>,
    pub provider_keys: BTreeMap<String, Option<Secret>>,
    pub is_active: Option<bool>,
    pub labels: Option<Labels>,
    pub capture_bodies: Option<Option<Capture>>,
    /// Also revokes every token of the project, in the same transaction.
    pub revoke_tokens: bool,
    /// Also ends running requests, where the update stops new ones.
    pub terminate: bool,
    pub expected_version: Option<u64>,
}

pub async fn create(manage: &Manage, caller: &Caller, new: Create) -> Result<Done<ProjectView>> {
    if caller.projects.is_some() {
        return Err(Error::forbidden("a key limited to projects cannot create another"));
    }
    let mut provider_keys = new.provider_keys;
    if let Some(key) = new.api_key {
        put_default_key(manage, &mut provider_keys, key)?;
    }
    check_providers(manage, provider_keys.keys())?;
    let mut tx = manage.store.begin(caller.actor.clone(), caller.context.clone()).await?;
    let project = tx
        .create_project(NewProject {
            name: new.name,
            provider_keys,
            labels: new.labels,
            capture_bodies: new.capture_bodies,
            is_active: true,
        })
        .await?;
    let draft = EntryDraft::new(Action::ProjectCreate)
        .project(project.id)
        .target(TargetKind::Project, project.id)
        .revisions(None, Some(project.rev))
        .change(Change::created(&project));
    let committed = tx.commit(caller.explain(draft)).await?;
    Ok(done(manage, &project, Some(committed.audit_id())))
}

pub async fn get(manage: &Manage, caller: &Caller, id: ProjectId) -> Result<Done<ProjectView>> {
    caller.check_project(id)?;
    let project = manage.store.project(id).await?.ok_or_else(|| Error::not_found("project"))?;
    Ok(done(manage, &project, None))
}

pub async fn list(
    manage: &Manage,
    caller: &Caller,
    name: Option<String>,
    is_active: Option<bool>,
    page: &Page,
) -> Result<Listing<ProjectView>> {
    let filter = ProjectFilter { name, is_active, ids: caller.project_ids() };
    let found = manage.store.projects(&filter, page).await?;
    Ok(Listing {
        items: found.items.iter().map(|project| view(manage, project)).collect(),
        next_cursor: found.next_cursor,
    })
}

pub async fn update(
    manage: &Manage,
    caller: &Caller,
    id: ProjectId,
    update: Update,
) -> Result<Done<ProjectView>> {
    caller.check_project(id)?;
    let mut provider_keys = update.provider_keys;
    if let Some(key) = update.api_key {
        put_default_key(manage, &mut provider_keys, key)?;
    }
    check_providers(manage, provider_keys.keys())?;
    let patch = ProjectPatch {
        name: update.name,
        provider_keys,
        is_active: update.is_active,
        labels: update.labels,
        capture_bodies: update.capture_bodies,
    };
    let mut tx = manage.store.begin(caller.actor.clone(), caller.context.clone()).await?;
    check_version(update.expected_version, tx.project(id).await?.rev)?;
    let updated = tx.update_project(id, None, patch).await?;
    let mut draft = EntryDraft::new(Action::ProjectUpdate)
        .project(id)
        .target(TargetKind::Project, id)
        .revisions(Some(updated.before.rev), Some(updated.after.rev))
        .change(updated.change());
    let mut revoked = 0;
    if update.revoke_tokens {
        let batch = tx.revoke_project_tokens(id).await?;
        revoked = batch.revoked.len() as u64;
        draft = draft
            .detail(Detail::RevokedCount(revoked))
            .detail(Detail::AlreadyRevokedCount(batch.already_revoked_count))
            .detail(Detail::TotalTokens(batch.total_tokens));
    }
    if update.terminate {
        draft = draft.detail(Detail::Terminate(true));
    }
    if updated.is_noop() && revoked == 0 && !update.terminate {
        tx.rollback().await?;
        return Ok(done(manage, &updated.after, None));
    }
    let committed = tx.commit(caller.explain(draft)).await?;
    manage.directory.refresh_project(id).await;
    if update.terminate && (!updated.after.is_active || update.revoke_tokens) {
        manage.directory.terminate_project(id);
    }
    Ok(done(manage, &updated.after, Some(committed.audit_id())))
}

/// `api_key` is short for the default provider's place in `provider_keys`.
fn put_default_key<T>(manage: &Manage, keys: &mut BTreeMap<String, T>, key: T) -> Result<()> {
    if keys.insert(manage.default_provider.to_string(), key).is_none() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "api_key and provider_keys.{} are the same key; give one of them",
        manage.default_provider
    )))
}

fn check_providers<'a>(manage: &Manage, mut names: impl Iterator<Item = &'a String>) -> Result<()> {
    let known = |name: &str| manage.providers.iter().any(|provider| **provider == *name);
    if names.all(|name| known(name)) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "provider_keys names a provider that is not configured; configured are {}",
        manage.providers.join(", ")
    )))
}

fn done(
    manage: &Manage,
    project: &Project,
    entry: Option<domain::ids::EntryId>,
) -> Done<ProjectView> {
    Done { view: view(manage, project), entry, version: project.rev }
}

fn view(manage: &Manage, project: &Project) -> ProjectView {
    let shown = |row: &store::ProviderKeyRow| row.obfuscated.clone();
    ProjectView {
        id: project.id.to_string(),
        name: project.name.clone(),
        api_key: project.provider_keys.get(&*manage.default_provider).map(shown),
        provider_keys: project
            .provider_keys
            .iter()
            .map(|(provider, row)| (provider.clone(), shown(row)))
            .collect(),
        is_active: project.is_active,
        deactivated_at: time(project.deactivated_at),
        labels: project.labels.clone().into(),
        capture_bodies: project.capture_bodies.map(|capture| capture.as_str().to_owned()),
        created_at: project.created_at.to_string(),
        updated_at: project.updated_at.to_string(),
    }
}

pub(super) fn time(time: Option<Timestamp>) -> Option<String> {
    time.map(|time| time.to_string())
}
