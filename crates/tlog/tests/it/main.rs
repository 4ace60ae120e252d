//! The files of the tree through their public face: growth, crashes, damage.
#![expect(clippy::unwrap_used, reason = "a test may")]

mod crash;
mod damage;
mod fake;
mod grow;
mod kill;
mod oracle;
mod rotate;
mod support;
