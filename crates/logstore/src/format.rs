//! The journal's format, version 1. This page is the specification.
//!
//! **Files.** `<instance>-<first seq>.jsonl` (at least twelve digits), mode
//! 0600, in `DATA_DIR/journal`, mode 0700. A new file begins at every start, at
//! 128 MiB, and when the current one cannot be trusted any more. Files of one
//! instance, ordered by first seq, form one sequence. A file ends where the
//! next begins: lines of it numbered at or past the next file's first seq are
//! superseded and do not count.
//!
//! Beside them lie `torn/` (bytes that recovery cut off or found damaged, named
//! after file and range; never deleted by us), `cursors/` (where named readers
//! are), `*.bodies` (captured bodies: [`crate::bodies`]) and `reserve` (disk
//! space for the last lines of a full disk).
//!
//! **Lines.** Every line is one JSON object without raw control characters,
//! ended by `\n`. Lines are numbered from 1, densely, over all files and starts
//! of an instance; commit lines have no number. A line whose first key begins
//! with `_` belongs to the journal itself and is not shown:
//!
//! | first key | meaning |
//! |---|---|
//! | `_h` | header, first line of every file: `format`, `instance`, `boot` (counts starts), `reason` (`start`, `rotate`, `reopen`), `first_seq`, `ts`, `version` |
//! | `_o` | opening: all that is needed to write the record if its end is never seen |
//! | `_o` with `id` first | the openings of the entry that follows in the same batch: `id`, `openings` of `path`, `salt` (base64) and `value` |
//! | `_counters` | totals of refusals by reason, counted and entered, for whoever counts them: see `docs/files.md` |
//! | `_n` | the books of this boot as of the end of this batch: `accepted`, `stored`, `coalesced`, `lost`, `in_flight`, `interrupted`, `traces_dropped` |
//! | `_c` | commit: `n` lines before it, `crc` CRC-32C of their bytes (newlines included) in eight lower-case hex digits, `seq` the number of the last of them |
//! | `_p` | padding: stands for a journal's own line of an earlier copy, see below |
//!
//! All other lines are records, entries or traces, told apart by `stream`.
//!
//! **Batches.** The `n ≥ 1` lines before a commit line are a batch. A batch
//! counts if the checksum fits and `seq` continues the sequence; nothing else
//! counts. Bytes between two valid batches that belong to neither are damage; bytes
//! after the last one are a torn tail (or a batch still being written).
//!
//! **First batch.** The first batch of a file holds the header and everything
//! that makes earlier files unnecessary for recovery: at a start the record
//! (`interrupted`) of every opening that never ended, at a rotation the
//! openings that have not ended yet, again. So only the newest file that has a
//! valid batch says what is open, and a crash at any point of a start is
//! repaired by starting again.
//!
//! **Failed sync.** Nothing is known of a file whose sync failed. The lines after
//! its last good sync are written again in the first batch of a new file, whose
//! first seq therefore lies inside the old file. Their header and counters
//! lines become padding, so that no line gets a lower number than it had.
//!
//! **Changes.** A reader refuses a `format` above its own, by name. Keys may be
//! added to `_h`, `_o` and `_n`; `_c` never changes within a format.

use std::{borrow::Cow, net::IpAddr};

use domain::{
    context::{SpanId, TraceId},
    ids::{CorrelationId, InstanceId, RequestId},
    json::Object,
    key,
    labels::Labels,
    provider::Operation,
    record::Opening,
    time::Timestamp,
};
use serde::Deserialize;

use crate::accounts::{Accounts, Lost};

/// The version that this build writes and the newest that it reads.
pub const FORMAT: u64 = 1;

pub(crate) const COMMIT_PREFIX: &[u8] = b"{\"_c\":";
pub(crate) const HEADER_PREFIX: &[u8] = b"{\"_h\":";
pub(crate) const OPENING_PREFIX: &[u8] = b"{\"_o\":";
/// Begins the openings of an entry, which end with the entry itself.
pub(crate) const ENTRY_OPENING_PREFIX: &[u8] = b"{\"_o\":{\"id\":";
pub(crate) const PADDING_LINE: &[u8] = b"{\"_p\":0}\n";
pub(crate) const COUNTERS_PREFIX: &[u8] = b"{\"_n\":";
/// Begins every line that belongs to the journal itself.
pub const INTERNAL_PREFIX: &[u8] = b"{\"_";
/// Begins every record, because [`domain::record::Record`] writes it.
pub(crate) const RECORD_PREFIX: &[u8] = b"{\"schema\":1,\"stream\":\"record\",";

