//! Keeps a provider's error answer from carrying the provider key to a client:
//! some providers echo what they were sent.
//!
//! Only error answers are looked at. A match is overwritten with as many stars,
//! so lengths stay true; bytes that could begin a match are held back until the
//! next frame decides.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use domain::{failure::ErrorCode, secret::Secret};
use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_ENCODING, CONTENT_LENGTH},
};
use http_body_util::{BodyExt, Limited};
use memchr::memmem;

use crate::{observe, relay::Source, rescue::Refusal};

/// Of an encoded error answer; real ones are a few hundred bytes.
const ENCODED_ERROR_BYTES_MAX: usize = 256 << 10;
/// Of what it decodes to.
const DECODED_ERROR_BYTES_MAX: usize = 1 << 20;

pub struct Masker {
    secret: Secret,
    held: BytesMut,
}

impl Masker {
    pub fn new(secret: Secret) -> Self {
        Self { secret, held: BytesMut::new() }
    }

    /// Takes a frame and gives what is safe to pass on (may be empty).
    pub fn push(&mut self, frame: &Bytes) -> Bytes {
        self.held.extend_from_slice(frame);
        mask(&mut self.held, self.secret.expose().as_bytes());
        let keep = self.possible_beginning();
        self.held.split_to(self.held.len() - keep).freeze()
    }

    /// The bytes that turned out to begin nothing.
    pub fn finish(&mut self) -> Bytes {
        self.held.split().freeze()
    }

    /// Length of the longest end of `held` that is a beginning of the secret.
    fn possible_beginning(&self) -> usize {
        let secret = self.secret.expose().as_bytes();
        let longest = self.held.len().min(secret.len().saturating_sub(1));
        (1..=longest).rev().find(|&n| self.held.ends_with(&secret[..n])).unwrap_or(0)
    }
}

/// Reads an encoded error answer whole and, where the key stands in it, replaces
/// it by its plain text without the key. An answer that cannot be read is not
/// passed on: it could hide the key.
pub async fn whole(
    source: Source,
    headers: &mut HeaderMap,
    secret: &Secret,
    idle: Duration,
) -> Result<Source, Refusal> {
    let Source::Stream(body) = source else { return Ok(source) };
    let unreadable = || {
        Refusal::new(
            ErrorCode::UpstreamProtocolError,
            "the provider sent an error that cannot be decoded",
        )
    };
    let collecting = Limited::new(body, ENCODED_ERROR_BYTES_MAX).collect();
    let collected = tokio::time::timeout(idle, collecting).await;
    let coded = collected.map_err(|_| unreadable())?.map_err(|_| unreadable())?.to_bytes();
    if coded.is_empty() {
        return Ok(Source::Whole(None));
    }
    let plain =
        observe::decoded(headers, &coded, DECODED_ERROR_BYTES_MAX).ok_or_else(unreadable)?;
    if memmem::find(&plain, secret.expose().as_bytes()).is_none() {
        return Ok(Source::Whole(Some(coded)));
    }
    let mut plain = plain;
    mask(&mut plain, secret.expose().as_bytes());
    headers.remove(CONTENT_ENCODING);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(plain.len()));
    Ok(Source::Whole(Some(plain.into())))
}

/// Overwrites every occurrence of `secret`.
pub fn mask(bytes: &mut [u8], secret: &[u8]) {
    if secret.is_empty() {
        return;
    }
    let mut from = 0;
    while let Some(at) = memmem::find(&bytes[from..], secret) {
        bytes[from + at..from + at + secret.len()].fill(b'*');
        from += at + secret.len();
    }
}

/// The same for header values.
pub fn mask_headers(headers: &mut HeaderMap, secret: &Secret) {
    for value in headers.values_mut() {
        if memmem::find(value.as_bytes(), secret.expose().as_bytes()).is_some() {
            let mut masked = value.as_bytes().to_vec();
            mask(&mut masked, secret.expose().as_bytes());
            *value = HeaderValue::from_bytes(&masked).unwrap_or(HeaderValue::from_static("***"));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_cut_lets_a_secret_through(cuts in proptest::collection::vec(1usize..20, 1..40)) {
            let text = b"ab aab sk-secret! aaab sk-secresk-secret end sk-sec";
            let mut masker = Masker::new(Secret::new("sk-secret"));
            let (mut out, mut at) = (Vec::new(), 0);
            for cut in cuts {
                let to = (at + cut).min(text.len());
                out.extend_from_slice(&masker.push(&Bytes::from_static(&text[at..to])));
                at = to;
            }
            out.extend_from_slice(&masker.push(&Bytes::from_static(&text[at..])));
            out.extend_from_slice(&masker.finish());
            prop_assert_eq!(out.as_slice(), b"ab aab *********! aaab sk-secre********* end sk-sec");
        }
    }
}
