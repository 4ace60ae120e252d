//! Commitments to values that do not stand in the leaf, and their openings.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

use super::{SEALED_VALUE_BYTES_MAX, Value, jcs};
use crate::rng::Rng;

const COMMITMENT_DOMAIN: &[u8] = b"llm-proxy/audit/commit/v1";
pub(super) const SALT_BYTES: usize = 32;

/// A commitment as it stands in the leaf: base64 of a SHA-256.
pub type Commitment = String;

/// What a commitment hides. Deleting it erases the value; the leaf, its hash
/// and every proof stay as they are.
#[derive(Clone, PartialEq, Eq)]
pub struct Opening {
    /// Where the value would stand, as a JSON pointer: `/actor/name`.
    pub path: String,
    pub salt: [u8; SALT_BYTES],
    /// The canonical JSON of the value.
    pub value: String,
}

impl Opening {
    /// Seals `value` under a fresh salt.
    pub(super) fn seal(path: String, value: &Value, rng: &dyn Rng) -> Self {
        let mut salt = [0; SALT_BYTES];
        rng.fill_secure(&mut salt);
        let bytes = jcs::to_bytes(value.as_json()).expect("a value is made of canonical parts");
        let bytes = if bytes.len() <= SEALED_VALUE_BYTES_MAX {
            bytes
        } else {
            format!("{{\"oversize_bytes\":{}}}", bytes.len()).into_bytes()
        };
        let value = String::from_utf8(bytes).expect("canonical JSON is UTF-8");
        Self { path, salt, value }
    }

    pub fn commitment(&self) -> Commitment {
        commitment(&self.path, &self.salt, self.value.as_bytes())
    }

    /// The value, if the opening is canonical and opens `commitment`.
    pub fn open(&self, commitment: &str) -> Option<serde_json::Value> {
        let value = jcs::parse(self.value.as_bytes()).ok()?;
        (self.commitment() == commitment).then_some(value)
    }
}

impl std::fmt::Debug for Opening {
    /// The value is personal data: it is shown where it is asked for, not here.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opening({})", self.path)
    }
}

/// `base64(SHA-256(domain || 0 || salt || u32be(len(path)) || path ||
/// u32be(len(value)) || value))`: the lengths keep any two inputs apart.
pub fn commitment(path: &str, salt: &[u8; SALT_BYTES], value: &[u8]) -> Commitment {
    let mut hash = Sha256::new();
    hash.update(COMMITMENT_DOMAIN);
    hash.update([0]);
    hash.update(salt);
    hash.update(length(path.as_bytes()));
    hash.update(path);
    hash.update(length(value));
    hash.update(value);
    STANDARD.encode(hash.finalize())
}

fn length(bytes: &[u8]) -> [u8; 4] {
    let length = u32::try_from(bytes.len()).expect("paths and sealed values are bounded");
    length.to_be_bytes()
}
