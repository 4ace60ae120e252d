//! `logs fields`: what queries can name.

use std::io;

use domain::{
    fields::{self, Kind, Stream},
    query::ALIASES,
};

use super::{FOUND, Surroundings, Trouble};
use crate::render::{Align, Format, Grid, quoted_csv};

const COLUMNS: [&str; 5] = ["field", "type", "unit", "streams", "meaning"];

/// Prints every field that a query can name.
pub(super) fn run(format: Format, around: &mut Surroundings<'_>) -> Result<u8, Trouble> {
    let rows = rows();
    match format {
        Format::Table => print_table(&rows, around)?,
        Format::Csv => {
            for row in std::iter::once(&COLUMNS.map(str::to_owned)).chain(&rows) {
                let cells: Vec<String> = row.iter().map(|cell| quoted_csv(cell)).collect();
                write!(around.out, "{}\r\n", cells.join(","))?;
            }
        }
        Format::Json | Format::Raw | Format::Logfmt => {
            for row in &rows {
                let object: serde_json::Map<String, serde_json::Value> = COLUMNS
                    .iter()
                    .zip(row)
                    .map(|(name, cell)| ((*name).to_owned(), cell.clone().into()))
                    .collect();
                serde_json::to_writer(&mut *around.out, &object).map_err(io::Error::from)?;
                writeln!(around.out)?;
            }
        }
    }
    around.out.flush()?;
    Ok(FOUND)
}

fn print_table(rows: &[[String; 5]], around: &mut Surroundings<'_>) -> io::Result<()> {
    let columns = COLUMNS.map(|name| (name.to_owned(), Align::Left)).to_vec();
    let rows: Vec<(Vec<String>, &str)> = rows.iter().map(|row| (row.to_vec(), "")).collect();
    Grid::new(columns, around.columns, around.color).print(around.out, &rows)
}

fn rows() -> Vec<[String; 5]> {
    let mut rows: Vec<[String; 5]> = Vec::new();
    for stream in Stream::ALL {
        for field in fields::of(*stream) {
            if rows.iter().any(|row| row[0] == field.name) {
                continue;
            }
            let streams: Vec<&str> = Stream::ALL
                .iter()
                .filter(|stream| fields::of(**stream).contains(&field))
                .map(|stream| stream.as_str())
                .collect();
            let described = fields::RECORD_FIELDS.iter().find(|known| known.name == field.name);
            let note = || ("", fields::note(*stream, field.name));
            let (unit, meaning) = described.map_or_else(note, |it| (it.unit, it.meaning));
            rows.push([
                field.name.to_owned(),
                kind(field.kind).to_owned(),
                unit.to_owned(),
                streams.join(","),
                meaning.replace('`', ""),
            ]);
        }
    }
    let prefixes = [
        ("labels.NAME", "one of the labels of its token or project"),
        ("attrs.NAME", "what a line has beside its known fields"),
    ];
    for (name, meaning) in prefixes {
        rows.push([name.into(), "text".into(), String::new(), String::new(), meaning.into()]);
    }
    for alias in ALIASES {
        let meaning = format!("short for {}", alias.fields.join(" or "));
        match rows.iter_mut().find(|row| row[0] == alias.name) {
            Some(row) => row[4] = format!("{} In a query: {meaning}.", row[4]),
            None => {
                rows.push([
                    alias.name.into(),
                    "alias".into(),
                    String::new(),
                    String::new(),
                    meaning,
                ]);
            }
        }
    }
    rows
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "text",
        Kind::Id => "id",
        Kind::Time => "time",
        Kind::Integer => "integer",
        Kind::Number => "number",
        Kind::Decimal => "decimal",
        Kind::Boolean => "boolean",
        Kind::Labels => "labels",
    }
}
