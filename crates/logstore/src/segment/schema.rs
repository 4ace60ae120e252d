//! What columns a dataset has: the Arrow schema of segments and of decoded
//! lines, made from the table of fields.
//!
//! Promises that the schema only grows: a column keeps its name, its type and
//! its field id for ever ([`COLUMN_IDS`]), and readers give nulls for what an
//! older file lacks. The kinds of values:
//!
//! | kind | in memory | in Parquet |
//! |---|---|---|
//! | text, and ids of few kinds | dictionary of text | BYTE_ARRAY, dictionary |
//! | ids, long text | text | BYTE_ARRAY, plain |
//! | time | timestamp (µs, UTC) | INT64 |
//! | integer | 64 bit | INT64 |
//! | milliseconds | 64 bit float | INT64, decimal (18, 3) |
//! | dollars | decimal (18, 9) | INT64 |
//! | labels, attributes | map of text to text | MAP |
//!
//! Three columns are not fields: `attrs` (each key that no column has, and each
//! value that does not fit its column's type, as JSON text), `line` (the exact
//! line, only where the columns would not give it back byte for byte) and `seq`
//! (the line's number in its journal). An entry's own `seq` is `producer_seq`.

mod file;

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use domain::fields::{self, Kind, Stream};

pub(crate) use self::file::{FileSchema, kinds, to_file};

/// Keys that no column has, and values that do not fit their column.
pub const ATTRS: &str = "attrs";
/// The exact line, where the columns do not give it back.
pub const LINE: &str = "line";
/// The line's number in the journal of its instance.
pub const SEQ: &str = "seq";
pub const TS: &str = "ts";
/// Digits of a dollar amount, and those behind its point.
pub const DECIMAL_DIGITS: u8 = 18;
pub const DECIMAL_SCALE: i8 = 9;
/// Digits behind the point of milliseconds in a file: exact, and a third of the
/// bytes that floats take.
pub(crate) const MILLIS_SCALE: i8 = 3;
/// The key of the schema's metadata that names the dataset.
pub(crate) const DATASET_KEY: &str = "llm_proxy.dataset";
const FIELD_ID_KEY: &str = "PARQUET:field_id";
/// Ids of what lies inside a map, two for each column.
const INNER_IDS: usize = 1000;

/// What is sealed apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Dataset {
    Records,
    Bodies,
    Traces,
    Entries,
}

impl Dataset {
    pub const ALL: &[Self] = &[Self::Records, Self::Bodies, Self::Traces, Self::Entries];

    /// The name of its directory.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Bodies => "bodies",
            Self::Traces => "traces",
            Self::Entries => "entries",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|dataset| dataset.as_str() == text)
    }

    /// Where lines of a stream are sealed.
    pub const fn of(stream: Stream) -> Self {
        match stream {
            Stream::Record => Self::Records,
            Stream::Entry => Self::Entries,
            Stream::Trace => Self::Traces,
        }
    }

    /// What `stream` says in its lines.
    pub const fn stream_name(self) -> &'static str {
        match self {
            Self::Records => "record",
            Self::Bodies => "body",
            Self::Traces => "trace",
            Self::Entries => "entry",
        }
    }

    /// Where lines that say `stream` belong.
    pub fn of_stream_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|dataset| dataset.stream_name() == name)
    }
}

/// How a column keeps its values.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ColumnKind {
    /// Text of few kinds: a dictionary.
    Text,
    /// Text of which each row has its own.
    LongText,
    /// An id of which nearly each row has its own.
    Id,
    Time,
    Integer,
    /// Milliseconds with three decimals.
    Millis,
    Decimal,
    Boolean,
    Map,
    /// Bytes: the `line` column.
    Bytes,
}

impl ColumnKind {
    const ALL: &[Self] = &[
        Self::Text,
        Self::LongText,
        Self::Id,
        Self::Time,
        Self::Integer,
        Self::Millis,
        Self::Decimal,
        Self::Boolean,
        Self::Map,
        Self::Bytes,
    ];

