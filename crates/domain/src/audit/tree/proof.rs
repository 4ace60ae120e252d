//! Inclusion and consistency proofs of RFC 6962: made from the nodes of a tree,
//! checked without it.

use super::{Frontier, NodeHash, TREE_SIZE_MAX};

/// Gives the roots of complete subtrees.
pub trait HashReader {
    type Error: From<ProofError>;

    /// The root over the leaves `index << level` to `(index + 1) << level`.
    fn node(&mut self, level: u32, index: u64) -> Result<NodeHash, Self::Error>;
}

/// Why a proof proves nothing, or cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProofError {
    #[error("index {index} is not in a tree of {size}")]
    Index { index: u64, size: u64 },
    #[error("a tree of {old} cannot have grown into one of {new}")]
    Sizes { old: u64, new: u64 },
    #[error("the proof lacks hashes")]
    Missing,
    #[error("the proof has more hashes than it needs")]
    Extra,
    #[error("the proof leads to another root")]
    Root,
    #[error("the proof leads to another older root")]
    OldRoot,
}

/// The root of the tree of the first `size` leaves.
pub fn root_of<R: HashReader>(reader: &mut R, size: u64) -> Result<NodeHash, R::Error> {
    check_size(size)?;
    range(reader, 0, size)
}

/// Proves that leaf `index` is in the tree of `size`.
pub fn inclusion_proof<R: HashReader>(
    reader: &mut R,
    index: u64,
    size: u64,
) -> Result<Vec<NodeHash>, R::Error> {
    check_size(size)?;
    if index >= size {
        return Err(ProofError::Index { index, size }.into());
    }
    let (mut from, mut to) = (0, size);
    let mut path = Vec::new();
    while to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            path.push(range(reader, middle, to)?);
            to = middle;
        } else {
            path.push(range(reader, from, middle)?);
            from = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// Proves that the tree of `old` leaves is the beginning of that of `new`.
pub fn consistency_proof<R: HashReader>(
    reader: &mut R,
    old: u64,
    new: u64,
) -> Result<Vec<NodeHash>, R::Error> {
    check_size(new)?;
    if old > new {
        return Err(ProofError::Sizes { old, new }.into());
    }
    if old == 0 {
        return Ok(Vec::new());
    }
    let (mut from, mut to) = (0, new);
    let mut path = Vec::new();
    while old != to {
        let middle = from + split(to - from);
        if old <= middle {
            path.push(range(reader, middle, to)?);
            to = middle;
        } else {
            path.push(range(reader, from, middle)?);
            from = middle;
        }
    }
    // The older root itself is known to whoever asks.
    if from > 0 {
        path.push(range(reader, from, to)?);
    }
    path.reverse();
    Ok(path)
}

/// Checks that `leaf` is at `index` of the tree of `size` with `root`.
pub fn verify_inclusion(
    leaf: NodeHash,
    index: u64,
    size: u64,
    proof: &[NodeHash],
    root: NodeHash,
) -> Result<(), ProofError> {
    check_size(size)?;
    if index >= size {
        return Err(ProofError::Index { index, size });
    }
    let (mut at, mut last) = (index, size - 1);
    let mut node = leaf;
    let mut proof = proof.iter();
    while last > 0 {
        // A node alone at the right edge goes up as it is.
        if at % 2 == 1 {
            node = NodeHash::of_children(proof.next().ok_or(ProofError::Missing)?, &node);
        } else if at < last {
            node = NodeHash::of_children(&node, proof.next().ok_or(ProofError::Missing)?);
        }
        (at, last) = (at / 2, last / 2);
    }
    match proof.next() {
        Some(_) => Err(ProofError::Extra),
        None if node != root => Err(ProofError::Root),
        None => Ok(()),
    }
}

/// Checks that the tree of `new` with `new_root` begins with that of `old` with
/// `old_root`.
pub fn verify_consistency(
    (old, old_root): (u64, NodeHash),
    (new, new_root): (u64, NodeHash),
    proof: &[NodeHash],
) -> Result<(), ProofError> {
    check_size(new)?;
    if old > new {
        return Err(ProofError::Sizes { old, new });
    }
    if old == 0 || old == new {
        let expected = if old == 0 { NodeHash::EMPTY } else { new_root };
        return match proof.first() {
            Some(_) => Err(ProofError::Extra),
            None if old_root != expected => Err(ProofError::OldRoot),
            None => Ok(()),
        };
    }
    // Down from the older tree's last complete subtree, which begins both.
    let shift = old.trailing_zeros();
    let (mut at, mut last) = ((old >> shift) - 1, (new - 1) >> shift);
    let mut proof = proof.iter();
    let first = if at == 0 { old_root } else { *proof.next().ok_or(ProofError::Missing)? };
    let (mut was, mut is) = (first, first);
    while last > 0 {
        if at % 2 == 1 {
            let left = proof.next().ok_or(ProofError::Missing)?;
            was = NodeHash::of_children(left, &was);
            is = NodeHash::of_children(left, &is);
        } else if at < last {
            is = NodeHash::of_children(&is, proof.next().ok_or(ProofError::Missing)?);
        }
        (at, last) = (at / 2, last / 2);
    }
    match proof.next() {
        Some(_) => Err(ProofError::Extra),
        None if was != old_root => Err(ProofError::OldRoot),
        None if is != new_root => Err(ProofError::Root),
        None => Ok(()),
    }
}

fn check_size(size: u64) -> Result<(), ProofError> {
    let fits = size <= TREE_SIZE_MAX;
    if fits { Ok(()) } else { Err(ProofError::Sizes { old: size, new: TREE_SIZE_MAX }) }
}

/// The largest power of two below `count`, which is at least two.
fn split(count: u64) -> u64 {
    1 << (u64::BITS - 1 - (count - 1).leading_zeros())
}

/// The root over the leaves `from..to`, where `from` is a multiple of a power of
/// two that is not smaller than the range, as RFC 6962 divides trees.
fn range<R: HashReader>(reader: &mut R, from: u64, to: u64) -> Result<NodeHash, R::Error> {
    let mut nodes = Vec::new();
    let mut at = from;
    while at < to {
        let level = u64::BITS - 1 - (to - at).leading_zeros();
        nodes.push(reader.node(level, at >> level)?);
        at += 1 << level;
    }
    Ok(Frontier::new(to - from, nodes).map_or(NodeHash::EMPTY, |frontier| frontier.root()))
}
