//! The flags that every search has, and the question that they ask.

use clap::{Args, ValueEnum};
use domain::{
    fields::Stream,
    query::{QueryError, flags::Flags, parse_time},
    time::Timestamp,
};
use logstore::engine::Search;

use super::Trouble;
use crate::render::{Column, Format};

#[derive(Debug, Args)]
pub(super) struct FilterArgs {
    /// From this time on: 15m, 1h30m, 7d, 2026-11-23, 2026-11-23T10:00Z
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Which stream [default: all; record with --stats and --bucket]
    #[arg(long, value_enum)]
    pub stream: Option<StreamArg>,
    /// Lines of this request
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Lines of all requests with this correlation id
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,
    /// Lines of this W3C trace
    #[arg(long, value_name = "ID")]
    trace_id: Option<String>,
    /// Project name or id; like the five below it takes * as a wildcard
    #[arg(long)]
    project: Option<String>,
    /// Token id
    #[arg(long)]
    token: Option<String>,
    /// End user
    #[arg(long)]
    user: Option<String>,
    /// Model asked for or answered with
    #[arg(long)]
    model: Option<String>,
    /// Provider's name
    #[arg(long)]
    provider: Option<String>,
    /// Path of the request
    #[arg(long)]
    path: Option<String>,
    /// 500, 5xx, >=400, or a list of them
    #[arg(long)]
    status: Option<String>,
    /// ok, denied, client_error, upstream_error, timeout, client_closed, ...
    #[arg(long)]
    outcome: Option<String>,
    /// Records whose outcome is not ok; other lines of level error
    #[arg(long)]
    errors: bool,
    /// Records that took at least so many milliseconds, or 2s
    #[arg(long, value_name = "MS")]
    slow: Option<String>,
    /// This level or a graver one
    #[arg(long)]
    level: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum StreamArg {
    Record,
    Entry,
    Trace,
    All,
}

impl FilterArgs {
    /// The question, about all streams unless a flag says otherwise; of files
    /// the query names their own fields.
    pub fn question(
        &self,
        query: Option<&str>,
        now: Timestamp,
        is_foreign: bool,
    ) -> Result<Search, Trouble> {
        let flags = self.flags(query);
        let expr = if is_foreign { flags.expr_for_foreign(now) } else { flags.expr(now) };
        let expr = expr.map_err(|error| {
            let typed = flags.value_of(error.flag).unwrap_or_default();
            Trouble::wrong(error.flag, typed, error.error)
        })?;
        if is_foreign && self.stream.is_some() {
            return Err(Trouble::NotOfFiles("--stream is"));
        }
        let (since, until) = span(self.since.as_ref(), self.until.as_ref(), now)?;
        let streams = self.streams(Stream::ALL);
        Ok(Search { streams, since, until, ..Search::new(expr) })
    }

    pub fn streams(&self, default: &[Stream]) -> Vec<Stream> {
        match self.stream {
            None => default.to_vec(),
            Some(StreamArg::All) => Stream::ALL.to_vec(),
            Some(StreamArg::Record) => vec![Stream::Record],
            Some(StreamArg::Entry) => vec![Stream::Entry],
            Some(StreamArg::Trace) => vec![Stream::Trace],
        }
    }

    fn flags(&self, query: Option<&str>) -> Flags {
        Flags {
            query: query.map(str::to_owned),
            request_id: self.request_id.clone(),
            correlation_id: self.correlation_id.clone(),
            trace_id: self.trace_id.clone(),
            project: self.project.clone(),
            token: self.token.clone(),
            user: self.user.clone(),
            model: self.model.clone(),
            provider: self.provider.clone(),
            path: self.path.clone(),
            status: self.status.clone(),
            outcome: self.outcome.clone(),
            errors: self.errors,
            slow: self.slow.clone(),
            level: self.level.clone(),
        }
    }
}

/// Lines that somebody asks for: more than fit into memory anyway.
const LINES_MAX: usize = u32::MAX as usize;

/// How many lines a flag names.
pub(super) fn lines(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number <= LINES_MAX);
    number.ok_or_else(|| format!("expected a whole number from 0 to {LINES_MAX}"))
}

/// The time between two flags. None at all is a mistake, not an answer.
pub(super) fn span(
    since: Option<&String>,
    until: Option<&String>,
    now: Timestamp,
) -> Result<(Option<Timestamp>, Option<Timestamp>), Trouble> {
    let (since, until) = (moment("since", since, now)?, moment("until", until, now)?);
    match since.zip(until) {
        Some((since, until)) if since >= until => Err(Trouble::NoTime { since, until }),
        _ => Ok((since, until)),
    }
}

/// A moment that a flag names.
fn moment(
    flag: &'static str,
    text: Option<&String>,
    now: Timestamp,
) -> Result<Option<Timestamp>, Trouble> {
    let Some(text) = text else { return Ok(None) };
    let error = || QueryError {
        message: "expected 15m, 1h30m, 7d, 2026-11-23 or 2026-11-23T10:00Z".to_owned(),
        at: 0..text.len(),
        suggestion: None,
    };
    parse_time(text, now).map(Some).ok_or_else(|| Trouble::wrong(flag, text, error()))
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Fields to show, in order
    #[arg(long, value_delimiter = ',', value_name = "FIELDS")]
    fields: Vec<String>,
    /// How lines are printed [default: table; raw for files]
    #[arg(short = 'o', long, value_enum)]
    output: Option<Format>,
    /// Go on with lines as they are written
    #[arg(short = 'f', long)]
    pub follow: bool,
    /// Tell on stderr what was read and left out, and how long it took
    #[arg(long)]
    pub explain: bool,
}

impl ShowArgs {
    pub fn format(&self, is_foreign: bool) -> Format {
        let default = if is_foreign { Format::Raw } else { Format::Table };
        self.output.unwrap_or(default)
    }

    /// The columns asked for; the fields of files are whatever they have.
    pub fn columns(&self, is_foreign: bool) -> Result<Vec<Column>, Trouble> {
        let column = |name: &String| match is_foreign {
            true => Ok(Column::foreign(name)),
            false => Column::parse(name).map_err(|error| Trouble::wrong("fields", name, error)),
        };
        self.fields.iter().map(column).collect()
    }
}
