//! The right edge of a growing tree: enough to append and to know the root, in
//! as many hashes as its size has ones in binary.

use super::{NodeHash, TREE_SIZE_MAX};

/// The roots of the complete subtrees of a tree, the largest first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Frontier {
    size: u64,
    nodes: Vec<NodeHash>,
}

impl Frontier {
    /// The edge of a tree of `size` leaves; none if it takes another number of
    /// hashes.
    pub fn new(size: u64, nodes: Vec<NodeHash>) -> Option<Self> {
        let fits = size <= TREE_SIZE_MAX && nodes.len() == size.count_ones() as usize;
        fits.then_some(Self { size, nodes })
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn nodes(&self) -> &[NodeHash] {
        &self.nodes
    }

    pub fn append(&mut self, leaf: NodeHash) {
        let mut node = leaf;
        // Each one at the end of the size is a subtree that becomes complete.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.nodes.pop() {
                node = NodeHash::of_children(&left, &node);
            }
        }
        self.nodes.push(node);
        self.size += 1;
    }

    pub fn root(&self) -> NodeHash {
        let mut nodes = self.nodes.iter().rev();
        let Some(last) = nodes.next() else { return NodeHash::EMPTY };
        nodes.fold(*last, |right, left| NodeHash::of_children(left, &right))
    }
}
