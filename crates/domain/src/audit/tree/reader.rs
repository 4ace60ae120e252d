//! The nodes of a tree, read from its tiles.

use std::collections::BTreeMap;

use super::{HashReader, NodeHash, ProofError, TILE_WIDTH, TileKind, TilePath, tile_root};

/// Levels of the tree that one tile spans.
const TILE_HEIGHT: u32 = 8;
/// One proof touches two tiles a level.
const TILES_KEPT_MAX: usize = 16;

/// Gives tiles of hashes, of exactly the width that the path says.
pub trait TileSource {
    type Error: From<ProofError>;

    fn tile(&mut self, path: TilePath) -> Result<Vec<NodeHash>, Self::Error>;
}

/// The nodes of the tree of one size. What the tiles say is believed: whoever
/// asks compares the root.
pub struct TileHashes<S> {
    source: S,
    size: u64,
    kept: BTreeMap<TilePath, Vec<NodeHash>>,
}

impl<S: TileSource> TileHashes<S> {
    pub fn new(source: S, size: u64) -> Self {
        Self { source, size, kept: BTreeMap::new() }
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    fn tile(&mut self, path: TilePath) -> Result<&[NodeHash], S::Error> {
        if !self.kept.contains_key(&path) {
            if self.kept.len() >= TILES_KEPT_MAX {
                self.kept.clear();
            }
            let tile = self.source.tile(path)?;
            self.kept.insert(path, tile);
        }
        Ok(self.kept.get(&path).map_or(&[], Vec::as_slice))
    }
}

impl<S: TileSource> HashReader for TileHashes<S> {
    type Error = S::Error;

    fn node(&mut self, level: u32, index: u64) -> Result<NodeHash, S::Error> {
        let outside = ProofError::Index { index, size: self.size };
        let within = level % TILE_HEIGHT;
        let tile_level = u8::try_from(level / TILE_HEIGHT).map_err(|_| outside)?;
        let first = index.checked_shl(within).filter(|first| first >> within == index);
        let first = first.ok_or(outside)?;
        let kind = TileKind::Hashes { level: tile_level };
        let path = kind.tile(first / TILE_WIDTH, self.size).ok_or(outside)?;
        let at = (first % TILE_WIDTH) as usize;
        let hashes = self.tile(path)?.get(at..at + (1 << within)).ok_or(outside)?;
        Ok(tile_root(hashes))
    }
}
