//! Pages of lines, and exports.

use std::{
    io::{self, Write as _},
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use domain::{
    audit::{Action, Detail, Word},
    fields::Stream,
    ids::InstanceId,
};
use logstore::engine::{self, EngineError, Hit, Position, Report, Search, Sources};
use serde::Serialize;
use serde_json::json;

use super::{
    Asked, Cancel, EXPORT_TIME_MAX, Form, Gone, Pieces, SEARCH_TIME_MAX, Subject,
    asked::PAGE_LINES_MAX,
    bounded, entered, may, missing,
    outlet::{self, Outlet},
    read, refused, searched,
    tail::Place,
};
use crate::{
    manage::{
        Manage,
        access::{Caller, Permission},
        error::Result,
    },
    render::{self, Column, Look, Printer, usual},
};

/// A page ends early when it has grown to this, and says where to go on.
const PAGE_BYTES_MAX: usize = 16 << 20;

/// One page, as one object.
pub async fn search(
    manage: &Manage,
    caller: &Caller,
    asked: &Asked,
    waiting: &Cancel,
) -> Result<Vec<u8>> {
    let question = asked.search(manage.clock.now(), Stream::ALL)?;
    let (limit, columns) = (asked.limit(Form::Json)?, asked.columns()?);
    let question = bounded(question, caller, waiting, SEARCH_TIME_MAX);
    searched(manage, caller, &Subject::of(&question)).await?;
    let reader = &manage.reader;
    let place = (reader.data_dir.clone(), reader.instance.clone());
    let explain = asked.explain;
    read(manage, move |sources| {
        let mut page = Page::new(limit, columns);
        let begun = Instant::now();
        let report = page.fill(sources, &question)?;
        Ok(page.object(&question, &report, place, (begun, explain)))
    })
    .await
}

struct Page {
    items: Vec<u8>,
    count: usize,
    matches: usize,
    limit: usize,
    /// Which of the items are neighbours of a match, not matches.
    neighbours: Vec<usize>,
    last: Option<Position>,
    more: bool,
    printer: Option<Printer>,
}

impl Page {
    fn new(limit: usize, columns: Vec<Column>) -> Self {
        let printer = (!columns.is_empty())
            .then(|| Printer::new(render::Format::Json, columns, Vec::new(), Look::default()));
        let (items, neighbours) = (Vec::new(), Vec::new());
        Self { items, count: 0, matches: 0, limit, neighbours, last: None, more: false, printer }
    }

    fn fill(&mut self, sources: &Sources, question: &Search) -> Result<Report, EngineError> {
        // One more shows whether there is a next page; with neighbours around
        // each match that one would bring its own.
        let more = usize::from(question.context == 0);
        let question = Search { limit: Some(self.limit + more), ..question.clone() };
        let report = engine::search(sources, &question, &mut |hit| self.take(&hit))?;
        if question.context > 0 {
            self.more |= self.matches == self.limit;
        }
        Ok(report)
    }

    fn take(&mut self, hit: &Hit<'_>) -> ControlFlow<()> {
        let is_full = self.count > 0 && self.items.len() + hit.line.len() > PAGE_BYTES_MAX;
        if is_full || (!hit.context && self.matches == self.limit) {
            self.more = true;
            return ControlFlow::Break(());
        }
        if hit.context {
            self.neighbours.push(self.count);
        } else {
            self.matches += 1;
            self.last = Some(hit.position.clone());
        }
        if self.count > 0 {
            self.items.extend_from_slice(b",\n");
        }
        match &mut self.printer {
            None => self.items.extend_from_slice(hit.line),
            Some(printer) => {
                // Writing into memory cannot fail.
                printer.print(&mut self.items, hit.line, false).unwrap_or_default();
                self.items.pop_if(|byte| *byte == b'\n');
            }
        }
        self.count += 1;
        ControlFlow::Continue(())
    }

    fn object(
        self,
        question: &Search,
        report: &Report,
        (data_dir, instance): (PathBuf, InstanceId),
        (begun, explain): (Instant, bool),
    ) -> Vec<u8> {
        let goes_on = self.more || report.stopped.is_some();
        let next = self.last.filter(|_| goes_on).map(|last| last.to_string());
        let own = report.complete_to.iter().find(|end| end.instance == instance);
        let place = Place { instance, seq: own.map_or(0, |end| end.seq), given: 0 };
        let mut out = b"{\"items\":[".to_vec();
        out.extend_from_slice(&self.items);
        out.extend_from_slice(b"]");
        member(&mut out, "next_cursor", &next);
        if question.context > 0 {
            member(&mut out, "neighbours", &self.neighbours);
        }
        member(&mut out, "matched", &self.matches);
        member(&mut out, "tail_cursor", &place.to_string());
        close(&mut out, question, report, &data_dir, (begun, explain));
        out
    }
}

/// Adds a member to an object that is being written.
pub(super) fn member(out: &mut Vec<u8>, name: &str, value: &impl Serialize) {
    out.push(b',');
    domain::json::write_text(out, name);
    out.push(b':');
    // Our own values in memory: neither can fail.
    serde_json::to_writer(out, value).unwrap_or_default();
}

/// Says what the answer rests on, and ends the object.
pub(super) fn close(
    out: &mut Vec<u8>,
    question: &Search,
    report: &Report,
    data_dir: &Path,
    (begun, explain): (Instant, bool),
) {
    let missing = missing(report, data_dir);
    member(out, "complete", &missing.is_empty());
    member(out, "missing", &missing);
    let ends = report.complete_to.iter().map(|end| (end.instance.as_str(), end.seq));
    let ends: std::collections::BTreeMap<&str, u64> = ends.collect();
    member(out, "complete_to", &ends);
    let streams: Vec<&str> = question.streams.iter().map(|stream| stream.as_str()).collect();
    let searched = json!({
        "query": question.expr.to_string(),
        "streams": streams,
        "bodies": question.bodies,
        "segments_total": report.segments_total,
        "segments_opened": report.segments_opened,
        "rows_scanned": report.rows_scanned,
        "bytes_read": report.bytes_read,
        "ms": (begun.elapsed().as_micros() as f64) / 1e3,
    });
    member(out, "searched", &searched);
    if explain {
        member(out, "explain", &format!("query        {}\n{}", question.expr, report.explain));
    }
    out.push(b'}');
}

/// Lines without collecting them. What could not be read is said by a last line
/// of JSON lines; CSV breaks off.
pub async fn export(
    manage: &Manage,
    caller: &Caller,
    asked: &Asked,
    form: Form,
    gone: Gone,
) -> Result<Pieces> {
    let question = asked.search(manage.clock.now(), Stream::ALL)?;
    let (limit, columns) = (asked.limit(form)?, asked.columns()?);
    if limit > PAGE_LINES_MAX {
        may(caller, Permission::Export)?;
    }
    let question =
        Search { limit: Some(limit), ..bounded(question, caller, &gone.cancel(), EXPORT_TIME_MAX) };
    let name = if form == Form::Csv { "csv" } else { "ndjson" };
    let draft = Subject::of(&question).draft(Action::LogsExport);
    let draft = draft.detail(Detail::Format(Word::lossy(name)));
    entered(manage, caller, draft).await?;
    let reader = &manage.reader;
    let place = reader.turn(&reader.exports).await?;
    let (fs, data_dir) = (Arc::clone(&reader.fs), reader.data_dir.clone());
    let stopping = reader.stopping.clone();
    outlet::begin(gone, move |outlet| {
        let _place = place;
        let sources = Sources::open(&fs, &data_dir).map_err(refused)?;
        let format = if form == Form::Csv { render::Format::Csv } else { render::Format::Json };
        let usual = usual(&question.streams);
        let mut printer = Printer::new(format, columns, usual, Look::default());
        let mut taken = Ok(());
        let report = engine::search(&sources, &question, &mut |hit| {
            taken = match stopping.is_cancelled() {
                true => Err(io::ErrorKind::Interrupted.into()),
                false => printer.print(outlet, hit.line, hit.context),
            };
            if taken.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .map_err(refused)?;
        taken
            .and_then(|()| finish(outlet, &mut printer, form, &missing(&report, &data_dir)))
            .map_err(outlet::broken)
    })
    .await
}

fn finish(
    outlet: &mut Outlet,
    printer: &mut Printer,
    form: Form,
    missing: &[String],
) -> io::Result<()> {
    printer.flush(outlet)?;
    match (form, missing.first()) {
        (_, None) => Ok(()),
        (Form::Csv, Some(first)) => Err(io::Error::other(first.clone())),
        (_, Some(_)) => writeln!(outlet, "{}", json!({ "_incomplete": missing })),
    }
}
