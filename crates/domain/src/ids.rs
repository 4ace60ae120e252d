//! Every id of the product, one newtype each.
//!
//! Ids that we assign are UUIDs; ids that a client may choose ([`RequestId`],
//! [`CorrelationId`]) are bounded text of a closed alphabet, so they are safe
//! in headers, lines and terminals.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{rng::Rng, time::Timestamp};

/// Length limit of an id chosen by a client (CONTRACT §5).
pub const CLIENT_ID_BYTES_MAX: usize = 128;

macro_rules! uuid_ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new time-ordered id (UUIDv7).
            pub fn new(now: Timestamp, rng: &dyn Rng) -> Self {
                Self(uuid_v7(now, rng))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    )+};
}

uuid_ids! {
    /// One proxied request's record.
    RecordId,
    /// A tenant.
    ProjectId,
    /// A withering token (its id, never its text).
    TokenId,
    /// A management key (its id, never its text).
    ManagementKeyId,
    /// One audit entry.
    EntryId,
}

/// A UUIDv7 whose twelve bits after the milliseconds carry the microseconds, so
/// that ids of one instance sort by time within the millisecond too.
pub fn uuid_v7(now: Timestamp, rng: &dyn Rng) -> Uuid {
    let micros = now.as_micros().max(0) as u64;
    let millis = micros / 1000;
    let fraction = (micros % 1000) * 4096 / 1000;
    let high = (millis << 16) | 0x7000 | fraction;
    let low = (rng.next_u64() & (u64::MAX >> 2)) | (1 << 63);
    Uuid::from_u64_pair(high, low)
}

macro_rules! client_ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Accepts 1 to 128 characters of `[A-Za-z0-9._:+=@-]`.
            pub fn parse(text: &[u8]) -> Option<Self> {
                valid_client_id(text).map(|text| Self(text.into()))
            }
            /// A fresh id (UUIDv7).
            pub fn generate(now: Timestamp, rng: &dyn Rng) -> Self {
                let mut buffer = Uuid::encode_buffer();
                let text: &str = uuid_v7(now, rng).as_hyphenated().encode_lower(&mut buffer);
                Self(text.into())
            }
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    )+};
}

client_ids! {
    /// `X-Request-ID`: names one request everywhere. Clients may repeat one.
    RequestId,
    /// `X-Correlation-ID`: joins the requests of one operation.
    CorrelationId,
}

impl From<RequestId> for CorrelationId {
    /// A request without a correlation id is its own correlation.
    fn from(id: RequestId) -> Self {
        Self(id.0)
    }
}

fn valid_client_id(text: &[u8]) -> Option<&str> {
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || b"._:+=@-".contains(b);
    if text.is_empty() || text.len() > CLIENT_ID_BYTES_MAX || !text.iter().all(allowed) {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    // A credential pasted into an id header would otherwise be written
    // everywhere; such a value is treated as invalid.
    (!crate::redact::looks_like_credential(text)).then_some(text)
}

/// Names one data directory (one process at a time): 1 to 64 characters of
/// `[A-Za-z0-9._-]`, because it stands in file names.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct InstanceId(Arc<str>);

impl InstanceId {
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let fits = !text.is_empty() && text.len() <= 64 && !text.starts_with('.');
        (fits && text.bytes().all(allowed)).then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Fixed;

    #[test]
    fn uuid_v7_has_version_variant_and_time_order() {
        let early = uuid_v7(Timestamp::from_micros(1_700_000_000_000_100), &Fixed(u64::MAX));
        let late = uuid_v7(Timestamp::from_micros(1_700_000_000_000_900), &Fixed(0));
        assert_eq!(early.get_version_num(), 7);
        assert_eq!(early.get_variant(), uuid::Variant::RFC4122);
        assert!(early < late);
    }

    #[test]
    fn client_ids_have_a_closed_alphabet() {
        let check = |text: &[u8], valid: bool| {
            assert_eq!(RequestId::parse(text).is_some(), valid, "{text:?}");
        };
        check(b"a", true);
        check(b"req-1.2_3:4+5=6@7", true);
        check(&[b'a'; 128], true);
        check(&[b'a'; 129], false);
        check(b"", false);
        check(b"a b", false);
        check(b"a\nb", false);
        check(b"a\"b", false);
        check("ä".as_bytes(), false);
        check(b"sk-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", false);
    }
}
