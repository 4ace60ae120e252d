//! Every field that a line of the journal may have: the one table behind the
//! documentation, the columns of segments and the names that queries know.

mod body;
mod notes;
mod record;

use std::sync::LazyLock;

pub use body::BODY_FIELDS;
pub use notes::note;
use record::{CALLER, EXCHANGE, USAGE};

/// The fields of a record, in the order in which a line has them.
pub static RECORD_FIELDS: LazyLock<Vec<RecordField>> =
    LazyLock::new(|| [CALLER, EXCHANGE, USAGE].concat());

/// What the values of a field are, in a line and in a query.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// Words of few or many kinds.
    Text,
    /// Text of which nearly every line has its own.
    Id,
    /// RFC 3339, microseconds.
    Time,
    /// Not negative.
    Integer,
    Number,
    /// US dollars: a decimal string in a line, a number in a query.
    Decimal,
    Boolean,
    /// An object of names and texts; one of them is `labels.NAME` in a query.
    Labels,
}

impl Kind {
    /// Whether `<`, sums and quantiles make sense.
    pub const fn is_ordered(self) -> bool {
        matches!(self, Self::Time | Self::Integer | Self::Number | Self::Decimal)
    }
}

/// A field of a record, with what its page says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordField {
    pub name: &'static str,
    pub kind: Kind,
    pub unit: &'static str,
    /// When the field is present.
    pub when: &'static str,
    pub meaning: &'static str,
    pub otel: &'static str,
    pub ecs: &'static str,
    pub ocsf: &'static str,
}

/// The three streams of the journal, each a dataset once it is sealed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Stream {
    Record,
    Entry,
    Trace,
}

impl Stream {
    pub const ALL: &[Self] = &[Self::Record, Self::Entry, Self::Trace];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Entry => "entry",
            Self::Trace => "trace",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|stream| stream.as_str() == text)
    }
}

/// A field as a query sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Field {
    pub name: &'static str,
    pub kind: Kind,
}

const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, kind }
}

/// Fields that lines of every stream may have.
pub const SHARED_FIELDS: &[Field] = &[
    field("stream", Kind::Text),
    field("ts", Kind::Time),
    field("level", Kind::Text),
    field("msg", Kind::Text),
    field("component", Kind::Text),
    field("instance", Kind::Text),
    field("version", Kind::Text),
    field("request_id", Kind::Id),
    field("correlation_id", Kind::Id),
    field("trace_id", Kind::Id),
    field("project_id", Kind::Id),
    field("token_id", Kind::Id),
];

/// What a trace line has beside the shared fields; all else are attributes.
pub const TRACE_FIELDS: &[Field] = &[field("target", Kind::Text), field("error", Kind::Text)];

/// What an entry line has beside the shared fields: what its leaf shows openly.
pub const ENTRY_FIELDS: &[Field] = &[
    field("id", Kind::Id),
    field("action", Kind::Text),
    field("result", Kind::Text),
    field("reason_code", Kind::Text),
    field("actor_kind", Kind::Text),
    field("actor_id", Kind::Id),
    field("actor_role", Kind::Text),
    field("target_type", Kind::Text),
    field("target_id", Kind::Id),
    field("method", Kind::Text),
    field("route", Kind::Text),
    field("status", Kind::Integer),
    field("producer", Kind::Text),
    field("seq", Kind::Integer),
    field("leaf", Kind::Text),
];

/// The fields of a stream's lines, in their order.
pub fn of(stream: Stream) -> Vec<Field> {
    let shared = SHARED_FIELDS.iter().copied();
    match stream {
        Stream::Record => {
            RECORD_FIELDS.iter().map(|record| field(record.name, record.kind)).collect()
        }
        Stream::Entry => shared.chain(ENTRY_FIELDS.iter().copied()).collect(),
        Stream::Trace => shared.chain(TRACE_FIELDS.iter().copied()).collect(),
    }
}

/// A field of any stream by its name. A name means the same kind everywhere.
pub fn find(name: &str) -> Option<Field> {
    let record = RECORD_FIELDS.iter().map(|record| field(record.name, record.kind));
    let others = SHARED_FIELDS.iter().chain(ENTRY_FIELDS).chain(TRACE_FIELDS).copied();
    record.chain(others).find(|known| known.name == name)
}

#[cfg(test)]
mod tests;
