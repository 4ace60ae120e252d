//! Prints lines of the journal for people and for programs. Nothing that a
//! client or provider wrote reaches a terminal as a control character.

use std::io::{self, Write};

use serde_json::Value;

use crate::search::Line;

/// How lines are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    Table,
    Json,
    Csv,
    Logfmt,
    Raw,
}

/// Fields that `--fields` knows: of records, traces and entries. `labels.x` and
/// dotted fields of traces are accepted beside them.
pub const FIELDS: &[&str] = &[
    "schema",
    "stream",
    "record_id",
    "ts",
    "level",
    "msg",
    "component",
    "instance",
    "version",
    "request_id",
    "correlation_id",
    "trace_id",
    "span_id",
    "parent_span_id",
    "project_id",
    "project",
    "token_id",
    "labels",
    "end_user",
    "client_ip",
    "user_agent",
    "provider",
    "operation",
    "model",
    "response_model",
    "method",
    "path",
    "http_version",
    "status_code",
    "upstream_status_code",
    "upstream_request_id",
    "outcome",
    "error_code",
    "error",
    "stream_response",
    "finish_reason",
    "partial",
    "request_bytes",
    "response_bytes",
    "events",
    "duration_ms",
    "upstream_ms",
    "ttfb_ms",
    "ttft_ms",
    "overhead_us",
    "attempts",
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "usage_source",
    "usage_method",
    "cost_usd",
    "price_table",
    "cache",
    "captured",
    "count",
    "first_ts",
    "last_ts",
    "target",
    "action",
    "result",
    "reason_code",
    "leaf",
    "actor",
    "route",
    "index",
    "id",
    "seq",
];

/// Columns where nobody asked for others.
const COLUMNS: &[&str] = &[
    "ts",
    "level",
    "status_code",
    "outcome",
    "duration_ms",
    "project",
    "model",
    "path",
    "request_id",
    "error",
];
/// A wider cell is cut in a table; the other formats show all of it.
const CELL_CHARS_MAX: usize = 60;

/// Checks a field's name; the error suggests the nearest.
pub fn known_field(name: &str) -> Result<(), String> {
    let dotted = name.contains('.') && !name.starts_with('.') && !name.contains(is_harmful);
    if FIELDS.contains(&name) || dotted {
        return Ok(());
    }
    let nearest = FIELDS.iter().min_by_key(|field| distance(field, name));
    Err(match nearest.filter(|field| distance(field, name) <= 3) {
        Some(nearest) => format!("unknown field '{name}': did you mean '{nearest}'?"),
        None => format!("unknown field '{name}'"),
    })
}

/// Edit distance (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Writes lines in one format. Table rows are aligned over what is printed at
/// once; columns never shrink after that, so a followed table stays in place.
pub struct Printer<'w> {
    out: &'w mut dyn Write,
    format: Format,
    fields: Vec<String>,
    color: bool,
    widths: Vec<usize>,
    head_printed: bool,
}

impl std::fmt::Debug for Printer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Printer").field("format", &self.format).finish_non_exhaustive()
    }
}

impl<'w> Printer<'w> {
    /// No `fields`: the usual columns, or the whole line where a format can
    /// show it. `color` only for a terminal.
    pub fn new(out: &'w mut dyn Write, format: Format, fields: Vec<String>, color: bool) -> Self {
        Self { out, format, fields, color, widths: Vec::new(), head_printed: false }
    }

    /// Whether lines must be printed together to look right.
    pub fn aligns(&self) -> bool {
        self.format == Format::Table
    }

    pub fn print(&mut self, lines: &[&[u8]]) -> io::Result<()> {
        match self.format {
            Format::Table => self.print_table(lines)?,
            Format::Csv => self.print_csv(lines)?,
            Format::Json if !self.fields.is_empty() => self.print_json(lines)?,
            Format::Logfmt => self.print_logfmt(lines)?,
            Format::Json | Format::Raw => {
                for line in lines {
                    write_harmless(self.out, line)?;
                    self.out.write_all(b"\n")?;
                }
            }
        }
        self.out.flush()
    }

    fn columns(&self) -> Vec<String> {
        if !self.fields.is_empty() {
            return self.fields.clone();
        }
        COLUMNS.iter().map(|column| (*column).to_owned()).collect()
    }

