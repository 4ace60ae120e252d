//! `--stats` and `--bucket`: figures about the lines that match, and their
//! histogram where somebody looks.

use std::io::{self, Write};

use domain::{
    query::{QueryError, Stats, parse_bucket, parse_stats, parse_stats_for_foreign},
    time::Timestamp,
};
use logstore::engine::{Cell, Search, Table};

use super::{
    Surroundings, Trouble,
    door::Door,
    search::{meter, status, tell, watch},
};
use crate::render::{Align, Format, Grid, harmless, quoted_csv};

/// What is counted where only a bucket is given.
const COUNT: &str = "count";
/// Empty buckets between others are drawn while the picture stays this short.
const DRAWN_MAX: usize = 500;
const BAR_CHARS_MAX: usize = 50;
const BAR_CHARS_MIN: usize = 10;

/// Reads `--stats` and `--bucket`; none when neither is given.
pub(super) fn asked(
    text: Option<&str>,
    bucket: Option<&str>,
    is_foreign: bool,
) -> Result<Option<Stats>, Trouble> {
    let wrong = |flag, text: &str, error: QueryError| Trouble::wrong(flag, text, error);
    if text.is_none() && bucket.is_none() {
        return Ok(None);
    }
    let text = text.unwrap_or(COUNT);
    let parse = if is_foreign { parse_stats_for_foreign } else { parse_stats };
    let mut stats = parse(text).map_err(|error| wrong("stats", text, error))?;
    if let Some(bucket) = bucket {
        let micros = parse_bucket(bucket).map_err(|error| wrong("bucket", bucket, error))?;
        stats.bucket_micros = Some(micros);
    }
    Ok(Some(stats))
}

/// Prints the table.
pub(super) fn run(
    door: &Door,
    mut question: Search,
    stats: &Stats,
    (format, explain): (Format, bool),
    around: &mut Surroundings<'_>,
) -> Result<u8, Trouble> {
    let meter = meter(around.meter.take());
    watch(&mut question, meter.as_ref());
    let (table, answer) = door.stats(&question, stats)?;
    let quiet = meter.as_ref().map(|meter| meter.quiet());
    match format {
        Format::Table => print_table(&table, stats, around)?,
        Format::Csv => print_csv(&table, around.out)?,
        Format::Json | Format::Raw => print_json(&table, around.out)?,
        Format::Logfmt => print_logfmt(&table, around.out)?,
    }
    around.out.flush()?;
    if table.groups > table.rows.len() {
        let (shown, groups) = (table.rows.len(), table.groups);
        writeln!(around.err, "the first {shown} of {groups} groups; --limit 0 shows all")?;
    }
    for note in &table.notes {
        writeln!(around.err, "note: {note}")?;
    }
    tell(&answer, explain, around.err)?;
    drop(quiet);
    Ok(status(&answer))
}

fn print_table(table: &Table, stats: &Stats, around: &mut Surroundings<'_>) -> io::Result<()> {
    let mut columns: Vec<(String, Align)> = table
        .columns
        .iter()
        .map(|column| match column.is_key {
            true => (column.name.clone(), Align::Left),
            false => (column.name.clone(), Align::Right),
        })
        .collect();
    let is_histogram = around.terminal && stats.bucket_micros.is_some() && stats.by.is_empty();
    let filled;
    let mut rows = &table.rows;
    if is_histogram {
        filled = fill(table, stats.bucket_micros.unwrap_or_default());
        rows = &filled;
    }
    let cells = |row: &Vec<Cell>| row.iter().map(shown).collect::<Vec<_>>();
    let mut lines: Vec<(Vec<String>, &str)> = rows.iter().map(|row| (cells(row), "")).collect();
    if is_histogram {
        let used: usize = (0..columns.len()).map(|at| width(&columns, &lines, at) + 2).sum();
        let room = around.columns.unwrap_or(100).saturating_sub(used);
        let room = room.clamp(BAR_CHARS_MIN, BAR_CHARS_MAX);
        let most = rows.iter().filter_map(|row| figure(row.get(1)?)).fold(0.0, f64::max);
        for (row, (cells, _)) in rows.iter().zip(&mut lines) {
            let share = row.get(1).and_then(figure).unwrap_or(0.0) / most.max(f64::MIN_POSITIVE);
            cells.push(bar(share, room));
        }
        columns.push((String::new(), Align::Left));
    }
    Grid::new(columns, None, around.color).print(around.out, &lines)
}

fn width(columns: &[(String, Align)], lines: &[(Vec<String>, &str)], at: usize) -> usize {
    let cells =
        lines.iter().filter_map(|(cells, _)| cells.get(at)).map(|cell| cell.chars().count());
    let head = columns.get(at).map(|(name, _)| name.chars().count());
    cells.chain(head).max().unwrap_or(0)
}

/// The rows with those of the empty buckets between them.
fn fill(table: &Table, bucket_micros: i64) -> Vec<Vec<Cell>> {
    let time = |row: &Vec<Cell>| match row.first() {
        Some(Cell::Time(time)) => Some(time.as_micros()),
        _ => None,
    };
    let times: Option<Vec<i64>> = table.rows.iter().map(time).collect();
    let ends = times.as_ref().and_then(|times| times.first().zip(times.last()));
    let buckets = ends.map(|(first, last)| (last - first) / bucket_micros.max(1));
    if !buckets.is_some_and(|buckets| (0..DRAWN_MAX as i64).contains(&buckets)) {
        return table.rows.clone();
    }
    let mut filled: Vec<Vec<Cell>> = Vec::new();
    for row in &table.rows {
        while let Some(last) = filled.last().and_then(&time)
            && time(row).is_some_and(|time| last + bucket_micros < time)
        {
            let mut empty = vec![Cell::Absent; row.len()];
            empty[0] = Cell::Time(Timestamp::from_micros(last + bucket_micros));
            filled.push(empty);
        }
        filled.push(row.clone());
    }
    filled
}

