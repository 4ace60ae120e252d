//! Columns: which field of a line each one shows.

use domain::{
    fields::{Kind, Stream},
    query::{FieldRef, QueryError, resolve_one},
};
use serde_json::Value;

use super::{
    line::{Line, pair, shown},
    printer::Format,
};

/// A column of a table or of CSV, a key of JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub heading: String,
    field: FieldRef,
    otherwise: Otherwise,
    /// Behind it stands all that no other column of somebody's lines shows.
    with_rest: bool,
}

/// What a cell says where the field is absent.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Otherwise {
    Nothing,
    /// What a line of another stream says instead.
    StandIn,
    /// What somebody's line has under the first of these names.
    Named(&'static [&'static str]),
}

/// Under which names others write when, how grave and what.
const OTHERS: &[(&str, &[&str])] = &[
    ("ts", &["timestamp", "time", "@timestamp"]),
    ("level", &["log.level", "severity", "lvl", "levelname", "loglevel", "severity_text"]),
    // A line that is no JSON is read as its text alone.
    ("msg", &["message", Line::TEXT]),
];
const REST: &str = "rest";

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

    /// A field of anybody's line; time, level and message have many names.
    pub fn foreign(name: &str) -> Self {
        let others = OTHERS.iter().find(|(known, _)| *known == name);
        let otherwise = others.map_or(Otherwise::Nothing, |(_, names)| Otherwise::Named(names));
        Self { otherwise, ..Self::of(FieldRef::Attribute(name.to_owned())) }
    }

    fn of(field: FieldRef) -> Self {
        let heading = match &field {
            FieldRef::Known(known) => known.name.to_owned(),
            FieldRef::Label(label) => format!("labels.{label}"),
            FieldRef::Attribute(key) => key.clone(),
        };
        Self { heading, field, otherwise: Otherwise::Nothing, with_rest: false }
    }

    /// What the line has, or has under another name.
    pub fn value<'l>(&self, line: &'l Line) -> Option<&'l Value> {
        line.value(&self.field).or_else(|| match self.otherwise {
            Otherwise::Named(names) => {
                let mut fields = names.iter().map(|name| FieldRef::Attribute((*name).to_owned()));
                fields.find_map(|field| line.value(&field))
            }
            Otherwise::Nothing | Otherwise::StandIn => None,
        })
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
        let cell = match self.value(line) {
            Some(value) => shown(value),
            None if self.otherwise == Otherwise::StandIn => stand_in(line),
            None => String::new(),
        };
        match self.with_rest {
            true => [cell, rest(line)].join(" ").trim().to_owned(),
            false => cell,
        }
    }
}

/// The fields of somebody's line that say neither when, how grave nor what.
fn rest(line: &Line) -> String {
    let is_other =
        |name: &str| OTHERS.iter().any(|(known, names)| *known == name || names.contains(&name));
    let rest = line.fields().filter(|(name, value)| !is_other(name) && !value.is_null());
    rest.map(|(name, value)| pair(name, value)).collect::<Vec<_>>().join(" ")
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
        if *name == "error" {
            column.otherwise = Otherwise::StandIn;
        }
        Some(column)
    };
    names.iter().filter_map(column).collect()
}

/// The same of anybody's lines: when, how grave, what, and all the rest, in one
/// column where people read and in two where programs do.
pub fn usual_of_others(format: Format) -> Vec<Column> {
    let mut columns: Vec<Column> = OTHERS.iter().map(|(name, _)| Column::foreign(name)).collect();
    let field = FieldRef::Attribute(String::new());
    let rest = Column { heading: REST.to_owned(), with_rest: true, ..Column::of(field) };
    match columns.last_mut() {
        Some(message) if format == Format::Table => message.with_rest = true,
        _ => columns.push(rest),
    }
    columns
}
