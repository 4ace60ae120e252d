//! Management keys: create, list, update, revoke.

use std::collections::BTreeSet;

use domain::{
    audit::{Action, Change, EntryDraft, TargetKind},
    ids::{EntryId, ManagementKeyId, ProjectId},
    role::Role,
    time::Timestamp,
    token::{MANAGEMENT_KEY_PREFIX, generate},
};
use serde::Serialize;
use store::{AuditedTx, Listing, ManagementKey, ManagementKeyPatch, NewManagementKey, Page};

use super::{
    Done, Manage,
    access::Caller,
    check_version,
    error::{Error, Kind, Result},
    projects::time,
};

/// A management key as it is shown.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct KeyView {
    pub id: String,
    pub name: String,
    /// Obfuscated; the whole key only in the answer to its creation.
    pub key: String,
    /// `admin`, `operator`, `auditor` or `viewer`.
    pub role: String,
    /// The projects it is limited to; null: no limit.
    pub project_ids: Option<Vec<String>>,
    pub expires_at: Option<String>,
    pub revoked_at: Option<String>,
    pub created_at: String,
    pub updated_at: String,
}

#[derive(Debug)]
pub struct Create {
    pub name: String,
    pub role: Role,
    pub project_ids: Option<BTreeSet<ProjectId>>,
    pub expires_at: Option<Timestamp>,
}

#[derive(Debug, Default)]
pub struct Update {
    pub name: Option<String>,
    pub role: Option<Role>,
    pub project_ids: Option<Option<BTreeSet<ProjectId>>>,
    pub expires_at: Option<Option<Timestamp>>,
    pub expected_version: Option<u64>,
}

pub async fn create(manage: &Manage, caller: &Caller, new: Create) -> Result<Done<KeyView>> {
    let secret = generate(MANAGEMENT_KEY_PREFIX, &*manage.rng);
    let mut tx = manage.store.begin(caller.actor.clone(), caller.context.clone()).await?;
    check_projects(&mut tx, new.project_ids.as_ref()).await?;
    let key = tx
        .create_management_key(NewManagementKey {
            name: new.name,
            hash: manage.store.token_hash_key().hash(&secret),
            obfuscated: secret.obfuscated(),
            role: new.role,
            project_ids: new.project_ids.map(|ids| ids.into_iter().collect()),
            expires_at: new.expires_at,
        })
        .await?;
    let draft = EntryDraft::new(Action::KeyCreate)
        .target(TargetKind::Key, key.id)
        .revisions(None, Some(key.rev))
        .change(Change::created(&key));
    let committed = tx.commit(caller.explain(draft)).await?;
    let mut done = done(&key, Some(committed.audit_id()));
    secret.expose().clone_into(&mut done.view.key);
    Ok(done)
}

pub async fn list(manage: &Manage, page: &Page) -> Result<Listing<KeyView>> {
    let found = manage.store.management_keys(page).await?;
    Ok(Listing { items: found.items.iter().map(view).collect(), next_cursor: found.next_cursor })
}

pub async fn update(
    manage: &Manage,
    caller: &Caller,
    id: ManagementKeyId,
    update: Update,
) -> Result<Done<KeyView>> {
    let mut tx = manage.store.begin(caller.actor.clone(), caller.context.clone()).await?;
    let before = tx.management_key(id).await?;
    check_version(update.expected_version, before.rev)?;
    if before.revoked_at.is_some() {
        return Err(Error::new(Kind::Conflict, "a revoked key stays revoked; create another"));
    }
    check_projects(&mut tx, update.project_ids.as_ref().and_then(Option::as_ref)).await?;
    let patch = ManagementKeyPatch {
        name: update.name,
        role: update.role,
        project_ids: update.project_ids.map(|ids| ids.map(|ids| ids.into_iter().collect())),
        expires_at: update.expires_at,
    };
    let updated = tx.update_management_key(id, None, patch).await?;
    if updated.is_noop() {
        tx.rollback().await?;
        return Ok(done(&updated.after, None));
    }
    let draft = EntryDraft::new(Action::KeyUpdate)
        .target(TargetKind::Key, id)
        .revisions(Some(updated.before.rev), Some(updated.after.rev))
        .change(updated.change());
    let committed = tx.commit(caller.explain(draft)).await?;
    manage.credentials.forget();
    Ok(done(&updated.after, Some(committed.audit_id())))
}

/// Idempotent; at once on this instance.
pub async fn revoke(
    manage: &Manage,
    caller: &Caller,
    id: ManagementKeyId,
) -> Result<Option<EntryId>> {
    let mut tx = manage.store.begin(caller.actor.clone(), caller.context.clone()).await?;
    let updated = tx.revoke_management_key(id).await?;
    if updated.is_noop() {
        tx.rollback().await?;
        return Ok(None);
    }
    let draft = EntryDraft::new(Action::KeyRevoke)
        .target(TargetKind::Key, id)
        .revisions(Some(updated.before.rev), Some(updated.after.rev))
        .change(updated.change());
    let committed = tx.commit(caller.explain(draft)).await?;
    manage.credentials.forget();
    Ok(Some(committed.audit_id()))
}

/// A key that is limited to a project which does not exist is a slip.
async fn check_projects(tx: &mut AuditedTx, ids: Option<&BTreeSet<ProjectId>>) -> Result<()> {
    for id in ids.into_iter().flatten() {
        tx.project(*id).await.map_err(|error| match error.kind() {
            store::ErrorKind::NotFound => Error::invalid("project_ids names no project"),
            _ => error.into(),
        })?;
    }
    Ok(())
}

fn done(key: &ManagementKey, entry: Option<EntryId>) -> Done<KeyView> {
    Done { view: view(key), entry, version: key.rev }
}

fn view(key: &ManagementKey) -> KeyView {
    let ids = |ids: &Vec<ProjectId>| ids.iter().map(ProjectId::to_string).collect();
    KeyView {
        id: key.id.to_string(),
        name: key.name.clone(),
        key: key.obfuscated.clone(),
        role: key.role.as_str().to_owned(),
        project_ids: key.project_ids.as_ref().map(ids),
        expires_at: time(key.expires_at),
        revoked_at: time(key.revoked_at),
        created_at: key.created_at.to_string(),
        updated_at: key.updated_at.to_string(),
    }
}
