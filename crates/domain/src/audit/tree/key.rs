//! Keys of notes and their texts: `name+id+base64` to verify, and the same
//! behind `PRIVATE+KEY+` to sign.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::Signer as _;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{rng::Rng, secret::Secret};

const NAME_BYTES_MAX: usize = 255;
const KEY_BYTES: usize = 32;
pub(super) const SIGNATURE_BYTES: usize = 64;
const PRIVATE: &str = "PRIVATE+KEY+";

/// Why a text is not a key, or a key not the one that is needed. None of the
/// errors carries a part of the text: it may be a private key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    #[error("the key is not of the form name+id+base64")]
    Shape,
    #[error("the name of a key is empty, too long, or has spaces, control characters or '+'")]
    Name,
    #[error("the id of the key is not eight hexadecimal digits in lower case")]
    Id,
    #[error("the id of the key does not belong to its name and bytes")]
    OtherId,
    #[error("the key is not base64")]
    NotBase64,
    #[error("the key has {0} bytes, not 32")]
    Length(usize),
    #[error("the key is of kind {0:#04x}, which is not known")]
    UnknownKind(u8),
    #[error("the key is not a point of Ed25519")]
    NotAPoint,
    #[error("the key is weak: anybody can sign for it")]
    Weak,
    #[error("the key has another name than is needed")]
    OtherName,
    #[error("the key is of another kind than is needed")]
    OtherKind,
}

/// Who signs: for the tree itself the name is its origin.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(Box<str>);

impl KeyName {
    /// 1 to 255 bytes without white space, control characters and plus.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let is_legal =
            |c: char| !c.is_whitespace() && !c.is_control() && c != '+' && c != '\u{feff}';
        let fits = !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.chars().all(is_legal);
        if fits { Ok(Self(text.into())) } else { Err(KeyError::Name) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// What a key signs; part of its id, so one cannot stand in for the other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum KeyKind {
    /// The text of a note as it is.
    Ed25519 = 0x01,
    /// A checkpoint with the time at which a witness saw it.
    Cosignature = 0x04,
}

impl KeyKind {
    fn of(byte: u8) -> Result<Self, KeyError> {
        match byte {
            0x01 => Ok(Self::Ed25519),
            0x04 => Ok(Self::Cosignature),
            other => Err(KeyError::UnknownKind(other)),
        }
    }
}

/// A public key.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: KeyName,
    id: u32,
    kind: KeyKind,
    key: ed25519_dalek::VerifyingKey,
}

impl VerifierKey {
    /// Reads what [`fmt::Display`] writes, and nothing else.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (name, id, kind, bytes) = split(text)?;
        let key = ed25519_dalek::VerifyingKey::from_bytes(&bytes);
        let key = Self::new(name, kind, key.map_err(|_| KeyError::NotAPoint)?)?;
        if key.id == id { Ok(key) } else { Err(KeyError::OtherId) }
    }

    fn new(
        name: KeyName,
        kind: KeyKind,
        key: ed25519_dalek::VerifyingKey,
    ) -> Result<Self, KeyError> {
        if key.is_weak() {
            return Err(KeyError::Weak);
        }
        Ok(Self { id: id_of(&name, kind, key.as_bytes()), name, kind, key })
    }

    pub fn name(&self) -> &KeyName {
        &self.name
    }

    pub fn id(&self) -> u32 {
        self.id
    }

    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Whether `signature` is this key's over exactly these bytes.
    pub(super) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let signature = ed25519_dalek::Signature::from_slice(signature);
        signature.is_ok_and(|signature| self.key.verify_strict(message, &signature).is_ok())
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![self.kind as u8];
        bytes.extend_from_slice(self.key.as_bytes());
        write!(f, "{}+{:08x}+{}", self.name, self.id, STANDARD.encode(bytes))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A private key: wiped when dropped, never shown.
pub struct SigningKey {
    key: ed25519_dalek::SigningKey,
    public: VerifierKey,
}

