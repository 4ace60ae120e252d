//! The lines of a server elsewhere, through its management API: pages for
//! searches, events for what comes. Every line is handed on as it was sent, byte
//! for byte.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::Duration,
};

use anyhow::Context as _;
use domain::{fields::Stream, ids::InstanceId, query::Stats, time::Timestamp};
use http::StatusCode;
use http_body_util::BodyExt as _;
use logstore::engine::{Cell, Column, Order, Position, Search, Table};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use super::{Answer, Found, Tale, Trouble, Visit};
use crate::{cli::client::Client, manage::story::StoryLine, render::Line};

/// Lines that are asked for at once: what the API gives.
const PAGE: usize = 1_000;
/// Lines of an answer that is turned around are held in memory: no more.
const HELD_BYTES_MAX: usize = 64 << 20;
/// How often a tail that broke off is begun again in a row, and how soon.
const TRIES_MAX: u32 = 30;
const PAUSE: Duration = Duration::from_secs(1);
/// How often the end is looked for.
const LOOK: Duration = Duration::from_millis(250);
/// An event that is longer is not one of ours.
const EVENT_BYTES_MAX: usize = 16 << 20;

/// A server, and the runtime that talks to it.
pub struct Remote {
    client: Client,
    runtime: tokio::runtime::Runtime,
}

#[derive(Deserialize)]
struct Page {
    items: Vec<Box<RawValue>>,
    next_cursor: Option<String>,
    #[serde(default)]
    neighbours: Vec<usize>,
    #[serde(default)]
    matched: u64,
    #[serde(default)]
    missing: Vec<String>,
    tail_cursor: Option<String>,
    #[serde(default)]
    explain: String,
}

#[derive(Deserialize)]
struct Figures {
    columns: Vec<Heading>,
    items: Vec<Map<String, Value>>,
    groups: usize,
    #[serde(default)]
    notes: Vec<String>,
    #[serde(default)]
    matched: u64,
    #[serde(default)]
    missing: Vec<String>,
    #[serde(default)]
    explain: String,
}

#[derive(Deserialize)]
struct Heading {
    name: String,
    is_key: bool,
}

#[derive(Deserialize)]
struct Told {
    records: Vec<Box<RawValue>>,
    traces: Vec<Box<RawValue>>,
    entries: Vec<Box<RawValue>>,
    bodies: Vec<Box<RawValue>>,
    siblings: Vec<Box<RawValue>>,
    cut: bool,
    missing: Vec<String>,
}

