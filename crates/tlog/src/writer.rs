//! The one who adds leaves.
//!
//! A batch is: tiles and bundles written and synced, read back and hashed
//! again, then the checkpoint signed (the signer's state is durable first), then
//! published, then narrower tiles removed. A crash between any two steps leaves
//! the signer's state as the truth: what lies beyond it was never signed and is
//! removed when the tree is opened, what it says is published then.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use domain::{
    audit::tree::{
        CheckpointError, Frontier, HashReader as _, KeyName, LEVEL_MAX, NOTE_BYTES_MAX, NodeHash,
        SignedCheckpoint, TREE_SIZE_MAX, TileKind, TilePath, VerifierKey, consistency_proof,
        parse_bundle, parse_tile, root_of,
    },
    rng::Rng,
};

use crate::{
    edge::{Edge, placed},
    error::Error,
    files::{self, Files},
    fs::{Fs, Lock},
    keys::{self, KeySource, Keys},
    layout::Layout,
    reader::Reader,
    signer::{Signer, SignerState},
    sweep,
};

/// Bound of one batch: what is read back is held in memory.
pub const APPEND_LEAVES_MAX: usize = 1 << 16;
/// The same in bytes.
pub const APPEND_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a writer needs to know.
#[derive(Debug)]
pub struct Config {
    /// The data directory; it exists.
    pub data_dir: PathBuf,
    /// The name of the chain, of its keys and of its checkpoints.
    pub origin: KeyName,
    pub key: KeySource,
}

/// What was found when the tree was opened.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Opened {
    /// The tree begins now.
    pub is_new: bool,
    /// The newest checkpoint had not been published.
    pub was_published_late: bool,
    /// Files of a batch that was never signed.
    pub unsigned_files: u64,
}

/// The right to add leaves.
pub struct Writer {
    pub(crate) files: Files,
    pub(crate) layout: Layout,
    pub(crate) signer: Signer,
    pub(crate) keys: RestOfKeys,
    edge: Edge,
    /// A write failed: memory and disk may differ.
    pub(crate) is_stale: bool,
    _lock: Box<dyn Lock>,
}

/// The keys without the one that the signer holds.
pub(crate) struct RestOfKeys {
    pub(crate) next: Option<domain::audit::tree::SigningKey>,
    pub(crate) keyring: domain::audit::tree::Keyring,
    pub(crate) in_file: bool,
}

impl Writer {
    /// Takes the lock, checks that the tree is the one that was signed last, and
    /// removes what was never signed.
    pub fn open(config: Config, fs: Arc<dyn Fs>, rng: &dyn Rng) -> Result<(Self, Opened), Error> {
        let Config { data_dir, origin, key } = config;
        let layout = Layout::new(&data_dir);
        let mut files = Files::new(fs, &data_dir);
        let lock = lock(&mut files, &layout)?;
        let mut opened = Opened::default();
        let state = match SignerState::read(&files, &layout)? {
            Some(state) => state,
            None => begin(&mut files, &layout)?,
        };
        let keys = keys::open(&mut files, &layout, &origin, key, &state, rng)?;
        let published = published(&files, &layout, &keys, &state)?;
        let edge = load_edge(&files, &layout, &state)?;
        opened.is_new = state.checkpoint.is_none();
        opened.unsigned_files = sweep::remove_unsigned(&mut files, &layout, state.size)?;
        if let Some(checkpoint) = &state.checkpoint
            && published.as_ref() != Some(checkpoint)
        {
            files.put(&layout.checkpoint(), checkpoint.to_string().as_bytes())?;
            opened.was_published_late = true;
        }
        let Keys { current, next, keyring, in_file } = keys;
        let signer = Signer { key: current, state };
        let keys = RestOfKeys { next, keyring, in_file };
        Ok((Self { files, layout, signer, keys, edge, is_stale: false, _lock: lock }, opened))
    }

    /// Leaves under the newest checkpoint.
    pub fn size(&self) -> u64 {
        self.signer.state.size
    }

    pub fn root(&self) -> NodeHash {
        self.signer.state.root
    }

    /// None before the first leaf.
    pub fn checkpoint(&self) -> Option<&SignedCheckpoint> {
        self.signer.state.checkpoint.as_ref()
    }

    /// The public key in use.
    pub fn verifier(&self) -> &VerifierKey {
        self.signer.key.verifier()
    }

