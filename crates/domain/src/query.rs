//! What is asked of records, entries and traces: the syntax tree of a query and
//! of statistics (the language is on the page about search).
//!
//! A tree that exists names known fields, labels or attributes only, and is
//! bounded in size and depth. It says nothing about where lines lie.

use std::ops::Range;

use crate::{fields::Field, glob::Glob, time::Timestamp};

/// Bytes of a query's text.
pub const QUERY_BYTES_MAX: usize = 100 * 1024;
/// Parentheses and negations inside each other.
pub const QUERY_DEPTH_MAX: usize = 64;
/// Terms of a query.
pub const QUERY_TERMS_MAX: usize = 1024;

/// A condition that a line meets or not.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// Every line.
    All,
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    /// The text, in lower case, somewhere in `msg`, `error`, `path` or a
    /// captured body, whatever its case there.
    Text(String),
    /// A test of one field. A line without the field never passes it.
    Field(FieldRef, Test),
}

/// A field that a query names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FieldRef {
    Known(Field),
    /// `labels.NAME`.
    Label(String),
    /// A key that no stream defines: `attrs.NAME` of our own lines, or any key
    /// (dots reach into objects) of a foreign file.
    Attribute(String),
}

/// One test of a value.
#[derive(Clone, Debug)]
pub enum Test {
    /// `field:*`
    Present,
    /// `field:a,b` and `field:"a b"`: equal to any of them.
    Any(Vec<Literal>),
    /// `field:gpt-4*`, case-sensitive.
    Like(Glob),
    /// `field:/regex/`, somewhere in the text. Validated; linear-time engine.
    Regex(String),
    /// `field>=500` and so on.
    Compare(Comparison, Literal),
}

impl PartialEq for Test {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Present, Self::Present) => true,
            (Self::Any(a), Self::Any(b)) => a == b,
            (Self::Like(a), Self::Like(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a == b,
            (Self::Compare(op, a), Self::Compare(other_op, b)) => op == other_op && a == b,
            _ => false,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A value as its field's kind reads it.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    Text(String),
    Integer(u64),
    /// Also what `cost_usd` is compared with.
    Number(f64),
    Boolean(bool),
    Time(Timestamp),
}

/// `count, p95(duration_ms) by model`, with `--bucket`.
#[derive(Clone, Debug, PartialEq)]
pub struct Stats {
    pub measures: Vec<Measure>,
    /// At most [`GROUP_FIELDS_MAX`].
    pub by: Vec<FieldRef>,
    /// Microseconds of a time bucket, aligned to the epoch.
    pub bucket_micros: Option<i64>,
}

pub const GROUP_FIELDS_MAX: usize = 3;
pub const MEASURES_MAX: usize = 16;

#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    pub function: Function,
    /// None for `count` alone.
    pub field: Option<FieldRef>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Function {
    /// Lines, or lines that have the field. A coalesced record counts as the
    /// requests it stands for.
    Count,
    Sum,
    Average,
    Minimum,
    Maximum,
    /// `p95`, `p99.9`, `median`: the value below which so many lie (0 to 1).
    Quantile(f64),
    /// How many different values (exact up to a bound, then said).
    Distinct,
}

/// Where in the query something is wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct QueryError {
    pub message: String,
    /// Bytes of the query's text.
    pub at: Range<usize>,
    /// The nearest known word.
    pub suggestion: Option<String>,
}