impl Remote {
    pub fn new(client: Client) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot begin a runtime")?;
        Ok(Self { client, runtime })
    }

    /// An answer, or `None` where there is no such thing.
    fn fetch<T: for<'de> Deserialize<'de>>(&self, path: &str) -> Result<Option<T>, Trouble> {
        let (status, body) = self.runtime.block_on(self.client.fetch(path)).map_err(unreachable)?;
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if !status.is_success() {
            return Err(refused(&body));
        }
        let parsed = serde_json::from_slice(&body);
        parsed.map(Some).map_err(|error| Trouble::Server(format!("not an answer of ours: {error}")))
    }

    fn page(&self, question: &Search, more: &[(&str, String)]) -> Result<Page, Trouble> {
        let path = format!("/manage/logs?{}", parameters(question, more));
        self.fetch(&path)?.ok_or_else(too_old)
    }

    pub(super) fn search(
        &self,
        question: &Search,
        visit: &mut Visit<'_>,
    ) -> Result<Answer, Trouble> {
        let order = match question.order {
            Order::NewestFirst => "desc",
            Order::OldestFirst => "asc",
        };
        let mut left = question.limit.unwrap_or(usize::MAX);
        let mut answer = Answer::default();
        let mut cursor: Option<String> = None;
        loop {
            let mut more = vec![
                ("order", order.to_owned()),
                ("limit", left.clamp(1, PAGE).to_string()),
                ("context", question.context.to_string()),
                ("explain", "true".to_owned()),
            ];
            more.extend(cursor.take().map(|cursor| ("cursor", cursor)));
            let page = self.page(question, &more)?;
            for (at, line) in page.items.iter().enumerate() {
                let context = page.neighbours.contains(&at);
                visit(Found::of(line.get().as_bytes(), context))?;
            }
            answer.matched += page.matched;
            for missing in page.missing {
                if !answer.missing.contains(&missing) {
                    answer.missing.push(missing);
                }
            }
            if answer.tail.is_none() {
                answer.tail = page.tail_cursor;
                answer.explain = page.explain;
            }
            left = left.saturating_sub(usize::try_from(page.matched).unwrap_or(usize::MAX));
            cursor = page.next_cursor;
            if cursor.is_none() || left == 0 {
                return Ok(answer);
            }
        }
    }

    pub(super) fn newest(
        &self,
        question: &Search,
        limit: usize,
        visit: &mut Visit<'_>,
    ) -> Result<Answer, Trouble> {
        let (mut held, mut bytes) = (Vec::new(), 0);
        let question = Search { order: Order::NewestFirst, limit: Some(limit), ..question.clone() };
        if limit == 0 {
            // The place to follow from is wanted all the same.
            let one = Search { limit: Some(1), ..question };
            let answer = self.search(&one, &mut |_| Ok(()))?;
            return Ok(Answer { matched: 0, ..answer });
        }
        let answer = self.search(&question, &mut |found| {
            bytes += found.line.len();
            if bytes > HELD_BYTES_MAX {
                let what = "too many lines to be turned around: lower --limit, or use --reverse";
                return Err(io::Error::other(what));
            }
            held.push((found.line.to_vec(), found.context));
            Ok(())
        })?;
        for (line, context) in held.iter().rev() {
            visit(Found::of(line, *context))?;
        }
        Ok(answer)
    }

    pub(super) fn count(&self, question: &Search) -> Result<Answer, Trouble> {
        let more = [("fn", "count".to_owned()), ("explain", "true".to_owned())];
        let path = format!("/manage/logs/stats?{}", parameters(question, &more));
        let figures: Figures = self.fetch(&path)?.ok_or_else(too_old)?;
        Ok(figures.answer().0)
    }

    pub(super) fn stats(
        &self,
        question: &Search,
        stats: &Stats,
    ) -> Result<(Table, Answer), Trouble> {
        let measures: Vec<String> = stats.measures.iter().map(ToString::to_string).collect();
        let by: Vec<String> = stats.by.iter().map(ToString::to_string).collect();
        let mut more = vec![("fn", measures.join(", ")), ("explain", "true".to_owned())];
        more.extend((!by.is_empty()).then(|| ("by", by.join(", "))));
        more.extend(
            stats.bucket_micros.map(|micros| ("bucket", format!("{}s", micros / 1_000_000))),
        );
        more.extend(question.limit.map(|limit| ("limit", limit.to_string())));
        let path = format!("/manage/logs/stats?{}", parameters(question, &more));
        let figures: Figures = self.fetch(&path)?.ok_or_else(too_old)?;
        let (answer, table) = figures.answer();
        Ok((table, answer))
    }

    pub(super) fn story(&self, id: &str) -> Result<Tale, Trouble> {
        let id: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
        let told: Option<Told> = self.fetch(&format!("/manage/requests/{id}"))?;
        let Some(told) = told else {
            let (lines, bodies, answer) = (Vec::new(), Vec::new(), Answer::default());
            return Ok(Tale { lines, bodies, cut: false, answer });
        };
        let own = [told.records, told.traces, told.entries].into_iter().flatten();
        let own = own.map(|line| story_line(&line, false));
        let siblings = told.siblings.iter().map(|line| story_line(line, true));
        let mut lines: Vec<StoryLine> = own.chain(siblings).collect();
        lines.sort_by_key(|line| line.position.ts);
        let matched = lines.len() as u64;
        let answer = Answer { matched, missing: told.missing, ..Answer::default() };
        let bodies = told.bodies.iter().map(|body| body.get().as_bytes().to_vec()).collect();
        Ok(Tale { lines, bodies, cut: told.cut, answer })
    }

    /// Visits lines as they are committed behind `tail`, until told to stop.
    pub(in crate::cli::logs) fn tail(
        &self,
        question: &Search,
        tail: Option<&str>,
        err: &mut dyn Write,
        stop: &dyn Fn() -> bool,
        visit: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), Trouble> {
        let until = question.until;
        let question = Search { since: None, until: None, ..question.clone() };
        // The server follows without end; what began too late is left out here.
        let visit = &mut |line: &[u8]| {
            let ts = || Line::parse(line).text("ts").and_then(Timestamp::parse);
            match until.is_some_and(|until| ts().is_some_and(|ts| ts >= until)) {
                true => Ok(()),
                false => visit(line),
            }
        };
        let mut place = tail.map(str::to_owned);
        let mut failed = 0;
        while !stop() {
            let mut more = Vec::new();
            more.extend(place.clone().map(|place| ("cursor", place)));
            let path = format!("/manage/logs/tail?{}", parameters(&question, &more));
            let before = place.clone();
            let ended = self.runtime.block_on(self.events(&path, &mut place, stop, visit));
            match ended {
                Ok(()) => {}
                Err(Trouble::Server(text)) if failed < TRIES_MAX => {
                    if failed == 0 {
                        let text = crate::render::harmless(&text);
                        writeln!(err, "the tail broke off ({text}); trying again")?;
                    }
                }
                Err(trouble) => return Err(trouble),
            }
            failed = if place == before { failed + 1 } else { 1 };
            if failed > TRIES_MAX {
                return Err(Trouble::Server("the server ended the tail".to_owned()));
            }
            if !stop() {
                self.runtime.block_on(tokio::time::sleep(PAUSE));
            }
        }
        Ok(())
    }

    async fn events(
        &self,
        path: &str,
        place: &mut Option<String>,
        stop: &dyn Fn() -> bool,
        visit: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), Trouble> {
        let accept = [("accept", "text/event-stream")];
        let answer = self.client.open(path, &accept).await.map_err(unreachable)?;
        let (parts, mut body) = answer.into_parts();
        if !parts.status.is_success() {
            let body = http_body_util::Limited::new(body, EVENT_BYTES_MAX).collect().await;
            let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            let trouble = refused(&body);
            // What is wrong with the question stays wrong.
            return Err(match parts.status.is_client_error() {
                true => Trouble::Io(io::Error::other(trouble.to_string())),
                false => trouble,
            });
        }
        let mut events = Events::default();
        while !stop() {
            let frame = match tokio::time::timeout(LOOK, body.frame()).await {
                Err(_) => continue,
                Ok(None) => return Ok(()),
                Ok(Some(frame)) => frame.map_err(|error| Trouble::Server(error.to_string()))?,
            };
            let Ok(data) = frame.into_data() else { continue };
            events.add(&data)?;
            while let Some(event) = events.next() {
                if let Some(line) = event.data {
                    visit(&line)?;
                }
                *place = event.id.or_else(|| place.take());
            }
        }
        Ok(())
    }
}

