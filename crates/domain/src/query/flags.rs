//! The filters that the command line and the API have as flags, and the tree
//! that they stand for.

use super::{
    QueryError,
    cursor::Item,
    literal::{LEVELS, Reading, comparison_test, equality_test},
    names::{Names, nearest},
    parser::parse,
    tree::{Comparison, Expr, FieldRef},
};
use crate::{fields, record::Outcome, time::Timestamp};

/// What was typed, flag by flag. All that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// A query in the language.
    pub query: Option<String>,
    pub request_id: Option<String>,
    pub correlation_id: Option<String>,
    pub trace_id: Option<String>,
    /// Name or id.
    pub project: Option<String>,
    pub token: Option<String>,
    pub user: Option<String>,
    /// Asked for or answered with.
    pub model: Option<String>,
    pub provider: Option<String>,
    pub path: Option<String>,
    pub status: Option<String>,
    pub outcome: Option<String>,
    /// Records whose outcome is not `ok`; other lines of level `error`.
    pub errors: bool,
    /// Milliseconds, or a duration such as `2s`.
    pub slow: Option<String>,
    /// This level or a graver one.
    pub level: Option<String>,
}

/// Which flag is wrong, and how.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{flag}: {error}")]
pub struct FlagError {
    /// `query`, `status` and so on: the name of the flag.
    pub flag: &'static str,
    /// Its place is one in the flag's value.
    pub error: QueryError,
}

/// Flags that are compared whole, or with `*` as a wildcard.
const WHOLE: &[(&str, &[&str])] = &[
    ("request-id", &["request_id"]),
    ("correlation-id", &["correlation_id"]),
    ("trace-id", &["trace_id"]),
    ("token", &["token_id"]),
    ("user", &["end_user"]),
    ("path", &["path"]),
];
/// Flags that take a list.
const LISTS: &[(&str, &[&str])] = &[
    ("project", &["project", "project_id"]),
    ("model", &["model", "response_model"]),
    ("provider", &["provider"]),
];

impl Flags {
    /// The tree of all that is given. `now` is what times in the query count
    /// from.
    pub fn expr(&self, now: Timestamp) -> Result<Expr, FlagError> {
        let reading = Reading { names: Names::Ours, now };
        let mut parts = Vec::new();
        if let Some(query) = &self.query {
            parts.push(parse(query, now).map_err(|error| FlagError { flag: "query", error })?);
        }
        parts.push(self.filters(reading)?);
        Ok(Expr::and(parts))
    }

    /// The same over the lines of others, where the query names their keys.
    pub fn expr_for_foreign(&self, now: Timestamp) -> Result<Expr, FlagError> {
        let reading = Reading { names: Names::Foreign, now };
        let query = self.query.as_deref().unwrap_or_default();
        let query = super::parse_for_foreign(query, now);
        let query = query.map_err(|error| FlagError { flag: "query", error })?;
        Ok(Expr::and([query, self.filters(reading)?]))
    }

    fn filters(&self, reading: Reading) -> Result<Expr, FlagError> {
        let mut parts = Vec::new();
        for (flag, names) in WHOLE {
            if let Some(value) = self.value_of(flag) {
                parts.push(any_of(reading, flag, names, &[whole(value)])?);
            }
        }
        for (flag, names) in LISTS {
            if let Some(value) = self.value_of(flag) {
                parts.push(any_of(reading, flag, names, &list(value))?);
            }
        }
        if let Some(status) = &self.status {
            parts.push(self.status(reading, status)?);
        }
        if let Some(outcome) = &self.outcome {
            parts.push(outcomes(reading, outcome)?);
        }
        if self.errors {
            parts.push(errors(reading)?);
        }
        let at_least = |flag, name, value: &String| {
            let field = FieldRef::Known(known(name));
            let item = whole(value);
            comparison_test(reading, &field, Comparison::GreaterOrEqual, &item)
                .map_err(|error| FlagError { flag, error })
        };
        if let Some(slow) = &self.slow {
            parts.push(at_least("slow", "duration_ms", slow)?);
        }
        if let Some(level) = &self.level {
            if !LEVELS.contains(&level.to_ascii_lowercase().as_str()) {
                return Err(unknown("level", level, LEVELS));
            }
            parts.push(at_least("level", "level", level)?);
        }
        Ok(Expr::and(parts))
    }

