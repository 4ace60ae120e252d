//! What may be kept of a credential that nobody here knows: its length, the
//! family it looks like, and a keyed tag.
//!
//! Owns the tag and its periods. Promises that a tag answers "was this very
//! credential tried in that week?" for who has the key of the week and the
//! credential, and nothing else: without the key nobody can test a guess. Must
//! never keep the credential.

use std::fmt::{self, Write as _};

use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::time::Timestamp;

/// A key tags for one week.
const PERIOD_MICROS: i64 = 7 * 24 * 3600 * 1_000_000;
/// Bytes of a tag: chance alone makes no two alike.
const TAG_BYTES: usize = 12;

/// The number of a week since 1970.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TagPeriod(pub u32);

impl TagPeriod {
    pub fn at(time: Timestamp) -> Self {
        let weeks = time.as_micros().div_euclid(PERIOD_MICROS);
        Self(u32::try_from(weeks).unwrap_or(0))
    }

    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    pub const fn begins(self) -> Timestamp {
        Timestamp::from_micros(self.0 as i64 * PERIOD_MICROS)
    }
}

/// The key of one week. It cannot be printed.
#[derive(Clone)]
pub struct TagKey {
    period: TagPeriod,
    mac: Hmac<Sha256>,
}

impl fmt::Debug for TagKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TagKey({})", self.period.0)
    }
}

impl TagKey {
    pub fn new(period: TagPeriod, key: &Zeroizing<[u8; 32]>) -> Self {
        let mac = Hmac::new_from_slice(&key[..]).expect("HMAC takes a key of any length");
        Self { period, mac }
    }

    pub fn period(&self) -> TagPeriod {
        self.period
    }

    /// `w<week>:<hex>`.
    pub fn tag(&self, credential: &[u8]) -> String {
        let mut mac = self.mac.clone();
        mac.update(credential);
        let digest = mac.finalize().into_bytes();
        let mut tag = format!("w{}:", self.period.0);
        for byte in &digest[..TAG_BYTES] {
            write!(tag, "{byte:02x}").expect("a string takes every write");
        }
        tag
    }
}

/// What is kept of an unknown credential.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct CredentialMark {
    pub bytes: u64,
    pub family: &'static str,
    /// None while there is no key to make it with.
    pub tag: Option<Box<str>>,
}

impl CredentialMark {
    pub fn new(credential: &[u8], key: Option<&TagKey>) -> Self {
        let tag = key.map(|key| key.tag(credential).into());
        Self { bytes: credential.len() as u64, family: family(credential), tag }
    }
}

/// Beginnings by which the credentials of well-known services are recognised,
/// the longer before the shorter.
const FAMILIES: &[(&str, &str)] = &[
    ("sk-ant-", "anthropic"),
    ("sk-proj-", "openai"),
    ("sk-svcacct-", "openai"),
    ("sk-or-", "openrouter"),
    ("sk-", "token"),
    ("mk-", "management_key"),
    ("AIza", "google"),
    ("ya29.", "google"),
    ("gsk_", "groq"),
    ("xai-", "xai"),
    ("hf_", "huggingface"),
    ("ghp_", "github"),
    ("github_pat_", "github"),
    ("AKIA", "aws"),
    ("ASIA", "aws"),
    ("xox", "slack"),
    ("eyJ", "jwt"),
];

/// What kind of credential it looks like.
pub fn family(credential: &[u8]) -> &'static str {
    let known = FAMILIES.iter().find(|(begin, _)| credential.starts_with(begin.as_bytes()));
    known.map_or("unknown", |(_, family)| family)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Word;

    #[test]
    fn a_tag_is_of_its_key_and_may_stand_in_a_leaf() {
        let key = |week: u32, byte: u8| TagKey::new(TagPeriod(week), &Zeroizing::new([byte; 32]));
        let tag = key(2966, 1).tag(b"sk-leaked");
        assert_eq!(tag, key(2966, 1).tag(b"sk-leaked"));
        assert_ne!(tag, key(2966, 2).tag(b"sk-leaked"));
        assert_ne!(tag, key(2966, 1).tag(b"sk-leakee"));
        assert!(tag.starts_with("w2966:") && tag.len() == 30);
        assert_eq!(Word::parse(&tag).map(|word| word.to_string()), Some(tag));
    }

    #[test]
    fn weeks_follow_each_other() {
        let now = Timestamp::from_micros(1_790_000_000_000_000);
        let week = TagPeriod::at(now);
        assert!(week.begins() <= now && now < week.next().begins());
        assert_eq!(TagPeriod::at(week.next().begins()), week.next());
    }

    #[test]
    fn families_are_recognised() {
        assert_eq!(family(b"sk-ant-api03-x"), "anthropic");
        assert_eq!(family(b"sk-AAAA"), "token");
        assert_eq!(family(b"mk-AAAA"), "management_key");
        assert_eq!(family(b"\xff\x00"), "unknown");
    }
}
