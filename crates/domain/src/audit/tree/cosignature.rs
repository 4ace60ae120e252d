//! Cosignatures, version 1: a witness says that at this time this was the
//! largest tree it had seen, and that it had grown out of all before.

use super::{KeyError, KeyKind, NoteSignature, SigningKey, VerifierKey, key::SIGNATURE_BYTES};

const TIME_BYTES: usize = 8;

/// What stands in the signature of a witness.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cosignature {
    /// Seconds since the Unix epoch.
    pub time: u64,
    signature: [u8; SIGNATURE_BYTES],
}

impl Cosignature {
    /// Reads the bytes of a note's signature: the time, then the signature.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (time, signature) = bytes.split_first_chunk::<TIME_BYTES>()?;
        let time = u64::from_be_bytes(*time);
        let signature = signature.try_into().ok()?;
        // A time before 1970 in disguise.
        i64::try_from(time).is_ok().then_some(Self { time, signature })
    }

    pub(super) fn is_by(&self, key: &VerifierKey, text: &str) -> bool {
        key.kind() == KeyKind::Cosignature
            && key.signed(message(self.time, text).as_bytes(), &self.signature)
    }
}

/// The signature of a witness over the text of a checkpoint. That it grew out
/// of what the witness saw before is the caller's to know.
pub fn cosign(key: &SigningKey, text: &str, time: u64) -> Result<NoteSignature, KeyError> {
    if key.verifier().kind() != KeyKind::Cosignature {
        return Err(KeyError::OtherKind);
    }
    let mut bytes = time.to_be_bytes().to_vec();
    bytes.extend_from_slice(&key.sign(message(time, text).as_bytes()));
    Ok(NoteSignature::new(key.verifier(), bytes))
}

fn message(time: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}
