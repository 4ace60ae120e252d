//! The vectors, the readers of others, and what must be refused.

mod oracles;
mod strict;
mod vectors;

use std::convert::Infallible;

use super::*;
use crate::rng::Rng;

/// Randomness from a seed: exact keys.
pub(super) struct Seeded(pub u8);

impl Rng for Seeded {
    fn next_u64(&self) -> u64 {
        self.0.into()
    }

    fn fill_secure(&self, buffer: &mut [u8]) {
        for (at, byte) in buffer.iter_mut().enumerate() {
            *byte = self.0.wrapping_mul(31).wrapping_add(at as u8);
        }
    }
}

pub(super) fn name(text: &str) -> KeyName {
    KeyName::parse(text).expect("a name")
}

pub(super) fn key(of: &str, kind: KeyKind, seed: u8) -> SigningKey {
    SigningKey::generate(name(of), kind, &Seeded(seed)).expect("a key")
}

/// A whole tree in memory: leaf hashes, and nodes by definition.
#[derive(Clone, Default)]
pub(super) struct Whole(pub Vec<NodeHash>);

impl Whole {
    pub(super) fn of(size: u64) -> Self {
        Self((0..size).map(|at| NodeHash::of_leaf(&at.to_be_bytes())).collect())
    }

    /// The definition of RFC 6962, word for word.
    pub(super) fn root(leaves: &[NodeHash]) -> NodeHash {
        match leaves {
            [] => NodeHash::EMPTY,
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                NodeHash::of_children(&Self::root(left), &Self::root(right))
            }
        }
    }

    pub(super) fn root_at(&self, size: u64) -> NodeHash {
        Self::root(&self.0[..size as usize])
    }
}

/// Errors of a source that has none of its own.
#[derive(Debug, PartialEq)]
pub(super) struct Failed(pub ProofError);

impl From<ProofError> for Failed {
    fn from(error: ProofError) -> Self {
        Self(error)
    }
}

impl From<Infallible> for Failed {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl HashReader for Whole {
    type Error = Failed;

    fn node(&mut self, level: u32, index: u64) -> Result<NodeHash, Failed> {
        let from = (index << level) as usize;
        Ok(Self::root(&self.0[from..from + (1 << level)]))
    }
}

/// The tiles of that tree.
impl TileSource for &Whole {
    type Error = Failed;

    fn tile(&mut self, path: TilePath) -> Result<Vec<NodeHash>, Failed> {
        let TileKind::Hashes { level } = path.kind() else {
            return Err(Failed(ProofError::Missing));
        };
        let span = 1 << (8 * u32::from(level));
        let first = path.index() * TILE_WIDTH;
        let hashes = (first..first + path.width()).map(|at| {
            let from = (at * span) as usize;
            Whole::root(&self.0[from..from + span as usize])
        });
        Ok(hashes.collect())
    }
}
