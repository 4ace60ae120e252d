//! The data plane over real sockets, with a directory and an outbox in memory.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod bodies;
mod early;
mod faults;
mod harness;
mod odd;
mod relaying;
mod rules;