fn figure(cell: &Cell) -> Option<f64> {
    match cell {
        Cell::Integer(number) => Some(*number as f64),
        Cell::Number(number) => Some(*number),
        Cell::Decimal(nanos) => Some(*nanos as f64),
        Cell::Absent | Cell::Text(_) | Cell::Boolean(_) | Cell::Time(_) => None,
    }
}

/// A bar of so many characters for 1, in eighths of a character.
fn bar(share: f64, chars: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * chars as f64 * 8.0).round() as usize;
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

/// Times of buckets are round: what is zero at their end is left out.
fn shown(cell: &Cell) -> String {
    match cell {
        Cell::Time(time) => {
            let text = time.to_string();
            let text = text.trim_end_matches('Z').trim_end_matches(".000000");
            format!("{}Z", text.strip_suffix(":00").unwrap_or(text))
        }
        cell => harmless(&cell.to_string()),
    }
}

fn print_csv(table: &Table, out: &mut dyn Write) -> io::Result<()> {
    let head: Vec<String> = table.columns.iter().map(|column| quoted_csv(&column.name)).collect();
    write!(out, "{}\r\n", head.join(","))?;
    for row in &table.rows {
        let cells: Vec<String> =
            row.iter().map(|cell| quoted_csv(&harmless(&cell.to_string()))).collect();
        write!(out, "{}\r\n", cells.join(","))?;
    }
    Ok(())
}

/// One object a row; amounts are decimal strings, as in a line.
fn print_json(table: &Table, out: &mut dyn Write) -> io::Result<()> {
    for row in &table.rows {
        let mut text = vec![b'{'];
        for (column, cell) in table.columns.iter().zip(row) {
            if *cell == Cell::Absent {
                continue;
            }
            if text.len() > 1 {
                text.push(b',');
            }
            domain::json::write_text(&mut text, &column.name);
            text.push(b':');
            match cell {
                Cell::Integer(_) | Cell::Number(_) | Cell::Boolean(_) => {
                    text.extend_from_slice(cell.to_string().as_bytes());
                }
                cell => domain::json::write_text(&mut text, &harmless(&cell.to_string())),
            }
        }
        text.extend_from_slice(b"}\n");
        out.write_all(&text)?;
    }
    Ok(())
}

fn print_logfmt(table: &Table, out: &mut dyn Write) -> io::Result<()> {
    for row in &table.rows {
        let present = table.columns.iter().zip(row).filter(|(_, cell)| **cell != Cell::Absent);
        let pairs = present.map(|(column, cell)| {
            let text = harmless(&cell.to_string());
            match text.is_empty() || text.contains([' ', '"', '=']) {
                true => format!("{}={text:?}", column.name),
                false => format!("{}={text}", column.name),
            }
        });
        writeln!(out, "{}", pairs.collect::<Vec<_>>().join(" "))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use logstore::engine::Column;

    use super::*;

    fn table() -> Table {
        let time = |minute: i64| Cell::Time(Timestamp::from_micros(minute * 60_000_000));
        let column = |name: &str, is_key| Column { name: name.to_owned(), is_key };
        Table {
            columns: vec![
                column("bucket", true),
                column("count", false),
                column("sum(cost_usd)", false),
            ],
            rows: vec![
                vec![time(0), Cell::Integer(4), Cell::Decimal(1_500_000_000)],
                vec![time(2), Cell::Integer(1), Cell::Absent],
            ],
            groups: 2,
            notes: Vec::new(),
        }
    }

    #[test]
    fn a_terminal_gets_a_histogram_without_gaps() {
        let stats = Stats { bucket_micros: Some(60_000_000), ..parse_stats("count").expect("one") };
        let check = |terminal, expected: &str| {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut around = Surroundings::test(&mut out, &mut err);
            around.terminal = terminal;
            around.columns = Some(56);
            print_table(&table(), &stats, &mut around).expect("a vector");
            assert_eq!(String::from_utf8(out).expect("text"), expected);
        };
        check(
            true,
            "BUCKET             COUNT  SUM(COST_USD)\n\
             1970-01-01T00:00Z      4            1.5  ███████████████\n\
             1970-01-01T00:01Z\n\
             1970-01-01T00:02Z      1                 ███▊\n",
        );
        check(
            false,
            "BUCKET             COUNT  SUM(COST_USD)\n\
             1970-01-01T00:00Z      4            1.5\n\
             1970-01-01T00:02Z      1\n",
        );
    }

    #[test]
    fn programs_get_what_they_read() {
        let check = |print: fn(&Table, &mut dyn Write) -> io::Result<()>, expected: &str| {
            let mut out = Vec::new();
            print(&table(), &mut out).expect("a vector");
            assert_eq!(String::from_utf8(out).expect("text"), expected);
        };
        check(
            print_json,
            "{\"bucket\":\"1970-01-01T00:00:00.000000Z\",\"count\":4,\"sum(cost_usd)\":\"1.5\"}\n\
             {\"bucket\":\"1970-01-01T00:02:00.000000Z\",\"count\":1}\n",
        );
        check(
            print_csv,
            "bucket,count,sum(cost_usd)\r\n1970-01-01T00:00:00.000000Z,4,1.5\r\n\
             1970-01-01T00:02:00.000000Z,1,\r\n",
        );
        check(
            print_logfmt,
            "bucket=1970-01-01T00:00:00.000000Z count=4 sum(cost_usd)=1.5\n\
             bucket=1970-01-01T00:02:00.000000Z count=1\n",
        );
    }
}
