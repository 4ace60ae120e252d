//! Keeps an answer from carrying the provider key to a client: some providers
//! echo what they were sent.
//!
//! Errors are looked at whatever they are, other answers where they are text
//! that a provider writes errors in: JSON and event streams, as they are on the
//! wire. A match is overwritten with as many stars, so lengths stay true; bytes
//! that could begin a match are held back until the next frame decides.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use domain::{failure::ErrorCode, secret::Secret};
use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_ENCODING, CONTENT_LENGTH},
};
use http_body_util::{BodyExt, Limited};
use memchr::memmem::Finder;

use crate::{observe, provider::Provider, relay::Source, rescue::Refusal};

/// Of an encoded error answer; real ones are a few hundred bytes.
const ENCODED_ERROR_BYTES_MAX: usize = 256 << 10;
/// Of what it decodes to.
const DECODED_ERROR_BYTES_MAX: usize = 1 << 20;

/// Configured headers shorter than this are names and versions, no credentials.
const HEADER_SECRET_BYTES_MIN: usize = 16;

/// What a provider is sent and nobody else may see: the key, and headers of the
/// configuration, which may hold credentials. Made once for a grant, since every
/// answer is searched for it.
#[derive(Clone)]
pub struct Confidential(Arc<[Needle]>);

struct Needle {
    secret: Secret,
    finder: Finder<'static>,
}

impl Confidential {
    pub fn new(key: Secret, provider: &Provider) -> Self {
        let headers = provider.headers.iter().filter_map(|(_, value)| value.to_str().ok());
        let headers = headers.filter(|value| value.len() >= HEADER_SECRET_BYTES_MIN);
        Self::of(std::iter::once(key).chain(headers.map(Secret::new)))
    }

    fn of(secrets: impl Iterator<Item = Secret>) -> Self {
        let needle = |secret: Secret| {
            let finder = Finder::new(secret.expose().as_bytes()).into_owned();
            Needle { secret, finder }
        };
        Self(secrets.filter(|secret| !secret.is_empty()).map(needle).collect())
    }

    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|needle| needle.secret.expose())
    }

    pub fn is_in(&self, bytes: &[u8]) -> bool {
        self.0.iter().any(|needle| needle.finder.find(bytes).is_some())
    }

    /// Overwrites every occurrence.
    fn mask(&self, bytes: &mut [u8]) {
        for Needle { finder, .. } in self.0.iter() {
            let (mut from, length) = (0, finder.needle().len());
            while let Some(at) = finder.find(&bytes[from..]) {
                bytes[from + at..from + at + length].fill(b'*');
                from += at + length;
            }
        }
    }

    /// The same for header values.
    pub fn mask_headers(&self, headers: &mut HeaderMap) {
        for value in headers.values_mut() {
            if self.is_in(value.as_bytes()) {
                let mut masked = value.as_bytes().to_vec();
                self.mask(&mut masked);
                let stars = HeaderValue::from_static("***");
                *value = HeaderValue::from_bytes(&masked).unwrap_or(stars);
            }
        }
    }

    /// Length of the longest end of `bytes` that is a beginning of a secret.
    fn beginning(&self, bytes: &[u8]) -> usize {
        let of_one = |needle: &Needle| {
            let secret = needle.finder.needle();
            let longest = bytes.len().min(secret.len() - 1);
            let end = &bytes[bytes.len() - longest..];
            let mut begins = memchr::memchr_iter(secret[0], end);
            begins.find(|&at| secret.starts_with(&end[at..])).map(|at| longest - at)
        };
        self.0.iter().filter_map(of_one).max().unwrap_or(0)
    }
}

pub struct Masker {
    secrets: Confidential,
    held: BytesMut,
}

impl Masker {
    pub fn new(secrets: Confidential) -> Self {
        Self { secrets, held: BytesMut::new() }
    }

    /// Takes a frame and gives what is safe to pass on (may be empty); all that
    /// there is when the frame is the `last`.
    pub fn push(&mut self, frame: &Bytes, last: bool) -> Bytes {
        let secrets = self.secrets.clone();
        let keeps = |bytes: &[u8]| if last { 0 } else { secrets.beginning(bytes) };
        if self.held.is_empty() && !secrets.is_in(frame) && keeps(frame) == 0 {
            return frame.clone();
        }
        self.held.extend_from_slice(frame);
        secrets.mask(&mut self.held);
        let keep = keeps(&self.held);
        self.held.split_to(self.held.len() - keep).freeze()
    }

    /// The bytes that turned out to begin nothing.
    pub fn finish(&mut self) -> Bytes {
        self.held.split().freeze()
    }

    pub fn trailers(&self, trailers: &mut HeaderMap) {
        self.secrets.mask_headers(trailers);
    }
}

/// Reads an encoded error answer whole and, where the key stands in it, replaces
/// it by its plain text without the key. An answer that cannot be read is not
/// passed on: it could hide the key.
pub async fn whole(
    source: Source,
    headers: &mut HeaderMap,
    secrets: &Confidential,
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
    if !secrets.is_in(&plain) {
        return Ok(Source::Whole(Some(coded)));
    }
    let mut plain = plain;
    secrets.mask(&mut plain);
    headers.remove(CONTENT_ENCODING);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(plain.len()));
    Ok(Source::Whole(Some(plain.into())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_cut_lets_a_secret_through(cuts in proptest::collection::vec(1usize..20, 1..40)) {
            let text = b"ab aab sk-secret! aaab sk-secresk-secret end sk-sec";
            let mut masker = Masker::new(Confidential::of(
                ["sk-secret", "aaab"].into_iter().map(Secret::new),
            ));
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
