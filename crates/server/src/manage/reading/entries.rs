//! Audit entries for those who may see them: lists, exports, proofs, and the
//! files of the tree.
//!
//! A caller limited to projects sees entries of those alone, and no files: a
//! tile knows no projects.

mod check;
mod export;
mod filter;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use domain::{
    audit::{Action, Detail, EntryDraft, EntryView, TargetKind, Text, tree::TilePath},
    ids::EntryId,
};
use serde::Serialize;
use serde_json::{Value, json};
use store::{Page, SequencedEntry};

pub use self::{
    check::{Verified, check},
    export::{Limits, export},
    filter::Asked,
};
use crate::manage::{
    Manage,
    access::Caller,
    entered::looked,
    error::{Error, Kind, Result},
};

#[derive(Serialize)]
struct ListPage<'a> {
    items: &'a [EntryView],
    next_cursor: Option<&'a str>,
    checkpoint: Option<String>,
}

/// A page of entries, the newest first; behind an index, the oldest first.
pub async fn list(manage: &Manage, caller: &Caller, asked: &Asked, page: &Page) -> Result<Vec<u8>> {
    let filter = asked.filter(caller, manage.clock.now())?;
    let query = asked.to_string();
    let draft = EntryDraft::new(Action::AuditList).detail(Detail::Query(Text::new(&query)));
    looked(manage, caller, &query, draft).await?;
    let (items, next_cursor) = if asked.after.is_some() || asked.before.is_some() {
        if page.cursor.is_some() {
            return Err(Error::invalid("cursor and after or before exclude each other"));
        }
        let found = manage.store.sequenced_entries(&filter, asked.indexes(), page.limit).await?;
        (found.iter().map(view).collect::<Result<Vec<_>>>()?, None)
    } else {
        let listing = manage.store.audit_entries(&filter, page).await?;
        (listing.items, listing.next_cursor)
    };
    let checkpoint = manage.tree.checkpoint().map(|checkpoint| checkpoint.to_string());
    let next_cursor = next_cursor.as_deref();
    let page = ListPage { items: &items, next_cursor, checkpoint };
    serde_json::to_vec(&page).map_err(|error| {
        Error::new(Kind::Internal, "the answer cannot be written").with_source(error)
    })
}

fn view(entry: &SequencedEntry) -> Result<EntryView> {
    EntryView::new(&entry.leaf, &entry.openings, Some(entry.index)).map_err(|error| {
        let text = format!("the audit entry {} is damaged", entry.index);
        Error::new(Kind::Internal, text).with_source(error)
    })
}

/// One entry, by its id or its index.
pub async fn show(manage: &Manage, caller: &Caller, id: &str) -> Result<EntryView> {
    let found = match (id.parse::<EntryId>(), id.parse::<u64>()) {
        (Ok(id), _) => manage.store.audit_entry(id).await?,
        (_, Ok(index)) => manage.store.audit_entry_at(index).await?,
        _ => None,
    };
    let seen = found.filter(|entry| match &caller.projects {
        None => true,
        Some(projects) => entry.project_id.is_some_and(|id| projects.contains(&id)),
    });
    let entry = seen.ok_or_else(|| Error::not_found("entry"))?;
    let draft = EntryDraft::new(Action::AuditRead).target(TargetKind::Entry, entry.id);
    looked(manage, caller, &entry.id.to_string(), draft).await?;
    Ok(entry)
}

/// What proves an entry under the newest checkpoint.
pub async fn proof(manage: &Manage, caller: &Caller, id: &str) -> Result<Value> {
    let entry = show(manage, caller, id).await?;
    let found = manage.store.sequenced_entry(entry.id).await?;
    let waits = || Error::new(Kind::Conflict, "the entry waits for its place; ask again");
    let found = found.ok_or_else(waits)?;
    let under = manage.tree.checkpoint().is_some_and(|newest| newest.size() > found.index);
    if !under {
        return Err(waits());
    }
    let receipt = manage.tree.receipt(found.index).await?;
    // The leaf is the tree's own: the database is an index of it.
    let leaf = receipt.extra.clone().unwrap_or_default();
    let hashes: Vec<String> = receipt.proof.iter().map(|hash| hash.to_base64()).collect();
    Ok(json!({
        "index": found.index,
        "id": entry.id,
        "leaf": String::from_utf8_lossy(&leaf),
        "leaf_hash": domain::audit::leaf_hash(&leaf).to_string(),
        "openings": openings(&found),
        "tree_size": receipt.checkpoint.size(),
        "root": receipt.checkpoint.root().to_string(),
        "hashes": hashes,
        "checkpoint": receipt.checkpoint.to_string(),
        "receipt": receipt.to_string(),
    }))
}

/// The receipt of an entry that was committed now; `None` if its place takes
/// too long to come.
pub async fn receipt_of(manage: &Manage, id: EntryId) -> Result<Option<String>> {
    let found = manage.tree.await_receipt(&manage.store, id).await?;
    Ok(found.map(|(_, receipt)| receipt.to_string()))
}

fn openings(entry: &SequencedEntry) -> Vec<Value> {
    let shown = |opening: &domain::audit::Opening| {
        let salt = STANDARD.encode(opening.salt);
        json!({ "path": opening.path, "salt": salt, "value": opening.value })
    };
    entry.openings.iter().map(shown).collect()
}

/// A file of the tree and its kind, by its path below `tlog/`.
pub async fn file(manage: &Manage, caller: &Caller, path: &str) -> Result<(&'static str, Vec<u8>)> {
    let draft = EntryDraft::new(Action::AuditExport)
        .target(TargetKind::Route, "/audit/tlog")
        .detail(Detail::Format(domain::audit::Word::lossy("tlog-tiles")));
    looked(manage, caller, "tlog", draft).await?;
    let text = "text/plain; charset=utf-8";
    let absent = || Error::not_found("file of the audit tree");
    let wanted = path.to_owned();
    if let Ok(tile) = TilePath::parse(&wanted) {
        let bytes = manage.tree.read(move |reader| reader.bytes(tile)).await?;
        return Ok(("application/octet-stream", bytes.ok_or_else(absent)?));
    }
    let found = manage.tree.read(move |reader| {
        Ok(match wanted.as_str() {
            "checkpoint" => reader.checkpoint()?.map(|checkpoint| checkpoint.to_string()),
            "keys" => reader.keyring()?.map(|keyring| keyring.to_string()),
            other => match other.strip_prefix("rotations/").map(str::parse::<u64>) {
                Some(Ok(size)) => {
                    let mut all = reader.rotations()?.into_iter();
                    all.find(|receipt| receipt.checkpoint.size() == size).map(|it| it.to_string())
                }
                _ => None,
            },
        })
    });
    Ok((text, found.await?.ok_or_else(absent)?.into_bytes()))
}
