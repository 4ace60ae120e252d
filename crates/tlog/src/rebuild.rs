//! What a person orders after the files were lost or taken back: tiles made
//! again from leaves kept elsewhere, or the signer's memory made again from the
//! published checkpoint. Both are refused where they would change history.

use std::sync::Arc;

use domain::audit::tree::{Frontier, KeyName, NOTE_BYTES_MAX, NodeHash, SignedCheckpoint, root_of};

use crate::{
    edge::{Edge, placed},
    error::Error,
    files::{self, Files},
    fs::Fs,
    keys,
    layout::Layout,
    reader::Reader,
    signer::SignerState,
    writer::lock,
};

/// Tiles that are held before they are written.
const TILES_HELD_MAX: usize = 256;

/// Writes all tiles and bundles of the tree that was signed last, from its
/// leaves in their order, and publishes its checkpoint. `leaves` is asked twice:
/// nothing is written unless they have the signed root. Returns the size.
pub fn rebuild<I, E>(
    data_dir: &std::path::Path,
    fs: Arc<dyn Fs>,
    leaves: impl Fn() -> Result<I, E>,
) -> Result<u64, E>
where
    I: Iterator<Item = Result<Vec<u8>, E>>,
    E: From<Error>,
{
    let layout = Layout::new(data_dir);
    let mut files = Files::new(fs, data_dir);
    let _lock = lock(&mut files, &layout)?;
    let state = SignerState::read(&files, &layout)?;
    let state = state.ok_or_else(|| {
        Error::missing(&layout.signer_state(), "only what was signed can be built again")
    })?;
    let (size, root) = (state.size, state.root);
    let Some(checkpoint) = state.checkpoint else { return Ok(0) };
    let wanted = usize::try_from(size).unwrap_or(usize::MAX);

    let mut frontier = Frontier::default();
    for leaf in leaves()?.take(wanted) {
        frontier.append(NodeHash::of_leaf(&leaf?));
    }
    if frontier.size() < size {
        let (path, found) = (layout.tree(), frontier.size());
        return Err(Error::Behind { path, found, signed: size }.into());
    }
    if frontier.root() != root {
        return Err(Error::OtherRoot { path: layout.tree(), size }.into());
    }

    let mut edge = Edge::empty();
    let mut tiles = Vec::new();
    for leaf in leaves()?.take(wanted) {
        let index = edge.size();
        edge.push(&leaf?, &mut tiles).map_err(|source| Error::Leaf { index, source })?;
        if tiles.len() >= TILES_HELD_MAX {
            files.put_all(&placed(&layout, std::mem::take(&mut tiles)))?;
        }
    }
    tiles.extend(edge.partial(0));
    files.put_all(&placed(&layout, tiles))?;
    check_root(&files, &layout, size, root)?;
    files.put(&layout.checkpoint(), checkpoint.to_string().as_bytes())?;
    Ok(size)
}

/// Makes the signer's state again from the published checkpoint, if one of the
/// keyring's keys signed it, the tiles have its root, and the state at hand, if
/// there is any, is not newer. A fork that was signed after it cannot be noticed
/// here: compare with checkpoints kept elsewhere first.
pub fn adopt_checkpoint(
    data_dir: &std::path::Path,
    fs: Arc<dyn Fs>,
    origin: &KeyName,
) -> Result<SignedCheckpoint, Error> {
    let layout = Layout::new(data_dir);
    let mut files = Files::new(fs, data_dir);
    let _lock = lock(&mut files, &layout)?;
    let path = layout.checkpoint();
    let bytes = files::read(&**files.fs(), &path, NOTE_BYTES_MAX)?;
    let bytes = bytes.ok_or_else(|| Error::missing(&path, "it is to be adopted"))?;
    let published =
        SignedCheckpoint::parse(&bytes).map_err(|error| Error::malformed(&path, error))?;
    let keyring = keys::read_keyring(&files, &layout)?;
    let keyring = keyring.ok_or_else(|| Error::missing(&layout.keyring(), "keys must be known"))?;
    published
        .verify(keyring.at(published.size()), &[])
        .map_err(|error| Error::malformed(&path, error))?;
    if published.checkpoint().origin != *origin {
        return Err(Error::damaged(&path, format!("it is not of {origin}")));
    }
    if let Ok(Some(state)) = SignerState::read(&files, &layout)
        && state.size > published.size()
    {
        let (found, signed) = (published.size(), state.size);
        return Err(Error::Behind { path, found, signed });
    }
    check_root(&files, &layout, published.size(), published.root())?;
    SignerState::of(published.clone()).write(&mut files, &layout)?;
    Ok(published)
}

fn check_root(files: &Files, layout: &Layout, size: u64, root: NodeHash) -> Result<(), Error> {
    let reader = Reader::new(files.fs().clone(), layout.data_dir());
    if root_of(&mut reader.hashes(size), size)? == root {
        return Ok(());
    }
    Err(Error::OtherRoot { path: layout.tree(), size })
}
