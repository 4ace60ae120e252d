//! The store against real database files: one conformance suite for every
//! backend, then what only a file can suffer.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod conformance;
mod crash;
mod faults;
mod harness;
mod secrets;
mod sequencing;
mod stored;