    pub fn reader(&self) -> Reader {
        Reader::new(self.files.fs().clone(), self.layout.data_dir())
    }

    /// Adds leaves, of which the first has the index `first`, and signs the tree
    /// with them. When this returns, all is durable and published.
    ///
    /// After an error the writer must be opened again: the leaves may or may
    /// not have been signed, and it will know.
    pub fn append<L: AsRef<[u8]>>(
        &mut self,
        first: u64,
        leaves: &[L],
    ) -> Result<SignedCheckpoint, Error> {
        self.check_batch(first, leaves)?;
        let before = self.size();
        let mut edge = self.edge.clone();
        let mut tiles = Vec::new();
        for (at, leaf) in leaves.iter().enumerate() {
            edge.push(leaf.as_ref(), &mut tiles)
                .map_err(|source| Error::Leaf { index: first + at as u64, source })?;
        }
        tiles.extend(edge.partial(before));
        self.is_stale = true;
        let paths: Vec<TilePath> = tiles.iter().map(|(path, _)| *path).collect();
        let written = placed(&self.layout, tiles);
        self.files.put_all(&written)?;
        self.read_back(&paths, &written, &edge.frontier)?;
        let signed = self.sign(edge.size(), edge.frontier.root())?;
        self.edge = edge;
        self.is_stale = false;
        sweep::remove_narrower(&mut self.files, &self.layout, before, signed.size());
        Ok(signed)
    }

    fn check_batch<L: AsRef<[u8]>>(&self, first: u64, leaves: &[L]) -> Result<(), Error> {
        if self.is_stale {
            return Err(Error::Stale);
        }
        if first != self.size() {
            return Err(Error::NotNext { first, size: self.size() });
        }
        let bytes = leaves.iter().map(|leaf| leaf.as_ref().len()).sum();
        let fits = !leaves.is_empty()
            && leaves.len() <= APPEND_LEAVES_MAX
            && bytes <= APPEND_BYTES_MAX
            && leaves.len() as u64 <= TREE_SIZE_MAX - first;
        if fits { Ok(()) } else { Err(Error::Batch { leaves: leaves.len(), bytes }) }
    }

    /// Holds what is on disk now against what was to be written, then hashes it
    /// anew: leaves against tiles, tiles against the root.
    fn read_back(
        &self,
        paths: &[TilePath],
        written: &[(PathBuf, Vec<u8>)],
        frontier: &Frontier,
    ) -> Result<(), Error> {
        let mut entries = Vec::new();
        let mut hashes = BTreeMap::new();
        for (path, (place, bytes)) in paths.iter().zip(written) {
            let differs = || Error::ReadBack { path: place.clone() };
            let found = files::read(&**self.files.fs(), place, bytes.len())?;
            let found = found.filter(|found| found == bytes).ok_or_else(differs)?;
            match path.kind() {
                TileKind::Entries => entries.push((*path, place, found)),
                TileKind::Hashes { level: 0 } => {
                    let tile = parse_tile(&found, path.width());
                    let tile = tile.map_err(|error| Error::malformed(place, error))?;
                    hashes.insert(path.index(), tile);
                }
                TileKind::Hashes { .. } => {}
            }
        }
        for (path, place, bundle) in entries {
            let leaves = parse_bundle(&bundle, path.width());
            let leaves = leaves.map_err(|error| Error::malformed(place, error))?;
            let leaves = leaves.into_iter().map(NodeHash::of_leaf);
            if !hashes.get(&path.index()).is_some_and(|tile| leaves.eq(tile.iter().copied())) {
                return Err(Error::ReadBack { path: place.clone() });
            }
        }
        let size = frontier.size();
        if root_of(&mut self.reader().hashes(size), size)? != frontier.root() {
            return Err(Error::OtherRoot { path: self.layout.tree(), size });
        }
        Ok(())
    }

    fn sign(&mut self, size: u64, root: NodeHash) -> Result<SignedCheckpoint, Error> {
        let proof = consistency_proof(&mut self.reader().hashes(size), self.size(), size)?;
        let signed = self.signer.sign(&mut self.files, &self.layout, (size, root), &proof, None)?;
        self.files.put(&self.layout.checkpoint(), signed.to_string().as_bytes())?;
        Ok(signed)
    }

