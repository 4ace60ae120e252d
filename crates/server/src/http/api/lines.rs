//! `/manage/logs`, its tail and statistics, `/manage/requests/{id}` and
//! `/manage/usage`.

use std::{collections::BTreeMap, sync::Arc};

use domain::query::flags::Flags;
use serde_json::Value;

use super::super::{Call, Management, answer::Reply, query::Query};
use crate::manage::{
    error::{Error, Result},
    reading::{self, Asked, FiguresAsked, Form, Gone, UsageAsked},
};

const JSON: &str = "application/json";
const JSON_LINES: &str = "application/x-ndjson";
const CSV: &str = "text/csv; charset=utf-8";
const EVENTS: &str = "text/event-stream";

/// What every answer says about itself.
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "describes an answer that is written as it is found")]
pub struct LinesPage {
    /// Lines of the journal as they were written.
    items: Vec<Value>,
    next_cursor: Option<String>,
    /// With `context`: which of the items are neighbours of a match.
    neighbours: Option<Vec<u64>>,
    matched: u64,
    /// Where a tail goes on behind this answer.
    tail_cursor: String,
    /// Whether everything that should be was looked at; if not, `missing` says
    /// what was not.
    complete: bool,
    missing: Vec<String>,
    /// The last journal line of each instance that was looked at.
    complete_to: BTreeMap<String, u64>,
    /// Query, streams, whether words were looked for in captured bodies,
    /// segments, rows, bytes and milliseconds.
    searched: Value,
    /// With `explain=true`.
    explain: Option<String>,
}

/// Figures in groups.
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "describes an answer that is written as it is found")]
pub struct FiguresView {
    /// `name` and `is_key`, in order.
    columns: Option<Vec<Value>>,
    /// A group each, by names of columns.
    items: Vec<Value>,
    next_cursor: Option<String>,
    /// How many there are, should `limit` have cut them.
    groups: u64,
    /// What is not exact, and by how much.
    notes: Vec<String>,
    complete: bool,
    missing: Vec<String>,
    complete_to: BTreeMap<String, u64>,
    searched: Value,
}

/// The story of a request, in time order.
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "describes an answer that is written as it is found")]
pub struct StoryView {
    id: String,
    records: Vec<Value>,
    traces: Vec<Value>,
    entries: Vec<Value>,
    /// For the roles auditor and admin; leaves an entry.
    bodies: Vec<Value>,
    /// Of other requests with the same correlation id.
    siblings: Vec<Value>,
    /// There is more than a story holds.
    cut: bool,
    complete: bool,
    missing: Vec<String>,
    complete_to: BTreeMap<String, u64>,
    searched: Value,
}

/// The parameters of every search.
fn asked(query: &mut Query) -> Result<Asked> {
    let flags = Flags {
        query: query.text("q"),
        request_id: query.text("request_id"),
        correlation_id: query.text("correlation_id"),
        trace_id: query.text("trace_id"),
        project: query.text("project"),
        token: query.text("token"),
        user: query.text("user"),
        model: query.text("model"),
        provider: query.text("provider"),
        path: query.text("path"),
        status: query.text("status"),
        outcome: query.text("outcome"),
        errors: query.boolean("errors")?.unwrap_or(false),
        slow: query.text("slow"),
        level: query.text("level"),
    };
    Ok(Asked { flags, stream: query.text("stream"), ..Asked::default() })
}

/// And of those that end.
fn asked_once(query: &mut Query) -> Result<Asked> {
    Ok(Asked {
        since: query.text("since"),
        until: query.text("until"),
        limit: query.text("limit"),
        explain: query.boolean("explain")?.unwrap_or(false),
        bodies: query.boolean("bodies")?,
        ..asked(query)?
    })
}

fn reply(form: Form, body: Vec<u8>) -> Reply {
    match form {
        Form::Json => Reply::bytes(JSON, body),
        Form::JsonLines => Reply::bytes(JSON_LINES, body),
        Form::Csv => Reply::bytes(CSV, body),
    }
}

pub async fn search(management: Arc<Management>, mut call: Call) -> Result<Reply> {
    let asked = Asked {
        order: call.query.text("order"),
        cursor: call.query.text("cursor"),
        context: call.query.text("context"),
        fields: call.query.text("fields"),
        ..asked_once(&mut call.query)?
    };
    call.query.finish()?;
    let (manage, caller) = (&management.manage, &call.caller);
    if call.form == Form::Json {
        let page = reading::search(manage, caller, &asked, &call.waiting).await?;
        return Ok(Reply::bytes(JSON, page));
    }
    let content_type = if call.form == Form::Csv { CSV } else { JSON_LINES };
    let pieces = reading::export(manage, caller, &asked, call.form, Gone::default()).await?;
    Ok(Reply::stream(content_type, pieces))
}

pub async fn tail(management: Arc<Management>, mut call: Call) -> Result<Reply> {
    let cursor = call.query.text("cursor");
    let asked = Asked { cursor, ..asked(&mut call.query)? };
    call.query.finish()?;
    let last_event = call.last_event.as_deref();
    let gone = Gone::default();
    let pieces = reading::tail(&management.manage, &call.caller, &asked, last_event, gone).await?;
    Ok(Reply::stream(EVENTS, pieces))
}

pub async fn stats(management: Arc<Management>, mut call: Call) -> Result<Reply> {
    let figures = FiguresAsked {
        measures: call.query.text("fn"),
        by: call.query.text("by"),
        bucket: call.query.text("bucket"),
    };
    let asked = asked_once(&mut call.query)?;
    call.query.finish()?;
    let (manage, caller) = (&management.manage, &call.caller);
    let body = reading::stats(manage, caller, &asked, &figures, call.form, &call.waiting).await?;
    Ok(reply(call.form, body))
}

pub async fn request(management: Arc<Management>, mut call: Call) -> Result<Reply> {
    let wants_bodies = call.query.boolean("bodies")?.unwrap_or(true);
    call.query.finish()?;
    let id = call.id.ok_or_else(|| Error::not_found("request"))?;
    let (manage, caller) = (&management.manage, &call.caller);
    let story = reading::request(manage, caller, id, wants_bodies, &call.waiting).await?;
    Ok(Reply::bytes(JSON, story))
}

pub async fn usage(management: Arc<Management>, mut call: Call) -> Result<Reply> {
    let asked = UsageAsked {
        group_by: call.query.text("group_by"),
        since: call.query.text("since"),
        until: call.query.text("until"),
    };
    call.query.finish()?;
    let (manage, caller) = (&management.manage, &call.caller);
    let body = reading::usage(manage, caller, &asked, call.form, &call.waiting).await?;
    Ok(reply(call.form, body))
}
