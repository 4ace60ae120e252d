//! Lines for people: aligned, coloured on a terminal.

use serde_json::{Map, Value};

/// How a line is painted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    pub colour: bool,
}

/// Said elsewhere on the line, or of no interest to a person who watches.
const QUIET: &[&str] = &[
    "ts",
    "level",
    "msg",
    "stream",
    "component",
    "target",
    "instance",
    "version",
    "schema",
    "record_id",
    "correlation_id",
    "trace_id",
    "span_id",
    "parent_span_id",
    "leaf",
];
/// Shown in the head of a record.
const RECORD_HEAD: &[&str] = &[
    "method",
    "path",
    "status_code",
    "outcome",
    "duration_ms",
    "model",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "error",
];
/// Fields of a record that a person wants beside its head.
const RECORD_REST: &[&str] =
    &["request_id", "project", "provider", "end_user", "error_code", "finish_reason"];

/// Appends `line` (one JSON object) for a person to read. What is not an object
/// is shown as it is.
pub fn write(out: &mut Vec<u8>, line: &[u8], style: Style) {
    let Ok(Value::Object(fields)) = serde_json::from_slice(line) else {
        out.extend_from_slice(line);
        out.push(b'\n');
        return;
    };
    let paint = Paint(style.colour);
    let level = text_of(&fields, "level");
    // The time of day: whoever watches knows the date.
    let ts = text_of(&fields, "ts");
    let time = ts.get(11..23).unwrap_or(&ts);
    let mut line = format!(
        "{} {} {:<9} ",
        paint.dim(time),
        paint.level(&level),
        printable(&text_of(&fields, "component"))
    );
    if text_of(&fields, "stream") == "record" {
        record(&mut line, &fields, &paint);
    } else {
        line.push_str(&printable(&text_of(&fields, "msg")));
        for (key, value) in &fields {
            if !QUIET.contains(&key.as_str()) {
                field(&mut line, key, value, &paint);
            }
        }
    }
    line.push('\n');
    out.extend_from_slice(line.as_bytes());
}

fn record(line: &mut String, fields: &Map<String, Value>, paint: &Paint) {
    let shown = |key: &str| printable(&text_of(fields, key));
    let status = fields.get("status_code").map_or_else(|| "-".to_owned(), plain);
    line.push_str(&format!("{} {} ", shown("method"), shown("path")));
    line.push_str(&paint.outcome(&format!("{status} {}", shown("outcome"))));
    if let Some(duration) = fields.get("duration_ms") {
        line.push_str(&format!(" {}ms", plain(duration)));
    }
    if fields.contains_key("model") {
        line.push_str(&format!(" {}", shown("model")));
    }
    if let (Some(input), Some(output)) = (fields.get("input_tokens"), fields.get("output_tokens")) {
        line.push_str(&format!(" {}→{} tokens", plain(input), plain(output)));
    }
    if fields.contains_key("cost_usd") {
        line.push_str(&format!(" ${}", shown("cost_usd")));
    }
    for key in RECORD_REST {
        if let Some(value) = fields.get(*key) {
            field(line, key, value, paint);
        }
    }
    debug_assert!(RECORD_REST.iter().all(|key| !RECORD_HEAD.contains(key)));
    if fields.contains_key("error") {
        line.push_str(&format!(" {}", paint.red(&shown("error"))));
    }
}

fn field(line: &mut String, key: &str, value: &Value, paint: &Paint) {
    line.push(' ');
    line.push_str(&paint.dim(&format!("{}=", printable(key))));
    line.push_str(&printable(&plain(value)));
}

fn text_of(fields: &Map<String, Value>, key: &str) -> String {
    fields.get(key).map(plain).unwrap_or_default()
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// No value may steer the terminal.
fn printable(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(c, '\u{2066}'..='\u{2069}')
    };
    if !text.contains(steers) {
        return text.to_owned();
    }
    text.chars()
        .flat_map(|c| if steers(c) { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}

struct Paint(bool);

impl Paint {
    fn with(&self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn dim(&self, text: &str) -> String {
        self.with("2", text)
    }

    fn red(&self, text: &str) -> String {
        self.with("31", text)
    }

    fn level(&self, level: &str) -> String {
        let (code, name) = match level {
            "error" => ("31;1", "ERROR"),
            "warn" => ("33", "WARN "),
            "info" => ("32", "INFO "),
            "debug" => ("34", "DEBUG"),
            "trace" => ("35", "TRACE"),
            _ => ("0", "     "),
        };
        self.with(code, name)
    }

    fn outcome(&self, text: &str) -> String {
        self.with(if text.ends_with(" ok") { "32" } else { "33" }, text)
    }
}
