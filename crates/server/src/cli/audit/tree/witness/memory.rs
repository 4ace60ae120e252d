//! What a witness keeps, in a directory of its own:
//!
//! | file | |
//! |---|---|
//! | `witness.key` | its private key, mode 0600 |
//! | `witness.vkey` | its public key |
//! | `checkpoint` | the newest checkpoint, cosigned |
//! | `evidence/<size>-<number>` | two signed checkpoints that cannot both be true |

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use domain::{
    audit::tree::{KeyKind, KeyName, NOTE_BYTES_MAX, SignedCheckpoint, SigningKey, VerifierKey},
    secret::Secret,
    time::Timestamp,
};
use parking_lot::RwLock;
use tlog::verify::read_file;

use crate::system::SystemRng;

/// Pieces of evidence; who needs more of them has known for long.
const EVIDENCE_MAX: usize = 1_000;
const KEY_BYTES_MAX: usize = 4096;

pub(super) struct Memory {
    dir: PathBuf,
    key: SigningKey,
    newest: RwLock<Option<SignedCheckpoint>>,
}

impl Memory {
    /// Opens the directory, or begins one; `name` counts only then.
    pub fn open(dir: &Path, name: &str) -> anyhow::Result<Self> {
        let evidence = dir.join("evidence");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&evidence)
            .with_context(|| format!("create {}", evidence.display()))?;
        let key = open_key(dir, name)?;
        let path = dir.join("checkpoint");
        let bytes =
            read_file(&path, NOTE_BYTES_MAX).with_context(|| format!("read {}", path.display()))?;
        let newest = bytes.map(|bytes| SignedCheckpoint::parse(&bytes)).transpose();
        // To go on without it would be to forget what was promised.
        let newest = newest.with_context(|| format!("{} is damaged", path.display()))?;
        Ok(Self { dir: dir.to_owned(), key, newest: RwLock::new(newest) })
    }

    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    pub fn verifier(&self) -> &VerifierKey {
        self.key.verifier()
    }

    pub fn newest(&self) -> Option<SignedCheckpoint> {
        self.newest.read().clone()
    }

    /// Makes a cosigned checkpoint the newest: on disk first, then for others.
    pub fn remember(&self, note: SignedCheckpoint) -> anyhow::Result<()> {
        put(&self.dir.join("checkpoint"), note.to_string().as_bytes(), 0o644)?;
        *self.newest.write() = Some(note);
        Ok(())
    }

    /// Keeps two checkpoints that contradict each other, once.
    pub fn keep_evidence(
        &self,
        what: &str,
        seen: &SignedCheckpoint,
        now: &SignedCheckpoint,
        at: Timestamp,
    ) -> anyhow::Result<PathBuf> {
        let dir = self.dir.join("evidence");
        let kept = self.evidence()?;
        let text = format!("{what}\n\nseen before:\n\n{seen}\nseen at {at}:\n\n{now}");
        let is_known = |name: &&String| {
            let known = fs::read_to_string(dir.join(name)).unwrap_or_default();
            known.ends_with(&format!(":\n\n{now}"))
        };
        if let Some(name) = kept.iter().find(is_known) {
            return Ok(dir.join(name));
        }
        if kept.len() >= EVIDENCE_MAX {
            bail!("{what}; {} holds {EVIDENCE_MAX} pieces of evidence already", dir.display());
        }
        let path = dir.join(format!("{}-{}", now.size(), kept.len() + 1));
        put(&path, text.as_bytes(), 0o644)?;
        Ok(path)
    }

    /// The names of what is kept, in order.
    pub fn evidence(&self) -> anyhow::Result<Vec<String>> {
        let dir = self.dir.join("evidence");
        let mut names = Vec::new();
        for entry in fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !name.ends_with(".tmp") {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// One piece of evidence by its name.
    pub fn evidence_named(&self, name: &str) -> Option<Vec<u8>> {
        let is_plain = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        let path = self.dir.join("evidence").join(name);
        if is_plain { read_file(&path, 3 * NOTE_BYTES_MAX).ok().flatten() } else { None }
    }
}

fn open_key(dir: &Path, name: &str) -> anyhow::Result<SigningKey> {
    let path = dir.join("witness.key");
    let shown = path.display();
    if let Some(bytes) = read_file(&path, KEY_BYTES_MAX).with_context(|| format!("read {shown}"))? {
        let text = String::from_utf8(bytes).with_context(|| format!("{shown} is damaged"))?;
        let key = SigningKey::parse(&Secret::new(text.trim().to_owned()));
        let key = key.with_context(|| format!("{shown} is damaged"))?;
        if key.verifier().kind() != KeyKind::Cosignature {
            bail!("{shown} is not the key of a witness");
        }
        return Ok(key);
    }
    let name = KeyName::parse(name).context("--name")?;
    let key = SigningKey::generate(name, KeyKind::Cosignature, &SystemRng)?;
    put(&path, key.to_secret().expose().as_bytes(), 0o600)?;
    put(&dir.join("witness.vkey"), format!("{}\n", key.verifier()).as_bytes(), 0o644)?;
    Ok(key)
}

/// Writes a file whole: aside, synced, renamed, the directory synced.
fn put(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let aside = path.with_extension("tmp");
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(mode).open(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&aside, path)?;
        match path.parent() {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    };
    write().with_context(|| format!("write {}", path.display()))
}
