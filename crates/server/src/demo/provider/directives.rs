//! What one request asks of the sample provider beyond the wire formats: how
//! slow, how broken, how large. Written in the header `x-sample` as
//! `key=value` words between commas, over process-wide defaults.

use std::{collections::HashMap, time::Duration};

use http::{HeaderName, HeaderValue, StatusCode};

pub const DIRECTIVES_HEADER: &str = "x-sample";

/// More output than this would make the sample provider the slow part.
const WORDS_MAX: u64 = 1_000_000;
/// Extra response headers one request may ask for.
const HEADERS_MAX: usize = 200;
/// Filler of one line; a gibibyte is the largest case that tests need.
const FILLER_BYTES_MAX: u64 = 1 << 30;

/// Where the answer stops before its head or in its middle.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Silence {
    #[default]
    Never,
    /// The head is sent, the body stops half way and stays open.
    Body,
    /// Not even a head is sent.
    Head,
    /// The connection is closed instead of a head.
    Drop,
}

/// The directives of one request.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Directives {
    /// Waited before the head.
    pub latency: Duration,
    /// Output words, each one chunk of a stream.
    pub chunks: Option<u64>,
    pub chunk_delay: Duration,
    /// The connection breaks after this many chunks.
    pub cut: Option<usize>,
    /// The body trickles: this pause after each byte.
    pub slow: Option<Duration>,
    /// Re-cut the bytes of a stream into pieces of this size.
    pub split: Option<usize>,
    /// All chunks are handed over at once instead of one write each.
    pub burst: bool,
    pub garbage: bool,
    pub gzip: bool,
    pub silence: Silence,
    pub status: Option<StatusCode>,
    /// `status` applies to the first so many requests with one request id.
    pub times: Option<u64>,
    pub retry_after_ms: Option<u64>,
    /// A line of this many bytes within the answer.
    pub one_line_bytes: Option<u64>,
    /// An error message that repeats the caller's credential, as some do.
    pub echo_auth_in_error: bool,
    pub no_usage: bool,
    pub no_done: bool,
    pub tools: bool,
    pub cached_tokens: Option<u64>,
    pub reasoning_tokens: Option<u64>,
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Directives {
    /// Reads `text` over these defaults. The error names the word at fault.
    pub fn overridden_by(&self, text: &str) -> Result<Self, String> {
        let mut directives = self.clone();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            directives
                .set(key.trim(), value.trim())
                .ok_or_else(|| format!("x-sample: cannot read '{word}'"))?;
        }
        Ok(directives)
    }

    /// Whether they say nothing but how long an answer takes and has, so that
    /// an answer prepared before will do.
    pub(super) fn only_pace(&self) -> bool {
        let Self { latency, chunks, chunk_delay, .. } = *self;
        *self == Self { latency, chunks, chunk_delay, ..Self::default() }
    }

    fn set(&mut self, key: &str, value: &str) -> Option<()> {
        match key {
            "latency" => self.latency = duration(value)?,
            "chunks" => self.chunks = Some(value.parse().ok().filter(|n| *n <= WORDS_MAX)?),
            "chunk_delay" => self.chunk_delay = duration(value)?,
            "cut" => self.cut = Some(value.parse().ok()?),
            "slow" => self.slow = Some(duration(value)?),
            "split" => self.split = Some(value.parse().ok().filter(|n| *n > 0)?),
            "burst" => self.burst = flag(value)?,
            "garbage" => self.garbage = flag(value)?,
            "gzip" => self.gzip = flag(value)?,
            "hang" => self.silence = Silence::Body,
            "hang_headers" => self.silence = Silence::Head,
            "drop" => self.silence = Silence::Drop,
            "status" => self.status = Some(error_status(value)?),
            "times" => self.times = Some(value.parse().ok()?),
            "retry_after" => self.retry_after_ms = Some(value.parse::<u64>().ok()? * 1000),
            "retry_after_ms" => self.retry_after_ms = Some(value.parse().ok()?),
            "one_line" => self.one_line_bytes = Some(bytes(value)?),
            "echo_auth_in_error" => self.echo_auth_in_error = flag(value)?,
            "no_usage" => self.no_usage = flag(value)?,
            "no_done" => self.no_done = flag(value)?,
            "tools" => self.tools = flag(value)?,
            "cached" => self.cached_tokens = Some(value.parse().ok()?),
            "reasoning" => self.reasoning_tokens = Some(value.parse().ok()?),
            "h" if self.headers.len() < HEADERS_MAX => self.headers.push(header(value)?),
            _ => return None,
        }
        Some(())
    }

    /// The error that request number `seen` (from 1) of one id gets.
    pub fn status_for(&self, seen: u64) -> Option<StatusCode> {
        self.status.filter(|_| self.times.is_none_or(|times| seen <= times))
    }
}

fn flag(value: &str) -> Option<bool> {
    match value {
        "" | "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

fn error_status(value: &str) -> Option<StatusCode> {
    let status: StatusCode = value.parse().ok()?;
    (status.is_client_error() || status.is_server_error()).then_some(status)
}

/// `50ms`, `5s`, `250us`; a bare number is milliseconds.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit {
        "" | "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "us" => Some(Duration::from_micros(number)),
        _ => None,
    }
}

/// `100MB`, `64KB`, `1GB` in powers of two; a bare number is bytes.
pub fn bytes(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "" | "B" => 1,
        "KB" | "KiB" => 1 << 10,
        "MB" | "MiB" => 1 << 20,
        "GB" | "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit).filter(|bytes| *bytes <= FILLER_BYTES_MAX)
}

/// `name:value`.
fn header(text: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':')?;
    Some((name.trim().parse().ok()?, value.trim().parse().ok()?))
}

/// The parameters of a query or form, undecoded: the sample provider's own
/// parameters are plain words.
pub fn query_parameters(query: Option<&str>) -> HashMap<&str, &str> {
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_override_defaults() {
        let defaults = Directives { burst: true, cut: Some(9), ..Directives::default() };
        let read = defaults
            .overridden_by("latency=50ms, chunks=20,cut=3,status=429,times=2,h=x-a:b=c, gzip")
            .expect("all words are known");
        assert_eq!(read.latency, Duration::from_millis(50));
        assert_eq!((read.chunks, read.cut, read.burst, read.gzip), (Some(20), Some(3), true, true));
        assert_eq!(read.status_for(2), Some(StatusCode::TOO_MANY_REQUESTS));
        assert_eq!(read.status_for(3), None);
        assert_eq!(read.headers[0].1, "b=c");
    }

    #[test]
    fn the_word_at_fault_is_named() {
        for text in ["nonsense", "latency=soon", "status=200", "one_line=9GB", "gzip=maybe"] {
            let error = Directives::default().overridden_by(text).expect_err(text);
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn pace_alone_is_told_apart() {
        let read = |text| Directives::default().overridden_by(text).expect("known words");
        assert!(read("chunks=50,chunk_delay=10ms").only_pace());
        assert!(!read("chunks=50,gzip").only_pace());
    }

    #[test]
    fn sizes_are_powers_of_two() {
        assert_eq!(bytes("100MB"), Some(104_857_600));
        assert_eq!(bytes("12"), Some(12));
        assert_eq!(bytes("MB"), None);
    }
}
