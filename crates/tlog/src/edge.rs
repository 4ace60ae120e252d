//! The right edge of the tree in memory: what is partial at each level, and the
//! files that new leaves make of it.

use std::path::PathBuf;

use domain::audit::tree::{
    BundleError, Frontier, LEVEL_MAX, NodeHash, TILE_WIDTH, TileKind, TilePath, push_to_bundle,
    tile_root, write_tile,
};

use crate::layout::Layout;

const LEVELS: usize = LEVEL_MAX as usize + 1;

/// The unfinished tiles of a tree, and its root.
#[derive(Clone)]
pub(crate) struct Edge {
    pub(crate) frontier: Frontier,
    pub(crate) levels: [Vec<NodeHash>; LEVELS],
    pub(crate) bundle: Vec<u8>,
}

/// A file to write.
pub(crate) type Tile = (TilePath, Vec<u8>);

impl Edge {
    pub(crate) fn empty() -> Self {
        let levels = std::array::from_fn(|_| Vec::new());
        Self { frontier: Frontier::default(), levels, bundle: Vec::new() }
    }

    pub(crate) fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// Takes one leaf; tiles that become whole go to `files`.
    pub(crate) fn push(&mut self, leaf: &[u8], files: &mut Vec<Tile>) -> Result<(), BundleError> {
        push_to_bundle(&mut self.bundle, leaf)?;
        let hash = NodeHash::of_leaf(leaf);
        // The place of each hash is known from the size before it.
        let mut index = self.size() / TILE_WIDTH;
        self.frontier.append(hash);
        let mut node = hash;
        for level in 0..LEVELS {
            self.levels[level].push(node);
            if (self.levels[level].len() as u64) < TILE_WIDTH {
                break;
            }
            if level == 0 {
                let bundle = std::mem::take(&mut self.bundle);
                files.extend(whole(TileKind::Entries, index).map(|path| (path, bundle)));
            }
            let hashes = std::mem::take(&mut self.levels[level]);
            let path = whole(TileKind::Hashes { level: level as u8 }, index);
            files.extend(path.map(|path| (path, write_tile(&hashes))));
            node = tile_root(&hashes);
            index /= TILE_WIDTH;
        }
        Ok(())
    }

    /// The partial tiles that a tree of this size has and one of `before` lacks.
    pub(crate) fn partial(&self, before: u64) -> Vec<Tile> {
        let size = self.size();
        let last = |kind: TileKind| {
            let path = kind.tile(kind.count(size) / TILE_WIDTH, size)?;
            (kind.count(size) != kind.count(before)).then_some(path)
        };
        let mut files = Vec::new();
        files.extend(last(TileKind::Entries).map(|path| (path, self.bundle.clone())));
        for (level, hashes) in self.levels.iter().enumerate() {
            let kind = TileKind::Hashes { level: level as u8 };
            files.extend(last(kind).map(|path| (path, write_tile(hashes))));
        }
        files
    }
}

fn whole(kind: TileKind, index: u64) -> Option<TilePath> {
    TilePath::new(kind, index, TILE_WIDTH)
}

/// The same with the places of the files.
pub(crate) fn placed(layout: &Layout, tiles: Vec<Tile>) -> Vec<(PathBuf, Vec<u8>)> {
    tiles.into_iter().map(|(path, bytes)| (layout.tile(path), bytes)).collect()
}
