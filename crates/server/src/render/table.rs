//! Aligned columns.

use std::io::{self, Write};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Align {
    Left,
    Right,
}

/// Rows under one heading. Columns grow with what is printed and never shrink,
/// so that a table that is printed in parts stays in place.
#[derive(Debug)]
pub struct Grid {
    head: Vec<String>,
    aligns: Vec<Align>,
    widths: Vec<usize>,
    /// Columns of the terminal: a row is cut there instead of being broken.
    columns_max: Option<usize>,
    color: bool,
    head_printed: bool,
}

const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";
/// A last column narrower than this says nothing: better broken than cut.
const LAST_CHARS_MIN: usize = 12;

impl Grid {
    pub fn new(columns: Vec<(String, Align)>, columns_max: Option<usize>, color: bool) -> Self {
        let (head, aligns): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let widths = head.iter().map(|name| name.chars().count()).collect();
        Self { head, aligns, widths, columns_max, color, head_printed: false }
    }

    /// Prints rows with their colours (empty for none), aligned together.
    pub fn print(&mut self, out: &mut dyn Write, rows: &[(Vec<String>, &str)]) -> io::Result<()> {
        for (cells, _) in rows {
            for (width, cell) in self.widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.chars().count());
            }
        }
        if !self.head_printed && !rows.is_empty() {
            self.head_printed = true;
            let head: Vec<String> = self.head.iter().map(|name| name.to_uppercase()).collect();
            self.print_row(out, &head, BOLD)?;
        }
        rows.iter().try_for_each(|(cells, color)| self.print_row(out, cells, color))
    }

    fn print_row(&self, out: &mut dyn Write, cells: &[String], color: &str) -> io::Result<()> {
        let mut text = String::new();
        let mut used = 0;
        let last = self.widths.len().saturating_sub(1);
        for (at, (cell, width)) in cells.iter().zip(&self.widths).enumerate() {
            let length = cell.chars().count();
            let pad = width.saturating_sub(length);
            if self.aligns.get(at) == Some(&Align::Right) {
                text.extend(std::iter::repeat_n(' ', pad));
                text.push_str(cell);
            } else if at == last {
                let room = self.columns_max.map(|max| max.saturating_sub(used));
                match room.filter(|room| *room >= LAST_CHARS_MIN && length > *room) {
                    Some(room) => text.push_str(&cut(cell, room)),
                    None => text.push_str(cell),
                }
            } else {
                text.push_str(cell);
                text.extend(std::iter::repeat_n(' ', pad));
            }
            if at < last {
                text.push_str("  ");
            }
            used += width + 2;
        }
        let text = text.trim_end();
        match self.color && !color.is_empty() {
            true => writeln!(out, "{color}{text}{PLAIN}"),
            false => writeln!(out, "{text}"),
        }
    }
}

/// At most so many characters, the last of them an ellipsis if any is missing.
pub(super) fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        None => text.to_owned(),
        Some(_) => text.chars().take(chars_max.saturating_sub(1)).chain(['…']).collect(),
    }
}