/// The name of the file that begins with line `first_seq`.
pub fn file_name(instance: &InstanceId, first_seq: u64) -> String {
    format!("{instance}-{first_seq:012}.jsonl")
}

/// Reads `<instance>-<first seq>.jsonl`.
pub fn parse_file_name(name: &str) -> Option<(InstanceId, u64)> {
    let (instance, digits) = name.strip_suffix(".jsonl")?.rsplit_once('-')?;
    let canonical = digits.len() >= 12 && digits.bytes().all(|b| b.is_ascii_digit());
    let first_seq = digits.parse().ok().filter(|seq| *seq > 0 && canonical)?;
    Some((InstanceId::parse(instance)?, first_seq))
}

/// A commit line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Commit {
    pub lines: u64,
    pub crc: u32,
    pub seq: u64,
}

impl Commit {
    /// Appends the line, newline included.
    pub fn write(&self, out: &mut Vec<u8>) {
        use std::io::Write as _;
        let Self { lines, crc, seq } = self;
        writeln!(out, "{{\"_c\":{{\"n\":{lines},\"crc\":\"{crc:08x}\",\"seq\":{seq}}}}}")
            .expect("a vector takes every write");
    }

    /// Accepts exactly what [`Commit::write`] writes, without the newline: any
    /// other spelling is damage.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let rest = line.strip_prefix(b"{\"_c\":{\"n\":")?;
        let (lines, rest) = number(rest)?;
        let rest = rest.strip_prefix(b",\"crc\":\"")?;
        let (hex, rest) = rest.split_at_checked(8)?;
        if !hex.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        let crc = u32::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?;
        let (seq, rest) = number(rest.strip_prefix(b"\",\"seq\":")?)?;
        (rest == b"}}" && lines > 0 && seq >= lines).then_some(Self { lines, crc, seq })
    }
}

fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let (number, rest) = text.split_at(digits);
    if number.first() == Some(&b'0') && digits > 1 {
        return None;
    }
    Some((std::str::from_utf8(number).ok()?.parse().ok()?, rest))
}

/// Why a file begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    Start,
    Rotate,
    Reopen,
}

impl Reason {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Rotate => "rotate",
            Self::Reopen => "reopen",
        }
    }
}

/// Appends a header line.
pub(crate) fn write_header(
    out: &mut Vec<u8>,
    envelope: &domain::record::Envelope,
    boot: u64,
    reason: Reason,
    first_seq: u64,
    now: Timestamp,
) {
    out.extend_from_slice(HEADER_PREFIX);
    let mut header = Object::begin(out);
    header.number(key!("format"), FORMAT);
    header.text(key!("instance"), envelope.instance.as_str());
    header.number(key!("boot"), boot);
    header.text(key!("reason"), reason.as_str());
    header.number(key!("first_seq"), first_seq);
    header.text(key!("ts"), now.to_rfc3339().as_str());
    header.text(key!("version"), envelope.version);
    header.end();
    out.extend_from_slice(b"}\n");
}

/// What a reader takes from a header line.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Header {
    pub format: u64,
    pub instance: String,
    pub boot: u64,
    pub reason: String,
    pub first_seq: u64,
    pub ts: Timestamp,
}

impl Header {
    pub fn parse(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(inner(line, HEADER_PREFIX)?).ok()
    }
}

/// The value behind the one key of an internal line.
fn inner<'a>(line: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    line.strip_prefix(prefix)?.strip_suffix(b"}")
}

/// Appends the books of this boot.
pub(crate) fn write_counters(out: &mut Vec<u8>, accounts: &Accounts, now: Timestamp) {
    out.extend_from_slice(COUNTERS_PREFIX);
    let mut books = Object::begin(out);
    books.text(key!("ts"), now.to_rfc3339().as_str());
    books.number(key!("accepted"), accounts.accepted);
    books.number(key!("stored"), accounts.stored);
    books.number(key!("coalesced"), accounts.coalesced);
    books.number(key!("lost"), accounts.lost.total());
    books.number(key!("in_flight"), accounts.in_flight);
    books.number(key!("interrupted"), accounts.interrupted);
    books.number(key!("traces_dropped"), accounts.traces_dropped);
    books.end();
    out.extend_from_slice(b"}\n");
}

/// What a reader takes from a counters line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Counters {
    pub accepted: u64,
    pub stored: u64,
    pub coalesced: u64,
    pub lost: u64,
    pub in_flight: u64,
    #[serde(default)]
    pub interrupted: u64,
}

