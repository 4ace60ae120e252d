//! Columns: which field of a line each one shows.

use domain::{
    fields::{Kind, Stream},
    query::{FieldRef, QueryError, resolve_one},
};

use super::line::{Line, shown};

/// A column of a table or of CSV, a key of JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub heading: String,
    field: FieldRef,
    /// Where the field is absent, what a line of another stream says instead.
    stands_in: bool,
}

impl Column {
    /// A field of our own lines by its name or a short one. A dotted name that
    /// is not known is an attribute of a trace.
    pub fn parse(name: &str) -> Result<Self, QueryError> {
        let is_dotted = name.contains('.') && !name.starts_with('.') && !name.ends_with('.');
        let field = match resolve_one(name) {
            Err(_) if is_dotted => FieldRef::Attribute(name.to_owned()),
            resolved => resolved?,
        };
        Ok(Self::of(field))
    }

    /// A field of anybody's line.
    pub fn foreign(name: &str) -> Self {
        Self::of(FieldRef::Attribute(name.to_owned()))
    }

    fn of(field: FieldRef) -> Self {
        let heading = match &field {
            FieldRef::Known(known) => known.name.to_owned(),
            FieldRef::Label(label) => format!("labels.{label}"),
            FieldRef::Attribute(key) => key.clone(),
        };
        Self { heading, field, stands_in: false }
    }

    pub fn field(&self) -> &FieldRef {
        &self.field
    }

    /// Figures stand under each other.
    pub fn is_figure(&self) -> bool {
        match &self.field {
            FieldRef::Known(known) => {
                matches!(known.kind, Kind::Integer | Kind::Number | Kind::Decimal)
            }
            FieldRef::Label(_) | FieldRef::Attribute(_) => false,
        }
    }

    /// What the line has, without anything that a terminal would obey.
    pub fn cell(&self, line: &Line) -> String {
        match line.value(&self.field) {
            Some(value) => shown(value),
            None if self.stands_in => stand_in(line),
            None => String::new(),
        }
    }
}

/// Traces have a message and entries an action where records have an error.
fn stand_in(line: &Line) -> String {
    let field = match line.text("stream") {
        Some("trace") => "msg",
        Some("entry") => "action",
        _ => return String::new(),
    };
    line.get(field).map(shown).unwrap_or_default()
}

const RECORDS: &[&str] = &[
    "ts",
    "level",
    "status_code",
    "outcome",
    "duration_ms",
    "project",
    "model",
    "path",
    "request_id",
    "error",
];
const ENTRIES: &[&str] = &[
    "ts",
    "action",
    "result",
    "reason_code",
    "actor_kind",
    "actor_id",
    "target_type",
    "target_id",
    "request_id",
];
const TRACES: &[&str] = &["ts", "level", "target", "request_id", "msg"];

/// What is shown where nobody asked for anything else: the columns of one
/// stream, or those that tell most about all three.
pub fn usual(streams: &[Stream]) -> Vec<Column> {
    let names = match streams {
        [Stream::Entry] => ENTRIES,
        [Stream::Trace] => TRACES,
        _ => RECORDS,
    };
    let column = |name: &&str| {
        let mut column = resolve_one(name).map(Column::of).ok()?;
        column.stands_in = *name == "error";
        Some(column)
    };
    names.iter().filter_map(column).collect()
}
