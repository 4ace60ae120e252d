//! What an audit chain must satisfy, as far as its leaves alone can tell, and
//! how a verifier says what does not hold.
//!
//! Owns the classes of findings, the report and its verdict, and the checks of
//! leaves in the order of their index: schema, chain, dense numbers, unique ids,
//! conservation of refusals, openings. Promises that every finding names its
//! class and, where there is one, its index; that findings beyond the bound are
//! counted; and that whatever was not looked at is said. Must never do I/O or
//! look at a clock: the order is the index.

mod denials;
mod finding;
mod leaves;
mod openings;
#[cfg(test)]
mod tests;

pub use self::{
    finding::{Class, FINDINGS_MAX, Finding, Report, Verdict},
    leaves::{IDS_MAX, Leaves, PRODUCERS_MAX, SegmentHash},
    openings::check_opening,
};
// The macro that makes words names it so.
use super::Word;
