//! Provider keys at rest, and the key of the token hashes.
//!
//! `ENCRYPTION_KEY` is split by HKDF-SHA256 into an AES-256-GCM key for what is
//! stored, and the first value of the token hash key. The token hash key itself
//! is kept wrapped under the AES key: that lets the encryption key change
//! without every token failing, and shows at once when a wrong one is given.
//!
//! A sealed text is `base64(nonce[12] || ciphertext || tag[16])`. The associated
//! data names what it is for, so that a ciphertext moved to another project or
//! provider does not open.

use aes_gcm::{
    Aes256Gcm, Key, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use domain::{ids::ProjectId, rng::Rng, secret::Secret};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use crate::{
    error::{Error, ErrorKind, Result},
    rows,
};

const NONCE_BYTES: usize = 12;
const KEY_ID_BYTES: usize = 8;
const SALT: &[u8] = b"llm-proxy/encryption-key/v1";
const TOKEN_HASH_KEY_USE: &[u8] = b"llm-proxy/token-hash-key/v1";

/// The current `ENCRYPTION_KEY` and those before it.
pub struct EncryptionKeys {
    current: KeySet,
    old: Vec<KeySet>,
}

impl std::fmt::Debug for EncryptionKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EncryptionKeys({}, {} old)", self.current.id, self.old.len())
    }
}

/// What one encryption key is split into.
struct KeySet {
    /// Names the key in rows; tells nothing about it.
    id: String,
    cipher: Aes256Gcm,
    token_hash_key: Zeroizing<[u8; 32]>,
}

impl EncryptionKeys {
    /// Reads base64 of 32 bytes each.
    pub fn parse(current: &Secret, old: &[Secret]) -> Result<Self> {
        let old = old.iter().map(|key| KeySet::parse(key, "ENCRYPTION_KEYS_OLD"));
        Ok(Self {
            current: KeySet::parse(current, "ENCRYPTION_KEY")?,
            old: old.collect::<Result<_>>()?,
        })
    }

    /// The id of the key that seals now.
    pub(crate) fn current_id(&self) -> &str {
        &self.current.id
    }

    fn by_id(&self, id: &str) -> Result<&KeySet> {
        let mut all = std::iter::once(&self.current).chain(&self.old);
        all.find(|key| key.id == id).ok_or_else(|| {
            Error::new(
                ErrorKind::Corrupt,
                format!(
                    "the database is encrypted with key {id}, which is neither ENCRYPTION_KEY \
                     ({}) nor one of the {} in ENCRYPTION_KEYS_OLD",
                    self.current.id,
                    self.old.len()
                ),
            )
        })
    }

    /// Fails if rows name a key that is not here.
    pub(crate) fn require(&self, id: &str) -> Result<()> {
        self.by_id(id).map(|_| ())
    }

    pub(crate) fn seal_provider_key(
        &self,
        key: &Secret,
        project: ProjectId,
        provider: &str,
        rng: &dyn Rng,
    ) -> Result<String> {
        let purpose = provider_key_use(project, provider);
        self.current.seal(key.expose().as_bytes(), &purpose, rng)
    }

    pub(crate) fn open_provider_key(
        &self,
        key_id: &str,
        sealed: &str,
        project: ProjectId,
        provider: &str,
    ) -> Result<Secret> {
        let plain = self.by_id(key_id)?.open(sealed, &provider_key_use(project, provider))?;
        let text = std::str::from_utf8(&plain)
            .map_err(|error| Error::corrupt("a provider key is not text").with_source(error))?;
        Ok(Secret::new(text))
    }

    /// The token hash key of a new database.
    pub(crate) fn first_token_hash_key(&self) -> Zeroizing<[u8; 32]> {
        self.current.token_hash_key.clone()
    }

    /// `<key id>:<sealed>`, to be stored.
    pub(crate) fn wrap_token_hash_key(&self, key: &[u8; 32], rng: &dyn Rng) -> Result<String> {
        self.wrap(key, TOKEN_HASH_KEY_USE, rng)
    }

    /// The same for the key that tags unknown credentials in one week; `name` is
    /// that of its row.
    pub(crate) fn wrap_tag_key(&self, key: &[u8; 32], name: &str, rng: &dyn Rng) -> Result<String> {
        self.wrap(key, &tag_key_use(name), rng)
    }

