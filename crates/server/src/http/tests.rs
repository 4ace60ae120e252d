//! The management API over real sockets, with a real database file.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod audit;
mod changes;
pub(crate) mod harness;
mod inputs;
pub(crate) mod lines;
mod roles;
mod secrets;
mod tree;
