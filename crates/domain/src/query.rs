//! What is asked of records, entries and traces: the language of queries and
//! statistics (the language is on the page about search), its syntax tree, and
//! the flags that say the same.
//!
//! Promises that a tree made from text names known fields, labels or
//! attributes only, that its literals are of the kind of their field, and that
//! it is bounded in size and depth. Printing a tree gives text that parses
//! back to it. Says nothing about where lines lie.

mod cursor;
mod display;
mod error;
pub mod flags;
mod literal;
mod names;
mod parser;
mod stats;
mod tree;

#[cfg(test)]
mod tests;

pub use error::QueryError;
pub use literal::{compile_regex, parse_duration, parse_time, severity};
pub use names::{ALIASES, Alias, nearest, resolve, resolve_one};
pub use parser::{parse, parse_for_foreign};
pub use stats::{parse_bucket, parse_stats, parse_stats_for_foreign};
pub use tree::{
    Comparison, Expr, FieldRef, Function, GROUP_FIELDS_MAX, Literal, MEASURES_MAX, Measure, Stats,
    Test,
};

/// Bytes of a query's text.
pub const QUERY_BYTES_MAX: usize = 100 * 1024;
/// Parentheses and negations inside each other.
pub const QUERY_DEPTH_MAX: usize = 64;
/// Terms of a query; each value of a list is one.
pub const QUERY_TERMS_MAX: usize = 1024;
/// Regexes of a query: each may take [`REGEX_BYTES_MAX`] once it is compiled.
pub const QUERY_REGEXES_MAX: usize = 32;
/// Memory of one compiled regex.
pub const REGEX_BYTES_MAX: usize = 1 << 20;

/// Text as word searches compare it: each character in lower case, whatever
/// stands around it.
pub fn fold(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}
