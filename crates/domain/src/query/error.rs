//! What is wrong with a query, where, and what to do about it.

use std::{fmt::Write as _, ops::Range};

/// Where in the query something is wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}", self.question())]
pub struct QueryError {
    pub message: String,
    /// Bytes of the query's text, at character boundaries.
    pub at: Range<usize>,
    /// The nearest known word.
    pub suggestion: Option<String>,
}

/// Characters of the query shown on each side of the place.
const AROUND_CHARS: usize = 30;
/// A longer mark says no more.
const MARK_CHARS_MAX: usize = 40;

impl QueryError {
    pub(super) fn new(at: Range<usize>, message: impl Into<String>) -> Self {
        Self { message: message.into(), at, suggestion: None }
    }

    pub(super) fn suggesting(mut self, nearest: Option<&str>) -> Self {
        self.suggestion = nearest.map(ToOwned::to_owned);
        self
    }

    fn question(&self) -> String {
        self.suggestion.as_ref().map_or_else(String::new, |it| format!("; did you mean '{it}'?"))
    }

    /// Two lines that show the place in the query: its text (cut around the
    /// place, without characters that a terminal would obey) and a mark below.
    pub fn place(&self, query: &str) -> String {
        let (start, end) = (floor(query, self.at.start), floor(query, self.at.end));
        let (before, rest) = query.split_at(start);
        let (wrong, after) = rest.split_at(end.saturating_sub(start));
        let from = before.char_indices().rev().nth(AROUND_CHARS - 1).map_or(0, |(at, _)| at);
        let mut shown = String::new();
        if from > 0 {
            shown.push('…');
        }
        shown.extend(before[from..].chars().map(visible));
        let indent = shown.chars().count();
        shown.extend(wrong.chars().take(MARK_CHARS_MAX).map(visible));
        let mark = wrong.chars().count().clamp(1, MARK_CHARS_MAX);
        if wrong.chars().nth(MARK_CHARS_MAX).is_none() {
            shown.extend(after.chars().take(AROUND_CHARS).map(visible));
        }
        if after.chars().nth(AROUND_CHARS).is_some() || wrong.chars().nth(MARK_CHARS_MAX).is_some()
        {
            shown.push('…');
        }
        let mut text = shown;
        write!(text, "\n{:indent$}{:^<mark$}", "", "").expect("a string takes every write");
        text
    }
}

fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// One column for each character: what is not printable plain text is a dot.
fn visible(c: char) -> char {
    let harmful = c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{2069}' | '\u{feff}');
    match c {
        '\t' | '\n' | '\r' => ' ',
        _ if harmful => '·',
        c => c,
    }
}