    fn print_table(&mut self, lines: &[&[u8]]) -> io::Result<()> {
        let columns = self.columns();
        let rows: Vec<Vec<String>> = lines
            .iter()
            .map(|line| {
                let line = parse(line);
                columns.iter().map(|column| cut(&cell(&line, column))).collect()
            })
            .collect();
        self.widths.resize(columns.len(), 0);
        for row in rows.iter().chain([&columns]) {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        if !self.head_printed && !rows.is_empty() {
            self.head_printed = true;
            let head: Vec<String> = columns.iter().map(|name| name.to_uppercase()).collect();
            self.print_row(&head, "\x1b[1m")?;
        }
        let level = columns.iter().position(|column| column == "level");
        for row in &rows {
            let level = level.and_then(|at| row.get(at)).map(String::as_str);
            self.print_row(row, color_of(level))?;
        }
        Ok(())
    }

    fn print_row(&mut self, row: &[String], color: &str) -> io::Result<()> {
        let mut text = String::new();
        for (cell, width) in row.iter().zip(&self.widths) {
            let pad = width.saturating_sub(cell.chars().count());
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', pad + 2));
        }
        let text = text.trim_end();
        if self.color && !color.is_empty() {
            writeln!(self.out, "{color}{text}\x1b[0m")
        } else {
            writeln!(self.out, "{text}")
        }
    }

    fn print_csv(&mut self, lines: &[&[u8]]) -> io::Result<()> {
        let columns = self.columns();
        if !self.head_printed {
            self.head_printed = true;
            let head: Vec<String> = columns.iter().map(|name| quoted_csv(name)).collect();
            write!(self.out, "{}\r\n", head.join(","))?;
        }
        for line in lines {
            let line = parse(line);
            let row: Vec<_> = columns.iter().map(|name| quoted_csv(&cell(&line, name))).collect();
            write!(self.out, "{}\r\n", row.join(","))?;
        }
        Ok(())
    }

    fn print_json(&mut self, lines: &[&[u8]]) -> io::Result<()> {
        for line in lines {
            let line = parse(line);
            let mut out = vec![b'{'];
            for name in &self.fields {
                let Some(value) = value_of(&line, name) else { continue };
                if out.len() > 1 {
                    out.push(b',');
                }
                domain::json::write_text(&mut out, name);
                out.push(b':');
                serde_json::to_writer(&mut out, value)?;
            }
            out.extend_from_slice(b"}\n");
            write_harmless(self.out, &out)?;
        }
        Ok(())
    }

    fn print_logfmt(&mut self, lines: &[&[u8]]) -> io::Result<()> {
        for line in lines {
            let line = parse(line);
            let names: Vec<String> = match self.fields.is_empty() {
                true => line.keys().cloned().collect(),
                false => self.fields.clone(),
            };
            let pairs = names.iter().filter_map(|name| {
                value_of(&line, name)?;
                Some(format!("{}={}", harmless(name), quoted_logfmt(&cell(&line, name))))
            });
            writeln!(self.out, "{}", pairs.collect::<Vec<_>>().join(" "))?;
        }
        Ok(())
    }
}

fn color_of(level: Option<&str>) -> &'static str {
    match level {
        Some("error") => "\x1b[31m",
        Some("warn") => "\x1b[33m",
        _ => "",
    }
}

fn parse(line: &[u8]) -> Line {
    // Lines are shown as they were found; one that is no object has no fields.
    serde_json::from_slice(line).unwrap_or_default()
}

fn value_of<'l>(line: &'l Line, name: &str) -> Option<&'l Value> {
    if let Some(value) = line.get(name) {
        return Some(value);
    }
    let (outer, inner) = name.split_once('.')?;
    line.get(outer)?.get(inner)
}

/// A value as text without anything that a terminal would obey.
fn cell(line: &Line, name: &str) -> String {
    match value_of(line, name) {
        None | Some(Value::Null) => {
            // Traces have a message where failed records have an error.
            let stands_in = name == "error" && line.get("stream").is_some_and(|s| s != "record");
            match line.get("msg").filter(|_| stands_in) {
                Some(Value::String(text)) => harmless(text),
                _ => String::new(),
            }
        }
        Some(Value::String(text)) => harmless(text),
        Some(value) => harmless(&value.to_string()),
    }
}

/// Control characters, and those that turn the direction of text around, in
/// their escaped form.
pub fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmful(c) { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    out
}

fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// Writes a JSON line with harmful characters as JSON escapes, so that it means
/// the same; bytes that are no text become replacement characters.
fn write_harmless(out: &mut dyn Write, line: &[u8]) -> io::Result<()> {
    let text = String::from_utf8_lossy(line);
    let mut clean = 0;
    for (at, c) in text.char_indices().filter(|(_, c)| is_harmful(*c) && *c != '\n') {
        out.write_all(&text.as_bytes()[clean..at])?;
        write!(out, "\\u{:04x}", u32::from(c))?;
        clean = at + c.len_utf8();
    }
    out.write_all(&text.as_bytes()[clean..])
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(CELL_CHARS_MAX) {
        None => text.to_owned(),
        Some(_) => text.chars().take(CELL_CHARS_MAX - 1).chain(['…']).collect(),
    }
}

fn quoted_csv(text: &str) -> String {
    match text.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

fn quoted_logfmt(text: &str) -> String {
    match text.is_empty() || text.contains([' ', '"', '=', '\\']) {
        true => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &[u8] = b"{\"stream\":\"record\",\"ts\":\"2026-11-23T10:00:00.000000Z\",\
        \"level\":\"warn\",\"status_code\":401,\"path\":\"/v1/a b\",\"error\":\"x\\u001b[31m\\\"\",\
        \"labels\":{\"team\":\"blue\"}}";

    fn check(format: Format, fields: &[&str], expected: &str) {
        let mut out = Vec::new();
        let fields = fields.iter().map(|field| (*field).to_owned()).collect();
        Printer::new(&mut out, format, fields, false).print(&[LINE]).expect("a vector");
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }

    #[test]
    fn every_format_is_harmless() {
        let fields = ["status_code", "path", "error", "labels.team"];
        check(
            Format::Table,
            &fields,
            "STATUS_CODE  PATH     ERROR         LABELS.TEAM\n\
             401          /v1/a b  x\\u{1b}[31m\"  blue\n",
        );
        check(
            Format::Csv,
            &fields,
            "status_code,path,error,labels.team\r\n401,/v1/a b,\"x\\u{1b}[31m\"\"\",blue\r\n",
        );
        check(
            Format::Logfmt,
            &fields,
            "status_code=401 path=\"/v1/a b\" error=\"x\\\\u{1b}[31m\\\"\" labels.team=blue\n",
        );
        check(
            Format::Json,
            &fields,
            "{\"status_code\":401,\"path\":\"/v1/a b\",\"error\":\"x\\u001b[31m\\\"\",\
             \"labels.team\":\"blue\"}\n",
        );
    }

    #[test]
    fn unknown_fields_get_a_suggestion() {
        assert_eq!(known_field("status_code"), Ok(()));
        let error = known_field("statuscode").expect_err("unknown");
        assert_eq!(error, "unknown field 'statuscode': did you mean 'status_code'?");
    }
}
