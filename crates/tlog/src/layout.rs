//! Where the files lie.
//!
//! | file below `DATA_DIR` | content | changes |
//! |---|---|---|
//! | `tlog/checkpoint` | the newest signed checkpoint | replaced |
//! | `tlog/tile/<L>/<N>[.p/<W>]` | hash tiles | never; partial ones go when whole ones are there |
//! | `tlog/tile/entries/<N>[.p/<W>]` | bundles of leaves | never; old ones go by retention |
//! | `tlog/keys` | the keyring: which key signs at which sizes | replaced, only grows |
//! | `tlog/rotations/<size>` | a receipt of the leaf that names the next key, whose checkpoint both keys signed | never |
//! | `audit/signing.key` | the private key in use, mode 0600; absent if it is configured | replaced by rotation |
//! | `audit/signing.key.next` | the key that a rotation has prepared | becomes the former |
//! | `audit/signer.json` | size, root and checkpoint that were signed last | replaced |
//! | `audit/vkey` | the public key in use, to be handed to auditors | replaced by rotation |
//! | `audit/lock` | held by the one process that writes | |
//!
//! A file is written as `<name>.tmp`, synced, renamed, and its directory synced.
//! Of a partial tile the newest few widths are kept, so that a copy of the
//! directory that is made meanwhile finds what its checkpoint needs; any
//! narrower one is a prefix of a wider one.

use std::path::{Path, PathBuf};

use domain::audit::tree::{TileKind, TilePath};

/// What a file is called until it is whole.
pub(crate) const TEMPORARY: &str = ".tmp";

/// The two directories of a tree.
#[derive(Clone, Debug)]
pub struct Layout {
    data_dir: PathBuf,
}

impl Layout {
    pub fn new(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned() }
    }

    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// What auditors take with them.
    pub fn tree(&self) -> PathBuf {
        self.data_dir.join("tlog")
    }

    pub fn checkpoint(&self) -> PathBuf {
        self.tree().join("checkpoint")
    }

    pub fn keyring(&self) -> PathBuf {
        self.tree().join("keys")
    }

    pub fn rotations(&self) -> PathBuf {
        self.tree().join("rotations")
    }

    pub fn rotation(&self, size: u64) -> PathBuf {
        self.rotations().join(size.to_string())
    }

    pub fn tile(&self, path: TilePath) -> PathBuf {
        self.tree().join(path.to_string())
    }

    /// The directory of all tiles of a kind.
    pub fn tiles(&self, kind: TileKind) -> PathBuf {
        let name = match kind {
            TileKind::Entries => "entries".to_owned(),
            TileKind::Hashes { level } => level.to_string(),
        };
        self.tree().join("tile").join(name)
    }

    pub fn signer_dir(&self) -> PathBuf {
        self.data_dir.join("audit")
    }

    pub fn signing_key(&self) -> PathBuf {
        self.signer_dir().join("signing.key")
    }

    pub fn next_key(&self) -> PathBuf {
        self.signer_dir().join("signing.key.next")
    }

    pub fn signer_state(&self) -> PathBuf {
        self.signer_dir().join("signer.json")
    }

    pub fn public_key(&self) -> PathBuf {
        self.signer_dir().join("vkey")
    }

    pub fn lock(&self) -> PathBuf {
        self.signer_dir().join("lock")
    }
}
