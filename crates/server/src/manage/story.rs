//! The story of a request: every line that belongs to an id, in time order.
//!
//! Any id will do: the request's, the record's, the correlation or trace id, or
//! the provider's own. Requests that share the correlation id are its siblings.

use std::{collections::HashSet, ops::ControlFlow, path::Path, sync::Arc};

use domain::{
    fields::{self, Stream},
    ids::RecordId,
    query::{Expr, FieldRef, Literal, Test},
};
use logstore::{
    engine::{self, EngineError, Order, Position, Problem, Report, Search, Sources},
    fs::Fs,
};
use serde::Deserialize;
use serde_json::Value;

/// Lines of one story; a correlation id may stand in far more.
pub const STORY_LINES_MAX: usize = 1_000;
/// Ids of requests and groups that are followed.
const IDS_MAX: usize = 64;

/// Where ids stand that segments have an index of.
const INDEXED: &[&str] = &["record_id", "request_id", "correlation_id", "trace_id"];
/// Where others stand: looked for only when nothing else is found.
const SCANNED: &[&str] = &["upstream_request_id", "span_id", "id"];

/// One line and where it belongs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoryLine {
    pub stream: Stream,
    pub position: Position,
    pub line: Vec<u8>,
    /// Of another request with the same correlation id.
    pub sibling: bool,
}

/// All that was found, oldest first.
#[derive(Debug, Default)]
pub struct Story {
    pub lines: Vec<StoryLine>,
    /// What the last look rests on; problems of all looks.
    pub report: Report,
    /// What each look read and left out.
    pub explain: String,
    /// There are more lines than a story holds.
    pub cut: bool,
}

/// Gathers the story of `id`, with the restriction to projects and the bounds
/// of `basis`.
pub fn gather(sources: &Sources, id: &str, basis: &Search) -> Result<Story, EngineError> {
    let mut story = Story::default();
    let look = Look { sources, basis };
    let spelled = spellings(id);
    let ids: Vec<&str> = spelled.iter().map(String::as_str).collect();
    let mut found = look.find(any_of(INDEXED, &ids), &mut story)?;
    if found.is_empty() {
        found = look.find(any_of(SCANNED, &ids), &mut story)?;
    }
    let members = requests(&found, &ids);
    let groups = values(&found, &["correlation_id"]);
    if !members.is_empty() {
        let members: Vec<&str> = members.iter().map(String::as_str).collect();
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        // Ids that clients choose stand sealed in entries: traces join them.
        let traces = values(&found, &["trace_id"]);
        let traces: Vec<&str> = traces.iter().map(String::as_str).collect();
        let entries = Expr::and([any_of(&["stream"], &["entry"]), any_of(&["trace_id"], &traces)]);
        let expr = Expr::or([
            any_of(&["request_id"], &members),
            any_of(&["correlation_id"], &groups),
            entries,
        ]);
        for line in look.find(expr, &mut story)? {
            if !found.iter().any(|known| known.position == line.position) {
                found.push(line);
            }
        }
        for line in &mut found {
            line.sibling = match value(&line.line, "request_id") {
                Some(request) => !members.contains(&request.as_str()),
                None => line.stream != Stream::Entry,
            };
        }
    }
    found.sort_by(|a, b| place(&a.position).cmp(&place(&b.position)));
    story.cut |= found.len() > STORY_LINES_MAX;
    found.truncate(STORY_LINES_MAX);
    story.lines = found;
    Ok(story)
}

/// What a record says of its bodies.
#[derive(Deserialize)]
struct Kept {
    record_id: Option<RecordId>,
    captured: Option<String>,
}

