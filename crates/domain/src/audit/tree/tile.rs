//! Tiles and entry bundles: where they lie and what is in them.
//!
//! | path | content |
//! |---|---|
//! | `tile/<L>/<N>` | 256 hashes of 32 bytes: at level 0 of leaves, above of whole tiles below |
//! | `tile/<L>/<N>.p/<W>` | the same, only W of them yet (1 to 255) |
//! | `tile/entries/<N>[.p/<W>]` | the leaves of a tile of level 0, each after its length as u16, big-endian |
//!
//! `<N>` is written in groups of three digits, all but the last behind an `x`:
//! `x001/x234/067`.

use std::fmt;

use super::{NodeHash, TREE_SIZE_MAX, parse_number};
use crate::audit::LEAF_BYTES_MAX;

/// How many hashes or entries a whole tile has.
pub const TILE_WIDTH: u64 = 256;
pub const HASH_BYTES: usize = 32;
/// The highest level that a tree of [`TREE_SIZE_MAX`] leaves has.
pub const LEVEL_MAX: u8 = 6;
/// A bundle of 256 leaves of the largest size.
pub const BUNDLE_BYTES_MAX: usize = 256 * (2 + LEAF_BYTES_MAX);

const DIGITS: u64 = 1000;

/// What a tile holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TileKind {
    Entries,
    Hashes { level: u8 },
}

impl TileKind {
    /// How many hashes or entries of this kind a tree of `size` has.
    pub fn count(self, size: u64) -> u64 {
        match self {
            Self::Entries => size,
            Self::Hashes { level } => size.checked_shr(8 * u32::from(level)).unwrap_or(0),
        }
    }

    /// The tile `index` of a tree of `size`: whole, partial, or none.
    pub fn tile(self, index: u64, size: u64) -> Option<TilePath> {
        let start = index.checked_mul(TILE_WIDTH)?;
        let width = self.count(size).checked_sub(start)?.min(TILE_WIDTH);
        (width > 0).then_some(TilePath { kind: self, index, width: width as u16 })
    }
}

/// The name of one tile or bundle.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TilePath {
    kind: TileKind,
    index: u64,
    width: u16,
}

/// Why a path is not that of a tile.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PathError {
    #[error("a tile's path does not begin with tile/")]
    NotATile,
    #[error("a tile's level is not a number from 0 to {LEVEL_MAX}")]
    Level,
    #[error("a tile's index is not in groups of three digits")]
    Index,
    #[error("a tile's index is too large")]
    IndexTooLarge,
    #[error("a partial tile's width is not a number from 1 to 255")]
    Width,
}

impl TilePath {
    /// None if there is no such tile in any tree.
    pub fn new(kind: TileKind, index: u64, width: u64) -> Option<Self> {
        let level = if let TileKind::Hashes { level } = kind { level } else { 0 };
        let is_legal = level <= LEVEL_MAX
            && (1..=TILE_WIDTH).contains(&width)
            && index <= TREE_SIZE_MAX >> (8 * (u32::from(level) + 1));
        is_legal.then_some(Self { kind, index, width: width as u16 })
    }

    pub fn kind(self) -> TileKind {
        self.kind
    }

    pub fn index(self) -> u64 {
        self.index
    }

    /// From 1 to 256.
    pub fn width(self) -> u64 {
        self.width.into()
    }

    pub fn is_partial(self) -> bool {
        self.width() < TILE_WIDTH
    }

    /// The same place in a tree that has grown past it.
    pub fn whole(self) -> Self {
        Self { width: TILE_WIDTH as u16, ..self }
    }

    /// Reads `tile/…`, and only what [`fmt::Display`] writes.
    pub fn parse(path: &str) -> Result<Self, PathError> {
        let rest = path.strip_prefix("tile/").ok_or(PathError::NotATile)?;
        let (kind, rest) = rest.split_once('/').ok_or(PathError::Index)?;
        let kind = match kind {
            "entries" => TileKind::Entries,
            level => {
                TileKind::Hashes { level: small(level, 0, LEVEL_MAX.into(), PathError::Level)? }
            }
        };
        let (index, width) = match rest.split_once(".p/") {
            Some((index, width)) => (index, small(width, 1, 255, PathError::Width)?.into()),
            None => (rest, TILE_WIDTH),
        };
        Self::new(kind, parse_index(index)?, width).ok_or(PathError::IndexTooLarge)
    }
}

fn small(text: &str, from: u64, to: u64, error: PathError) -> Result<u8, PathError> {
    let number = parse_number(text).ok().filter(|number| (from..=to).contains(number));
    number.and_then(|number| u8::try_from(number).ok()).ok_or(error)
}

