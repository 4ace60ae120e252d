//! Withering tokens: plaintext, hash, and what a token allows.
//!
//! [`Token`] is the plaintext: shown once, never stored. [`TokenHash`] is what
//! is stored and looked up. The only way from one to the other is hashing.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroize;

use crate::{rng::Rng, secret::Secret};

/// Do not change: applications, scanners and the Go project's users know it.
pub const TOKEN_PREFIX: &str = "sk-";
/// Management keys have a family of their own, so neither passes for the other.
pub const MANAGEMENT_KEY_PREFIX: &str = "mk-";
const RANDOM_BYTES: usize = 32;
const BODY_CHARS: usize = 43;
/// The Go project's tokens: 22 base64url characters after the prefix.
const IMPORTED_BODY_CHARS: usize = 22;

/// The text of a token as a client presents it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Secret);

impl Token {
    pub fn generate(rng: &dyn Rng) -> Self {
        Self(generate(TOKEN_PREFIX, rng))
    }

    /// Accepts the exact shape of a token: cheap, so that garbage costs no
    /// hashing and no look-up.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let body = text.strip_prefix(TOKEN_PREFIX.as_bytes())?;
        let length_fits = body.len() == BODY_CHARS || body.len() == IMPORTED_BODY_CHARS;
        let text = std::str::from_utf8(text).ok()?;
        (length_fits && body.iter().all(is_base64url)).then(|| Self(Secret::new(text)))
    }

    pub fn hash(&self, key: &TokenHashKey) -> TokenHash {
        key.hash(&self.0)
    }

    /// For the one answer that shows it, and for masking echoes of it.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    pub fn obfuscated(&self) -> String {
        self.0.obfuscated()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A fresh secret: prefix and 256 random bits.
pub fn generate(prefix: &str, rng: &dyn Rng) -> Secret {
    let mut random = [0u8; RANDOM_BYTES];
    rng.fill_secure(&mut random);
    let text = format!("{prefix}{}", URL_SAFE_NO_PAD.encode(random));
    random.zeroize();
    Secret::new(text)
}

fn is_base64url(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// What is stored of a token or management key: a keyed hash. Without the key
/// it neither reveals the token nor lets anyone test a guess.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

/// It is random already: eight bytes of it spread as well as all of them.
impl std::hash::Hash for TokenHash {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let [.., a, b, c, d, e, f, g, h] = self.0;
        state.write_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    }
}

impl TokenHash {
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(***)")
    }
}

/// `HMAC-SHA-256(key, SHA-256(secret))`: the inner digest lets hashes that the
/// Go project exported be imported without the tokens. The keyed state is
/// computed once, so a look-up costs two short hashes.
#[derive(Clone)]
pub struct TokenHashKey(Hmac<Sha256>);

impl TokenHashKey {
    pub fn new(key: &[u8; 32]) -> Self {
        Self(Hmac::new_from_slice(key).expect("HMAC takes a key of any length"))
    }

    pub fn hash(&self, secret: &Secret) -> TokenHash {
        self.hash_digest(&Sha256::digest(secret.expose().as_bytes()).into())
    }

    /// The hash of a secret of which only the SHA-256 is known.
    pub fn hash_digest(&self, digest: &[u8; 32]) -> TokenHash {
        let mut mac = self.0.clone();
        mac.update(digest);
        TokenHash(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for TokenHashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHashKey(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Fixed;

    #[test]
    fn generated_tokens_parse_and_hash() {
        let token = Token::generate(&Fixed(42));
        assert_eq!(token.expose().len(), 46);
        assert_eq!(Token::parse(token.expose().as_bytes()), Some(token.clone()));
        let key = TokenHashKey::new(&[7; 32]);
        assert_eq!(token.hash(&key), token.hash(&key));
        assert_ne!(token.hash(&key), token.hash(&TokenHashKey::new(&[8; 32])));
        assert_eq!(format!("{token:?} {:?}", token.hash(&key)), "*** TokenHash(***)");
    }

    #[test]
    fn other_shapes_are_refused() {
        for text in ["", "sk-", "sk-short", "mk-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
            assert_eq!(Token::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Token::parse(format!("sk-{}", "é".repeat(11)).as_bytes()), None);
        assert!(Token::parse(format!("sk-{}", "a".repeat(22)).as_bytes()).is_some());
    }
}
