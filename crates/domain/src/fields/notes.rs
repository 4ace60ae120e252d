//! What the fields of traces and entries mean; those of records say it
//! themselves.

use super::Stream;

const SHARED: &[(&str, &str)] = &[
    ("stream", "`record`, `entry` or `trace`."),
    ("ts", "When it happened: RFC 3339, UTC, microseconds."),
    ("level", "`trace`, `debug`, `info`, `warn` or `error`."),
    ("msg", "What happened, in words that do not change."),
    ("component", "The part of the proxy that says it."),
    ("instance", "The process and its data directory (`INSTANCE_ID`)."),
    ("version", "Version of llm-proxy."),
    ("request_id", "The request in whose course it happened."),
    ("correlation_id", "Its correlation id."),
    ("trace_id", "Its W3C trace."),
    ("project_id", "The project concerned, once it is known."),
    ("token_id", "The token concerned, once it is known."),
];

const TRACE: &[(&str, &str)] =
    &[("target", "The module that says it."), ("error", "The failure behind it, with its causes.")];

const ENTRY: &[(&str, &str)] = &[
    ("id", "UUIDv7 of the entry."),
    ("action", "What was done or asked for: `token.create`, `access.denied` and so on."),
    ("result", "`success`, `denied` or `error`."),
    ("reason_code", "Why it was denied or failed, in one word."),
    ("actor_kind", "Who did it: `root`, `key`, `local`, `user`, `token`, `system`, `anonymous`."),
    ("actor_id", "Which one of them."),
    ("actor_role", "The role under which it was done."),
    ("target_type", "What it was done to: `project`, `token`, `key` and so on."),
    ("target_id", "Which one of them."),
    ("method", "Method of the management request."),
    ("route", "Route of the management request, with names for its parameters."),
    ("status", "HTTP status of its answer."),
    ("producer", "The instance that made the entry."),
    ("seq", "Its dense number among the entries of this producer."),
    ("leaf", "The exact text whose hash stands in the audit tree."),
];

/// What a field of a trace or an entry means; empty for others.
pub fn note(stream: Stream, name: &str) -> &'static str {
    let own = match stream {
        Stream::Record => return "",
        Stream::Entry => ENTRY,
        Stream::Trace => TRACE,
    };
    let found = own.iter().chain(SHARED).find(|(known, _)| *known == name);
    found.map_or("", |(_, note)| note)
}
