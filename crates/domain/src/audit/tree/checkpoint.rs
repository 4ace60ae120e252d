//! Checkpoints: the text `origin`, `size`, `root`, each on a line, as a note.

use std::fmt;

use super::{
    Cosignature, HashError, KeyError, KeyKind, KeyName, NodeHash, Note, NoteError, NumberError,
    SigningKey, VerifierKey, parse_number,
};

/// What a tree was at one size.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    pub origin: KeyName,
    pub size: u64,
    pub root: NodeHash,
}

/// Why a text is not a checkpoint, or a checkpoint is not to be believed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("the checkpoint is not a note")]
    Note(#[from] NoteError),
    #[error("the checkpoint has fewer than three lines")]
    Missing,
    #[error("the checkpoint has lines behind its root")]
    Extension,
    #[error("the checkpoint's origin is malformed")]
    Origin(#[source] KeyError),
    #[error("the checkpoint's size is malformed")]
    Size(#[source] NumberError),
    #[error("the checkpoint's root is malformed")]
    Root(#[source] HashError),
    #[error("the checkpoint says size 0 with a root that is not of an empty tree")]
    EmptyRoot,
    #[error("the checkpoint is of {found}, not of {expected}")]
    OtherOrigin { found: KeyName, expected: KeyName },
    #[error("the key {0} signs for witnesses, not for the tree itself")]
    OtherKind(KeyName),
}

impl Checkpoint {
    /// Reads the text of a note, and only what [`fmt::Display`] writes.
    /// Extension lines are legal elsewhere; nobody could audit them.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let lines: Vec<&str> = text.split('\n').collect();
        let [origin, size, root, rest @ ..] = &lines[..] else {
            return Err(CheckpointError::Missing);
        };
        if !matches!(rest, [""]) {
            let is_cut = rest.is_empty();
            return Err(if is_cut { CheckpointError::Missing } else { CheckpointError::Extension });
        }
        let checkpoint = Self {
            origin: KeyName::parse(origin).map_err(CheckpointError::Origin)?,
            size: parse_number(size).map_err(CheckpointError::Size)?,
            root: NodeHash::from_base64(root).map_err(CheckpointError::Root)?,
        };
        let is_whole = checkpoint.size > 0 || checkpoint.root == NodeHash::EMPTY;
        if is_whole { Ok(checkpoint) } else { Err(CheckpointError::EmptyRoot) }
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, self.root.to_base64())
    }
}

/// A checkpoint in its note.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    note: Note,
}

impl SignedCheckpoint {
    /// Reads a note with a checkpoint. Believe it after [`Self::verify`].
    pub fn parse(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let note = Note::parse(bytes)?;
        Ok(Self { checkpoint: Checkpoint::parse(note.text())?, note })
    }

    /// Signs. That it grew out of all that was signed before is the caller's to
    /// know.
    pub fn sign(checkpoint: Checkpoint, keys: &[&SigningKey]) -> Result<Self, CheckpointError> {
        let mut note = Note::new(checkpoint.to_string())?;
        for key in keys {
            let name = key.verifier().name();
            check_origin(&checkpoint, name)?;
            let signature = note.sign(key);
            note.add(signature.map_err(|_| CheckpointError::OtherKind(name.clone()))?)?;
        }
        Ok(Self { checkpoint, note })
    }

    /// Whether one of the tree's own `keys` signed it, and with when which of
    /// the `witnesses` saw it. A wrong signature by any of them is an error.
    pub fn verify<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k VerifierKey>,
        witnesses: &'k [VerifierKey],
    ) -> Result<Vec<(&'k VerifierKey, u64)>, CheckpointError> {
        let keys: Vec<&VerifierKey> = keys.into_iter().collect();
        for key in &keys {
            check_origin(&self.checkpoint, key.name())?;
            if key.kind() != KeyKind::Ed25519 {
                return Err(CheckpointError::OtherKind(key.name().clone()));
            }
        }
        self.note.verify(keys)?;
        let seen = match self.note.verify(witnesses) {
            Err(NoteError::NoKnownSignature) => Vec::new(),
            result => result?,
        };
        let time_of = |key: &VerifierKey| {
            let signature = self.note.signatures().iter().find(|signature| signature.is_by(key))?;
            Cosignature::parse(&signature.bytes).map(|cosignature| cosignature.time)
        };
        let with_time = |key: &'k VerifierKey| Some((key, time_of(key)?));
        let witnesses = seen.into_iter().filter(|key| key.kind() == KeyKind::Cosignature);
        Ok(witnesses.filter_map(with_time).collect())
    }

    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    pub fn size(&self) -> u64 {
        self.checkpoint.size
    }

    pub fn root(&self) -> NodeHash {
        self.checkpoint.root
    }

    pub fn note(&self) -> &Note {
        &self.note
    }

    /// Takes a further signature, of a witness or of the next key.
    pub fn add(&mut self, signature: super::NoteSignature) -> Result<(), NoteError> {
        self.note.add(signature)
    }
}

impl fmt::Display for SignedCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.note, f)
    }
}

fn check_origin(checkpoint: &Checkpoint, expected: &KeyName) -> Result<(), CheckpointError> {
    let found = &checkpoint.origin;
    if found == expected {
        return Ok(());
    }
    Err(CheckpointError::OtherOrigin { found: found.clone(), expected: expected.clone() })
}
