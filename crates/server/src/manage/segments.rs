//! What is kept: merging, dropping, erasing and adopting on demand.
//!
//! Each order leaves its entry before it is carried out, in the caller's name;
//! what it does to each file leaves another in the name of the process.

use std::sync::Arc;

use domain::{
    audit::{Action, Detail, EntryDraft, TargetKind, Text},
    ids::{EntryId, ProjectId},
};
use logstore::catalog::{Catalog, CatalogError, Erase, Policy};
use serde::Serialize;

use super::{
    Manage,
    access::Caller,
    error::{Error, Kind, Result},
};

/// The catalog, and how what is not sealed yet gets there.
#[derive(Clone)]
pub struct Segments {
    pub catalog: Arc<Catalog>,
    pub policy: Policy,
    /// Seals all that is committed now; says up to which line. Blocks.
    pub seal_now: Arc<dyn Fn() -> Result<u64, CatalogError> + Send + Sync>,
}

#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct CompactView {
    /// Files that became others, and those others.
    pub merged: u64,
    pub made: u64,
    pub rows: u64,
    pub bytes_before: u64,
    pub bytes_after: u64,
}

#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct PruneView {
    pub files: u64,
    pub rows: u64,
    pub bytes: u64,
    /// Due, but held.
    pub held: u64,
    /// By how much the rest is larger than RETENTION_BYTES.
    pub bytes_over: u64,
    pub dropped: Vec<String>,
}

#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct EraseView {
    /// Files that were looked at, and those written again or removed.
    pub files: u64,
    pub rewritten: u64,
    pub rows: u64,
    /// Files that could not be read and still hold what they held.
    pub failed: Vec<String>,
}

#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct AdoptView {
    pub instances: Vec<String>,
    /// Requests that their last processes left unfinished.
    pub interrupted: u64,
    pub files: u64,
    pub rows: u64,
}

/// Seals what is there and merges all files that are small.
pub async fn compact(manage: &Manage, caller: &Caller) -> Result<(CompactView, EntryId)> {
    let draft = EntryDraft::new(Action::SegmentCompacted).target(TargetKind::Segment, "all");
    let entry = ordered(manage, caller, draft).await?;
    let report = work(manage, |segments| {
        (segments.seal_now)()?;
        segments.catalog.compact_all()
    })
    .await?;
    let view = CompactView {
        merged: report.merged,
        made: report.made,
        rows: report.rows,
        bytes_before: report.bytes_before,
        bytes_after: report.bytes_after,
    };
    Ok((view, entry))
}

/// Drops what the settings no longer keep; `dry` only says what would go.
pub async fn prune(
    manage: &Manage,
    caller: &Caller,
    dry: bool,
) -> Result<(PruneView, Option<EntryId>)> {
    let entry = match dry {
        true => None,
        false => {
            let draft = EntryDraft::new(Action::SegmentPruned).target(TargetKind::Segment, "all");
            Some(ordered(manage, caller, draft).await?)
        }
    };
    let report =
        work(manage, move |segments| segments.catalog.prune(&segments.policy, dry)).await?;
    let view = PruneView {
        files: report.files,
        rows: report.rows,
        bytes: report.bytes,
        held: report.held,
        bytes_over: report.bytes_over,
        dropped: report.dropped,
    };
    Ok((view, entry))
}

/// Takes all lines of a project or an end user out of records, bodies and
/// traces, those that are still in the journal included.
pub async fn erase(manage: &Manage, caller: &Caller, what: Erase) -> Result<(EraseView, EntryId)> {
    let draft = EntryDraft::new(Action::LogsErase);
    let draft = match &what {
        Erase::Project(id) => draft.target(TargetKind::Project, id).project(*id),
        // Who it is stands sealed: the entry must not undo the erasure.
        Erase::EndUser(user) => draft
            .target(TargetKind::Record, "end_user")
            .detail(Detail::Query(Text::new(&format!("end_user:{user}")))),
    };
    let entry = ordered(manage, caller, draft).await?;
    let report = work(manage, move |segments| {
        (segments.seal_now)()?;
        segments.catalog.erase(&what)
    })
    .await?;
    let view = EraseView {
        files: report.files,
        rewritten: report.rewritten,
        rows: report.rows,
        failed: report.failed,
    };
    Ok((view, entry))
}

/// Seals the journals of other instances that lie in the data directory.
pub async fn adopt(manage: &Manage, caller: &Caller) -> Result<(AdoptView, EntryId)> {
    let draft = EntryDraft::new(Action::SegmentSealed).target(TargetKind::Journal, "others");
    let entry = ordered(manage, caller, draft).await?;
    let adopted = work(manage, |segments| segments.catalog.adopt()).await?;
    let view = AdoptView {
        instances: adopted.iter().map(|it| it.instance.as_str().to_owned()).collect(),
        interrupted: adopted.iter().map(|it| it.interrupted).sum(),
        files: adopted.iter().map(|it| it.files).sum(),
        rows: adopted.iter().map(|it| it.rows).sum(),
    };
    Ok((view, entry))
}

/// The entry of an order, written before it is carried out.
async fn ordered(manage: &Manage, caller: &Caller, draft: EntryDraft) -> Result<EntryId> {
    let tx = manage.store.begin(caller.actor.clone(), caller.context.clone()).await?;
    Ok(tx.commit(caller.explain(draft)).await?.audit_id())
}

/// Runs work on files off the asynchronous threads.
async fn work<T: Send + 'static>(
    manage: &Manage,
    run: impl FnOnce(&Segments) -> Result<T, CatalogError> + Send + 'static,
) -> Result<T> {
    let segments = manage.segments.clone();
    let done = tokio::task::spawn_blocking(move || run(&segments)).await;
    let done = done.map_err(|panic| {
        Error::new(Kind::Internal, "the work on segments broke off").with_source(panic)
    })?;
    done.map_err(|error| {
        let text = "the segments cannot be changed now; the server's traces say why";
        Error::new(Kind::Unavailable, text).with_source(error)
    })
}

/// A project by its id, or an end user.
pub fn erase_of(project_id: Option<ProjectId>, end_user: Option<String>) -> Result<Erase> {
    match (project_id, end_user) {
        (Some(id), None) => Ok(Erase::Project(id)),
        (None, Some(user)) if !user.is_empty() => Ok(Erase::EndUser(user)),
        _ => Err(Error::invalid("give project_id or end_user, one of them")),
    }
}
