//! `/manage/audit` and `/audit/tlog/`.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::super::{Call, Management, answer::Reply};
use crate::manage::{
    error::{Error, Result},
    fields::Fields,
    reading::{
        Form, Gone,
        entries::{self, Asked, Limits},
    },
};

const JSON_LINES: &str = "application/x-ndjson";
const CSV: &str = "text/csv; charset=utf-8";
const NOTE: &str = "text/plain; charset=utf-8";

/// A page of entries.
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "describes an answer that is written as it is found")]
pub struct EntriesPage {
    items: Vec<EntryShape>,
    next_cursor: Option<String>,
    /// The newest checkpoint of the tree, a signed note.
    checkpoint: Option<String>,
}

/// An audit entry.
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "describes an answer that is written as it is found")]
pub struct EntryShape {
    /// Its place in the tree; absent for a second or so.
    index: Option<u64>,
    id: String,
    ts: String,
    action: String,
    result: String,
    reason_code: Option<String>,
    /// `kind`, `id`, `name`, `role`, `auth`.
    actor: Value,
    on_behalf_of: Option<String>,
    project_id: Option<String>,
    token_id: Option<String>,
    /// `type`, `id`, `rev_before`, `rev_after`.
    target: Option<Value>,
    request_id: Option<String>,
    correlation_id: Option<String>,
    trace_id: Option<String>,
    client_ip: Option<String>,
    peer_ip: Option<String>,
    user_agent: Option<String>,
    method: Option<String>,
    route: Option<String>,
    status: Option<u16>,
    /// `fields`, `before`, `after`.
    change: Option<Value>,
    details: Value,
    ticket: Option<String>,
    note: Option<String>,
    instance: String,
    producer: String,
    seq: u64,
    leaf_hash: String,
    /// Sealed values whose opening is gone.
    erased: Option<Vec<String>>,
}

/// What proves an entry.
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "describes an answer that is written as it is found")]
pub struct ProofShape {
    index: u64,
    id: String,
    /// The exact text that is hashed.
    leaf: String,
    leaf_hash: String,
    /// `path`, `salt` (base64), `value`: what the commitments of the leaf hide.
    openings: Vec<Value>,
    tree_size: u64,
    root: String,
    /// The inclusion proof, base64.
    hashes: Vec<String>,
    checkpoint: String,
    /// A C2SP tlog-proof, with the leaf in it: verifies offline.
    receipt: String,
}

/// The newest checkpoint.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct CheckpointView {
    origin: String,
    size: u64,
    root: String,
    published_at: Option<String>,
    /// The signed note.
    checkpoint: String,
}

pub async fn list(management: Arc<Management>, mut call: Call) -> Result<Reply> {
    let mut asked = Asked::default();
    for name in Asked::FILTERS {
        if let Some(value) = call.query.text(name) {
            asked.filters.insert(name, value);
        }
    }
    let number = |name: &str, text: Option<String>| -> Result<Option<u64>> {
        let wrong = || Error::invalid(format!("{name} must be a number of an entry"));
        text.map(|text| text.parse().map_err(|_| wrong())).transpose()
    };
    asked.after = number("after", call.query.text("after"))?;
    asked.before = number("before", call.query.text("before"))?;
    let (manage, caller) = (&management.manage, &call.caller);
    if call.form == Form::Json {
        let page = call.query.page()?;
        call.query.finish()?;
        let body = entries::list(manage, caller, &asked, &page).await?;
        return Ok(Reply::bytes("application/json", body));
    }
    let limits = Limits::parse(call.query.text("limit").as_deref())?;
    call.query.finish()?;
    let content_type = if call.form == Form::Csv { CSV } else { JSON_LINES };
    let pieces =
        entries::export(manage, caller, asked, (call.form, limits), Gone::default()).await?;
    Ok(Reply::stream(content_type, pieces))
}

pub async fn get(management: Arc<Management>, call: Call) -> Result<Reply> {
    call.query.finish()?;
    let id = call.id.as_deref().unwrap_or_default();
    Reply::ok(&entries::show(&management.manage, &call.caller, id).await?)
}

pub async fn proof(management: Arc<Management>, call: Call) -> Result<Reply> {
    call.query.finish()?;
    let id = call.id.as_deref().unwrap_or_default();
    Reply::ok(&entries::proof(&management.manage, &call.caller, id).await?)
}

pub async fn checkpoint(management: Arc<Management>, call: Call) -> Result<Reply> {
    call.query.finish()?;
    let status = management.manage.tree.status.borrow().clone();
    let checkpoint = status.checkpoint.ok_or_else(|| Error::not_found("checkpoint yet"))?;
    let note = checkpoint.to_string();
    if !call.wants_json {
        return Ok(Reply::text(NOTE, note));
    }
    Reply::ok(&CheckpointView {
        origin: checkpoint.checkpoint().origin.to_string(),
        size: checkpoint.size(),
        root: checkpoint.root().to_string(),
        published_at: status.published_at.map(|at| at.to_string()),
        checkpoint: note,
    })
}

pub async fn file(management: Arc<Management>, call: Call) -> Result<Reply> {
    call.query.finish()?;
    let path = call.id.as_deref().unwrap_or_default();
    let (kind, bytes) = entries::file(&management.manage, &call.caller, path).await?;
    Ok(Reply::bytes(kind, bytes))
}

/// The body of a verification, for the description; read by [`verify`].
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct VerifyOrder {
    /// True also holds sealed segments of records against their entries.
    records: Option<bool>,
}

/// What a verification found.
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "describes an answer that is written as it is found")]
pub struct VerifiedShape {
    /// `verified`, `tampered`, `self_consistent`, `incomplete` or `nothing`.
    verdict: String,
    /// What `audit verify` would exit with.
    exit_status: u8,
    origin: Option<String>,
    size: u64,
    root: Option<String>,
    entries: u64,
    /// `class`, `index`, `place`, `text`.
    findings: Vec<Value>,
    notes: Vec<Value>,
    counts: Value,
    checked: Vec<String>,
    unchecked: Vec<String>,
    incomplete: Vec<String>,
}

pub async fn verify(management: Arc<Management>, call: Call) -> Result<Reply> {
    call.query.finish()?;
    let mut records = false;
    if !call.body.is_empty() {
        let mut body = Fields::parse(&call.body)?;
        records = body.boolean("records")?.into_option().flatten().unwrap_or(false);
        body.finish()?;
    }
    let (view, entry) = entries::check(&management.manage, &call.caller, records).await?;
    Ok(Reply::ok(&view)?.audited(Some(entry)))
}
