//! A chain of leaves that any test can make again, and what must hold of a tree.

use std::{path::Path, sync::Arc};

use domain::{
    audit::tree::{Frontier, KeyName, NodeHash, SignedCheckpoint, root_of, tiles_of},
    rng::Rng,
};
use tlog::{
    Config, Error, KeySource, Opened, Reader, Writer,
    fs::{Fs, StdFs},
};

pub(crate) const ORIGIN: &str = "example.com/audit/test";

/// Keys from a seed.
pub(crate) struct Seeded(pub(crate) u8);

impl Rng for Seeded {
    fn next_u64(&self) -> u64 {
        self.0.into()
    }

    fn fill_secure(&self, buffer: &mut [u8]) {
        for (at, byte) in buffer.iter_mut().enumerate() {
            *byte = self.0.wrapping_mul(31).wrapping_add(at as u8);
        }
    }
}

pub(crate) fn origin() -> KeyName {
    KeyName::parse(ORIGIN).unwrap()
}

pub(crate) fn config(dir: &Path) -> Config {
    Config { data_dir: dir.to_owned(), origin: origin(), key: KeySource::File }
}

pub(crate) fn open_on(fs: Arc<dyn Fs>, dir: &Path) -> Result<(Writer, Opened), Error> {
    Writer::open(config(dir), fs, &Seeded(1))
}

pub(crate) fn open(dir: &Path) -> Writer {
    open_on(Arc::new(StdFs), dir).unwrap().0
}

/// The leaf of an index, of a length that differs.
pub(crate) fn leaf(index: u64) -> Vec<u8> {
    let mut text = format!("{{\"leaf\":{index}}}").into_bytes();
    text.resize(text.len() + (index % 7) as usize, b' ');
    text
}

pub(crate) fn leaves(from: u64, to: u64) -> Vec<Vec<u8>> {
    (from..to).map(leaf).collect()
}

pub(crate) fn append(writer: &mut Writer, to: u64) -> SignedCheckpoint {
    let from = writer.size();
    writer.append(from, &leaves(from, to)).unwrap()
}

pub(crate) fn root(leaves: &[Vec<u8>]) -> NodeHash {
    let mut frontier = Frontier::default();
    leaves.iter().for_each(|leaf| frontier.append(NodeHash::of_leaf(leaf)));
    frontier.root()
}

/// Everything that must hold of the files between two batches.
pub(crate) fn check_tree(reader: &Reader, ledger: &[Vec<u8>]) -> SignedCheckpoint {
    let published = reader.checkpoint().unwrap().expect("a checkpoint");
    let keyring = reader.keyring().unwrap().expect("a keyring");
    published.verify(keyring.at(published.size()), &[]).unwrap();
    let size = published.size();
    assert_eq!(published.root(), root(&ledger[..size as usize]), "root at {size}");
    assert_eq!(root_of(&mut reader.hashes(size), size).unwrap(), published.root());
    for path in tiles_of(size) {
        assert!(reader.bytes(path).unwrap().is_some(), "{path}");
    }
    let mut at = 0;
    for bundle in reader.leaves_from(0, size) {
        let (first, leaves) = bundle.unwrap();
        assert_eq!(first, at);
        assert!(leaves == ledger[at as usize..at as usize + leaves.len()], "leaves from {first}");
        at += leaves.len() as u64;
    }
    assert_eq!(at, size);
    published
}
