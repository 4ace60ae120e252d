//! Sealing, merging, dropping and erasing, and every moment at which one of
//! them may be cut off.

mod damage;
mod faults;
mod follow;
mod harness;
mod kill;
mod search;
mod steps;
