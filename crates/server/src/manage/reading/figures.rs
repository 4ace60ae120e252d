//! Figures about what is kept: statistics, and the usage that somebody pays.

use std::{collections::BTreeMap, path::Path, time::Instant};

use domain::{
    fields::Stream,
    ids::ProjectId,
    query::{Stats, parse_bucket, parse_stats},
};
use logstore::engine::{self, Cell, Report, Search, Table};
use serde_json::{Map, Value, json};

use super::{
    Asked, Cancel, Form, SEARCH_TIME_MAX, Subject,
    asked::{misplaced, number, span},
    bounded, missing, read,
    search::{close, member},
    searched,
};
use crate::{
    manage::{
        Manage,
        access::Caller,
        error::{Error, Kind, Result},
    },
    render::quoted_csv,
};

/// Rows of one answer; what is cut is said.
const ROWS_MAX: usize = 10_000;

/// What is measured, beside the search that says of what.
#[derive(Clone, Debug, Default)]
pub struct FiguresAsked {
    /// `count, p95(duration_ms)`; a count where nothing is asked.
    pub measures: Option<String>,
    /// Up to three fields.
    pub by: Option<String>,
    /// `5m`, `1h`, `1d`.
    pub bucket: Option<String>,
}

impl FiguresAsked {
    fn stats(&self) -> Result<Stats> {
        let measures = self.measures.as_deref().unwrap_or("count");
        let mut stats = parse_stats(measures).map_err(|error| misplaced("fn", error))?;
        if let Some(by) = &self.by {
            const BEFORE: &str = "count by ";
            let grouped = parse_stats(&format!("{BEFORE}{by}")).map_err(|mut error| {
                let shifted = |at: usize| at.saturating_sub(BEFORE.len());
                error.at = shifted(error.at.start)..shifted(error.at.end);
                misplaced("by", error)
            })?;
            stats.by = grouped.by;
        }
        if let Some(bucket) = &self.bucket {
            let micros = parse_bucket(bucket).map_err(|error| misplaced("bucket", error))?;
            stats.bucket_micros = Some(micros);
        }
        Ok(stats)
    }
}

/// Statistics of the lines that match, of records where no stream is named.
pub async fn stats(
    manage: &Manage,
    caller: &Caller,
    asked: &Asked,
    figures: &FiguresAsked,
    form: Form,
    waiting: &Cancel,
) -> Result<Vec<u8>> {
    let question = asked.search(manage.clock.now(), &[Stream::Record])?;
    let stats = figures.stats()?;
    let limit = asked.limit.as_ref().map(|text| number("limit", text, 1, ROWS_MAX)).transpose()?;
    let question = Search {
        limit: Some(limit.unwrap_or(ROWS_MAX)),
        ..bounded(question, caller, waiting, SEARCH_TIME_MAX)
    };
    let mut subject = Subject::of(&question);
    let by = figures.by.as_deref().map(|by| format!(" by {by}")).unwrap_or_default();
    let measures = figures.measures.as_deref().unwrap_or("count");
    subject.query = format!("{} | {measures}{by}", subject.query);
    searched(manage, caller, &subject).await?;
    let (data_dir, explain) = (manage.reader.data_dir.clone(), asked.explain);
    let (question, table, report, begun) = read(manage, move |sources| {
        let begun = Instant::now();
        let (table, report) = engine::stats(sources, &question, &stats)?;
        Ok((question, table, report, begun))
    })
    .await?;
    if form != Form::Json {
        whole(&report, &data_dir)?;
        return Ok(lines(&headings(&table), &objects(&table), form));
    }
    let columns: Vec<Value> = table
        .columns
        .iter()
        .map(|column| json!({ "name": column.name, "is_key": column.is_key }))
        .collect();
    let mut out = format!("{{\"columns\":{}", Value::from(columns)).into_bytes();
    member(&mut out, "items", &objects(&table));
    member(&mut out, "next_cursor", &Value::Null);
    member(&mut out, "groups", &table.groups);
    member(&mut out, "notes", &table.notes);
    member(&mut out, "matched", &report.matched);
    close(&mut out, &question, &report, &data_dir, (begun, explain));
    Ok(out)
}

