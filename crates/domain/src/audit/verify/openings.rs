//! Openings against the commitments of their leaf.

use super::{Class, Report};
use crate::audit::{Leaf, Opening};

/// Checks one opening of the entry at `index`.
pub fn check_opening(index: u64, leaf: &Leaf, opening: &Opening, place: &str, report: &mut Report) {
    let path = opening.path.escape_debug();
    match leaf.sealed.get(&opening.path) {
        None => {
            let text = format_args!("an opening of {path}, which the entry does not seal");
            report.find(Class::Opening, index, place, text);
        }
        Some(commitment) if opening.open(commitment).is_none() => {
            let text = format_args!("the opening of {path} does not open its commitment");
            report.find(Class::Opening, index, place, text);
        }
        Some(_) => {}
    }
}
