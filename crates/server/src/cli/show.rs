//! Prints answers: as JSON for programs, as a table for people.

use std::io::{self, Write};

use domain::audit::is_deceptive;
use serde_json::Value;

/// `-o`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Format {
    #[default]
    Table,
    Json,
}

/// A column: its heading and the field it shows.
pub type Column = (&'static str, &'static str);

/// One object, or the items of a list with a hint to the next page.
pub fn show(
    out: &mut dyn Write,
    format: Format,
    columns: &[Column],
    body: &Value,
) -> io::Result<()> {
    if format == Format::Json {
        serde_json::to_writer_pretty(&mut *out, body)?;
        return writeln!(out);
    }
    let Some(items) = body["items"].as_array() else {
        return show_one(out, body);
    };
    let mut rows = vec![columns.iter().map(|(heading, _)| (*heading).to_owned()).collect()];
    rows.extend(items.iter().map(|item| -> Vec<String> {
        columns.iter().map(|(_, field)| cell(&item[*field])).collect()
    }));
    table(out, &rows)?;
    if let Some(cursor) = body["next_cursor"].as_str() {
        writeln!(out, "More with --cursor {cursor}")?;
    }
    Ok(())
}

fn show_one(out: &mut dyn Write, body: &Value) -> io::Result<()> {
    let Some(object) = body.as_object() else { return Ok(()) };
    let rows: Vec<Vec<String>> =
        object.iter().map(|(name, value)| vec![name.clone(), cell(value)]).collect();
    table(out, &rows)
}

fn table(out: &mut dyn Write, rows: &[Vec<String>]) -> io::Result<()> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A value on one line; control characters of others never reach a terminal.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => {
            text.chars().map(|c| if is_deceptive(c) { '\u{fffd}' } else { c }).collect()
        }
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Object(object) if object.is_empty() => "-".to_owned(),
        Value::Object(object) => {
            let pairs: Vec<String> =
                object.iter().map(|(name, value)| format!("{name}={}", cell(value))).collect();
            pairs.join(",")
        }
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        Value::Number(number) => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tables_align_and_hide_controls() {
        let body = json!({
            "items": [
                { "id": "1", "name": "a\u{1b}[31m", "on": true, "labels": { "k": "v" } },
                { "id": "22", "name": null, "on": false, "labels": {} },
            ],
            "next_cursor": "abc",
        });
        let mut out = Vec::new();
        let columns = [("ID", "id"), ("NAME", "name"), ("ON", "on"), ("LABELS", "labels")];
        show(&mut out, Format::Table, &columns, &body).expect("memory takes every write");
        let expected = "ID  NAME    ON   LABELS\n\
                        1   a\u{fffd}[31m  yes  k=v\n\
                        22  -       no   -\n\
                        More with --cursor abc\n";
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }
}