    /// What was typed for a flag, as [`FlagError::flag`] calls it.
    pub fn value_of(&self, flag: &str) -> Option<&str> {
        let value = match flag {
            "query" => &self.query,
            "request-id" => &self.request_id,
            "correlation-id" => &self.correlation_id,
            "trace-id" => &self.trace_id,
            "project" => &self.project,
            "token" => &self.token,
            "user" => &self.user,
            "model" => &self.model,
            "provider" => &self.provider,
            "path" => &self.path,
            "status" => &self.status,
            "outcome" => &self.outcome,
            "slow" => &self.slow,
            "level" => &self.level,
            _ => return None,
        };
        value.as_deref()
    }

    /// `500`, `5xx`, `>=400`, or a list of them.
    fn status(&self, reading: Reading, text: &str) -> Result<Expr, FlagError> {
        let field = FieldRef::Known(known("status_code"));
        let mut any = Vec::new();
        for item in list(text) {
            let compared = COMPARISONS.iter().find_map(|(sign, comparison)| {
                let rest = item.text.strip_prefix(sign)?.trim_start();
                let at = item.at.end - rest.len()..item.at.end;
                Some((*comparison, Item { text: rest.to_owned(), quoted: false, at }))
            });
            let made = match compared {
                Some((comparison, item)) => comparison_test(reading, &field, comparison, &item),
                None => equality_test(reading, &field, std::slice::from_ref(&item)),
            };
            any.push(made.map_err(|error| FlagError { flag: "status", error })?);
        }
        Ok(Expr::or(any))
    }
}

const COMPARISONS: &[(&str, Comparison)] = &[
    (">=", Comparison::GreaterOrEqual),
    ("<=", Comparison::LessOrEqual),
    (">", Comparison::Greater),
    ("<", Comparison::Less),
];

fn any_of(
    reading: Reading,
    flag: &'static str,
    names: &[&str],
    items: &[Item],
) -> Result<Expr, FlagError> {
    let empty = items.iter().find(|item| item.text.is_empty());
    if let Some(item) = empty {
        let error = QueryError::new(item.at.clone(), "a value is missing");
        return Err(FlagError { flag, error });
    }
    let tests = names.iter().map(|name| {
        equality_test(reading, &FieldRef::Known(known(name)), items)
            .map_err(|error| FlagError { flag, error })
    });
    Ok(Expr::or(tests.collect::<Result<Vec<_>, _>>()?))
}

fn outcomes(reading: Reading, text: &str) -> Result<Expr, FlagError> {
    let names: Vec<&str> = Outcome::ALL.iter().map(|outcome| outcome.as_str()).collect();
    let items = list(text);
    if let Some(wrong) = items.iter().find(|item| !names.contains(&item.text.as_str())) {
        return Err(unknown("outcome", &wrong.text, &names));
    }
    any_of(reading, "outcome", &["outcome"], &items)
}

fn errors(reading: Reading) -> Result<Expr, FlagError> {
    let error = |error| FlagError { flag: "errors", error };
    let text = "(outcome:* -outcome:ok) OR (-outcome:* level>=error)";
    parse(text, reading.now).map_err(error)
}

fn unknown(flag: &'static str, value: &str, known: &[&str]) -> FlagError {
    let message = format!("expected one of {}", known.join(", "));
    let nearest = nearest(value, known.iter().copied());
    FlagError { flag, error: QueryError::new(0..value.len(), message).suggesting(nearest) }
}

fn known(name: &str) -> fields::Field {
    fields::find(name).expect("flags name fields of the table")
}

fn whole(value: &str) -> Item {
    Item { text: value.to_owned(), quoted: false, at: 0..value.len() }
}

fn list(value: &str) -> Vec<Item> {
    let mut at = 0;
    let items = value.split(',').map(|part| {
        let start = at + (part.len() - part.trim_start().len());
        at += part.len() + 1;
        let text = part.trim().to_owned();
        let end = start + text.len();
        Item { text, quoted: false, at: start..end }
    });
    items.collect()
}