impl SigningKey {
    pub fn generate(name: KeyName, kind: KeyKind, rng: &dyn Rng) -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; KEY_BYTES]);
        rng.fill_secure(&mut *seed);
        Self::from_seed(name, kind, &seed)
    }

    fn from_seed(name: KeyName, kind: KeyKind, seed: &[u8; KEY_BYTES]) -> Result<Self, KeyError> {
        let key = ed25519_dalek::SigningKey::from_bytes(seed);
        let public = VerifierKey::new(name, kind, key.verifying_key())?;
        Ok(Self { key, public })
    }

    /// Reads the text that [`Self::to_secret`] writes.
    pub fn parse(text: &Secret) -> Result<Self, KeyError> {
        let rest = text.expose().strip_prefix(PRIVATE).ok_or(KeyError::Shape)?;
        let (name, id, kind, seed) = split(rest)?;
        let key = Self::from_seed(name, kind, &seed)?;
        if key.public.id == id { Ok(key) } else { Err(KeyError::OtherId) }
    }

    /// Reads the key of `name`: that text, or the base64 of 32 random bytes.
    pub fn parse_for(name: &KeyName, kind: KeyKind, text: &Secret) -> Result<Self, KeyError> {
        if !text.expose().starts_with(PRIVATE) {
            return Self::from_seed(name.clone(), kind, &*decode(text.expose())?);
        }
        let key = Self::parse(text)?;
        if key.public.name != *name {
            return Err(KeyError::OtherName);
        }
        if key.public.kind == kind { Ok(key) } else { Err(KeyError::OtherKind) }
    }

    pub fn to_secret(&self) -> Secret {
        let mut bytes = Zeroizing::new(vec![self.public.kind as u8]);
        bytes.extend_from_slice(self.key.as_bytes());
        let encoded = Zeroizing::new(STANDARD.encode(&*bytes));
        let (name, id) = (&self.public.name, self.public.id);
        Secret::new(format!("{PRIVATE}{name}+{id:08x}+{}", *encoded))
    }

    pub fn verifier(&self) -> &VerifierKey {
        &self.public
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.key.sign(message).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public)
    }
}

/// The first four bytes of `SHA-256(name || "\n" || kind || key)`.
fn id_of(name: &KeyName, kind: KeyKind, key: &[u8; KEY_BYTES]) -> u32 {
    let hash = Sha256::new()
        .chain_update(name.as_str())
        .chain_update([b'\n', kind as u8])
        .chain_update(key)
        .finalize();
    hash.iter().take(4).fold(0, |id, byte| (id << 8) | u32::from(*byte))
}

type Parts = (KeyName, u32, KeyKind, Zeroizing<[u8; KEY_BYTES]>);

fn split(text: &str) -> Result<Parts, KeyError> {
    let (name, rest) = text.split_once('+').ok_or(KeyError::Shape)?;
    let (id, encoded) = rest.split_once('+').ok_or(KeyError::Shape)?;
    let is_id =
        id.len() == 8 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let id = u32::from_str_radix(id, 16).ok().filter(|_| is_id).ok_or(KeyError::Id)?;
    let bytes = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| KeyError::NotBase64)?);
    let (kind, key) = bytes.split_first().ok_or(KeyError::Length(0))?;
    Ok((KeyName::parse(name)?, id, KeyKind::of(*kind)?, exact(key)?))
}

fn decode(text: &str) -> Result<Zeroizing<[u8; KEY_BYTES]>, KeyError> {
    let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| KeyError::NotBase64)?);
    exact(&bytes)
}

fn exact(bytes: &[u8]) -> Result<Zeroizing<[u8; KEY_BYTES]>, KeyError> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    if bytes.len() != KEY_BYTES {
        return Err(KeyError::Length(bytes.len()));
    }
    key.copy_from_slice(bytes);
    Ok(key)
}
