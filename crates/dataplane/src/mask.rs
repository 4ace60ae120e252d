//! Keeps an answer from carrying the provider key to a client: some providers
//! echo what they were sent.
//!
//! Errors are looked at whatever they are, other answers where they are text
//! that a provider writes errors in: JSON and event streams, as they are on the
//! wire. A match is overwritten with as many stars, so lengths stay true; bytes
//! that could begin a match are held back until the next frame decides.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use domain::{failure::ErrorCode, secret::Secret};
use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_ENCODING, CONTENT_LENGTH},
};
use http_body_util::{BodyExt, Limited};
use memchr::memmem;

use crate::{observe, provider::Provider, relay::Source, rescue::Refusal};

/// Of an encoded error answer; real ones are a few hundred bytes.
const ENCODED_ERROR_BYTES_MAX: usize = 256 << 10;
/// Of what it decodes to.
const DECODED_ERROR_BYTES_MAX: usize = 1 << 20;

/// Configured headers shorter than this are names and versions, no credentials.
const HEADER_SECRET_BYTES_MIN: usize = 16;

/// What a provider is sent and nobody else may see: the key, and headers of the
/// configuration, which may hold credentials.
pub fn secrets(key: &Secret, provider: &Provider) -> Vec<Secret> {
    std::iter::once(key.clone()).chain(header_secrets(provider).map(Secret::new)).collect()
}

/// The part of it that stands in the configuration.
pub fn header_secrets(provider: &Provider) -> impl Iterator<Item = &str> {
    let values = provider.headers.iter().filter_map(|(_, value)| value.to_str().ok());
    values.filter(|value| value.len() >= HEADER_SECRET_BYTES_MIN)
}

pub struct Masker {
    secrets: Vec<Secret>,
    held: BytesMut,
}

impl Masker {
    pub fn new(secrets: Vec<Secret>) -> Self {
        Self { secrets, held: BytesMut::new() }
    }

    /// Takes a frame and gives what is safe to pass on (may be empty); all that
    /// there is when the frame is the `last`.
    pub fn push(&mut self, frame: &Bytes, last: bool) -> Bytes {
        let keeps = |masker: &Self, bytes: &[u8]| if last { 0 } else { masker.beginning(bytes) };
        if self.held.is_empty() && !contains(frame, &self.secrets) && keeps(self, frame) == 0 {
            return frame.clone();
        }
        self.held.extend_from_slice(frame);
        mask(&mut self.held, &self.secrets);
        let keep = keeps(self, &self.held);
        self.held.split_to(self.held.len() - keep).freeze()
    }

    /// The bytes that turned out to begin nothing.
    pub fn finish(&mut self) -> Bytes {
        self.held.split().freeze()
    }

    pub fn trailers(&self, trailers: &mut HeaderMap) {
        mask_headers(trailers, &self.secrets);
    }

    /// Length of the longest end of `bytes` that is a beginning of a secret.
    fn beginning(&self, bytes: &[u8]) -> usize {
        let of_one = |secret: &Secret| {
            let secret = secret.expose().as_bytes();
            let longest = bytes.len().min(secret.len().saturating_sub(1));
            let end = &bytes[bytes.len() - longest..];
            let mut begins = memchr::memchr_iter(*secret.first()?, end);
            begins.find(|&at| secret.starts_with(&end[at..])).map(|at| longest - at)
        };
        self.secrets.iter().filter_map(of_one).max().unwrap_or(0)
    }
}

/// Reads an encoded error answer whole and, where the key stands in it, replaces
/// it by its plain text without the key. An answer that cannot be read is not
/// passed on: it could hide the key.
pub async fn whole(
    source: Source,
    headers: &mut HeaderMap,
    secrets: &[Secret],
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
    if !contains(&plain, secrets) {
        return Ok(Source::Whole(Some(coded)));
    }
    let mut plain = plain;
    mask(&mut plain, secrets);
    headers.remove(CONTENT_ENCODING);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(plain.len()));
    Ok(Source::Whole(Some(plain.into())))
}

fn contains(bytes: &[u8], secrets: &[Secret]) -> bool {
    secrets.iter().any(|secret| memmem::find(bytes, secret.expose().as_bytes()).is_some())
}

/// Overwrites every occurrence of the secrets.
fn mask(bytes: &mut [u8], secrets: &[Secret]) {
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        let secret = secret.expose().as_bytes();
        let mut from = 0;
        while let Some(at) = memmem::find(&bytes[from..], secret) {
            bytes[from + at..from + at + secret.len()].fill(b'*');
            from += at + secret.len();
        }
    }
}

/// The same for header values.
pub fn mask_headers(headers: &mut HeaderMap, secrets: &[Secret]) {
    for value in headers.values_mut() {
        if contains(value.as_bytes(), secrets) {
            let mut masked = value.as_bytes().to_vec();
            mask(&mut masked, secrets);
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
            let mut masker = Masker::new(vec![Secret::new("sk-secret"), Secret::new("aaab")]);
            let (mut out, mut at) = (Vec::new(), 0);
            for cut in cuts {
                let to = (at + cut).min(text.len());
                out.extend_from_slice(&masker.push(&Bytes::from_static(&text[at..to]), false));
                at = to;
            }
            out.extend_from_slice(&masker.push(&Bytes::from_static(&text[at..]), false));
            out.extend_from_slice(&masker.finish());
            prop_assert_eq!(out.as_slice(), b"ab aab *********! **** sk-secre********* end sk-sec");
        }
    }
}
