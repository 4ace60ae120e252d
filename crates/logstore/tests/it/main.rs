#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]
//! The journal as its users see it, on real files, on files that fail, and
//! under kill -9.

mod bodies;
mod catalog;
mod damage;
mod engine;
mod fake;
mod golden;
mod kill;
mod model;
mod segments;
mod support;
mod usage;
