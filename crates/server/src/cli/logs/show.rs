//! `logs show ID`: the story of a request, as a timeline.

use std::io::{self, Write};

use domain::{fields::Stream, time::Timestamp};

use super::{
    FOUND, NOTHING, Surroundings, TROUBLE, Trouble,
    door::{Door, Tale},
};
use crate::{
    manage::story::StoryLine,
    render::{Column, Format, Line, Look, Printer, harmless, harmless_json, usual},
};

/// Requests that are told one by one; of more there is a table.
const TOLD_MAX: usize = 5;
const TITLE: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

/// Tells what is known about an id.
pub(super) fn run(
    door: &Door,
    id: &str,
    format: Format,
    explain: bool,
    around: &mut Surroundings<'_>,
) -> Result<u8, Trouble> {
    let tale = door.story(id)?;
    if tale.lines.is_empty() {
        writeln!(around.err, "nothing is known about {}", harmless(id))?;
    }
    match format {
        Format::Table => {
            tell(&tale.lines, around)?;
            tell_bodies(&tale.bodies, around)?;
        }
        Format::Json => {
            let mut text = Vec::new();
            print_json(&tale, &mut text)?;
            match around.terminal {
                true => writeln!(around.out, "{}", harmless_json(&text))?,
                false => writeln!(around.out, "{}", String::from_utf8_lossy(&text))?,
            }
        }
        Format::Csv | Format::Logfmt | Format::Raw => {
            let lines: Vec<&StoryLine> = tale.lines.iter().collect();
            print_lines(&lines, format, around)?;
        }
    }
    around.out.flush()?;
    if tale.cut {
        let shown = tale.lines.len();
        writeln!(around.err, "the first {shown} lines; logs search --correlation-id has all")?;
    }
    super::search::tell(&tale.answer, explain, around.err)?;
    Ok(match tale {
        Tale { answer, .. } if !answer.missing.is_empty() => TROUBLE,
        Tale { lines, .. } if lines.is_empty() => NOTHING,
        _ => FOUND,
    })
}

