//! W3C trace context, and the ids that every line of a request carries.

use std::{fmt, net::IpAddr};

use crate::{
    ids::{CorrelationId, RequestId},
    rng::Rng,
};

/// The ids that name one request on every line that it causes.
#[derive(Clone, Debug)]
pub struct RequestIds {
    pub request_id: RequestId,
    pub correlation_id: CorrelationId,
    pub trace: TraceContext,
}

/// Who stands behind a request: the network peer, and the client that a trusted
/// proxy vouches for (the peer itself where none does).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress {
    pub peer: IpAddr,
    pub client: IpAddr,
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// Lower-case hex of the exact length, not all zeros.
            pub fn parse(text: &[u8]) -> Option<Self> {
                let mut id = [0u8; $bytes];
                if text.len() != 2 * $bytes {
                    return None;
                }
                for (slot, pair) in id.iter_mut().zip(text.chunks_exact(2)) {
                    *slot = (hex_digit(pair[0])? << 4) | hex_digit(pair[1])?;
                }
                (id != [0u8; $bytes]).then_some(Self(id))
            }
            pub fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let mut text = [0u8; 2 * $bytes];
                for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
                    pair[0] = HEX[usize::from(byte >> 4)];
                    pair[1] = HEX[usize::from(byte & 15)];
                }
                f.write_str(std::str::from_utf8(&text).expect("hex is ASCII"))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

hex_id! {
    /// The id of a distributed trace.
    TraceId, 16
}
hex_id! {
    /// The id of one span in a trace.
    SpanId, 8
}

impl TraceId {
    pub fn generate(rng: &dyn Rng) -> Self {
        let (high, low) = (rng.next_u64(), rng.next_u64().max(1));
        Self(((u128::from(high) << 64) | u128::from(low)).to_be_bytes())
    }
}

impl SpanId {
    pub fn generate(rng: &dyn Rng) -> Self {
        Self(rng.next_u64().max(1).to_be_bytes())
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

/// Our own span in the caller's trace, or in a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub parent_span_id: Option<SpanId>,
    pub flags: u8,
}

impl TraceContext {
    /// Continues the caller's trace, or begins one when `traceparent` is absent
    /// or not valid after W3C Trace Context, level 1 (future versions are read
    /// as version 00, as it demands).
    pub fn from_traceparent(traceparent: Option<&[u8]>, rng: &dyn Rng) -> Self {
        let span_id = SpanId::generate(rng);
        match traceparent.and_then(parse_traceparent) {
            Some((trace_id, parent, flags)) => {
                Self { trace_id, span_id, parent_span_id: Some(parent), flags }
            }
            None => {
                Self { trace_id: TraceId::generate(rng), span_id, parent_span_id: None, flags: 0 }
            }
        }
    }

    /// The header that makes our span the parent of whatever receives it.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace_id, self.span_id, self.flags & 1)
    }
}

/// Reads `version-traceid-parentid-flags`.
pub fn parse_traceparent(text: &[u8]) -> Option<(TraceId, SpanId, u8)> {
    let byte = |pair: &[u8]| Some((hex_digit(pair[0])? << 4) | hex_digit(pair[1])?);
    if text.len() < 55 || text[2] != b'-' || text[35] != b'-' || text[52] != b'-' {
        return None;
    }
    let version = byte(&text[..2])?;
    let rest_is_valid = match version {
        0xff => false,
        0 => text.len() == 55,
        _ => text.len() == 55 || text[55] == b'-',
    };
    let flags = byte(&text[53..55])?;
    let trace_id = TraceId::parse(&text[3..35])?;
    let parent = SpanId::parse(&text[36..52])?;
    rest_is_valid.then_some((trace_id, parent, flags))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Fixed;

    #[test]
    fn traceparent_follows_the_recommendation() {
        let check = |text: &str, valid: bool| {
            assert_eq!(parse_traceparent(text.as_bytes()).is_some(), valid, "{text}");
        };
        let base = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";
        check(&format!("00-{base}-01"), true);
        check(&format!("00-{base}-01-extra"), false);
        check(&format!("cc-{base}-01-what-comes-later"), true);
        check(&format!("cc-{base}-01.what"), false);
        check(&format!("ff-{base}-01"), false);
        check("00-00000000000000000000000000000000-b7ad6b7169203331-01", false);
        check("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false);
        check("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", false);
        check("", false);
    }

    #[test]
    fn our_span_becomes_the_parent() {
        let inbound = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let ours = TraceContext::from_traceparent(Some(inbound), &Fixed(0x1234));
        assert_eq!(
            ours.parent_span_id.map(|id| id.to_string()).as_deref(),
            Some("b7ad6b7169203331")
        );
        assert_eq!(ours.traceparent(), "00-0af7651916cd43dd8448eb211c80319c-0000000000001234-01");
    }
}
