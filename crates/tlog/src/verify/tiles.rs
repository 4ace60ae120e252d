//! One tile or bundle from its files: the one that counts, and whether all
//! others agree with it.

use std::io;

use domain::audit::{
    tree::{BUNDLE_BYTES_MAX, HASH_BYTES, NodeHash, TILE_WIDTH, TileKind, TilePath, parse_number},
    verify::Class,
};

use super::{inventory::Inventory, source::Source};

/// A finding before it has its place in the report.
pub(super) struct Trouble {
    pub class: Class,
    pub index: u64,
    pub place: String,
    pub text: String,
}

/// The files of a tree and what is there of them.
pub(super) struct Shelf<'s> {
    pub source: &'s dyn Source,
    pub inventory: Option<&'s Inventory>,
}

/// What was read of one tile.
pub(super) struct Found {
    /// The bytes of the wanted width, perhaps cut short.
    pub bytes: Vec<u8>,
    pub path: String,
}

impl Shelf<'_> {
    /// The first `width` of a tile, from the narrowest file that has them; none
    /// if there is no such file. Holds all other widths against it.
    pub fn load(
        &self,
        kind: TileKind,
        index: u64,
        width: u64,
        troubles: &mut Vec<Trouble>,
    ) -> io::Result<Option<Found>> {
        let path = |width| TilePath::new(kind, index, width);
        let mut widths: Vec<u64> = match self.inventory {
            Some(inventory) => inventory.widths(kind, index).collect(),
            // A source that cannot list has what it must, or the whole tile.
            None => vec![width, TILE_WIDTH],
        };
        widths.dedup();
        let mut best: Option<(u64, String, Vec<u8>)> = None;
        for width in widths.iter().filter(|it| **it >= width) {
            let Some(path) = path(*width).map(|it| it.to_string()) else { continue };
            if let Some(bytes) = self.source.read(&path, bytes_max(kind))? {
                best = Some((*width, path, bytes));
                break;
            }
        }
        if best.is_none() && self.inventory.is_some() {
            best = self.look_again(kind, index, width)?;
        }
        let Some((best_width, best_path, bytes)) = best else { return Ok(None) };
        check_length(kind, index, best_width, &best_path, &bytes, troubles);
        for other in self.inventory.iter().flat_map(|_| &widths) {
            let Some(path) = path(*other).filter(|_| *other != best_width) else { continue };
            let path = path.to_string();
            // Superseded tiles may be swept while this reads.
            let Some(bytes_there) = self.source.read(&path, bytes_max(kind))? else { continue };
            let whole = check_length(kind, index, *other, &path, &bytes_there, troubles);
            let same = bytes.len().min(bytes_there.len());
            let differs = (0..same).find(|at| bytes[*at] != bytes_there[*at]);
            if let Some(at) = differs.filter(|_| whole) {
                let text = format!("it differs from {best_path}");
                let index = first_leaf(kind, index, slot_of(kind, &bytes_there, at));
                troubles.push(Trouble { class: class_of(kind), index, place: path, text });
            }
        }
        let end = end_of(kind, width, &bytes);
        let mut bytes = bytes;
        bytes.truncate(end);
        Ok(Some(Found { bytes, path: best_path }))
    }
}

impl Shelf<'_> {
    /// A server that writes beside this may have put a wider tile in the place
    /// of the one that was listed.
    fn look_again(
        &self,
        kind: TileKind,
        index: u64,
        width: u64,
    ) -> io::Result<Option<(u64, String, Vec<u8>)>> {
        let Some(whole) = TilePath::new(kind, index, TILE_WIDTH) else { return Ok(None) };
        let listed = self.source.list(&format!("{whole}.p"))?.unwrap_or_default();
        let mut widths: Vec<u64> =
            listed.iter().filter_map(|listed| parse_number(&listed.name).ok()).collect();
        widths.push(TILE_WIDTH);
        widths.sort_unstable();
        for width in widths.into_iter().filter(|it| (width..=TILE_WIDTH).contains(it)) {
            let Some(path) = TilePath::new(kind, index, width) else { continue };
            let path = path.to_string();
            if let Some(bytes) = self.source.read(&path, bytes_max(kind))? {
                return Ok(Some((width, path, bytes)));
            }
        }
        Ok(None)
    }
}