/// One object with the lines as they were written.
fn print_json(tale: &Tale, out: &mut dyn Write) -> io::Result<()> {
    type Belongs<'a> = &'a dyn Fn(&StoryLine) -> bool;
    let lists: [(&str, Belongs<'_>); 4] = [
        ("records", &|line| !line.sibling && line.stream == Stream::Record),
        ("traces", &|line| !line.sibling && line.stream == Stream::Trace),
        ("entries", &|line| !line.sibling && line.stream == Stream::Entry),
        ("siblings", &|line| line.sibling),
    ];
    for (at, (name, belongs)) in lists.iter().enumerate() {
        write!(out, "{}\"{name}\":[", if at == 0 { "{" } else { "]," })?;
        for (at, line) in tale.lines.iter().filter(|line| belongs(line)).enumerate() {
            out.write_all(if at > 0 { b"," } else { b"" })?;
            out.write_all(&line.line)?;
        }
    }
    out.write_all(b"],\"bodies\":[")?;
    for (at, body) in tale.bodies.iter().enumerate() {
        out.write_all(if at > 0 { b"," } else { b"" })?;
        out.write_all(body)?;
    }
    write!(out, "]}}")
}

/// What was said, as far as it is kept.
fn tell_bodies(bodies: &[Vec<u8>], around: &mut Surroundings<'_>) -> io::Result<()> {
    for body in bodies {
        let body = Line::parse(body);
        let cell = |name: &str| body.get(name).map(crate::render::shown).unwrap_or_default();
        let cut = if body.get("truncated").is_some_and(|it| it == true) { ", cut" } else { "" };
        let (side, kind, bytes) = (cell("side"), cell("content_type"), cell("bytes"));
        writeln!(around.out)?;
        title(around, &format!("{side} body ({kind}, {bytes} bytes{cut})"))?;
        let text = body.get("body").and_then(|text| text.as_str()).unwrap_or_default();
        for line in text.lines() {
            writeln!(around.out, "{}", harmless(line))?;
        }
    }
    Ok(())
}

fn print_lines(
    lines: &[&StoryLine],
    format: Format,
    around: &mut Surroundings<'_>,
) -> io::Result<()> {
    let look = Look {
        terminal: around.terminal,
        color: around.color,
        columns_max: around.columns,
        ..Look::default()
    };
    let columns: Vec<Column> = usual(Stream::ALL);
    let mut printer = Printer::new(format, Vec::new(), columns, look);
    lines.iter().try_for_each(|line| printer.print(around.out, &line.line, false))?;
    printer.flush(around.out)
}

fn tell(lines: &[StoryLine], around: &mut Surroundings<'_>) -> io::Result<()> {
    let (siblings, own): (Vec<&StoryLine>, Vec<&StoryLine>) =
        lines.iter().partition(|line| line.sibling);
    let records: Vec<&StoryLine> =
        own.iter().filter(|line| line.stream == Stream::Record).copied().collect();
    if records.len() > TOLD_MAX {
        title(around, &format!("{} requests", records.len()))?;
        print_lines(&records, Format::Table, around)?;
    } else {
        for record in &records {
            summary(&Line::parse(&record.line), around)?;
            writeln!(around.out)?;
        }
    }
    if let Some(first) = own.first() {
        title(around, "timeline (ms)")?;
        timeline(&own, first.position.ts, records.len() > 1, around)?;
    }
    if !siblings.is_empty() {
        writeln!(around.out)?;
        title(around, "other requests with this correlation id")?;
        print_lines(&siblings, Format::Table, around)?;
    }
    Ok(())
}

fn title(around: &mut Surroundings<'_>, text: &str) -> io::Result<()> {
    match around.color {
        true => writeln!(around.out, "{TITLE}{text}{PLAIN}"),
        false => writeln!(around.out, "{text}"),
    }
}

/// What the record says, a line for each question that one has.
fn summary(record: &Line, around: &mut Surroundings<'_>) -> io::Result<()> {
    let of = Record(record);
    let (request, correlation) = (of.cell("request_id"), of.cell("correlation_id"));
    let correlation = Some(correlation).filter(|it| *it != request).unwrap_or_default();
    let rows = [
        ("request", vec![request, of.with("record ", "record_id", "")]),
        ("correlation", vec![correlation]),
        ("trace", vec![of.cell("trace_id"), of.with("span ", "span_id", "")]),
        ("time", vec![of.cell("ts"), of.with("instance ", "instance", "")]),
        ("outcome", of.outcome()),
        ("caller", of.caller()),
        ("asked", of.asked()),
        ("took", of.took()),
        ("used", of.used()),
    ];
    for (name, parts) in rows {
        let parts: Vec<&str> = parts.iter().map(|part| part.trim()).collect();
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        if !parts.is_empty() {
            writeln!(around.out, "{name:<12}{}", parts.join(" · "))?;
        }
    }
    Ok(())
}

/// A record, asked for text: what it does not say is empty.
struct Record<'l>(&'l Line);

impl Record<'_> {
    fn cell(&self, name: &str) -> String {
        self.0.get(name).map(crate::render::shown).unwrap_or_default()
    }

    fn with(&self, before: &str, name: &str, behind: &str) -> String {
        match self.cell(name) {
            text if text.is_empty() => text,
            text => format!("{before}{text}{behind}"),
        }
    }

    /// `word` where the field is true.
    fn flag(&self, name: &str, word: &str) -> String {
        let is_set = self.0.get(name).is_some_and(|value| value == true);
        if is_set { word.to_owned() } else { String::new() }
    }

    fn outcome(&self) -> Vec<String> {
        vec![
            self.cell("outcome"),
            self.cell("status_code"),
            self.cell("error_code"),
            self.cell("error"),
            self.with("finish ", "finish_reason", ""),
            self.flag("partial", "partial"),
        ]
    }

    fn caller(&self) -> Vec<String> {
        vec![
            self.with("project ", "project", ""),
            self.with("token ", "token_id", ""),
            self.with("user ", "end_user", ""),
            self.cell("client_ip"),
            self.cell("user_agent"),
            self.cell("labels"),
        ]
    }

    fn asked(&self) -> Vec<String> {
        let answered = match self.cell("response_model") {
            model if model.is_empty() || model == self.cell("model") => String::new(),
            model => format!(" (answered by {model})"),
        };
        vec![
            format!("{} {}", self.cell("method"), self.cell("path")),
            self.cell("provider"),
            format!("{}{answered}", self.cell("model")),
            self.flag("stream_response", "streamed"),
        ]
    }

    fn took(&self) -> Vec<String> {
        vec![
            self.with("", "duration_ms", " ms"),
            self.with("provider ", "upstream_ms", " ms"),
            self.with("first byte ", "ttfb_ms", " ms"),
            self.with("first token ", "ttft_ms", " ms"),
            self.with("ours ", "overhead_us", " µs"),
            self.with("attempts ", "attempts", ""),
        ]
    }

    fn used(&self) -> Vec<String> {
        vec![
            self.with("", "input_tokens", " tokens in"),
            self.with("", "output_tokens", " out"),
            self.with("", "total_tokens", " in all"),
            self.with("usage ", "usage_source", ""),
            self.with("cost $", "cost_usd", ""),
        ]
    }
}

