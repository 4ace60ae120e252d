//! Signed notes: a text, an empty line, and a line for each signature,
//! `— name base64(id || signature)`.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    Cosignature, KeyError, KeyKind, KeyName, SigningKey, VerifierKey, key::SIGNATURE_BYTES,
};

/// Bound of a note: a short text and signatures of any kind in use.
pub const NOTE_BYTES_MAX: usize = 256 * 1024;
/// Bound of its signatures: a chain's own and its witnesses'.
pub const NOTE_SIGNATURES_MAX: usize = 64;

const DASH: &str = "— ";
const ID_BYTES: usize = 4;

/// Why bytes are not a note, or a note is not to be believed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoteError {
    #[error("the note has {0} bytes, more than {NOTE_BYTES_MAX}")]
    TooLarge(usize),
    #[error("the note is not UTF-8")]
    NotUtf8,
    #[error("the note begins with a byte order mark")]
    ByteOrderMark,
    #[error("the note has carriage returns at the ends of its lines")]
    CarriageReturn,
    #[error("the note has control characters")]
    ControlCharacter,
    #[error("the note has no empty line before signatures")]
    NoSignatures,
    #[error("the note does not end with a line end")]
    Unfinished,
    #[error("the note has more than {NOTE_SIGNATURES_MAX} signatures")]
    TooManySignatures,
    #[error("signature line {0} of the note is malformed")]
    Malformed(usize),
    #[error("the note is signed twice by {0}")]
    DuplicateSignature(String),
    #[error("two of the keys to verify with have one name and id, {0}")]
    AmbiguousKeys(KeyName),
    #[error("the signature by {0} is wrong")]
    BadSignature(KeyName),
    #[error("the note has no signature by a known key")]
    NoKnownSignature,
}

/// One signature, not yet believed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NoteSignature {
    pub name: KeyName,
    pub id: u32,
    pub bytes: Vec<u8>,
}

impl NoteSignature {
    pub(super) fn new(key: &VerifierKey, bytes: Vec<u8>) -> Self {
        Self { name: key.name().clone(), id: key.id(), bytes }
    }

    pub fn is_by(&self, key: &VerifierKey) -> bool {
        self.name == *key.name() && self.id == key.id()
    }

    fn parse(line: &str) -> Option<Self> {
        let (name, encoded) = line.strip_prefix(DASH)?.split_once(' ')?;
        let bytes = STANDARD.decode(encoded).ok()?;
        let (id, signature) = bytes.split_first_chunk::<ID_BYTES>()?;
        if signature.is_empty() {
            return None;
        }
        let name = KeyName::parse(name).ok()?;
        Some(Self { name, id: u32::from_be_bytes(*id), bytes: signature.to_vec() })
    }
}

impl fmt::Display for NoteSignature {
    /// The line with its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.id.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.bytes);
        writeln!(f, "{DASH}{} {}", self.name, STANDARD.encode(bytes))
    }
}

/// A text with signatures.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

impl Note {
    /// A note that nobody signed yet. The text must end with a line end.
    pub fn new(text: String) -> Result<Self, NoteError> {
        check_text(&text)?;
        if !text.ends_with('\n') {
            return Err(NoteError::Unfinished);
        }
        Ok(Self { text, signatures: Vec::new() })
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLarge(bytes.len()));
        }
        let whole = std::str::from_utf8(bytes).map_err(|_| NoteError::NotUtf8)?;
        check_text(whole)?;
        // The last empty line: the text may have some of its own.
        let end = whole.rfind("\n\n").ok_or(NoteError::NoSignatures)?;
        let (text, lines) = (&whole[..=end], &whole[end + 2..]);
        if lines.is_empty() {
            return Err(NoteError::NoSignatures);
        }
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Unfinished)?;
        let mut note = Self { text: text.to_owned(), signatures: Vec::new() };
        for (at, line) in lines.split('\n').enumerate() {
            note.add(NoteSignature::parse(line).ok_or(NoteError::Malformed(at + 1))?)?;
        }
        Ok(note)
    }

    /// The text with its last line end.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    pub fn add(&mut self, signature: NoteSignature) -> Result<(), NoteError> {
        let twice =
            |known: &NoteSignature| known.name == signature.name && known.id == signature.id;
        if self.signatures.iter().any(twice) {
            return Err(NoteError::DuplicateSignature(signature.name.to_string()));
        }
        if self.signatures.len() >= NOTE_SIGNATURES_MAX {
            return Err(NoteError::TooManySignatures);
        }
        self.signatures.push(signature);
        Ok(())
    }

    /// The signature of `key` over the text, for [`Self::add`].
    pub fn sign(&self, key: &SigningKey) -> Result<NoteSignature, KeyError> {
        if key.verifier().kind() != KeyKind::Ed25519 {
            return Err(KeyError::OtherKind);
        }
        Ok(NoteSignature::new(key.verifier(), key.sign(self.text.as_bytes()).to_vec()))
    }

    /// Which of `keys` signed. Signatures by others mean nothing; a wrong one by
    /// any of these condemns the note.
    pub fn verify<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k VerifierKey>,
    ) -> Result<Vec<&'k VerifierKey>, NoteError> {
        let mut known: Vec<&VerifierKey> = Vec::new();
        for key in keys {
            let same = |other: &&VerifierKey| other.name() == key.name() && other.id() == key.id();
            match known.iter().find(|other| same(other)) {
                Some(other) if *other != key => {
                    return Err(NoteError::AmbiguousKeys(key.name().clone()));
                }
                Some(_) => {}
                None => known.push(key),
            }
        }
        let mut signers = Vec::new();
        for signature in &self.signatures {
            let Some(key) = known.iter().find(|key| signature.is_by(key)) else { continue };
            if !self.is_signed(key, signature) {
                return Err(NoteError::BadSignature(key.name().clone()));
            }
            signers.push(*key);
        }
        if signers.is_empty() { Err(NoteError::NoKnownSignature) } else { Ok(signers) }
    }

    fn is_signed(&self, key: &VerifierKey, signature: &NoteSignature) -> bool {
        match key.kind() {
            KeyKind::Ed25519 => {
                signature.bytes.len() == SIGNATURE_BYTES
                    && key.signed(self.text.as_bytes(), &signature.bytes)
            }
            KeyKind::Cosignature => Cosignature::parse(&signature.bytes)
                .is_some_and(|cosignature| cosignature.is_by(key, &self.text)),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| fmt::Display::fmt(signature, f))
    }
}

fn check_text(text: &str) -> Result<(), NoteError> {
    if text.starts_with('\u{feff}') {
        return Err(NoteError::ByteOrderMark);
    }
    if text.contains('\r') {
        return Err(NoteError::CarriageReturn);
    }
    if text.bytes().any(|byte| byte < b' ' && byte != b'\n') {
        return Err(NoteError::ControlCharacter);
    }
    Ok(())
}