/// The captured bodies of a story's own records, in time order; what could not
/// be read is added to its report. Who may read them, the caller has decided.
pub fn bodies(
    fs: &Arc<dyn Fs>,
    data_dir: &Path,
    story: &mut Story,
) -> Result<Vec<Vec<u8>>, EngineError> {
    let own = story.lines.iter().filter(|line| !line.sibling && line.stream == Stream::Record);
    let records = own.filter_map(|line| serde_json::from_slice::<Kept>(&line.line).ok());
    let kept = records.filter(|record| record.captured.is_some()).filter_map(|it| it.record_id);
    let found = logstore::bodies::of_records(fs, data_dir, &kept.collect::<Vec<_>>());
    let mut found = found.map_err(|source| EngineError::Catalog(Box::new(source)))?;
    for problem in found.problems.iter().map(Problem::from) {
        if !story.report.problems.contains(&problem) {
            story.report.problems.push(problem);
        }
    }
    // Of one moment, the request stands before its response.
    found.lines.sort_by_cached_key(|line| (value(line, "ts"), value(line, "side")));
    Ok(found.lines)
}

struct Look<'a> {
    sources: &'a Sources,
    basis: &'a Search,
}

impl Look<'_> {
    fn find(&self, expr: Expr, story: &mut Story) -> Result<Vec<StoryLine>, EngineError> {
        let question = Search {
            streams: Stream::ALL.to_vec(),
            order: Order::OldestFirst,
            limit: Some(STORY_LINES_MAX + 1),
            projects: self.basis.projects.clone(),
            budget: self.basis.budget,
            cancel: self.basis.cancel.clone(),
            ..Search::new(expr)
        };
        let mut found = Vec::new();
        let mut report = engine::search(self.sources, &question, &mut |hit| {
            found.push(StoryLine {
                stream: hit.stream,
                position: hit.position.clone(),
                line: hit.line.to_vec(),
                sibling: false,
            });
            ControlFlow::Continue(())
        })?;
        for problem in std::mem::take(&mut story.report.problems) {
            if !report.problems.contains(&problem) {
                report.problems.push(problem);
            }
        }
        report.stopped = report.stopped.or(story.report.stopped);
        let explain = format!("query        {}\n{}", question.expr, report.explain);
        story.explain.push_str(&explain);
        story.report = report;
        story.cut |= found.len() > STORY_LINES_MAX;
        Ok(found)
    }
}

fn any_of(names: &[&str], ids: &[&str]) -> Expr {
    let known = names.iter().filter_map(|name| fields::find(name));
    let ids = || ids.iter().map(|id| Literal::Text((*id).to_owned())).collect();
    Expr::or(known.map(|field| Expr::Field(FieldRef::Known(field), Test::Any(ids()))))
}

/// The id as it was typed, and as we write ids of hexadecimal digits: others
/// show those in capitals.
fn spellings(id: &str) -> Vec<String> {
    let id = id.trim();
    let is_hex = id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    let lower = Some(id.to_ascii_lowercase()).filter(|lower| is_hex && lower != id);
    [id.to_owned()].into_iter().chain(lower).collect()
}

/// The requests that the id means: those that bear it as their own, else all
/// that were found by a group's id.
fn requests(found: &[StoryLine], ids: &[&str]) -> Vec<String> {
    let own = |line: &&StoryLine| {
        ["request_id", "record_id"]
            .iter()
            .filter_map(|name| value(&line.line, name))
            .any(|value| ids.contains(&value.as_str()))
    };
    let own: Vec<StoryLine> = found.iter().filter(own).cloned().collect();
    values(if own.is_empty() { found } else { &own }, &["request_id"])
}

fn values(lines: &[StoryLine], names: &[&str]) -> Vec<String> {
    let mut seen = HashSet::new();
    let all = lines.iter().flat_map(|line| names.iter().map(|name| value(&line.line, name)));
    all.flatten().filter(|value| seen.insert(value.clone())).take(IDS_MAX).collect()
}

fn value(line: &[u8], name: &str) -> Option<String> {
    let line: Value = serde_json::from_slice(line).ok()?;
    line.get(name)?.as_str().map(str::to_owned)
}

fn place(position: &Position) -> (domain::time::Timestamp, &str, u64) {
    (position.ts, position.instance.as_str(), position.seq)
}
