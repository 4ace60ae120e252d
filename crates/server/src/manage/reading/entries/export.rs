//! Exports: the entries of the tree in its order, each with what proves it, and
//! the checkpoint that they are under.
//!
//! A line of JSON has what a list shows of an entry, its exact `leaf` and its
//! `openings`; the last line has the `checkpoint`. Cells of CSV are no formulas.

use std::io::{self, Write as _};

use domain::audit::{Action, Detail, EntryDraft, EntryView, Text, Word, tree::SignedCheckpoint};
use serde_json::{Value, json};
use store::{EntryFilter, SequencedEntry, Store};
use tokio::runtime::Handle;

use super::{
    super::{
        Form, Gone, Pieces,
        asked::EXPORT_LINES_MAX,
        outlet::{self, Outlet},
    },
    Asked, openings, view,
};
use crate::{
    manage::{Manage, access::Caller, entered::entered, error::Result},
    render::quoted_csv,
};

/// Entries that are read at once.
const READ_MAX: u32 = 256;

/// How many lines are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Limits(u64);

impl Limits {
    pub fn parse(text: Option<&str>) -> Result<Self> {
        let Some(text) = text else { return Ok(Self(EXPORT_LINES_MAX as u64)) };
        let number = super::super::asked::number("limit", text, 1, EXPORT_LINES_MAX)?;
        Ok(Self(number as u64))
    }
}

/// The columns of CSV.
const COLUMNS: [&str; 27] = [
    "index",
    "ts",
    "id",
    "action",
    "result",
    "reason_code",
    "actor_kind",
    "actor_id",
    "actor_name",
    "actor_role",
    "project_id",
    "token_id",
    "target_type",
    "target_id",
    "request_id",
    "correlation_id",
    "trace_id",
    "client_ip",
    "user_agent",
    "method",
    "route",
    "status",
    "ticket",
    "note",
    "change",
    "details",
    "leaf_hash",
];

/// All entries under the newest checkpoint that pass, the oldest first. The
/// export is an entry itself, durable before the first byte.
pub async fn export(
    manage: &Manage,
    caller: &Caller,
    asked: Asked,
    (form, limits): (Form, Limits),
    gone: Gone,
) -> Result<Pieces> {
    let filter = asked.filter(caller, manage.clock.now())?;
    let name = if form == Form::Csv { "csv" } else { "ndjson" };
    let draft = EntryDraft::new(Action::AuditExport)
        .detail(Detail::Query(Text::new(&asked.to_string())))
        .detail(Detail::Format(Word::lossy(name)));
    entered(manage, caller, draft).await?;
    let reader = &manage.reader;
    let place = reader.turn(&reader.exports).await?;
    let checkpoint = manage.tree.checkpoint();
    let size = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.size());
    let mut range = asked.indexes();
    range.end = range.end.min(size);
    let (store, cancel, stopping) = (manage.store.clone(), gone.cancel(), reader.stopping.clone());
    let runtime = Handle::current();
    outlet::begin(gone, move |outlet| {
        let _place = place;
        let mut source = Source { store, runtime, filter, next: range.start, end: range.end };
        let mut writer = Lines { form, count: 0, first: None, last: None };
        writer.head(outlet).map_err(outlet::broken)?;
        'reading: while let Some(entries) = source.read()? {
            for entry in entries {
                if cancel.is_cancelled() || stopping.is_cancelled() {
                    return Err(outlet::broken(io::ErrorKind::Interrupted.into()));
                }
                writer.line(outlet, &entry, &view(&entry)?).map_err(outlet::broken)?;
                if writer.count >= limits.0 {
                    break 'reading;
                }
            }
        }
        writer.end(outlet, checkpoint.as_deref()).map_err(outlet::broken)
    })
    .await
}

struct Source {
    store: Store,
    runtime: Handle,
    filter: EntryFilter,
    next: u64,
    end: u64,
}

impl Source {
    fn read(&mut self) -> Result<Option<Vec<SequencedEntry>>> {
        if self.next >= self.end {
            return Ok(None);
        }
        let read = self.store.sequenced_entries(&self.filter, self.next..self.end, READ_MAX);
        let found = self.runtime.block_on(read)?;
        match found.last() {
            Some(last) => self.next = last.index + 1,
            None => return Ok(None),
        }
        Ok(Some(found))
    }
}

struct Lines {
    form: Form,
    count: u64,
    first: Option<u64>,
    last: Option<u64>,
}

impl Lines {
    fn head(&self, outlet: &mut Outlet) -> io::Result<()> {
        if self.form == Form::Csv { write!(outlet, "{}\r\n", COLUMNS.join(",")) } else { Ok(()) }
    }

    fn line(
        &mut self,
        outlet: &mut Outlet,
        entry: &SequencedEntry,
        view: &EntryView,
    ) -> io::Result<()> {
        self.count += 1;
        self.first = self.first.or(Some(entry.index));
        self.last = Some(entry.index);
        let mut shown = serde_json::to_value(view)?;
        if self.form == Form::Csv {
            let cells: Vec<String> =
                COLUMNS.iter().map(|column| quoted_csv(&cell(&shown, column))).collect();
            return write!(outlet, "{}\r\n", cells.join(","));
        }
        shown["leaf"] = entry.leaf.as_str().into();
        shown["openings"] = openings(entry).into();
        writeln!(outlet, "{shown}")
    }

    /// What the lines above are under; with no checkpoint there are none.
    fn end(&self, outlet: &mut Outlet, checkpoint: Option<&SignedCheckpoint>) -> io::Result<()> {
        let Some(checkpoint) = checkpoint else { return Ok(()) };
        let (note, size) = (checkpoint.to_string(), checkpoint.size());
        if self.form == Form::Csv {
            return write!(outlet, "checkpoint,{}\r\n", quoted_csv(&note));
        }
        let (first, last, count) = (self.first, self.last, self.count);
        let end = json!({
            "checkpoint": note, "tree_size": size, "entries": count, "first": first, "last": last,
        });
        writeln!(outlet, "{end}")
    }
}

/// What stands in a column.
fn cell(shown: &Value, column: &str) -> String {
    let nested = ["actor_", "target_"].iter().find_map(|prefix| {
        let field = column.strip_prefix(prefix)?;
        Some(&shown[prefix.trim_end_matches('_')][field])
    });
    match nested.unwrap_or(&shown[column]) {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Object(object) if object.is_empty() => String::new(),
        other => other.to_string(),
    }
}