impl Figures {
    fn answer(self) -> (Answer, Table) {
        let Self { columns, items, groups, notes, matched, missing, explain } = self;
        let row = |item: &Map<String, Value>| {
            columns.iter().map(|column| cell(column, item.get(&column.name))).collect()
        };
        let rows = items.iter().map(row).collect();
        let columns =
            columns.into_iter().map(|it| Column { name: it.name, is_key: it.is_key }).collect();
        let answer = Answer { matched, missing, explain, ..Answer::default() };
        (answer, Table { columns, rows, groups, notes })
    }
}

/// A cell as the engine had it.
fn cell(column: &Heading, value: Option<&Value>) -> Cell {
    match value {
        None | Some(Value::Null) => Cell::Absent,
        Some(Value::Bool(yes)) => Cell::Boolean(*yes),
        Some(Value::Number(number)) => match number.as_i64() {
            Some(number) => Cell::Integer(number.into()),
            None => Cell::Number(number.as_f64().unwrap_or(f64::NAN)),
        },
        Some(Value::String(text)) => match Timestamp::parse(text) {
            Some(time) => Cell::Time(time),
            None if column.is_key => Cell::Text(text.clone()),
            None => decimal(text).unwrap_or_else(|| Cell::Text(text.clone())),
        },
        Some(other) => Cell::Text(other.to_string()),
    }
}

