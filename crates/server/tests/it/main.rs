//! The binary itself, in a process of its own, over real sockets and files.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod canary;
mod support;
mod transport;
mod volumes;
