//! The binary itself, as a process: what it promises must hold when it is
//! killed, stopped, starved of its disk, fed nonsense or flooded.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![expect(clippy::print_stderr, reason = "a seed must be seen to be used again")]
#![expect(clippy::print_stdout, reason = "measured volumes are worth seeing")]

mod audit;
mod bodies;
mod canary;
mod crash;
mod faults;
mod harness;
mod inputs;
mod load;
mod pipes;
mod shutdown;
mod stores;
mod support;
mod transport;
mod tree;
mod volumes;
