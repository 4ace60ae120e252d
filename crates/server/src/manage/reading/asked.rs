//! A question as parameters say it, and what is wrong with it.

use domain::{
    fields::Stream,
    query::{QueryError, flags::Flags, parse_time},
    time::Timestamp,
};
use logstore::engine::{Order, Search};

use crate::{
    manage::error::{Error, Result},
    render::Column,
};

const LIMIT_DEFAULT: usize = 100;
/// Lines of one page.
pub(super) const PAGE_LINES_MAX: usize = 1_000;
/// Lines of one export.
pub(super) const EXPORT_LINES_MAX: usize = 10_000_000;
const CONTEXT_MAX: usize = 1_000;

/// What an answer looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// One object: a page.
    Json,
    /// One line after the other.
    JsonLines,
    Csv,
}

/// The parameters of a search; what is not given is not asked.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub flags: Flags,
    pub since: Option<String>,
    pub until: Option<String>,
    /// One of them, several with commas, or `all`.
    pub stream: Option<String>,
    /// `desc`, the newest first, or `asc`.
    pub order: Option<String>,
    pub limit: Option<String>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Neighbours on each side.
    pub context: Option<String>,
    /// Of each line, with commas.
    pub fields: Option<String>,
    pub explain: bool,
    /// Whether words are looked for in captured bodies by those who may.
    pub bodies: Option<bool>,
}

impl Asked {
    /// The question, of `streams` where none are named.
    pub(super) fn search(&self, now: Timestamp, streams: &[Stream]) -> Result<Search> {
        let expr = self.flags.expr(now).map_err(|wrong| {
            let parameter = match wrong.flag {
                "query" => "q".to_owned(),
                flag => flag.replace('-', "_"),
            };
            misplaced(parameter, wrong.error)
        })?;
        let mut search = Search::new(expr);
        search.streams = self.streams(streams)?;
        (search.since, search.until) = span(self.since.as_deref(), self.until.as_deref(), now)?;
        search.bodies = self.bodies.unwrap_or(true);
        search.order = match self.order.as_deref() {
            None | Some("desc" | "newest") => Order::NewestFirst,
            Some("asc" | "oldest") => Order::OldestFirst,
            Some(_) => return Err(Error::invalid("order must be desc or asc")),
        };
        search.context = match &self.context {
            None => 0,
            Some(text) => number("context", text, 0, CONTEXT_MAX)?,
        };
        if let Some(cursor) = &self.cursor {
            let after = cursor.parse();
            search.after = Some(after.map_err(|_| Error::invalid("cursor is not one of ours"))?);
        }
        Ok(search)
    }

    pub(super) fn limit(&self, form: Form) -> Result<usize> {
        let max = match form {
            Form::Json => PAGE_LINES_MAX,
            Form::JsonLines | Form::Csv => EXPORT_LINES_MAX,
        };
        self.limit.as_ref().map_or(Ok(LIMIT_DEFAULT), |text| number("limit", text, 1, max))
    }

    pub(super) fn columns(&self) -> Result<Vec<Column>> {
        let Some(fields) = &self.fields else { return Ok(Vec::new()) };
        let column = |name: &str| {
            Column::parse(name.trim()).map_err(|error| misplaced("fields".to_owned(), error))
        };
        fields.split(',').map(column).collect()
    }

    fn streams(&self, default: &[Stream]) -> Result<Vec<Stream>> {
        match self.stream.as_deref() {
            None => Ok(default.to_vec()),
            Some("all") => Ok(Stream::ALL.to_vec()),
            Some(names) => {
                let stream = |name: &str| {
                    let wrong = || Error::invalid("stream must be record, entry, trace or all");
                    Stream::parse(name.trim()).ok_or_else(wrong)
                };
                names.split(',').map(stream).collect()
            }
        }
    }
}

/// What is wrong with the text of a parameter, and where.
pub(super) fn misplaced(parameter: impl Into<String>, error: QueryError) -> Error {
    let parameter = parameter.into();
    let text = domain::redact::redacted(&error.to_string(), &[]).to_string();
    Error::invalid(format!("{parameter}: {text}")).at(parameter, error.at, error.suggestion)
}

/// The time between two parameters. None at all is a mistake, not an answer.
pub(super) fn span(
    since: Option<&str>,
    until: Option<&str>,
    now: Timestamp,
) -> Result<(Option<Timestamp>, Option<Timestamp>)> {
    let (since, until) = (moment("since", since, now)?, moment("until", until, now)?);
    match since.zip(until) {
        Some((since, until)) if since >= until => {
            Err(Error::invalid(format!("nothing lies between since={since} and until={until}")))
        }
        _ => Ok((since, until)),
    }
}

fn moment(name: &'static str, text: Option<&str>, now: Timestamp) -> Result<Option<Timestamp>> {
    let Some(text) = text else { return Ok(None) };
    let wrong = || {
        let what = "expected 15m, 1h30m, 7d, 2026-11-23 or 2026-11-23T10:00Z";
        Error::invalid(format!("{name}: {what}")).at(name.to_owned(), 0..text.len(), None)
    };
    parse_time(text, now).map(Some).ok_or_else(wrong)
}

pub(super) fn number(name: &str, text: &str, min: usize, max: usize) -> Result<usize> {
    let number = text.parse().ok().filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| Error::invalid(format!("{name} must be {min} to {max}")))
}