/// The hashes of a tile, as many whole ones as there are.
pub(super) fn hashes(bytes: &[u8]) -> Vec<NodeHash> {
    bytes.as_chunks::<HASH_BYTES>().0.iter().map(|hash| NodeHash(*hash)).collect()
}

/// The entries of a bundle, as many whole ones as there are.
pub(super) fn entries(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut entries = Vec::with_capacity(TILE_WIDTH as usize);
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        let Some((entry, rest)) = rest.split_at_checked(length) else { break };
        entries.push(entry);
        bytes = rest;
    }
    entries
}

/// The first entry that is below hash `slot` of a tile.
pub(super) fn first_leaf(kind: TileKind, index: u64, slot: u64) -> u64 {
    let shift = match kind {
        TileKind::Entries => 0,
        TileKind::Hashes { level } => 8 * u32::from(level),
    };
    (index * TILE_WIDTH + slot) << shift
}

fn bytes_max(kind: TileKind) -> usize {
    match kind {
        TileKind::Entries => BUNDLE_BYTES_MAX,
        TileKind::Hashes { .. } => HASH_BYTES * TILE_WIDTH as usize,
    }
}

fn class_of(kind: TileKind) -> Class {
    if kind == TileKind::Entries { Class::Leaf } else { Class::Tile }
}

/// Where the first `width` end, or the bytes do.
fn end_of(kind: TileKind, width: u64, bytes: &[u8]) -> usize {
    let width = usize::try_from(width).unwrap_or(usize::MAX);
    match kind {
        TileKind::Hashes { .. } => bytes.len().min(width.saturating_mul(HASH_BYTES)),
        TileKind::Entries => {
            let entries = entries(bytes);
            let whole: usize = entries.iter().take(width).map(|it| 2 + it.len()).sum();
            // What is left of an entry that ends too early stays to be named.
            if entries.len() < width { bytes.len() } else { whole }
        }
    }
}

/// Which hash or entry the byte `at` belongs to.
fn slot_of(kind: TileKind, bytes: &[u8], at: usize) -> u64 {
    let slot = match kind {
        TileKind::Hashes { .. } => at / HASH_BYTES,
        TileKind::Entries => {
            let mut end = 0;
            let ends = entries(bytes).into_iter().map(|entry| {
                end += 2 + entry.len();
                end
            });
            ends.take_while(|end| *end <= at).count()
        }
    };
    slot as u64
}

/// Whether a file has exactly what its name says.
fn check_length(
    kind: TileKind,
    index: u64,
    width: u64,
    path: &str,
    bytes: &[u8],
    troubles: &mut Vec<Trouble>,
) -> bool {
    let (there, rest) = match kind {
        TileKind::Hashes { .. } => (bytes.len() / HASH_BYTES, bytes.len() % HASH_BYTES),
        TileKind::Entries => {
            let entries = entries(bytes);
            let whole: usize = entries.iter().map(|it| 2 + it.len()).sum();
            (entries.len(), bytes.len() - whole)
        }
    };
    let there = there as u64;
    if there == width && rest == 0 {
        return true;
    }
    let what = if kind == TileKind::Entries { "entries" } else { "hashes" };
    let (class, text) = if there < width {
        (Class::Truncated, format!("it is cut short: {there} of {width} {what} are whole"))
    } else {
        (class_of(kind), format!("it has more than its {width} {what}"))
    };
    let slot = there.min(width.saturating_sub(1));
    let index = first_leaf(kind, index, slot);
    troubles.push(Trouble { class, index, place: path.to_owned(), text });
    false
}