/// A decimal number of up to nine digits behind the point.
fn decimal(text: &str) -> Option<Cell> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || fraction.len() > 9 || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let nanos: i128 = format!("{whole}{fraction:0<9}").parse().ok()?;
    Some(Cell::Decimal(sign * nanos))
}

fn story_line(raw: &RawValue, sibling: bool) -> StoryLine {
    let line = Line::parse(raw.get().as_bytes());
    let stream = line.text("stream").and_then(Stream::parse).unwrap_or(Stream::Record);
    let ts = line.text("ts").and_then(Timestamp::parse).unwrap_or(Timestamp::EPOCH);
    let instance = line.text("instance").and_then(InstanceId::parse);
    let instance = instance
        .unwrap_or_else(|| InstanceId::parse("unknown").expect("letters are an instance's name"));
    // Lines are told in time order; their numbers stay with the server.
    let position = Position { ts, instance, seq: 0 };
    StoryLine { stream, position, line: raw.get().as_bytes().to_vec(), sibling }
}

/// The question as the API takes it.
fn parameters(question: &Search, more: &[(&str, String)]) -> String {
    let streams: Vec<&str> = question.streams.iter().map(|stream| stream.as_str()).collect();
    let mut text = url::form_urlencoded::Serializer::new(String::new());
    text.append_pair("q", &question.expr.to_string());
    text.append_pair("stream", &streams.join(","));
    for (name, moment) in [("since", question.since), ("until", question.until)] {
        if let Some(moment) = moment {
            text.append_pair(name, &moment.to_string());
        }
    }
    for (name, value) in more {
        text.append_pair(name, value);
    }
    text.finish()
}

fn unreachable(error: anyhow::Error) -> Trouble {
    Trouble::Server(format!("{error:#}"))
}

fn too_old() -> Trouble {
    Trouble::Server("the server has no such route; is it llm-proxy, and not too old?".to_owned())
}

fn refused(body: &[u8]) -> Trouble {
    let body: BTreeMap<String, Value> = serde_json::from_slice(body).unwrap_or_default();
    let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or("unknown").to_owned();
    Trouble::Server(format!("{} ({}, request {})", text("error"), text("code"), text("request_id")))
}

/// Server-sent events, put together from pieces.
#[derive(Default)]
struct Events {
    buffer: Vec<u8>,
}

#[derive(Default)]
struct Event {
    id: Option<String>,
    data: Option<Vec<u8>>,
}

impl Events {
    fn add(&mut self, piece: &[u8]) -> Result<(), Trouble> {
        self.buffer.extend_from_slice(piece);
        match self.buffer.len() > EVENT_BYTES_MAX {
            true => Err(Trouble::Server("an event is too long".to_owned())),
            false => Ok(()),
        }
    }

    fn next(&mut self) -> Option<Event> {
        let end = memchr::memmem::find(&self.buffer, b"\n\n")?;
        let mut event = Event::default();
        let mut is_ours = true;
        for line in self.buffer[..end].split(|byte| *byte == b'\n') {
            if let Some(id) = line.strip_prefix(b"id: ") {
                event.id = Some(String::from_utf8_lossy(id).into_owned());
            } else if let Some(data) = line.strip_prefix(b"data: ") {
                event.data = Some(data.to_vec());
            } else if line.starts_with(b"event: ") {
                is_ours = false;
            }
        }
        self.buffer.drain(..end + 2);
        event.data = event.data.filter(|_| is_ours);
        Some(event)
    }
}
