//! Reads the tokens of a query's text: where a word, a name, a quotation or a
//! regex begins and ends. Knows nothing about what they mean.

use std::ops::Range;

use super::QueryError;
use super::tree::Comparison;

/// A place in the text.
pub(super) struct Cursor<'t> {
    pub text: &'t str,
    pub at: usize,
}

/// What stands between a field and its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operator {
    /// `:` and `=`
    Is,
    /// `!=`
    IsNot,
    Compare(Comparison),
}

/// A value as it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Item {
    pub text: String,
    /// Quotation marks make every character a plain one.
    pub quoted: bool,
    pub at: Range<usize>,
}

/// The signs of operators, longer ones first.
const OPERATORS: &[(&str, Operator)] = &[
    (">=", Operator::Compare(Comparison::GreaterOrEqual)),
    ("<=", Operator::Compare(Comparison::LessOrEqual)),
    ("!=", Operator::IsNot),
    ("==", Operator::Is),
    (">", Operator::Compare(Comparison::Greater)),
    ("<", Operator::Compare(Comparison::Less)),
    ("=", Operator::Is),
    (":", Operator::Is),
];

/// What a backslash takes the meaning from in a value without quotes.
pub(super) const ESCAPABLE: &[char] = &['\\', '"', '(', ')', ',', '/', '<', '>', '='];

impl<'t> Cursor<'t> {
    pub fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    pub fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub fn skip_spaces(&mut self) {
        self.at += spaces(self.rest());
    }

    pub fn eat(&mut self, wanted: &str) -> bool {
        let found = self.rest().starts_with(wanted);
        self.at += if found { wanted.len() } else { 0 };
        found
    }

    /// A word such as `AND`, which something else must follow.
    pub fn keyword(&mut self, wanted: &str) -> bool {
        let Some(after) = self.rest().strip_prefix(wanted) else { return false };
        let ends = after.chars().next().is_none_or(ends_word);
        self.at += if ends { wanted.len() } else { 0 };
        ends
    }

    /// A field's name and the operator behind it, or nothing taken at all.
    /// Spaces may stand before a comparison, but not before a colon.
    pub fn name_and_operator(&mut self) -> Result<Option<(Item, Operator)>, QueryError> {
        let begin = self.at;
        let name = match self.peek() {
            Some('"') => self.quoted()?,
            Some(c) if c.is_ascii_alphabetic() || c == '_' || c == '@' => self.bare_name(),
            _ => return Ok(None),
        };
        let gap = spaces(self.rest());
        let behind = &self.rest()[gap..];
        let mut operators = OPERATORS.iter();
        let found = operators.find(|(sign, _)| behind.starts_with(sign));
        let fits = |sign: &str| gap == 0 || sign != ":";
        match found {
            Some((sign, operator)) if fits(sign) && !name.text.is_empty() => {
                self.at += gap + sign.len();
                if *operator != Operator::Is {
                    self.skip_spaces();
                }
                Ok(Some((name, *operator)))
            }
            _ => {
                self.at = begin;
                Ok(None)
            }
        }
    }

    /// A run of name characters whose last is no sign.
    fn bare_name(&mut self) -> Item {
        let is_name = |c: char| c.is_ascii_alphanumeric() || "_.@-".contains(c);
        let rest = self.rest();
        let run = &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())];
        let name = run.trim_end_matches(['.', '-', '@']);
        // A sign before the operator makes it no name: `a->b` is a word.
        let name = if name.len() == run.len() { name } else { "" };
        let at = self.at..self.at + name.len();
        self.at = at.end;
        Item { text: name.to_owned(), quoted: false, at }
    }

    /// The comparison that may stand behind a colon: `status_code:>=500`.
    pub fn comparison(&mut self) -> Option<Comparison> {
        for (sign, operator) in OPERATORS {
            if let Operator::Compare(comparison) = operator
                && self.eat(sign)
            {
                self.skip_spaces();
                return Some(*comparison);
            }
        }
        None
    }

    /// Text between quotation marks; `\"` and `\\` stand for the sign itself.
    pub fn quoted(&mut self) -> Result<Item, QueryError> {
        let begin = self.at;
        let mut text = String::new();
        let mut chars = self.rest().char_indices().skip(1).peekable();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.at = begin + at + 1;
                    return Ok(Item { text, quoted: true, at: begin..self.at });
                }
                '\\' => match chars.next_if(|(_, next)| matches!(next, '"' | '\\')) {
                    Some((_, escaped)) => text.push(escaped),
                    None => text.push('\\'),
                },
                c => text.push(c),
            }
        }
        let message = "the quotation mark is not closed";
        Err(QueryError::new(begin..begin + 1, message))
    }

    /// A run up to a space, a parenthesis or a quotation mark, and up to a comma
    /// where that ends it too.
    pub fn bare(&mut self, comma_ends: bool) -> Item {
        let begin = self.at;
        let mut text = String::new();
        let mut chars = self.rest().char_indices().peekable();
        let mut length = self.rest().len();
        while let Some((at, c)) = chars.next() {
            if ends_word(c) || c == '"' || (comma_ends && c == ',') {
                length = at;
                break;
            }
            let escaped =
                |next: &(usize, char)| ESCAPABLE.contains(&next.1) || next.1.is_whitespace();
            match chars.next_if(|next| c == '\\' && comma_ends && escaped(next)) {
                Some((_, escaped)) => text.push(escaped),
                None => text.push(c),
            }
        }
        self.at = begin + length;
        Item { text, quoted: false, at: begin..self.at }
    }

    /// A regex between slashes. Its end is the first slash without a backslash,
    /// and a word must end there: `/v1/chat` is a path and no regex.
    pub fn regex(&mut self) -> Option<Item> {
        let begin = self.at;
        let inside = self.rest().strip_prefix('/')?;
        let mut escaped = false;
        let close = inside.find(|c| {
            let ends = c == '/' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        })?;
        let (pattern, behind) = (&inside[..close], &inside[close + 1..]);
        let (folds, after) = match behind.strip_prefix('i') {
            Some(after) => (true, after),
            None => (false, behind),
        };
        if pattern.is_empty() || !after.chars().next().is_none_or(ends_word) {
            return None;
        }
        self.at = self.text.len() - after.len();
        let pattern = pattern.replace("\\/", "/");
        let text = if folds { format!("(?i){pattern}") } else { pattern };
        Some(Item { text, quoted: false, at: begin..self.at })
    }
}

/// Bytes of the white space at the beginning.
fn spaces(text: &str) -> usize {
    text.len() - text.trim_start().len()
}

fn ends_word(c: char) -> bool {
    c.is_whitespace() || c == '(' || c == ')'
}
