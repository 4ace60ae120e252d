//! Traffic that looks real: records, traces and entries from a seed.
//!
//! Owns the made-up world behind benchmarks and tests of search: its projects,
//! models, users, errors and the shape of its days. Promises that one seed
//! gives the same lines for ever on every machine, that the n-th record can be
//! made without those before it, and that every line is written by the code
//! that the product writes it with. Must never reach production: nothing
//! depends on it, and it is not shipped.

pub mod dice;
pub mod timeline;
pub mod models;
pub mod errors;
pub mod world;
pub mod record;
pub mod lines;