    pub(crate) fn unwrap_tag_key(
        &self,
        row: &str,
        name: &str,
    ) -> Result<(Zeroizing<[u8; 32]>, bool)> {
        self.unwrap(row, &tag_key_use(name), "a key that tags unknown credentials is damaged")
    }

    fn wrap(&self, key: &[u8; 32], purpose: &[u8], rng: &dyn Rng) -> Result<String> {
        let sealed = self.current.seal(key, purpose, rng)?;
        Ok(format!("{}:{sealed}", self.current.id))
    }

    /// The token hash key, and whether an old key wrapped it.
    pub(crate) fn unwrap_token_hash_key(&self, row: &str) -> Result<(Zeroizing<[u8; 32]>, bool)> {
        self.unwrap(row, TOKEN_HASH_KEY_USE, "the stored token hash key is damaged")
    }

    fn unwrap(
        &self,
        row: &str,
        purpose: &[u8],
        complaint: &'static str,
    ) -> Result<(Zeroizing<[u8; 32]>, bool)> {
        let damaged = || Error::corrupt(complaint);
        let (key_id, sealed) = row.split_once(':').ok_or_else(damaged)?;
        let plain = self.by_id(key_id)?.open(sealed, purpose)?;
        let mut key = Zeroizing::new([0; 32]);
        if plain.len() != key.len() {
            return Err(damaged());
        }
        key.copy_from_slice(&plain);
        Ok((key, key_id != self.current.id))
    }
}

fn tag_key_use(name: &str) -> Vec<u8> {
    format!("llm-proxy/tag-key/v1\0{name}").into_bytes()
}

fn provider_key_use(project: ProjectId, provider: &str) -> Vec<u8> {
    format!("llm-proxy/provider-key/v1\0{project}\0{provider}").into_bytes()
}

impl KeySet {
    fn parse(text: &Secret, variable: &'static str) -> Result<Self> {
        let decoded = STANDARD.decode(text.expose().trim()).map(Zeroizing::new);
        let input = decoded.ok().filter(|bytes| bytes.len() == 32);
        let input = input
            .ok_or_else(|| Error::invalid(format!("{variable} must be base64 of 32 bytes")))?;
        let derive = Hkdf::<Sha256>::new(Some(SALT), &input);
        let expand = |purpose: &[u8], out: &mut [u8]| {
            derive.expand(purpose, out).expect("far fewer bytes than HKDF can give");
        };
        let mut cipher_key = [0; 32];
        expand(b"provider-keys", &mut cipher_key);
        let mut token_hash_key = Zeroizing::new([0; 32]);
        expand(b"token-hash", &mut *token_hash_key);
        let mut id = [0; KEY_ID_BYTES];
        expand(b"key-id", &mut id);
        let cipher = Aes256Gcm::new(Key::<Aes256Gcm>::from_slice(&cipher_key));
        cipher_key.zeroize();
        Ok(Self { id: rows::hex(&id), cipher, token_hash_key })
    }

    fn seal(&self, plain: &[u8], purpose: &[u8], rng: &dyn Rng) -> Result<String> {
        let mut nonce = [0; NONCE_BYTES];
        rng.fill_secure(&mut nonce);
        let sealed = self
            .cipher
            .encrypt(Nonce::from_slice(&nonce), Payload { msg: plain, aad: purpose })
            .map_err(|_| Error::new(ErrorKind::Internal, "a secret could not be encrypted"))?;
        Ok(STANDARD.encode([&nonce[..], &sealed].concat()))
    }

    fn open(&self, sealed: &str, purpose: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let damaged = || {
            Error::corrupt("a stored secret does not open: it is damaged or was moved from its row")
        };
        let bytes = STANDARD.decode(sealed).map_err(|_| damaged())?;
        let (nonce, ciphertext) = bytes.split_at_checked(NONCE_BYTES).ok_or_else(damaged)?;
        self.cipher
            .decrypt(Nonce::from_slice(nonce), Payload { msg: ciphertext, aad: purpose })
            .map(Zeroizing::new)
            .map_err(|_| damaged())
    }
}