    /// Removes whole bundles of leaves below `index`; hash tiles stay, so that
    /// old checkpoints and receipts still verify. The caller has recorded it as
    /// an entry before. Returns how many were removed.
    pub fn prune_bundles(&mut self, index: u64) -> Result<u64, Error> {
        let below = index.min(self.size());
        sweep::prune_bundles(&mut self.files, &self.layout, below)
    }
}

pub(crate) fn lock(files: &mut Files, layout: &Layout) -> Result<Box<dyn Lock>, Error> {
    let path = layout.lock();
    files.create_dir(&layout.signer_dir())?;
    let lock = files.fs().lock(&path).map_err(|source| Error::io("lock", &path, source))?;
    lock.ok_or(Error::Taken { path })
}

/// The state of a tree that begins; an error if anything of one is there.
fn begin(files: &mut Files, layout: &Layout) -> Result<SignerState, Error> {
    let fs = files.fs().clone();
    let traces = [layout.checkpoint(), layout.keyring(), layout.signing_key()];
    for trace in traces {
        // Absent is the only answer that lets a tree begin, whatever its size.
        if files::read(&*fs, &trace, NOTE_BYTES_MAX)?.is_some() {
            let because = format!("{} is there", trace.display());
            return Err(Error::missing(&layout.signer_state(), because));
        }
    }
    // First of all, so that a key is never seen without its state.
    SignerState::FRESH.write(files, layout)?;
    Ok(SignerState::FRESH)
}

/// The published checkpoint, which must not contradict what was signed.
fn published(
    files: &Files,
    layout: &Layout,
    keys: &Keys,
    state: &SignerState,
) -> Result<Option<SignedCheckpoint>, Error> {
    let path = layout.checkpoint();
    let malformed = |error: CheckpointError| Error::malformed(&path, error);
    if let Some(signed) = &state.checkpoint {
        let by = signed.verify(keys.keyring.at(signed.size()), &[]);
        by.map_err(|error| Error::malformed(&layout.signer_state(), error))?;
    }
    let Some(bytes) = files::read(&**files.fs(), &path, NOTE_BYTES_MAX)? else { return Ok(None) };
    let published = SignedCheckpoint::parse(&bytes).map_err(malformed)?;
    published.verify(keys.keyring.at(published.size()), &[]).map_err(malformed)?;
    let (found, signed) = (state.size, published.size());
    if signed > found {
        return Err(Error::Behind { path: layout.signer_state(), found, signed });
    }
    if signed == found && published.root() != state.root {
        return Err(crate::signer::Refusal::Fork(signed).into());
    }
    Ok(Some(published))
}

/// The right edge of the tree that was signed, from its tiles.
fn load_edge(files: &Files, layout: &Layout, state: &SignerState) -> Result<Edge, Error> {
    let size = state.size;
    let mut edge = Edge::empty();
    if size == 0 {
        return Ok(edge);
    }
    let reader = Reader::new(files.fs().clone(), layout.data_dir());
    let mut tiles = reader.hashes(size);
    if root_of(&mut tiles, size)? != state.root {
        return Err(Error::OtherRoot { path: layout.tree(), size });
    }
    let mut nodes = Vec::new();
    let mut at = 0;
    for level in (0..u64::BITS).rev().filter(|level| size >> level & 1 == 1) {
        nodes.push(tiles.node(level, at >> level)?);
        at += 1 << level;
    }
    edge.frontier = Frontier::new(size, nodes).unwrap_or_default();
    for level in 0..=LEVEL_MAX {
        if let Some(path) = last_partial(TileKind::Hashes { level }, size) {
            edge.levels[usize::from(level)] = reader.tile(path)?;
        }
    }
    if let Some(path) = last_partial(TileKind::Entries, size) {
        let leaves = reader.bundle(path)?;
        let hashes = leaves.iter().map(|leaf| NodeHash::of_leaf(leaf));
        if !hashes.eq(edge.levels[0].iter().copied()) {
            let what = "the leaves have other hashes than their tile";
            return Err(Error::damaged(&layout.tile(path), what));
        }
        edge.bundle = reader.required(path)?;
    }
    Ok(edge)
}

/// The unfinished tile of a kind, if there is one.
fn last_partial(kind: TileKind, size: u64) -> Option<TilePath> {
    kind.tile(kind.count(size) / domain::audit::tree::TILE_WIDTH, size)
}
