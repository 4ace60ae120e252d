//! What an entry tells beyond its common fields: a closed list of keys, each
//! with one kind, and for each action its own selection of them.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{
    action::words,
    value::{self, Text, Value, Word},
};
use crate::time::Timestamp;

/// What the value of a detail may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DetailKind {
    Number,
    Signed,
    Flag,
    Word,
    Words,
    Time,
    /// Numbers by name, such as totals by reason.
    Counts,
    /// Stands under `sealed`, never in `details`.
    Sealed,
}

macro_rules! details {
    ($($key:ident = $text:literal: $kind:ident($type:ty)),+ $(,)?) => {
        words! {
            /// The name of a detail.
            DetailKey { $($key = $text,)+ }
        }

        impl DetailKey {
            pub const fn kind(self) -> DetailKind {
                match self { $(Self::$key => DetailKind::$kind,)+ }
            }
        }

        /// One detail with its value.
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub enum Detail { $($key($type),)+ }

        impl Detail {
            pub const fn key(&self) -> DetailKey {
                match self { $(Self::$key(_) => DetailKey::$key,)+ }
            }

            pub(super) fn into_part(self) -> Part {
                match self { $(Self::$key(value) => value.into(),)+ }
            }
        }
    };
}

details! {
    AlreadyRevokedCount = "already_revoked_count": Number(u64),
    BadRanges = "bad_ranges": Number(u64),
    Bytes = "bytes": Number(u64),
    ClientNetwork = "client_network": Sealed(Text),
    Component = "component": Word(Word),
    Count = "count": Number(u64),
    CredentialBytes = "credential_bytes": Number(u64),
    CredentialFamily = "credential_family": Word(Word),
    CredentialTag = "credential_tag": Word(Word),
    Dataset = "dataset": Word(Word),
    DeniedTotals = "denied_totals": Counts(BTreeMap<Word, u64>),
    File = "file": Word(Word),
    Finding = "finding": Word(Word),
    Findings = "findings": Counts(BTreeMap<Word, u64>),
    FirstAt = "first_at": Time(Timestamp),
    Format = "format": Word(Word),
    Interrupted = "interrupted": Number(u64),
    JournalFirst = "journal_first": Number(u64),
    JournalInstance = "journal_instance": Word(Word),
    JournalLast = "journal_last": Number(u64),
    JournalSeq = "journal_seq": Number(u64),
    KeyId = "key_id": Word(Word),
    LastAt = "last_at": Time(Timestamp),
    Level = "level": Word(Word),
    Migrations = "migrations": Number(u64),
    Model = "model": Sealed(Text),
    Origin = "origin": Sealed(Text),
    Path = "path": Sealed(Text),
    Pending = "pending": Number(u64),
    PreviousEnd = "previous_end": Word(Word),
    PreviousLevel = "previous_level": Word(Word),
    ProducerSeqs = "producer_seqs": Counts(BTreeMap<Word, u64>),
    Provider = "provider": Word(Word),
    Query = "query": Sealed(Text),
    ReplacedFiles = "replaced_files": Words(Vec<Word>),
    RevokedCount = "revoked_count": Number(u64),
    RouteClass = "route_class": Word(Word),
    Rows = "rows": Number(u64),
    SampleRequestIds = "sample_request_ids": Sealed(Vec<Text>),
    Sha256 = "sha256": Word(Word),
    Signal = "signal": Word(Word),
    Since = "since": Time(Timestamp),
    Sink = "sink": Word(Word),
    SinkLag = "sink_lag": Counts(BTreeMap<Word, u64>),
    StepMs = "step_ms": Signed(i64),
    Stream = "stream": Word(Word),
    Terminate = "terminate": Flag(bool),
    TornBytes = "torn_bytes": Number(u64),
    TotalTokens = "total_tokens": Number(u64),
    TreeSize = "tree_size": Number(u64),
    TtlSeconds = "ttl_seconds": Number(u64),
    UnaccountedMs = "unaccounted_ms": Number(u64),
    Until = "until": Time(Timestamp),
    Version = "version": Word(Word),
}

/// Where a detail goes: into the leaf, or under a commitment.
pub(super) enum Part {
    Plain(serde_json::Value),
    Sealed(Value),
}

macro_rules! plain_parts {
    ($($type:ty),+) => {$(
        impl From<$type> for Part {
            fn from(value: $type) -> Self {
                Self::Plain(value.into())
            }
        }
    )+};
}

plain_parts!(u64, i64, bool);

impl From<Word> for Part {
    fn from(word: Word) -> Self {
        Self::Plain(word.as_str().into())
    }
}

impl From<Vec<Word>> for Part {
    fn from(words: Vec<Word>) -> Self {
        Self::Plain(words.iter().map(Word::as_str).collect())
    }
}

impl From<Timestamp> for Part {
    fn from(time: Timestamp) -> Self {
        Self::Plain(time.to_rfc3339().as_str().into())
    }
}

impl From<BTreeMap<Word, u64>> for Part {
    fn from(counts: BTreeMap<Word, u64>) -> Self {
        let members = counts.iter().map(|(name, count)| (name.to_string(), (*count).into()));
        Self::Plain(serde_json::Value::Object(members.collect()))
    }
}

impl From<Text> for Part {
    fn from(text: Text) -> Self {
        Self::Sealed(text.into())
    }
}

impl From<Vec<Text>> for Part {
    fn from(texts: Vec<Text>) -> Self {
        Self::Sealed(Value::list(texts.into_iter().map(Value::from)))
    }
}

/// Whether `value` is of `kind`, for a reader that trusts nothing.
pub(super) fn is_of_kind(value: &serde_json::Value, kind: DetailKind) -> bool {
    use serde_json::Value as Json;
    let is_word = |value: &Json| value.as_str().is_some_and(value::is_word);
    match (kind, value) {
        (DetailKind::Number, Json::Number(number)) => number.is_u64(),
        (DetailKind::Signed, Json::Number(number)) => number.is_i64(),
        (DetailKind::Flag, Json::Bool(_)) => true,
        (DetailKind::Word, word) => is_word(word),
        (DetailKind::Words, Json::Array(words)) => words.iter().all(is_word),
        (DetailKind::Time, Json::String(text)) => {
            Timestamp::parse(text).is_some_and(|time| time.to_rfc3339().as_str() == text)
        }
        (DetailKind::Counts, Json::Object(counts)) => {
            counts.iter().all(|(name, count)| value::is_word(name) && count.is_u64())
        }
        _ => false,
    }
}