impl Counters {
    pub fn parse(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(inner(line, COUNTERS_PREFIX)?).ok()
    }

    /// Whether every accepted request is accounted for.
    pub fn balance(&self) -> bool {
        self.accepted == self.stored + self.coalesced + self.lost + self.in_flight
    }
}

/// Appends an opening line.
pub(crate) fn write_opening(out: &mut Vec<u8>, opening: &Opening) {
    out.extend_from_slice(OPENING_PREFIX);
    let mut line = Object::begin(out);
    line.uuid(key!("record_id"), &opening.record_id.0);
    line.text(key!("ts"), opening.ts.to_rfc3339().as_str());
    line.text(key!("request_id"), opening.request_id.as_str());
    line.text(key!("correlation_id"), opening.correlation_id.as_str());
    line.hex(key!("trace_id"), opening.trace_id.as_bytes());
    line.hex(key!("span_id"), opening.span_id.as_bytes());
    if let Some(parent) = opening.parent_span_id {
        line.hex(key!("parent_span_id"), parent.as_bytes());
    }
    line.uuid(key!("project_id"), &opening.project_id.0);
    line.text(key!("project"), &opening.project);
    line.uuid(key!("token_id"), &opening.token_id.0);
    if let Some(labels) = &opening.labels {
        line.raw(key!("labels"), labels);
    }
    if let Some(address) = opening.client_ip {
        line.plain_text(key!("client_ip"), address);
    }
    line.text(key!("provider"), &opening.provider);
    line.text(key!("operation"), opening.operation.as_str());
    line.text(key!("method"), &opening.method);
    line.text(key!("path"), &opening.path);
    line.text(key!("http_version"), opening.http_version);
    line.end();
    out.extend_from_slice(b"}\n");
}

#[derive(Deserialize)]
struct OpeningLine<'a> {
    record_id: domain::ids::RecordId,
    ts: Timestamp,
    #[serde(borrow)]
    request_id: Cow<'a, str>,
    #[serde(borrow)]
    correlation_id: Cow<'a, str>,
    #[serde(borrow)]
    trace_id: Cow<'a, str>,
    #[serde(borrow)]
    span_id: Cow<'a, str>,
    #[serde(borrow)]
    parent_span_id: Option<Cow<'a, str>>,
    project_id: domain::ids::ProjectId,
    project: String,
    token_id: domain::ids::TokenId,
    labels: Option<Labels>,
    client_ip: Option<IpAddr>,
    provider: String,
    #[serde(borrow)]
    operation: Cow<'a, str>,
    method: String,
    path: String,
    #[serde(borrow)]
    http_version: Cow<'a, str>,
}

/// Reads an opening line back.
pub(crate) fn parse_opening(line: &[u8]) -> Option<Opening> {
    let line: OpeningLine<'_> = serde_json::from_slice(inner(line, OPENING_PREFIX)?).ok()?;
    let operation = Operation::ALL.iter().find(|known| known.as_str() == line.operation);
    let parent_span_id = match &line.parent_span_id {
        Some(text) => Some(SpanId::parse(text.as_bytes())?),
        None => None,
    };
    Some(Opening {
        record_id: line.record_id,
        ts: line.ts,
        request_id: RequestId::parse(line.request_id.as_bytes())?,
        correlation_id: CorrelationId::parse(line.correlation_id.as_bytes())?,
        trace_id: TraceId::parse(line.trace_id.as_bytes())?,
        span_id: SpanId::parse(line.span_id.as_bytes())?,
        parent_span_id,
        project_id: line.project_id,
        project: line.project.into(),
        token_id: line.token_id,
        labels: line.labels.map(|labels| labels.to_json().into()),
        client_ip: line.client_ip,
        provider: line.provider.into(),
        operation: operation.copied().unwrap_or(Operation::Other),
        method: line.method.into(),
        path: line.path.into(),
        http_version: known_http_version(&line.http_version),
    })
}

/// Versions are a closed set, so the text of one need not be owned.
fn known_http_version(text: &str) -> &'static str {
    const KNOWN: &[&str] = &[
        "0.9", "1.0", "1.1", "2", "2.0", "3", "3.0", "HTTP/0.9", "HTTP/1.0", "HTTP/1.1", "HTTP/2",
        "HTTP/2.0", "HTTP/3", "HTTP/3.0",
    ];
    KNOWN.iter().find(|known| **known == text).copied().unwrap_or("unknown")
}

