//! Reading the tree: by anybody, while it grows.

use std::{path::Path, sync::Arc};

use domain::audit::tree::{
    BUNDLE_BYTES_MAX, HASH_BYTES, Keyring, NOTE_BYTES_MAX, NodeHash, ProofError, Receipt,
    SignedCheckpoint, TILE_WIDTH, TileHashes, TileKind, TilePath, TileSource, inclusion_proof,
    parse_bundle, parse_tile,
};

use crate::{
    error::Error,
    files,
    fs::{Fs, StdFs},
    keys::KEYRING_BYTES_MAX,
    layout::Layout,
};

/// Reads the files of a tree. Nothing of what it reads is believed: compare
/// roots, verify signatures.
#[derive(Clone)]
pub struct Reader {
    fs: Arc<dyn Fs>,
    layout: Layout,
}

impl Reader {
    pub fn new(fs: Arc<dyn Fs>, data_dir: &Path) -> Self {
        Self { fs, layout: Layout::new(data_dir) }
    }

    /// Over the operating system's files.
    pub fn of_dir(data_dir: &Path) -> Self {
        Self::new(Arc::new(StdFs), data_dir)
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The published checkpoint, unverified; none before the first.
    pub fn checkpoint(&self) -> Result<Option<SignedCheckpoint>, Error> {
        let path = self.layout.checkpoint();
        let bytes = files::read(&*self.fs, &path, NOTE_BYTES_MAX)?;
        let parsed = bytes.map(|bytes| SignedCheckpoint::parse(&bytes)).transpose();
        parsed.map_err(|error| Error::malformed(&path, error))
    }

    pub fn keyring(&self) -> Result<Option<Keyring>, Error> {
        crate::keys::read_keyring(
            &files::Files::new(self.fs.clone(), self.layout.data_dir()),
            &self.layout,
        )
    }

    /// The receipts of all rotations, by the size at which they were, unverified.
    pub fn rotations(&self) -> Result<Vec<Receipt>, Error> {
        let dir = self.layout.rotations();
        let mut found = Vec::new();
        for name in files::list(&*self.fs, &dir)? {
            let path = dir.join(&name);
            let bytes = files::read(&*self.fs, &path, KEYRING_BYTES_MAX)?;
            let Some(bytes) = bytes.filter(|_| name.bytes().all(|b| b.is_ascii_digit())) else {
                continue;
            };
            let receipt = Receipt::parse(&bytes);
            found.push(receipt.map_err(|error| Error::malformed(&path, error))?);
        }
        found.sort_by_key(|receipt| receipt.checkpoint.size());
        Ok(found)
    }

    /// The bytes of a tile or bundle: its own file, or the beginning of a wider
    /// one that took its place.
    pub fn bytes(&self, path: TilePath) -> Result<Option<Vec<u8>>, Error> {
        if let Some(bytes) = self.file(path)? {
            return Ok(Some(bytes));
        }
        if !path.is_partial() {
            return Ok(None);
        }
        if let Some(bytes) = self.file(path.whole())? {
            return Ok(Some(cut(path, bytes)));
        }
        let dir = self.layout.tile(path);
        let names = files::list(&*self.fs, dir.parent().unwrap_or(&dir))?;
        let widths = names.iter().filter_map(|name| name.parse::<u64>().ok());
        let Some(width) = widths.filter(|width| *width > path.width()).min() else {
            return Ok(None);
        };
        let wider = TilePath::new(path.kind(), path.index(), width);
        let bytes = wider.map(|wider| self.file(wider)).transpose()?.flatten();
        Ok(bytes.map(|bytes| cut(path, bytes)))
    }

    fn file(&self, path: TilePath) -> Result<Option<Vec<u8>>, Error> {
        let bytes_max = match path.kind() {
            TileKind::Entries => BUNDLE_BYTES_MAX,
            TileKind::Hashes { .. } => TILE_WIDTH as usize * HASH_BYTES,
        };
        files::read(&*self.fs, &self.layout.tile(path), bytes_max)
    }

    pub(crate) fn required(&self, path: TilePath) -> Result<Vec<u8>, Error> {
        let bytes = self.bytes(path)?;
        let absent = || Error::missing(&self.layout.tile(path), "the tree needs it");
        bytes.ok_or_else(absent)
    }

    /// The hashes of a tile.
    pub fn tile(&self, path: TilePath) -> Result<Vec<NodeHash>, Error> {
        let hashes = parse_tile(&self.required(path)?, path.width());
        hashes.map_err(|error| Error::malformed(&self.layout.tile(path), error))
    }

    /// The leaves of a bundle.
    pub fn bundle(&self, path: TilePath) -> Result<Vec<Vec<u8>>, Error> {
        let bytes = self.required(path)?;
        let leaves = parse_bundle(&bytes, path.width());
        let leaves = leaves.map_err(|error| Error::malformed(&self.layout.tile(path), error))?;
        Ok(leaves.into_iter().map(<[u8]>::to_vec).collect())
    }

    /// The nodes of the tree of `size`, to make proofs of.
    pub fn hashes(&self, size: u64) -> TileHashes<Self> {
        TileHashes::new(self.clone(), size)
    }

    /// The leaf `index` of a tree of `size`.
    pub fn leaf(&self, index: u64, size: u64) -> Result<Vec<u8>, Error> {
        let outside = ProofError::Index { index, size };
        let path = TileKind::Entries.tile(index / TILE_WIDTH, size).filter(|_| index < size);
        let path = path.ok_or(outside)?;
        let bytes = self.required(path)?;
        let leaves = parse_bundle(&bytes, path.width());
        let leaves = leaves.map_err(|error| Error::malformed(&self.layout.tile(path), error))?;
        let leaf = leaves.get((index % TILE_WIDTH) as usize).ok_or(outside)?;
        Ok(leaf.to_vec())
    }

    /// The leaves from `from` on in a tree of `size`, a bundle at a time: each
    /// item is the index of its first leaf and the leaves.
    pub fn leaves_from(
        &self,
        from: u64,
        size: u64,
    ) -> impl Iterator<Item = Result<(u64, Vec<Vec<u8>>), Error>> + '_ {
        let bundles = (from / TILE_WIDTH..).map_while(move |at| TileKind::Entries.tile(at, size));
        bundles.map(move |path| {
            let first = path.index() * TILE_WIDTH;
            let mut leaves = self.bundle(path)?;
            let skipped = from.saturating_sub(first).min(leaves.len() as u64);
            leaves.drain(..skipped as usize);
            Ok((first + skipped, leaves))
        })
    }

    /// A receipt of leaf `index` under `checkpoint`, with the leaf itself as
    /// extra data, so that it verifies alone.
    pub fn receipt(&self, index: u64, checkpoint: &SignedCheckpoint) -> Result<Receipt, Error> {
        let size = checkpoint.size();
        let proof = inclusion_proof(&mut self.hashes(size), index, size)?;
        let extra = Some(self.leaf(index, size)?);
        Ok(Receipt { extra, index, proof, checkpoint: checkpoint.clone() })
    }
}

impl TileSource for Reader {
    type Error = Error;

    fn tile(&mut self, path: TilePath) -> Result<Vec<NodeHash>, Error> {
        Self::tile(self, path)
    }
}

/// The beginning of a wider tile or bundle; of damaged bytes whatever there is,
/// which will not parse.
fn cut(path: TilePath, mut bytes: Vec<u8>) -> Vec<u8> {
    let length = match path.kind() {
        TileKind::Hashes { .. } => path.width() as usize * HASH_BYTES,
        TileKind::Entries => {
            let mut end = 0usize;
            for _ in 0..path.width() {
                let length = bytes.get(end..end + 2).unwrap_or(&[0, 0]);
                end += 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
            }
            end
        }
    };
    bytes.truncate(length);
    bytes
}
