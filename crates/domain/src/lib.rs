//! The words of the product: ids, secrets, tokens, projects, limits, the
//! request context, the record and the audit entry.
//!
//! Owns every value that more than one crate must agree on, and the exact bytes
//! that leave the process for good (record lines, audit leaves). Promises that
//! a value that exists is valid. Must never do I/O, await, speak SQL or HTTP;
//! time and randomness come in as parameters.

pub mod secret;
pub mod ids;
pub mod time;
pub mod rng;
pub mod json;
pub mod context;
pub mod credential;
pub mod labels;
pub mod glob;
pub mod failure;
pub mod provider;
pub mod token;
pub mod usage;
pub mod price;
pub mod record;
pub mod fields;
pub mod query;
pub mod redact;
pub mod role;
pub mod audit;
pub mod capture;
pub mod body;