/// What replay, checking and recovery need of a record line.
#[derive(Debug, Deserialize)]
pub(crate) struct RecordLine {
    pub(crate) record_id: domain::ids::RecordId,
    pub(crate) ts: Timestamp,
    pub(crate) token_id: Option<domain::ids::TokenId>,
    #[serde(default)]
    pub(crate) attempts: u32,
    pub(crate) outcome: Option<OutcomeWord>,
}

/// The one outcome that the journal itself writes, and all others.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum OutcomeWord {
    #[serde(rename = "interrupted")]
    Interrupted,
    #[serde(other)]
    Other,
}

impl RecordLine {
    /// `None`: the line is no record (or an unreadable one).
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        line.starts_with(RECORD_PREFIX).then(|| serde_json::from_slice(line).ok()).flatten()
    }
}

/// The id of a record line, without reading the rest: it stands first.
pub(crate) fn record_id_of(line: &[u8]) -> Option<domain::ids::RecordId> {
    let rest = line.strip_prefix(RECORD_PREFIX)?.strip_prefix(b"\"record_id\":\"")?;
    std::str::from_utf8(rest.get(..36)?).ok()?.parse().ok()
}

impl Lost {
    /// All reasons together.
    pub fn total(&self) -> u64 {
        self.disk_full + self.write_failed + self.sync_failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commit_lines_are_read_back_exactly() {
        let commit = Commit { lines: 812, crc: 0x9f31_c2aa, seq: 123_456 };
        let mut out = Vec::new();
        commit.write(&mut out);
        assert_eq!(out, b"{\"_c\":{\"n\":812,\"crc\":\"9f31c2aa\",\"seq\":123456}}\n");
        assert_eq!(Commit::parse(&out[..out.len() - 1]), Some(commit));
        for at in 0..out.len() - 1 {
            let mut bent = out[..out.len() - 1].to_vec();
            bent[at] ^= 0x80;
            assert_eq!(Commit::parse(&bent), None, "byte {at}");
        }
    }

    #[test]
    fn file_names_are_read_back_exactly() {
        let instance = InstanceId::parse("eu-1").expect("valid");
        let name = file_name(&instance, 42);
        assert_eq!(name, "eu-1-000000000042.jsonl");
        assert_eq!(parse_file_name(&name), Some((instance, 42)));
        for name in
            ["x.jsonl", "eu-1-42.jsonl", "eu-1-000000000000.jsonl", "eu-1-00000000004x.jsonl"]
        {
            assert_eq!(parse_file_name(name), None, "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn openings_are_read_back_exactly(
            texts in proptest::collection::vec("\\PC{0,20}|[\\x00-\\x1f\"\\\\]{0,9}", 4),
            id: u128,
            v6: bool,
        ) {
            let uuid = uuid::Uuid::from_u128(id);
            let labels = std::collections::BTreeMap::from([("team".to_owned(), texts[3].clone())]);
            let labels =
                Labels::try_from(labels).map_err(proptest::test_runner::TestCaseError::fail)?;
            let opening = Opening {
                record_id: domain::ids::RecordId(uuid),
                ts: Timestamp::from_micros(1_763_892_000_000_001),
                request_id: RequestId::parse(b"a-1").expect("valid"),
                correlation_id: CorrelationId::parse(b"b-2").expect("valid"),
                trace_id: TraceId::parse(&[b'a'; 32]).expect("valid"),
                span_id: SpanId::parse(&[b'b'; 16]).expect("valid"),
                parent_span_id: v6.then(|| SpanId::parse(&[b'c'; 16]).expect("valid")),
                project_id: domain::ids::ProjectId(uuid),
                project: texts[0].as_str().into(),
                token_id: domain::ids::TokenId(uuid),
                labels: Some(labels.to_json().into()),
                client_ip: Some(if v6 { [7u16; 8].into() } else { [1u8; 4].into() }),
                provider: texts[1].as_str().into(),
                operation: Operation::Messages,
                method: "POST".into(),
                path: texts[2].as_str().into(),
                http_version: "2",
            };
            let mut out = Vec::new();
            write_opening(&mut out, &opening);
            proptest::prop_assert_eq!(out.iter().filter(|b| **b < 0x20).count(), 1);
            let back = parse_opening(&out[..out.len() - 1]).expect("an opening");
            proptest::prop_assert_eq!(format!("{back:?}"), format!("{opening:?}"));
        }
    }
}
