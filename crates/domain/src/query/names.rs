//! What names mean: fields, the short names that people use for them, labels
//! and attributes; and which known name is nearest to a wrong one.

use super::{QueryError, cursor::Item, tree::FieldRef};
use crate::fields::{self, Field, Kind, RECORD_FIELDS};

/// A short name. Put in quotation marks a name is always the field itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alias {
    pub name: &'static str,
    /// A line passes when any of them does. The first is what statistics group
    /// by and tables show.
    pub fields: &'static [&'static str],
}

const fn alias(name: &'static str, fields: &'static [&'static str]) -> Alias {
    Alias { name, fields }
}

pub const ALIASES: &[Alias] = &[
    alias("project", &["project", "project_id"]),
    alias("status", &["status_code", "status"]),
    alias("user", &["end_user"]),
    alias("token", &["token_id"]),
    alias("ip", &["client_ip"]),
    alias("cost", &["cost_usd"]),
    alias("tokens", &["total_tokens"]),
    alias("duration", &["duration_ms"]),
    alias("latency", &["duration_ms"]),
    alias("ttft", &["ttft_ms"]),
    alias("ttfb", &["ttfb_ms"]),
    alias("overhead", &["overhead_us"]),
    alias("request", &["request_id"]),
    alias("correlation", &["correlation_id"]),
    alias("trace", &["trace_id"]),
    alias("time", &["ts"]),
    alias("message", &["msg"]),
];

pub(super) const LABEL_PREFIX: &str = "labels.";
pub(super) const ATTRIBUTE_PREFIX: &str = "attrs.";

/// Whose lines a query is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Names {
    /// Ours: a name must be known.
    Ours,
    /// Anybody's: what is not known is an attribute.
    Foreign,
}

/// What a name of our own lines stands for: usually one field.
pub fn resolve(name: &str) -> Result<Vec<FieldRef>, QueryError> {
    resolve_item(Names::Ours, &bare(name))
}

/// The same where only one field makes sense: a column or a group.
pub fn resolve_one(name: &str) -> Result<FieldRef, QueryError> {
    first(resolve(name)?, &bare(name))
}

fn bare(name: &str) -> Item {
    Item { text: name.to_owned(), quoted: false, at: 0..name.len() }
}

pub(super) fn first(fields: Vec<FieldRef>, name: &Item) -> Result<FieldRef, QueryError> {
    fields.into_iter().next().ok_or_else(|| unknown(name))
}

pub(super) fn resolve_item(names: Names, name: &Item) -> Result<Vec<FieldRef>, QueryError> {
    let text = name.text.as_str();
    if names == Names::Foreign {
        let known = fields::find(text).filter(|known| known.kind != Kind::Labels);
        return Ok(vec![match known {
            Some(known) => FieldRef::Known(known),
            None => FieldRef::Attribute(text.to_owned()),
        }]);
    }
    let alias = ALIASES.iter().find(|alias| !name.quoted && alias.name == text);
    if let Some(alias) = alias {
        let known = alias.fields.iter().filter_map(|field| fields::find(field));
        return Ok(known.map(FieldRef::Known).collect());
    }
    if let Some(known) = fields::find(text) {
        return Ok(vec![FieldRef::Known(known)]);
    }
    match (text.strip_prefix(LABEL_PREFIX), text.strip_prefix(ATTRIBUTE_PREFIX)) {
        (Some(label), _) if !label.is_empty() => Ok(vec![FieldRef::Label(label.to_owned())]),
        (_, Some(key)) if !key.is_empty() => Ok(vec![FieldRef::Attribute(key.to_owned())]),
        _ => Err(unknown(name)),
    }
}

fn unknown(name: &Item) -> QueryError {
    let text = &name.text;
    let shown: String = text.chars().take(NAME_CHARS_SHOWN).collect();
    let mut message = format!("unknown field '{shown}'");
    let nearest = nearest(text, known_names());
    if nearest.is_none() && text.contains('.') {
        message.push_str(&format!(" (an attribute of a trace is attrs.{shown})"));
    } else if nearest.is_none() {
        message.push_str(" (to look for the text itself, put it in quotation marks)");
    }
    QueryError::new(name.at.clone(), message).suggesting(nearest)
}

/// A name can be as long as the query.
const NAME_CHARS_SHOWN: usize = 64;

/// Every name that stands for a field, each once, in their order.
pub fn known_names() -> impl Iterator<Item = &'static str> {
    let record = RECORD_FIELDS.iter().map(|field| field.name);
    let others = fields::SHARED_FIELDS.iter().chain(fields::ENTRY_FIELDS);
    let others = others.chain(fields::TRACE_FIELDS).map(|field: &Field| field.name);
    record.chain(others).chain(ALIASES.iter().map(|alias| alias.name))
}

/// Longer words are nobody's typing error.
const COMPARED_CHARS_MAX: usize = 48;

/// The known word that is nearest, if it is near enough to be meant.
pub fn nearest<'w>(word: &str, known: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let length = word.chars().count();
    if length > COMPARED_CHARS_MAX {
        return None;
    }
    let word = word.to_ascii_lowercase();
    let near = (length / 3).clamp(1, 3);
    let measured = known.into_iter().map(|known| (distance(&word, known), known));
    let best = measured.min_by_key(|(distance, _)| *distance);
    best.filter(|(distance, _)| *distance <= near).map(|(_, known)| known)
}

/// Edit distance: insertions, deletions, changes, and neighbours exchanged.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let changed = row[j] + usize::from(from != to);
            let mut best = changed.min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && a[i - 1] == *to && *from == b[j - 1] {
                best = best.min(before[j - 1] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}