fn headings(table: &Table) -> Vec<String> {
    table.columns.iter().map(|column| column.name.clone()).collect()
}

fn objects(table: &Table) -> Vec<Map<String, Value>> {
    let object = |row: &Vec<Cell>| {
        let cells = table.columns.iter().zip(row);
        let cells = cells.map(|(column, cell)| (column.name.clone(), value(cell)));
        cells.filter(|(_, value)| !value.is_null()).collect()
    };
    table.rows.iter().map(object).collect()
}

fn value(cell: &Cell) -> Value {
    match cell {
        Cell::Absent => Value::Null,
        Cell::Boolean(yes) => (*yes).into(),
        Cell::Integer(number) => match i64::try_from(*number) {
            Ok(number) => number.into(),
            Err(_) => number.to_string().into(),
        },
        Cell::Number(number) => (*number).into(),
        Cell::Text(_) | Cell::Decimal(_) | Cell::Time(_) => cell.to_string().into(),
    }
}

/// Rows without the object around them, which would say what is missing: so
/// nothing may be.
fn whole(report: &Report, data_dir: &Path) -> Result<()> {
    match missing(report, data_dir).into_iter().next() {
        None => Ok(()),
        Some(first) => Err(Error::new(Kind::Unavailable, format!("incomplete: {first}"))),
    }
}

fn lines(headings: &[String], rows: &[Map<String, Value>], form: Form) -> Vec<u8> {
    let mut out = String::new();
    if form == Form::Csv {
        let heads: Vec<String> = headings.iter().map(|name| quoted_csv(name)).collect();
        out = format!("{}\r\n", heads.join(","));
    }
    for row in rows {
        if form != Form::Csv {
            out.push_str(&format!("{}\n", Value::Object(row.clone())));
            continue;
        }
        let cells = headings.iter().map(|name| match row.get(name) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => quoted_csv(text),
            Some(other) => other.to_string(),
        });
        out.push_str(&format!("{}\r\n", cells.collect::<Vec<_>>().join(",")));
    }
    out.into_bytes()
}

/// Whose usage, and when.
#[derive(Clone, Debug, Default)]
pub struct UsageAsked {
    /// `project`, `model`, `day`, `token`, `end_user`, `provider`.
    pub group_by: Option<String>,
    pub since: Option<String>,
    pub until: Option<String>,
}

const GROUP_DEFAULT: &str = "project,model,day";
/// What a group is called, and the field behind it.
const GROUPS: &[(&str, &str)] = &[
    ("project", "project_id"),
    ("model", "model"),
    ("token", "token_id"),
    ("end_user", "end_user"),
    ("provider", "provider"),
];
const DAY: &str = "day";
const MEASURES: &str = "count, sum(input_tokens), sum(output_tokens), sum(total_tokens), \
                        sum(cached_input_tokens), sum(cost_usd)";
const NAMES: [&str; 6] = [
    "requests",
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cached_input_tokens",
    "cost_usd",
];

