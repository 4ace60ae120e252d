//! One search engine over everything that a data directory keeps: the journal's
//! hot part and sealed segments.
//!
//! Owns how a question ([`Search`], [`domain::query::Stats`]) becomes columns to
//! read, pages to leave out and predicates over Arrow arrays, and how rows of many
//! files come back in one order. Promises that a line is answered with exactly
//! once, as the bytes that were written; that every answer says what it could not
//! read ([`Report`]); and that no question takes more than its [`Budget`]. Must
//! never write to a data directory, hold a whole file in memory, or know roles: a
//! restriction to projects is handed in.
//!
//! A question goes through four steps: [`Sources`] are opened (which files, which
//! part of the journal), `plan` compiles it for each dataset, sources leave out
//! what cannot match and scan the rest on two threads, and `ordered`, `tally` or
//! `stats` make the answer of the rows that match.

mod aggregate;
mod ask;
mod captured;
mod check;
mod context;
mod doors;
mod evaluate;
mod filter;
mod groups;
mod hot;
mod measure;
mod needle;
mod ordered;
mod plan;
mod prune;
mod queue;
mod report;
mod run;
mod sealed;
mod shelf;
mod sketch;
mod source;
mod sources;
mod stats;
mod table;
mod tally;

pub use aggregate::{Aggregate, Row};
pub use ask::{BadPosition, Budget, Cancel, Hit, Order, Position, Search, Tell};
pub use doors::{count, search, search_bodies, stats};
pub use filter::Filter;
pub use report::{EngineError, Explain, Problem, Progress, Report, Stop};
pub use sources::Sources;
pub use table::{Cell, Column, Table};