fn parse_index(text: &str) -> Result<u64, PathError> {
    let groups: Vec<&str> = text.split('/').collect();
    let last = groups.len() - 1;
    let mut index = 0u64;
    for (at, group) in groups.into_iter().enumerate() {
        let digits = if at < last { group.strip_prefix('x') } else { Some(group) };
        let is_group =
            |digits: &&str| digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit());
        let digits = digits.filter(is_group).ok_or(PathError::Index)?;
        // More groups than the number needs would be a second name for it.
        if at == 0 && last > 0 && digits == "000" {
            return Err(PathError::Index);
        }
        let group: u64 = digits.parse().map_err(|_| PathError::Index)?;
        index = index
            .checked_mul(DIGITS)
            .and_then(|index| index.checked_add(group))
            .ok_or(PathError::IndexTooLarge)?;
    }
    Ok(index)
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Entries => f.write_str("tile/entries/")?,
            TileKind::Hashes { level } => write!(f, "tile/{level}/")?,
        }
        let mut divisor = 1;
        while self.index / divisor >= DIGITS {
            divisor *= DIGITS;
        }
        while divisor > 1 {
            write!(f, "x{:03}/", self.index / divisor % DIGITS)?;
            divisor /= DIGITS;
        }
        write!(f, "{:03}", self.index % DIGITS)?;
        if self.is_partial() { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

/// Every tile and bundle of a tree of `size`: bundles, then level 0, then up.
pub fn tiles_of(size: u64) -> impl Iterator<Item = TilePath> {
    let levels = (0..=LEVEL_MAX).map(|level| TileKind::Hashes { level });
    let kinds = std::iter::once(TileKind::Entries).chain(levels);
    kinds.flat_map(move |kind| (0..).map_while(move |index| kind.tile(index, size)))
}

/// Why bytes are not a tile of hashes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a tile of {width} hashes has {found} bytes, not {}", width * HASH_BYTES as u64)]
pub struct TileError {
    pub width: u64,
    pub found: usize,
}

/// The hashes of a tile that must have `width` of them.
pub fn parse_tile(bytes: &[u8], width: u64) -> Result<Vec<NodeHash>, TileError> {
    let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
    if hashes.len() as u64 != width || !rest.is_empty() {
        return Err(TileError { width, found: bytes.len() });
    }
    Ok(hashes.iter().map(|hash| NodeHash(*hash)).collect())
}

/// The bytes of a tile.
pub fn write_tile(hashes: &[NodeHash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// The root of the subtree over `hashes`: for a whole tile the hash that stands
/// for it one level up.
pub fn tile_root(hashes: &[NodeHash]) -> NodeHash {
    let mut row = hashes.to_vec();
    while row.len() > 1 {
        let pairs = row.chunks(2).map(|pair| match pair {
            [left, right] => NodeHash::of_children(left, right),
            alone => alone[0],
        });
        row = pairs.collect();
    }
    row.first().copied().unwrap_or(NodeHash::EMPTY)
}

/// Why bytes are not a bundle of entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BundleError {
    #[error("a bundle ends within entry {0}")]
    Truncated(u64),
    #[error("a bundle has {found} entries, not {width}")]
    Missing { width: u64, found: u64 },
    #[error("a bundle has {0} bytes behind its last entry")]
    Trailing(usize),
    #[error("an entry has {0} bytes, more than {LEAF_BYTES_MAX}")]
    TooLarge(usize),
}

/// The entries of a bundle that must have `width` of them.
pub fn parse_bundle(bytes: &[u8], width: u64) -> Result<Vec<&[u8]>, BundleError> {
    let mut entries = Vec::with_capacity(width.min(TILE_WIDTH) as usize);
    let mut rest = bytes;
    for at in 0..width {
        if rest.is_empty() {
            return Err(BundleError::Missing { width, found: at });
        }
        let (length, after) = rest.split_first_chunk::<2>().ok_or(BundleError::Truncated(at))?;
        let length = usize::from(u16::from_be_bytes(*length));
        if length > LEAF_BYTES_MAX {
            return Err(BundleError::TooLarge(length));
        }
        let (entry, after) = after.split_at_checked(length).ok_or(BundleError::Truncated(at))?;
        entries.push(entry);
        rest = after;
    }
    if rest.is_empty() { Ok(entries) } else { Err(BundleError::Trailing(rest.len())) }
}

/// Adds an entry to the bytes of a bundle.
pub fn push_to_bundle(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), BundleError> {
    let length = u16::try_from(entry.len()).ok().filter(|_| entry.len() <= LEAF_BYTES_MAX);
    let length = length.ok_or(BundleError::TooLarge(entry.len()))?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}