/// Something that happened, at a moment in microseconds from the first.
struct Event {
    at: i64,
    what: &'static str,
    text: String,
}

fn timeline(
    lines: &[&StoryLine],
    start: Timestamp,
    many: bool,
    around: &mut Surroundings<'_>,
) -> io::Result<()> {
    let mut events: Vec<Event> = Vec::new();
    for line in lines {
        let parsed = Line::parse(&line.line);
        let at = line.position.ts.as_micros() - start.as_micros();
        match line.stream {
            Stream::Record => record_events(&parsed, at, many, &mut events),
            Stream::Trace => events.push(Event { at, what: "trace", text: trace_text(&parsed) }),
            Stream::Entry => events.push(Event { at, what: "entry", text: entry_text(&parsed) }),
        }
    }
    events.sort_by_key(|event| event.at);
    for Event { at, what, text } in events {
        writeln!(around.out, "{:>+13.3}  {what:<7} {text}", at as f64 / 1e3)?;
    }
    Ok(())
}

fn record_events(record: &Line, at: i64, many: bool, events: &mut Vec<Event>) {
    let cell = |name: &str| record.get(name).map(crate::render::shown).unwrap_or_default();
    let who = if many { format!("{}: ", cell("request_id")) } else { String::new() };
    let mut push = |at, text: String| {
        events.push(Event { at, what: "record", text: format!("{who}{text}") });
    };
    let after = |name: &str| record.number(name).map(|ms| at + (ms * 1e3).round() as i64);
    push(at, format!("{} {} arrives", cell("method"), cell("path")));
    if let Some(first_byte) = after("ttfb_ms") {
        push(first_byte, "first byte of the provider's answer".to_owned());
    }
    if let Some(first_token) = after("ttft_ms") {
        push(first_token, "first token".to_owned());
    }
    let error = match (cell("error_code"), cell("error")) {
        (code, error) if code.is_empty() && error.is_empty() => String::new(),
        (code, error) => format!(": {code} {error}"),
    };
    if let Some(end) = after("duration_ms") {
        push(end, format!("ends {} {}{error}", cell("outcome"), cell("status_code")));
    }
}

fn trace_text(trace: &Line) -> String {
    const KNOWN: &[&str] = &[
        "stream",
        "ts",
        "level",
        "msg",
        "component",
        "target",
        "instance",
        "version",
        "request_id",
        "correlation_id",
        "trace_id",
        "project_id",
        "token_id",
    ];
    let cell = |name: &str| trace.get(name).map(crate::render::shown).unwrap_or_default();
    let others = trace.fields().filter(|(name, _)| !KNOWN.contains(name));
    let others: Vec<String> = others
        .map(|(name, value)| format!("{}={}", harmless(name), crate::render::shown(value)))
        .collect();
    format!("{} {} {} {}", cell("level"), cell("target"), cell("msg"), others.join(" "))
        .trim_end()
        .to_owned()
}

fn entry_text(entry: &Line) -> String {
    let cell = |name: &str| entry.get(name).map(crate::render::shown).unwrap_or_default();
    let parts =
        ["action", "result", "reason_code", "actor_kind", "actor_id", "target_type", "target_id"];
    let parts: Vec<String> =
        parts.iter().map(|name| cell(name)).filter(|it| !it.is_empty()).collect();
    parts.join(" ")
}
