//! Which files a tree has, by tile: all widths of each, and what belongs to
//! none.

use std::{collections::BTreeMap, io};

use domain::audit::tree::{TILE_WIDTH, TileKind, TilePath, parse_number};

use super::{
    keys::{KEYRING, ROTATIONS},
    source::Source,
};

/// Tiles that are told apart: enough for a billion entries.
const TILES_MAX: usize = 8 << 20;
/// Files that belong to no tile and are named.
const STRANGERS_MAX: usize = 100;
/// `tile/6/x000/…` and no deeper.
const DEPTH_MAX: usize = 10;

/// The widths of one tile that are there.
#[derive(Clone, Copy, Default)]
struct Widths([u64; 4]);

impl Widths {
    /// Bit 0 stands for the whole tile.
    fn put(&mut self, width: u64) {
        let bit = width % TILE_WIDTH;
        self.0[(bit / 64) as usize] |= 1 << (bit % 64);
    }

    fn has(self, width: u64) -> bool {
        let bit = width % TILE_WIDTH;
        self.0[(bit / 64) as usize] & (1 << (bit % 64)) != 0
    }

    fn all(self) -> impl Iterator<Item = u64> {
        (1..=TILE_WIDTH).filter(move |width| self.has(*width))
    }
}

/// The files below `tile/`.
#[derive(Default)]
pub(super) struct Inventory {
    tiles: BTreeMap<(TileKind, u64), Widths>,
    pub strangers: Vec<String>,
    pub strangers_left_out: u64,
    pub tiles_left_out: bool,
}

impl Inventory {
    /// None if the source cannot list.
    pub fn take(source: &dyn Source) -> io::Result<Option<Self>> {
        let mut inventory = Self::default();
        let Some(names) = source.list("")? else { return Ok(None) };
        for listed in names {
            match (listed.name.as_str(), listed.is_dir) {
                ("checkpoint" | KEYRING, false) => {}
                (ROTATIONS, true) => {
                    for listed in source.list(ROTATIONS)?.unwrap_or_default() {
                        if parse_number(&listed.name).is_err() || listed.is_dir {
                            inventory.stranger(&format!("{ROTATIONS}/{}", listed.name));
                        }
                    }
                }
                ("tile", true) => inventory.walk(source, "tile", 1)?,
                (name, _) => inventory.stranger(name),
            }
        }
        Ok(Some(inventory))
    }

    /// The widths of a tile, ascending.
    pub fn widths(&self, kind: TileKind, index: u64) -> impl Iterator<Item = u64> {
        let widths = self.tiles.get(&(kind, index)).copied().unwrap_or_default();
        widths.all()
    }

    /// How many hashes or entries of `kind` there are, as far as names tell.
    pub fn extent(&self, kind: TileKind) -> u64 {
        let tiles = self.tiles.range((kind, 0)..=(kind, u64::MAX));
        let extents =
            tiles.map(|((_, index), widths)| index * TILE_WIDTH + widths.all().last().unwrap_or(0));
        extents.max().unwrap_or(0)
    }

    fn walk(&mut self, source: &dyn Source, dir: &str, depth: usize) -> io::Result<()> {
        for listed in source.list(dir)?.unwrap_or_default() {
            let path = format!("{dir}/{}", listed.name);
            if listed.is_dir {
                match depth < DEPTH_MAX {
                    true => self.walk(source, &path, depth + 1)?,
                    false => self.stranger(&path),
                }
                continue;
            }
            match TilePath::parse(&path) {
                Err(_) => self.stranger(&path),
                Ok(tile) => {
                    let key = (tile.kind(), tile.index());
                    if self.tiles.len() >= TILES_MAX && !self.tiles.contains_key(&key) {
                        self.tiles_left_out = true;
                        continue;
                    }
                    self.tiles.entry(key).or_default().put(tile.width());
                }
            }
        }
        Ok(())
    }

    fn stranger(&mut self, path: &str) {
        if self.strangers.len() < STRANGERS_MAX {
            self.strangers.push(path.escape_debug().to_string());
        } else {
            self.strangers_left_out += 1;
        }
    }
}