    /// What a side index calls it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::LongText => "long_text",
            Self::Id => "id",
            Self::Time => "time",
            Self::Integer => "integer",
            Self::Millis => "millis",
            Self::Decimal => "decimal",
            Self::Boolean => "boolean",
            Self::Map => "map",
            Self::Bytes => "bytes",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == text)
    }

    /// The type in a file, where it is not that in memory.
    fn file_type(self, id: usize) -> DataType {
        match self {
            Self::Millis => DataType::Decimal64(DECIMAL_DIGITS, MILLIS_SCALE),
            other => other.data_type(id),
        }
    }

    fn data_type(self, id: usize) -> DataType {
        match self {
            Self::Text => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
            Self::LongText | Self::Id => DataType::Utf8,
            Self::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Integer => DataType::Int64,
            Self::Millis => DataType::Float64,
            Self::Decimal => DataType::Decimal128(DECIMAL_DIGITS, DECIMAL_SCALE),
            Self::Boolean => DataType::Boolean,
            Self::Map => DataType::Map(map_entries(id), false),
            Self::Bytes => DataType::Binary,
        }
    }
}

/// The names are those that Parquet's own specification gives.
fn map_entries(id: usize) -> Arc<Field> {
    let inner = INNER_IDS + 2 * id;
    let key = with_id(Field::new("key", DataType::Utf8, false), inner);
    let value = with_id(Field::new("value", DataType::Utf8, true), inner + 1);
    Arc::new(Field::new("key_value", DataType::Struct(Fields::from(vec![key, value])), false))
}

fn with_id(field: Field, id: usize) -> Field {
    field.with_metadata(HashMap::from([(FIELD_ID_KEY.to_owned(), id.to_string())]))
}

/// One column of a dataset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Column {
    pub name: &'static str,
    /// What a line calls it.
    pub key: &'static str,
    pub kind: ColumnKind,
}

/// The columns of a dataset that are fields, in the order of a line.
#[derive(Debug)]
pub struct Layout {
    pub columns: Vec<Column>,
    /// Keys without a column stand before the column of this number.
    pub attrs_at: usize,
    schema: SchemaRef,
}

/// Beside what all streams share, in the order of `server::trace`'s lines.
const TRACE_ORDER: &[&str] = &[
    "ts",
    "level",
    "msg",
    "stream",
    "component",
    "target",
    "instance",
    "version",
    "request_id",
    "correlation_id",
    "trace_id",
    "project_id",
    "token_id",
    "error",
];

const BODY_FIELDS: &[(&str, ColumnKind)] = &[
    ("stream", ColumnKind::Text),
    ("ts", ColumnKind::Time),
    ("instance", ColumnKind::Text),
    ("record_id", ColumnKind::Id),
    ("request_id", ColumnKind::Id),
    ("correlation_id", ColumnKind::Id),
    ("trace_id", ColumnKind::Id),
    ("project_id", ColumnKind::Text),
    ("token_id", ColumnKind::Text),
    ("end_user", ColumnKind::Text),
    ("side", ColumnKind::Text),
    ("content_type", ColumnKind::Text),
    ("encoding", ColumnKind::Text),
    ("body", ColumnKind::LongText),
    ("bytes", ColumnKind::Integer),
    ("truncated", ColumnKind::Boolean),
    ("redactions", ColumnKind::Integer),
];

/// Every column in the order in which it came, over all datasets: the place is
/// its Parquet field id (from 1). Only ever appended to.
pub const COLUMN_IDS: &[&str] = &[
    "seq",
    "ts",
    "instance",
    "line",
    "attrs",
    "schema",
    "stream",
    "record_id",
    "level",
    "msg",
    "component",
    "version",
    "request_id",
    "correlation_id",
    "trace_id",
    "span_id",
    "parent_span_id",
    "project_id",
    "project",
    "token_id",
    "labels",
    "end_user",
    "client_ip",
    "user_agent",
    "provider",
    "operation",
    "model",
    "response_model",
    "method",
    "path",
    "http_version",
    "status_code",
    "upstream_status_code",
    "upstream_request_id",
    "outcome",
    "error_code",
    "error",
    "stream_response",
    "finish_reason",
    "partial",
    "request_bytes",
    "response_bytes",
    "events",
    "duration_ms",
    "upstream_ms",
    "ttfb_ms",
    "ttft_ms",
    "overhead_us",
    "attempts",
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "usage_source",
    "usage_method",
    "cost_usd",
    "price_table",
    "cache",
    "count",
    "first_ts",
    "last_ts",
    "target",
    "id",
    "action",
    "result",
    "reason_code",
    "actor_kind",
    "actor_id",
    "actor_role",
    "target_type",
    "target_id",
    "route",
    "status",
    "producer",
    "producer_seq",
    "leaf",
    "side",
    "content_type",
    "encoding",
    "body",
    "bytes",
    "truncated",
    "redactions",
    "captured",
];

