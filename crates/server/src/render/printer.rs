//! Prints lines one after the other in one format.

use std::io::{self, Write};

use super::{
    columns::Column,
    csv,
    line::{Line, harmless, harmless_json, pair},
    table::{Align, Grid, cut},
};

/// `-o`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns
    #[default]
    Table,
    /// One JSON object a line, as it was written
    Json,
    /// RFC 4180, with a heading
    Csv,
    /// name=value pairs
    Logfmt,
    /// The line itself
    Raw,
}

/// What the output can show.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Look {
    /// Somebody reads it: nothing may pass that a terminal would obey.
    pub terminal: bool,
    pub color: bool,
    /// Columns of the terminal.
    pub columns_max: Option<usize>,
    /// Neighbours are printed too: matches bear a mark.
    pub marks: bool,
    /// The lines are anybody's and may be no JSON.
    pub foreign: bool,
}

/// A wider cell is cut in a table; the other formats show all of it.
const CELL_CHARS_MAX: usize = 60;
/// Rows of a table that are aligned together, and their bytes.
const ROWS_MAX: usize = 1_000;
const ROWS_BYTES_MAX: usize = 1 << 20;

/// Writes lines in one format. Rows of a table are held back until there are
/// enough to align them: [`Printer::flush`] ends that.
#[derive(Debug)]
pub struct Printer {
    format: Format,
    look: Look,
    /// None: the line as it is, where the format can show that.
    chosen: Vec<Column>,
    columns: Vec<Column>,
    grid: Grid,
    rows: Vec<(Vec<String>, &'static str)>,
    rows_bytes: usize,
    head_printed: bool,
}

impl Printer {
    /// `chosen` are the columns asked for; `usual` stand in where there are none
    /// and the format needs some.
    pub fn new(format: Format, chosen: Vec<Column>, usual: Vec<Column>, look: Look) -> Self {
        let columns = if chosen.is_empty() { usual } else { chosen.clone() };
        let align = |column: &Column| match column.is_figure() {
            true => Align::Right,
            false => Align::Left,
        };
        let mark = look.marks.then(|| (String::new(), Align::Left));
        let named = columns.iter().map(|column| (column.heading.clone(), align(column)));
        let grid = Grid::new(mark.into_iter().chain(named).collect(), look.columns_max, look.color);
        let (rows, rows_bytes, head_printed) = (Vec::new(), 0, false);
        Self { format, look, chosen, columns, grid, rows, rows_bytes, head_printed }
    }

    /// Takes one line; `context` says that it is a neighbour of a match.
    pub fn print(&mut self, out: &mut dyn Write, line: &[u8], context: bool) -> io::Result<()> {
        match self.format {
            Format::Table => self.print_row(out, line, context),
            Format::Csv => self.print_csv(out, line),
            Format::Json if !self.chosen.is_empty() => self.print_json(out, line),
            Format::Logfmt => self.print_logfmt(out, line),
            Format::Json if self.look.foreign && !is_object(line) => {
                self.print_whole(out, &Line::of_others(line).to_json())
            }
            Format::Json | Format::Raw => self.print_whole(out, line),
        }
    }

    /// Says that lines were left out here, where people read.
    pub fn gap(&mut self, out: &mut dyn Write) -> io::Result<()> {
        match self.format {
            Format::Table => self.rows.push((vec![GAP.to_owned()], FAINT)),
            Format::Raw => writeln!(out, "{GAP}")?,
            Format::Json | Format::Csv | Format::Logfmt => {}
        }
        Ok(())
    }

    /// Prints what was held back. CSV has a heading even without a row.
    pub fn flush(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.print_rows(out)?;
        if self.format == Format::Csv {
            self.print_head(out)?;
        }
        out.flush()
    }

    fn print_rows(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let rows = std::mem::take(&mut self.rows);
        self.rows_bytes = 0;
        self.grid.print(out, &rows)
    }

    fn print_head(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.head_printed {
            return Ok(());
        }
        self.head_printed = true;
        let head = csv::row(self.columns.iter().map(|column| column.heading.as_str()));
        out.write_all(head.as_bytes())
    }