/// Requests, tokens and cost of the records, for whoever pays.
pub async fn usage(
    manage: &Manage,
    caller: &Caller,
    asked: &UsageAsked,
    form: Form,
    waiting: &Cancel,
) -> Result<Vec<u8>> {
    let group_by = asked.group_by.as_deref().unwrap_or(GROUP_DEFAULT);
    let (names, stats) = grouped(group_by)?;
    let now = manage.clock.now();
    let question = Asked::default().search(now, &[Stream::Record])?;
    let (since, until) = span(asked.since.as_deref(), asked.until.as_deref(), now)?;
    let question = Search {
        since,
        until,
        limit: Some(ROWS_MAX),
        ..bounded(question, caller, waiting, SEARCH_TIME_MAX)
    };
    let mut subject = Subject::of(&question);
    subject.query = format!("usage by {}", names.join(","));
    searched(manage, caller, &subject).await?;
    let data_dir = manage.reader.data_dir.clone();
    let (question, table, report, begun) = read(manage, move |sources| {
        let begun = Instant::now();
        let (table, report) = engine::stats(sources, &question, &stats)?;
        Ok((question, table, report, begun))
    })
    .await?;
    let mut rows: Vec<Map<String, Value>> =
        table.rows.iter().map(|row| paid(&table, row)).collect();
    name_projects(manage, &mut rows).await;
    if form != Form::Json {
        whole(&report, &data_dir)?;
        let keys = names.iter().flat_map(|name| match *name {
            "project" => vec!["project_id".to_owned(), "project".to_owned()],
            name => vec![name.to_owned()],
        });
        let headings: Vec<String> = keys.chain(NAMES.map(str::to_owned)).collect();
        return Ok(lines(&headings, &rows, form));
    }
    let mut out = b"{\"items\":".to_vec();
    out.extend_from_slice(Value::from_iter(rows).to_string().as_bytes());
    member(&mut out, "next_cursor", &Value::Null);
    member(&mut out, "group_by", &names);
    member(&mut out, "groups", &table.groups);
    member(&mut out, "notes", &table.notes);
    close(&mut out, &question, &report, &data_dir, (begun, false));
    Ok(out)
}

/// The groups by their names, and what they ask of the engine.
fn grouped(group_by: &str) -> Result<(Vec<&str>, Stats)> {
    let (mut names, mut fields) = (Vec::new(), Vec::new());
    let mut is_daily = false;
    for name in group_by.split(',').map(str::trim) {
        let known = GROUPS.iter().find(|(known, _)| *known == name);
        if (known.is_none() && name != DAY) || names.contains(&name) {
            let known: Vec<&str> = GROUPS.iter().map(|(known, _)| *known).collect();
            let text = format!("group_by takes each of {}, {DAY} once", known.join(", "));
            return Err(Error::invalid(text));
        }
        names.push(name);
        is_daily |= name == DAY;
        fields.extend(known.map(|(_, field)| *field));
    }
    let by = if fields.is_empty() { String::new() } else { format!(" by {}", fields.join(", ")) };
    let mut stats =
        parse_stats(&format!("{MEASURES}{by}")).map_err(|error| misplaced("group_by", error))?;
    if is_daily {
        stats.bucket_micros = Some(parse_bucket("1d").map_err(|error| misplaced(DAY, error))?);
    }
    Ok((names, stats))
}

/// A row as bills have it.
fn paid(table: &Table, row: &[Cell]) -> Map<String, Value> {
    let mut paid = Map::new();
    let mut measures = NAMES.iter();
    for (column, cell) in table.columns.iter().zip(row) {
        let name = match (column.is_key, column.name.as_str()) {
            (true, "bucket") => DAY,
            (true, "token_id") => "token",
            (true, name) => name,
            (false, _) => measures.next().copied().unwrap_or_default(),
        };
        let cell = match (column.is_key, name, value(cell)) {
            (true, DAY, Value::String(time)) => time.get(..10).unwrap_or(&time).into(),
            // Nothing used is a figure too.
            (false, "cost_usd", Value::Null) => "0".into(),
            (false, _, Value::Null) => 0.into(),
            (_, _, value) => value,
        };
        paid.insert(name.to_owned(), cell);
    }
    paid
}

/// Adds the names of projects, where the store knows them now.
async fn name_projects(manage: &Manage, rows: &mut [Map<String, Value>]) {
    let mut names: BTreeMap<String, Option<String>> = BTreeMap::new();
    for row in rows {
        let Some(Value::String(id)) = row.get("project_id").cloned() else { continue };
        if !names.contains_key(&id) {
            let parsed: Option<ProjectId> = id.parse().ok();
            let name = match parsed {
                // Away: the figures stand without names.
                Some(id) => manage.store.project(id).await.ok().flatten().map(|it| it.name),
                None => None,
            };
            names.insert(id.clone(), name);
        }
        if let Some(Some(name)) = names.get(&id) {
            row.insert("project".to_owned(), name.clone().into());
        }
    }
}