/// The columns of a dataset, as this build writes them.
pub fn layout(dataset: Dataset) -> &'static Layout {
    static LAYOUTS: LazyLock<[Layout; 4]> = LazyLock::new(|| {
        [
            Layout::of_stream(Dataset::Records, Stream::Record),
            Layout::new(Dataset::Bodies, body_columns(), BODY_FIELDS.len()),
            Layout::of_traces(),
            Layout::of_stream(Dataset::Entries, Stream::Entry),
        ]
    });
    match dataset {
        Dataset::Records => &LAYOUTS[0],
        Dataset::Bodies => &LAYOUTS[1],
        Dataset::Traces => &LAYOUTS[2],
        Dataset::Entries => &LAYOUTS[3],
    }
}

/// The columns of a dataset: `seq` and `ts` first, the fields in the order of a
/// line, then `attrs` and `line`.
pub fn schema(dataset: Dataset) -> SchemaRef {
    Arc::clone(&layout(dataset).schema)
}

/// The column that holds a field of a dataset's lines.
pub fn column_of(dataset: Dataset, key: &str) -> Option<Column> {
    layout(dataset).columns.iter().copied().find(|column| column.key == key)
}

fn body_columns() -> Vec<Column> {
    let columns = BODY_FIELDS.iter();
    columns.map(|(name, kind)| Column { name, key: name, kind: *kind }).collect()
}

fn column(field: &fields::Field) -> Column {
    let key = field.name;
    let name = if key == SEQ { "producer_seq" } else { key };
    let kind = match (field.kind, key) {
        // Of these, many rows share one.
        (Kind::Id, "project_id" | "token_id" | "actor_id" | "target_id") => ColumnKind::Text,
        (Kind::Text, "leaf") => ColumnKind::LongText,
        (Kind::Text, _) => ColumnKind::Text,
        (Kind::Id, _) => ColumnKind::Id,
        (Kind::Time, _) => ColumnKind::Time,
        (Kind::Integer, _) => ColumnKind::Integer,
        (Kind::Number, _) => ColumnKind::Millis,
        (Kind::Decimal, _) => ColumnKind::Decimal,
        (Kind::Boolean, _) => ColumnKind::Boolean,
        (Kind::Labels, _) => ColumnKind::Map,
    };
    Column { name, key, kind }
}

impl Layout {
    fn of_stream(dataset: Dataset, stream: Stream) -> Self {
        let columns: Vec<Column> = fields::of(stream).iter().map(column).collect();
        let attrs_at = columns.len();
        Self::new(dataset, columns, attrs_at)
    }

    /// The one field of a trace that its event gives stands behind the others.
    fn of_traces() -> Self {
        let mut columns: Vec<Column> = fields::of(Stream::Trace).iter().map(column).collect();
        let place = |name: &str| TRACE_ORDER.iter().position(|known| *known == name);
        columns.sort_by_key(|column| place(column.key).unwrap_or(usize::MAX));
        let attrs_at = columns.len() - 1;
        Self::new(Dataset::Traces, columns, attrs_at)
    }

    fn new(dataset: Dataset, columns: Vec<Column>, attrs_at: usize) -> Self {
        let own = |name: &'static str, kind| field(&Column { name, key: name, kind });
        let mut fields = vec![own(SEQ, ColumnKind::Integer), own(TS, ColumnKind::Time)];
        fields.extend(columns.iter().filter(|column| column.name != TS).map(field));
        fields.extend([own(ATTRS, ColumnKind::Map), own(LINE, ColumnKind::Bytes)]);
        let metadata = HashMap::from([(DATASET_KEY.to_owned(), dataset.as_str().to_owned())]);
        let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
        Self { columns, attrs_at, schema }
    }
}

fn field(column: &Column) -> Field {
    let id = COLUMN_IDS.iter().position(|name| *name == column.name).map_or(0, |at| at + 1);
    named_field(column.name, column.kind.data_type(id), id)
}

fn named_field(name: &str, data_type: DataType, id: usize) -> Field {
    let required = name == SEQ || name == TS;
    with_id(Field::new(name, data_type, !required), id)
}