    fn print_row(&mut self, out: &mut dyn Write, line: &[u8], context: bool) -> io::Result<()> {
        let parsed = self.parsed(line);
        let mut cells = Vec::with_capacity(self.columns.len() + 1);
        if self.look.marks {
            cells.push(if context { " " } else { ">" }.to_owned());
        }
        let last = self.columns.len().saturating_sub(1);
        for (at, column) in self.columns.iter().enumerate() {
            let cell = column.cell(&parsed);
            let cell = if column.heading == "ts" { millis(cell) } else { cell };
            // The last column of anybody's lines is what they are read for.
            let max = if self.look.foreign && at == last { usize::MAX } else { CELL_CHARS_MAX };
            cells.push(cut(&cell, max));
        }
        if !is_object(line) && cells.iter().all(|cell| cell.trim().is_empty()) {
            // Of a line that is no JSON all there is to show is itself.
            cells = vec![harmless(&String::from_utf8_lossy(line))];
        }
        self.rows_bytes += cells.iter().map(String::len).sum::<usize>();
        self.rows.push((cells, color(&parsed, context)));
        if self.rows.len() >= ROWS_MAX || self.rows_bytes >= ROWS_BYTES_MAX {
            self.print_rows(out)?;
        }
        Ok(())
    }

    fn print_whole(&self, out: &mut dyn Write, line: &[u8]) -> io::Result<()> {
        if self.look.terminal {
            return writeln!(out, "{}", harmless_json(line));
        }
        out.write_all(line)?;
        out.write_all(b"\n")
    }

    fn print_csv(&mut self, out: &mut dyn Write, line: &[u8]) -> io::Result<()> {
        self.print_head(out)?;
        let line = self.parsed(line);
        let cells: Vec<String> = self.columns.iter().map(|column| column.cell(&line)).collect();
        out.write_all(csv::row(cells.iter().map(String::as_str)).as_bytes())
    }

    fn print_json(&self, out: &mut dyn Write, line: &[u8]) -> io::Result<()> {
        let parsed = self.parsed(line);
        let mut text = vec![b'{'];
        for column in &self.chosen {
            let Some(value) = column.value(&parsed) else { continue };
            if text.len() > 1 {
                text.push(b',');
            }
            domain::json::write_text(&mut text, &column.heading);
            text.push(b':');
            serde_json::to_writer(&mut text, value)?;
        }
        text.push(b'}');
        self.print_whole(out, &text)
    }

    fn print_logfmt(&self, out: &mut dyn Write, line: &[u8]) -> io::Result<()> {
        let parsed = self.parsed(line);
        let pairs: Vec<String> = if self.chosen.is_empty() {
            parsed.fields().map(|(name, value)| pair(name, value)).collect()
        } else {
            let value = |column: &Column| Some(pair(&column.heading, column.value(&parsed)?));
            self.chosen.iter().filter_map(value).collect()
        };
        writeln!(out, "{}", pairs.join(" "))
    }

    fn parsed(&self, line: &[u8]) -> Line {
        if self.look.foreign { Line::of_others(line) } else { Line::parse(line) }
    }
}

/// People read a table: three digits of a second are enough.
fn millis(time: String) -> String {
    let is_ours = time.len() == "2026-11-23T10:00:00.123456Z".len() && time.ends_with('Z');
    match time.get(..23) {
        Some(start) if is_ours => format!("{start}Z"),
        _ => time,
    }
}

fn is_object(line: &[u8]) -> bool {
    serde_json::from_slice::<Line>(line).is_ok()
}

/// As grep has it.
const GAP: &str = "--";
const FAINT: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";

fn color(line: &Line, context: bool) -> &'static str {
    if context {
        return FAINT;
    }
    let level = line.text("level").or_else(|| line.text("severity"));
    match level.and_then(domain::query::severity) {
        Some(5..) => RED,
        Some(4) => YELLOW,
        _ => "",
    }
}
