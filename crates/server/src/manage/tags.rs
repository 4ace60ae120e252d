//! The tags of a credential: whether it was ever tried here can be asked of the
//! audit log by them.

use domain::{
    audit::{Action, EntryDraft, TargetKind},
    ids::EntryId,
    secret::Secret,
};
use serde::Serialize;

use super::{Manage, access::Caller, entered::entered, error::Result};

/// The tag of one week.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct TagView {
    pub from: String,
    pub until: String,
    /// What stands as `credential_tag` in entries of that week.
    pub tag: String,
}

/// What a credential was tagged with, each week that a key is kept of, the
/// newest first. The credential is kept nowhere.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct TagsView {
    /// What kind of credential it looks like.
    pub family: &'static str,
    pub items: Vec<TagView>,
}

/// Who asks is entered; what was asked for is not.
pub async fn tags(
    manage: &Manage,
    caller: &Caller,
    credential: &Secret,
) -> Result<(TagsView, EntryId)> {
    let draft = EntryDraft::new(Action::AuditRead)
        .target(TargetKind::Setting, "credential_tag_key")
        .reason("credential_tags");
    let entry = entered(manage, caller, draft).await?;
    let credential = credential.expose().as_bytes();
    let keys = manage.store.tag_keys().await?;
    let now = manage.clock.now();
    let items = keys.values().rev().filter(|key| key.period().begins() <= now).map(|key| TagView {
        from: key.period().begins().to_string(),
        until: key.period().next().begins().to_string(),
        tag: key.tag(credential),
    });
    let family = domain::credential::family(credential);
    Ok((TagsView { family, items: items.collect() }, entry))
}
