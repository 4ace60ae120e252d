//! The one place that signs, and its memory of what it signed last.
//!
//! `audit/signer.json` is `{"v":1,"size":…,"root":"base64","checkpoint":"note"}`,
//! without `checkpoint` before the first. It is durable before a signature
//! leaves this module, so that no crash and no restored tree makes the signer
//! contradict a signature that somebody may hold.

use domain::audit::tree::{
    Checkpoint, KeyName, NOTE_BYTES_MAX, NodeHash, ProofError, SignedCheckpoint, SigningKey,
    verify_consistency,
};
use serde::{Deserialize, Serialize};

use crate::{
    error::Error,
    files::{self, Files},
    layout::Layout,
};

const STATE_VERSION: u64 = 1;
/// A note in JSON, all of it escaped.
const STATE_BYTES_MAX: usize = 2 * NOTE_BYTES_MAX;

/// Why the signer signs nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    #[error("a tree of {signed} was signed, and {asked} is smaller")]
    Shrink { signed: u64, asked: u64 },
    #[error("at size {0} another root was signed")]
    Fork(u64),
    #[error("it is not proven that the tree of {asked} has grown out of that of {signed}")]
    Unproven { signed: u64, asked: u64, source: ProofError },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateFile {
    v: u64,
    size: u64,
    root: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checkpoint: Option<String>,
}

/// What was signed last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SignerState {
    pub(crate) size: u64,
    pub(crate) root: NodeHash,
    /// None before the first signature.
    pub(crate) checkpoint: Option<SignedCheckpoint>,
}

impl SignerState {
    pub(crate) const FRESH: Self = Self { size: 0, root: NodeHash::EMPTY, checkpoint: None };

    pub(crate) fn of(checkpoint: SignedCheckpoint) -> Self {
        let (size, root) = (checkpoint.size(), checkpoint.root());
        Self { size, root, checkpoint: Some(checkpoint) }
    }

    /// The state on disk, if there is one.
    pub(crate) fn read(files: &Files, layout: &Layout) -> Result<Option<Self>, Error> {
        let path = layout.signer_state();
        let Some(bytes) = files::read(&**files.fs(), &path, STATE_BYTES_MAX)? else {
            return Ok(None);
        };
        let damaged = |what: &str| Error::damaged(&path, what);
        let file: StateFile =
            serde_json::from_slice(&bytes).map_err(|error| Error::malformed(&path, error))?;
        if file.v != STATE_VERSION {
            return Err(damaged("the signer's state has a version that this build does not know"));
        }
        let root = NodeHash::from_base64(&file.root).map_err(|_| damaged("the root is no hash"))?;
        let checkpoint = file.checkpoint.map(|text| SignedCheckpoint::parse(text.as_bytes()));
        let checkpoint = checkpoint.transpose().map_err(|error| Error::malformed(&path, error))?;
        let is_whole = match &checkpoint {
            Some(checkpoint) => (checkpoint.size(), checkpoint.root()) == (file.size, root),
            None => (file.size, root) == (0, NodeHash::EMPTY),
        };
        if !is_whole {
            return Err(damaged("the signer's state contradicts its own checkpoint"));
        }
        Ok(Some(Self { size: file.size, root, checkpoint }))
    }

    pub(crate) fn write(&self, files: &mut Files, layout: &Layout) -> Result<(), Error> {
        let path = layout.signer_state();
        let file = StateFile {
            v: STATE_VERSION,
            size: self.size,
            root: self.root.to_base64(),
            checkpoint: self.checkpoint.as_ref().map(ToString::to_string),
        };
        let bytes = serde_json::to_vec(&file).map_err(|error| Error::malformed(&path, error))?;
        files.put(&path, &bytes)
    }
}

/// A key with the memory of what it signed.
pub(crate) struct Signer {
    pub(crate) key: SigningKey,
    pub(crate) state: SignerState,
}

impl Signer {
    /// Signs the tree of `size` with `root`, which `proof` shows to have grown
    /// out of the last one; `other` signs as well, at a rotation.
    pub(crate) fn sign(
        &mut self,
        files: &mut Files,
        layout: &Layout,
        (size, root): (u64, NodeHash),
        proof: &[NodeHash],
        other: Option<&SigningKey>,
    ) -> Result<SignedCheckpoint, Error> {
        self.check(size, root, proof)?;
        let origin: KeyName = self.key.verifier().name().clone();
        let keys: Vec<&SigningKey> = std::iter::once(&self.key).chain(other).collect();
        let signed = SignedCheckpoint::sign(Checkpoint { origin, size, root }, &keys);
        let signed = signed.map_err(|error| Error::malformed(&layout.signer_state(), error))?;
        let state = SignerState::of(signed.clone());
        if state != self.state {
            // If this fails the state on disk may be either; the caller opens
            // again and goes by what it finds.
            state.write(files, layout)?;
            self.state = state;
        }
        Ok(signed)
    }

    fn check(&self, asked: u64, root: NodeHash, proof: &[NodeHash]) -> Result<(), Refusal> {
        let signed = self.state.size;
        if asked < signed {
            return Err(Refusal::Shrink { signed, asked });
        }
        if asked == signed && root != self.state.root {
            return Err(Refusal::Fork(signed));
        }
        verify_consistency((signed, self.state.root), (asked, root), proof)
            .map_err(|source| Refusal::Unproven { signed, asked, source })
    }
}

#[cfg(test)]
mod tests;
