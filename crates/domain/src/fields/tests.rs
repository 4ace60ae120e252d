//! The table is consistent, and the page about records shows it.

use std::{fmt::Write as _, path::Path};

use super::*;

#[test]
fn a_name_has_one_kind() {
    for stream in Stream::ALL {
        for known in of(*stream) {
            assert_eq!(find(known.name), Some(known));
        }
    }
}

#[test]
fn every_field_says_what_it_means() {
    for stream in [Stream::Entry, Stream::Trace] {
        for known in of(stream) {
            assert!(!note(stream, known.name).is_empty(), "{}", known.name);
        }
    }
    for known in RECORD_FIELDS.iter() {
        assert!(!known.meaning.is_empty() && !known.when.is_empty(), "{}", known.name);
    }
}

fn type_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Id | Kind::Time => "string",
        Kind::Integer => "integer",
        Kind::Number => "number",
        Kind::Decimal => "decimal string",
        Kind::Boolean => "boolean",
        Kind::Labels => "object",
    }
}

/// Tables of the page by their heading, with the rows that belong there.
fn tables() -> [(&'static str, String); 4] {
    let (mut fields, mut mapping) = (String::new(), String::new());
    for RecordField { name, kind, unit, when, meaning, otel, ecs, ocsf } in RECORD_FIELDS.iter() {
        let code = |text: &str| if text.is_empty() { String::new() } else { format!(" `{text}`") };
        let gap = |text: &str| if text.is_empty() { String::new() } else { format!(" {text}") };
        let (kind, unit) = (type_of(*kind), gap(unit));
        write_row(&mut fields, format_args!("| `{name}` | {kind} |{unit} | {when} | {meaning} |"));
        let (otel, ecs, ocsf) = (code(otel), code(ecs), code(ocsf));
        write_row(&mut mapping, format_args!("| `{name}` |{otel} |{ecs} |{ocsf} |"));
    }
    let own = |stream: Stream, fields: &[Field]| {
        let mut rows = String::new();
        for Field { name, kind } in fields {
            let (kind, note) = (type_of(*kind), note(stream, name));
            write_row(&mut rows, format_args!("| `{name}` | {kind} | {note} |"));
        }
        rows
    };
    let shared = [SHARED_FIELDS, TRACE_FIELDS].concat();
    [
        ("| field | type | unit |", fields),
        ("| field | OpenTelemetry |", mapping),
        ("| field of a trace |", own(Stream::Trace, &shared)),
        ("| field of an entry |", own(Stream::Entry, ENTRY_FIELDS)),
    ]
}

fn write_row(rows: &mut String, row: std::fmt::Arguments<'_>) {
    writeln!(rows, "{row}").expect("a string takes every write");
}

/// The page with its tables written anew; its prose is nobody's but its own.
fn current(page: &str) -> String {
    let tables = tables();
    let mut out = String::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        writeln!(out, "{line}").expect("a string takes every write");
        let Some((_, rows)) = tables.iter().find(|(head, _)| line.starts_with(head)) else {
            continue;
        };
        let rule = lines.next().expect("a rule below the heading");
        writeln!(out, "{rule}\n{}", rows.trim_end()).expect("a string takes every write");
        let behind = lines.by_ref().find(|line| !line.starts_with('|'));
        writeln!(out, "{}", behind.unwrap_or_default()).expect("a string takes every write");
    }
    format!("{}\n", out.trim_end())
}

#[test]
fn the_page_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/record.md");
    let page = std::fs::read_to_string(&path).expect("docs/record.md");
    for (head, _) in tables() {
        assert!(page.contains(head), "docs/record.md lacks the table {head}");
    }
    let current = current(&page);
    if asked_to_update() {
        std::fs::write(&path, &current).expect("written");
        return;
    }
    assert_eq!(page, current, "run `cargo xtask docs`");
}

#[expect(clippy::disallowed_methods, reason = "a person asks this test to rewrite the page")]
fn asked_to_update() -> bool {
    std::env::var_os("UPDATE").is_some()
}
