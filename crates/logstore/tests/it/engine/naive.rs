//! What the answers must be: every line parsed, every condition taken word by
//! word, everything sorted, nothing clever.

use std::cmp::Ordering;

use domain::{
    fields::{self, Kind, Stream},
    query::{Comparison, Expr, FieldRef, Literal, Test},
    time::Timestamp,
};
use serde_json::{Map, Value};

use super::world::Line;

pub(crate) type Fields = Map<String, Value>;

pub(crate) fn parse(line: &str) -> Fields {
    serde_json::from_str(line).unwrap()
}

/// Whether a value is what its field's column holds.
fn fits(kind: Kind, value: &Value) -> bool {
    match kind {
        Kind::Text | Kind::Id => value.is_string(),
        Kind::Time => value.as_str().and_then(Timestamp::parse).is_some(),
        Kind::Integer => value.as_u64().is_some(),
        Kind::Number => value.is_number(),
        Kind::Decimal => value.as_str().is_some_and(|text| text.parse::<f64>().is_ok()),
        Kind::Boolean => value.is_boolean(),
        Kind::Labels => value.is_object(),
    }
}

fn column(stream: Stream, name: &str) -> Option<Kind> {
    fields::of(stream).into_iter().find(|field| field.name == name).map(|field| field.kind)
}

/// The value of a key that no column holds.
fn attribute(line: &Fields, stream: Stream, name: &str) -> Option<Value> {
    let outer = |key: &str| {
        let value = line.get(key)?;
        let is_held = column(stream, key).is_some_and(|kind| fits(kind, value));
        (!is_held).then(|| value.clone())
    };
    if let Some(value) = outer(name) {
        return Some(value);
    }
    name.match_indices('.').find_map(|(dot, _)| within(&outer(&name[..dot])?, &name[dot + 1..]))
}

fn within(value: &Value, name: &str) -> Option<Value> {
    if let Some(value) = value.get(name) {
        return Some(value.clone());
    }
    let (first, rest) = name.split_once('.')?;
    within(value.get(first)?, rest)
}

pub(crate) fn value(line: &Fields, stream: Stream, field: &FieldRef) -> Option<Value> {
    let found = match field {
        FieldRef::Known(known) => match column(stream, known.name) {
            Some(kind) => line.get(known.name).filter(|value| fits(kind, value)).cloned(),
            None => attribute(line, stream, known.name),
        },
        FieldRef::Label(name) => match column(stream, "labels") {
            Some(_) => line.get("labels").and_then(|labels| labels.get(name)).cloned(),
            None => attribute(line, stream, &format!("labels.{name}")),
        },
        FieldRef::Attribute(name) => attribute(line, stream, name),
    };
    found.filter(|value| !value.is_null())
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok()
}

fn by(comparison: Comparison, ordering: Option<Ordering>) -> bool {
    ordering.is_some_and(|ordering| match comparison {
        Comparison::Less => ordering.is_lt(),
        Comparison::LessOrEqual => ordering.is_le(),
        Comparison::Greater => ordering.is_gt(),
        Comparison::GreaterOrEqual => ordering.is_ge(),
    })
}

const LEVELS: [&str; 5] = ["trace", "debug", "info", "warn", "error"];

fn level(text: &str) -> Option<usize> {
    LEVELS.iter().position(|known| *known == text)
}

fn passes(test: &Test, value: &Value) -> bool {
    let text = text_of(value);
    match test {
        Test::Present => value.as_object().is_none_or(|object| !object.is_empty()),
        Test::Any(literals) => literals.iter().any(|literal| match literal {
            Literal::Text(wanted) => *wanted == text,
            Literal::Integer(wanted) => number(&text) == Some(*wanted as f64),
            Literal::Number(wanted) => number(&text) == Some(*wanted),
            Literal::Boolean(wanted) => wanted.to_string() == text,
            Literal::Time(wanted) => Timestamp::parse(&text) == Some(*wanted),
        }),
        Test::Like(glob) => glob.matches(&text),
        Test::Regex(pattern) => regex::Regex::new(pattern).unwrap().is_match(&text),
        Test::Compare(comparison, literal) => by(
            *comparison,
            match literal {
                Literal::Integer(bound) => {
                    number(&text).and_then(|n| n.partial_cmp(&(*bound as f64)))
                }
                Literal::Number(bound) => number(&text).and_then(|n| n.partial_cmp(bound)),
                Literal::Time(bound) => Timestamp::parse(&text).map(|time| time.cmp(bound)),
                Literal::Text(bound) => match (level(&text), level(bound)) {
                    (Some(a), Some(b)) => Some(a.cmp(&b)),
                    _ => match (number(&text), number(bound)) {
                        (Some(a), Some(b)) => a.partial_cmp(&b),
                        _ => Some(text.as_str().cmp(bound)),
                    },
                },
                Literal::Boolean(_) => None,
            },
        ),
    }
}

/// `bodies`: texts that were captured for the line.
pub(crate) fn holds(expr: &Expr, line: &Fields, stream: Stream, bodies: &[&str]) -> bool {
    match expr {
        Expr::All => true,
        Expr::And(all) => all.iter().all(|expr| holds(expr, line, stream, bodies)),
        Expr::Or(any) => any.iter().any(|expr| holds(expr, line, stream, bodies)),
        Expr::Not(expr) => !holds(expr, line, stream, bodies),
        Expr::Text(word) if bodies.iter().any(|body| body.to_lowercase().contains(word)) => true,
        Expr::Text(word) => ["msg", "error", "path"].iter().any(|name| {
            let field = FieldRef::Known(fields::find(name).unwrap());
            let found = value(line, stream, &field);
            found.is_some_and(|value| text_of(&value).to_lowercase().contains(word))
        }),
        Expr::Field(field, test) => {
            value(line, stream, field).is_some_and(|value| passes(test, &value))
        }
    }
}

/// Oldest first; lines of one moment by instance, then number.
pub(crate) fn place(line: &Line) -> (Timestamp, &'static str, u64) {
    (line.ts, line.instance, line.seq)
}
