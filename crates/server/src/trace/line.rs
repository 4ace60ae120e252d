//! One event as one flat line of JSON.

use std::{
    fmt::{self, Write as _},
    sync::Arc,
};

use dataplane::scope::RequestScope;
use domain::{
    json::write_text,
    record::{Envelope, bounded},
    redact::redacted,
    time::Timestamp,
};
use tracing::{
    Event, Level, Metadata,
    field::{Field, Visit},
};

/// Longest message or field value; the rest is cut.
const VALUE_BYTES_MAX: usize = 4096;
/// Fields past this many are left out.
const FIELDS_MAX: usize = 48;
const MASK: &str = "***";

/// What a line says beside its event.
pub(super) struct Head {
    pub ts: Timestamp,
    pub envelope: Option<Arc<Envelope>>,
    pub version: &'static str,
}

/// Names of ours in the envelope: a field of that name gets a prefix.
const RESERVED: &[&str] =
    &["ts", "level", "msg", "stream", "component", "target", "instance", "version"];
/// Ids that the scope gives unless the event names its own.
const IDS: &[&str] = &["request_id", "correlation_id", "trace_id", "project_id", "token_id"];

pub(super) fn of(
    head: &Head,
    metadata: &Metadata<'_>,
    event: &Event<'_>,
    scope: Option<&RequestScope>,
) -> Vec<u8> {
    let mut fields = Fields::default();
    event.record(&mut fields);
    let level = match *metadata.level() {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    };
    let mut line = begin(head, level, &fields.message, metadata.target());
    if let Some(scope) = scope {
        write_ids(&mut line, scope, fields.ids_given);
    }
    line.extend_from_slice(&fields.out);
    line.push(b'}');
    line
}

/// The line that owns up to dropped ones.
pub(super) fn dropped(head: &Head, count: u64) -> Vec<u8> {
    let message = format!("{count} trace lines were dropped because there was no room for them");
    let mut line = begin(head, "warn", &message, "llm_proxy::trace");
    line.extend_from_slice(format!(",\"dropped\":{count}}}").as_bytes());
    line
}

fn begin(head: &Head, level: &str, message: &str, target: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(b"{\"ts\":\"");
    out.extend_from_slice(head.ts.to_rfc3339().as_str().as_bytes());
    out.push(b'"');
    text(&mut out, "level", level);
    text(&mut out, "msg", message);
    text(&mut out, "stream", "trace");
    text(&mut out, "component", component(target));
    text(&mut out, "target", bounded(target, 128));
    if let Some(envelope) = &head.envelope {
        text(&mut out, "instance", envelope.instance.as_str());
    }
    text(&mut out, "version", head.version);
    out
}

fn write_ids(out: &mut Vec<u8>, scope: &RequestScope, given: u8) {
    let ids = scope.ids();
    let wanted = |name: &str| {
        let at = IDS.iter().position(|id| *id == name);
        at.is_none_or(|at| given & (1 << at) == 0)
    };
    let mut put = |name: &str, value: &dyn fmt::Display| {
        if wanted(name) {
            text(out, name, &value.to_string());
        }
    };
    put("request_id", &ids.request_id);
    put("correlation_id", &ids.correlation_id);
    put("trace_id", &ids.trace.trace_id);
    if let Some(project) = scope.project_id() {
        put("project_id", &project);
    }
    if let Some(token) = scope.token_id() {
        put("token_id", &token);
    }
}

fn text(out: &mut Vec<u8>, key: &str, value: &str) {
    out.push(b',');
    write_text(out, key);
    out.push(b':');
    write_text(out, value);
}

/// Which part of the product speaks; a library is its own component.
fn component(target: &str) -> &str {
    let mut words = target.split("::");
    let first = words.next().unwrap_or_default();
    match first {
        "dataplane" => "proxy",
        "logstore" => "journal",
        "llm_proxy" => match words.next() {
            None | Some("app" | "system" | "config") => "app",
            Some("http" | "manage") => "api",
            Some(module) => module,
        },
        _ => first,
    }
}

/// Whether a target is not ours.
pub(super) fn is_foreign(target: &str) -> bool {
    const OURS: &[&str] = &["llm_proxy", "dataplane", "store", "logstore", "domain"];
    // `log` itself is the bridge, which asks again with the real target.
    let first = target.split("::").next().unwrap_or_default();
    !OURS.contains(&first)
}

/// Whether a field of this name is never shown.
fn is_secret(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "authorization",
        "proxy_authorization",
        "cookie",
        "set_cookie",
        "api_key",
        "x_api_key",
        "x_goog_api_key",
        "apikey",
        "token",
        "secret",
        "password",
        "passwd",
        "credential",
        "credentials",
        "bearer",
        "encryption_key",
        "private_key",
        "management_token",
        "database_url",
        "dsn",
        "headers",
        "body",
    ];
    const ENDS: &[&str] =
        &["_authorization", "_cookie", "_api_key", "_secret", "_password", "_token", "_credential"];
    NAMES.contains(&name) || ENDS.iter().any(|end| name.ends_with(end))
}

/// Collects the fields of an event.
#[derive(Default)]
struct Fields {
    message: String,
    out: Vec<u8>,
    count: usize,
    /// One bit for each of [`IDS`].
    ids_given: u8,
}

impl Fields {
    /// Writes `,"key":` and says whether a value may follow.
    fn key(&mut self, field: &Field) -> Option<Shown> {
        let name = field.name();
        // The bridge from `log` carries these; the metadata already says them.
        if name.starts_with("log.") || self.count >= FIELDS_MAX {
            return None;
        }
        let flat: String = name
            .trim_start_matches("r#")
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
            .collect();
        let flat = flat.trim_matches('_');
        if let Some(at) = IDS.iter().position(|id| *id == flat) {
            self.ids_given |= 1 << at;
        }
        self.count += 1;
        self.out.push(b',');
        if flat.is_empty() || RESERVED.contains(&flat) {
            write_text(&mut self.out, &format!("field_{flat}"));
        } else {
            write_text(&mut self.out, flat);
        }
        self.out.push(b':');
        if is_secret(flat) {
            write_text(&mut self.out, MASK);
            return Some(Shown::Masked);
        }
        Some(Shown::Plain)
    }

    fn text(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = clean(value);
        } else if let Some(Shown::Plain) = self.key(field) {
            let value = clean(value);
            write_text(&mut self.out, &value);
        }
    }

    fn number(&mut self, field: &Field, value: impl fmt::Display) {
        if let Some(Shown::Plain) = self.key(field) {
            self.out.extend_from_slice(value.to_string().as_bytes());
        }
    }
}

#[derive(PartialEq)]
enum Shown {
    Plain,
    Masked,
}

fn clean(value: &str) -> String {
    // Cut after the masking: a cut credential could slip through.
    let shown = redacted(bounded(value, 4 * VALUE_BYTES_MAX), &[]);
    bounded(&shown, VALUE_BYTES_MAX).to_owned()
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Bounded(String::new());
        // Fails only by way of the bound.
        let _cut = write!(text, "{value:?}");
        self.text(field, &text.0);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.number(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.number(field, value);
        } else {
            self.text(field, &value.to_string());
        }
    }

    /// The whole chain, outermost first.
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(cause) = source.filter(|_| text.len() < VALUE_BYTES_MAX) {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        self.text(field, &text);
    }
}

/// Stops formatting values that are longer than anybody will read.
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.push_str(text);
        if self.0.len() > 4 * VALUE_BYTES_MAX { Err(fmt::Error) } else { Ok(()) }
    }
}
