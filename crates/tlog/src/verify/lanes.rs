//! Bundles and the tiles of their hashes, read and judged on several threads,
//! handed over in order.

use std::{io, ops::Range, sync::mpsc::sync_channel};

use domain::audit::{
    Leaf, LeafError,
    tree::{NodeHash, TILE_WIDTH, TileKind},
};

use super::tiles::{Found, Shelf, Trouble, entries, hashes};

/// Bundles that a lane may be ahead: at most 5 MB each, usually a tenth.
const AHEAD: usize = 2;

/// One entry of a bundle.
pub(super) struct Judged {
    pub bytes: Range<usize>,
    pub hash: NodeHash,
    pub leaf: Result<Leaf, LeafError>,
}

/// A bundle with what its entries are.
pub(super) struct Bundle {
    pub bytes: Vec<u8>,
    pub path: String,
    pub entries: Vec<Judged>,
}

/// One tile of level 0 and what lies below it.
pub(super) struct Work {
    pub index: u64,
    pub width: u64,
    pub bundle: Option<Bundle>,
    pub tile: Option<(Vec<NodeHash>, String)>,
    pub troubles: Vec<Trouble>,
}

/// Reads a tree of `size` from left to right.
pub(super) fn in_order(
    shelf: &Shelf<'_>,
    size: u64,
    take: &mut dyn FnMut(Work) -> io::Result<()>,
) -> io::Result<()> {
    let tiles = size.div_ceil(TILE_WIDTH);
    let lanes = shelf.source.lanes().max(1);
    if lanes == 1 || tiles <= 2 {
        return (0..tiles).try_for_each(|index| take(read(shelf, index, size)?));
    }
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes)
            .map(|lane| {
                let (sender, receiver) = sync_channel(AHEAD);
                scope.spawn(move || {
                    for index in (lane as u64..tiles).step_by(lanes) {
                        if sender.send(read(shelf, index, size)).is_err() {
                            return;
                        }
                    }
                });
                receiver
            })
            .collect();
        for index in 0..tiles {
            let lane = &lanes[(index % lanes.len() as u64) as usize];
            let work = lane.recv().map_err(|_| io::Error::other("a reading thread broke off"))?;
            take(work?)?;
        }
        Ok(())
    })
}

fn read(shelf: &Shelf<'_>, index: u64, size: u64) -> io::Result<Work> {
    let width = (size - index * TILE_WIDTH).min(TILE_WIDTH);
    let mut troubles = Vec::new();
    let bundle = shelf.load(TileKind::Entries, index, width, &mut troubles)?.map(judge);
    let tile = shelf.load(TileKind::Hashes { level: 0 }, index, width, &mut troubles)?;
    let tile = tile.map(|Found { bytes, path }| (hashes(&bytes), path));
    Ok(Work { index, width, bundle, tile, troubles })
}

fn judge(found: Found) -> Bundle {
    let Found { bytes, path } = found;
    let mut at = 0;
    let judged = entries(&bytes).into_iter().map(|entry| {
        let from = at + 2;
        at = from + entry.len();
        let (hash, leaf) = (NodeHash::of_leaf(entry), Leaf::parse(entry));
        Judged { bytes: from..at, hash, leaf }
    });
    let entries = judged.collect();
    Bundle { bytes, path, entries }
}
