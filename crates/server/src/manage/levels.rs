//! How much is traced: shown and changed while the process runs.

use domain::{
    audit::{Action, Detail, EntryDraft, TargetKind, Word},
    ids::EntryId,
};
use serde::Serialize;

use super::{
    Manage,
    access::Caller,
    error::{Error, Kind, Result},
};
use crate::trace::{Subject, TraceLevel, level::Override};

pub const TTL_SECONDS_MAX: u64 = 86_400;
/// How long a change lasts when the caller does not say.
pub const TTL_SECONDS_DEFAULT: u64 = 900;

#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct LevelView {
    /// In force for everything that no override concerns.
    pub level: String,
    /// What `level` reverts to.
    pub configured: String,
    /// When it does; null: it stands as configured.
    pub reverts_at: Option<String>,
    pub overrides: Vec<OverrideView>,
}

#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct OverrideView {
    pub project_id: Option<String>,
    pub token_id: Option<String>,
    pub level: String,
    pub reverts_at: String,
}

#[derive(Debug)]
pub struct Change {
    pub subject: Subject,
    pub level: TraceLevel,
    pub ttl_seconds: u64,
}

pub fn get(manage: &Manage) -> LevelView {
    let overrides = manage.levels.overrides(manage.clock.now());
    let everything = overrides.iter().find(|set| set.subject == Subject::Everything);
    let configured = manage.levels.configured();
    LevelView {
        level: everything.map_or(configured, |set| set.level).as_str().to_owned(),
        configured: configured.as_str().to_owned(),
        reverts_at: everything.map(|set| set.until.to_string()),
        overrides: overrides.iter().filter_map(view).collect(),
    }
}

fn view(set: &Override) -> Option<OverrideView> {
    let (project_id, token_id) = match set.subject {
        Subject::Everything => return None,
        Subject::Project(id) => (Some(id.to_string()), None),
        Subject::Token(id) => (None, Some(id.to_string())),
    };
    let (level, reverts_at) = (set.level.as_str().to_owned(), set.until.to_string());
    Some(OverrideView { project_id, token_id, level, reverts_at })
}

/// The entry is written first: a change of what is seen must not go unseen.
pub async fn put(manage: &Manage, caller: &Caller, change: Change) -> Result<(LevelView, EntryId)> {
    let before = get(manage).level;
    let mut draft = EntryDraft::new(Action::LogLevelChange)
        .target(TargetKind::Setting, "log_level")
        .detail(Detail::Level(Word::lossy(change.level.as_str())))
        .detail(Detail::PreviousLevel(Word::lossy(&before)))
        .detail(Detail::TtlSeconds(change.ttl_seconds));
    match change.subject {
        Subject::Everything => {}
        Subject::Project(id) => {
            if manage.store.project(id).await?.is_none() {
                return Err(Error::invalid("project_id names no project"));
            }
            draft = draft.project(id);
        }
        Subject::Token(id) => {
            let token = manage.store.token(id).await?;
            let token = token.ok_or_else(|| Error::invalid("token_id names no token"))?;
            draft = draft.project(token.project_id).token(id);
        }
    }
    let tx = manage.store.begin(caller.actor.clone(), caller.context.clone()).await?;
    let committed = tx.commit(caller.explain(draft)).await?;
    let ttl_us = change.ttl_seconds as i64 * 1_000_000;
    let until = manage.clock.now().plus_micros(ttl_us);
    let set = Override { subject: change.subject, level: change.level, until };
    let set = manage.levels.set(set);
    set.map_err(|full| Error::new(Kind::Conflict, full.to_string()))?;
    let (project_id, token_id) = match change.subject {
        Subject::Everything => (None, None),
        Subject::Project(id) => (Some(id.to_string()), None),
        Subject::Token(id) => (None, Some(id.to_string())),
    };
    tracing::info!(
        to = change.level.as_str(),
        ttl_seconds = change.ttl_seconds,
        of_project = project_id,
        of_token = token_id,
        "the trace level was changed"
    );
    Ok((get(manage), committed.audit_id()))
}
