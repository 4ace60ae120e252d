//! Lines and statistics as text, for people and for programs.
//!
//! Owns what a cell says and how rows become a table, CSV, JSON lines or
//! logfmt. Promises that nothing that somebody else wrote reaches a terminal as
//! a control character, and that a cell of CSV is no formula. Knows nothing of
//! where lines come from.

mod columns;
mod csv;
mod line;
mod printer;
mod table;
#[cfg(test)]
mod tests;

pub use columns::{Column, usual, usual_of_others};
pub use csv::quoted as quoted_csv;
pub use line::{Line, harmless, harmless_json, shown};
pub use printer::{Format, Look, Printer};
pub use table::{Align, Grid};
