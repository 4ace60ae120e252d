//! The syntax tree of a query and of statistics, and how a tree is put together.

use crate::{fields::Field, glob::Glob, time::Timestamp};

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

impl Expr {
    /// Whether it looks for words, not for fields alone.
    pub fn has_words(&self) -> bool {
        match self {
            Self::Text(_) => true,
            Self::And(parts) | Self::Or(parts) => parts.iter().any(Self::has_words),
            Self::Not(part) => part.has_words(),
            Self::All | Self::Field(..) => false,
        }
    }

    /// All of them: flat, without what is always true.
    pub fn and(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut flat = Vec::new();
        for part in parts {
            match part {
                Self::All => {}
                Self::And(inner) => flat.extend(inner),
                part => flat.push(part),
            }
        }
        if flat.len() == 1
            && let Some(only) = flat.pop()
        {
            return only;
        }
        if flat.is_empty() { Self::All } else { Self::And(flat) }
    }

    /// Any of them: flat. None of none is met by no line.
    pub fn or(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut flat = Vec::new();
        for part in parts {
            match part {
                Self::All => return Self::All,
                Self::Or(inner) => flat.extend(inner),
                part => flat.push(part),
            }
        }
        if flat.len() == 1
            && let Some(only) = flat.pop()
        {
            return only;
        }
        if flat.is_empty() { Self::All.negated() } else { Self::Or(flat) }
    }

    /// The opposite; two of them are none.
    pub fn negated(self) -> Self {
        match self {
            Self::Not(inner) => *inner,
            other => Self::Not(Box::new(other)),
        }
    }
}
