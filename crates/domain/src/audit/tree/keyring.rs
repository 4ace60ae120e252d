//! Which key signs a tree at which sizes. At the size where one follows the
//! other both sign, so that whoever knows the first is led to the next.
//!
//! Its text has the line `llm-proxy/audit/keyring/v1`, then one for each key,
//! `<from> <to> <verifier key>`, in order; the key in use has `-` as its end.

use std::fmt;

use super::{KeyError, KeyKind, NumberError, VerifierKey, parse_number};

const HEAD: &str = "llm-proxy/audit/keyring/v1";
/// More rotations than a chain lives through.
const KEYS_MAX: usize = 1000;

/// One key and the sizes of the checkpoints that it signs, both ends included.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeySpan {
    pub from: u64,
    /// None for the key in use.
    pub to: Option<u64>,
    pub key: VerifierKey,
}

/// The keys of a tree in their order, never none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keyring {
    spans: Vec<KeySpan>,
}

/// Why a text is not a keyring, or a key cannot follow.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyringError {
    #[error("the keyring does not begin with the line {HEAD}")]
    Head,
    #[error("line {0} of the keyring is not of the form 'from to key'")]
    Shape(usize),
    #[error("line {line} of the keyring has a malformed size")]
    Size { line: usize, source: NumberError },
    #[error("line {line} of the keyring has a malformed key")]
    Key { line: usize, source: KeyError },
    #[error("the keyring has no key")]
    Empty,
    #[error("the keyring has more than {KEYS_MAX} keys")]
    TooMany,
    #[error("the keys of the keyring do not follow each other without gaps")]
    Order,
    #[error("a key of the keyring has another name or kind than the first")]
    OtherName,
    #[error("a key stands in the keyring twice")]
    Duplicate,
}

impl Keyring {
    /// A tree that has had one key only.
    pub fn new(key: VerifierKey) -> Self {
        Self { spans: vec![KeySpan { from: 0, to: None, key }] }
    }

    /// `key` follows at `size`.
    pub fn rotate(&self, key: VerifierKey, size: u64) -> Result<Self, KeyringError> {
        let mut spans = self.spans.clone();
        if let Some(last) = spans.last_mut() {
            last.to = Some(size);
        }
        spans.push(KeySpan { from: size, to: None, key });
        Self::checked(spans)
    }

    pub fn parse(text: &str) -> Result<Self, KeyringError> {
        let body = text.strip_prefix(HEAD).and_then(|rest| rest.strip_prefix('\n'));
        let body = body.ok_or(KeyringError::Head)?;
        let body = body.strip_suffix('\n').ok_or(KeyringError::Empty)?;
        let mut spans = Vec::new();
        for (at, text) in body.split('\n').enumerate() {
            spans.push(parse_span(at + 2, text)?);
            if spans.len() > KEYS_MAX {
                return Err(KeyringError::TooMany);
            }
        }
        Self::checked(spans)
    }

    fn checked(spans: Vec<KeySpan>) -> Result<Self, KeyringError> {
        let (Some(first), Some(last)) = (spans.first(), spans.last()) else {
            return Err(KeyringError::Empty);
        };
        let follows =
            |pair: &[KeySpan]| pair[0].to == Some(pair[1].from) && pair[0].from < pair[1].from;
        if first.from != 0 || last.to.is_some() || !spans.windows(2).all(follows) {
            return Err(KeyringError::Order);
        }
        let fits = |span: &KeySpan| {
            span.key.name() == first.key.name() && span.key.kind() == KeyKind::Ed25519
        };
        if !spans.iter().all(fits) {
            return Err(KeyringError::OtherName);
        }
        let twice = |(at, span): (usize, &KeySpan)| {
            spans[..at].iter().any(|earlier| earlier.key.id() == span.key.id())
        };
        if spans.iter().enumerate().any(twice) {
            return Err(KeyringError::Duplicate);
        }
        if spans.len() > KEYS_MAX { Err(KeyringError::TooMany) } else { Ok(Self { spans }) }
    }

    pub fn spans(&self) -> &[KeySpan] {
        &self.spans
    }

    /// The key in use.
    pub fn current(&self) -> &VerifierKey {
        let last = self.spans.last().expect("a keyring is made with a key and never loses one");
        &last.key
    }

    /// The keys that sign at `size`: two where one follows the other.
    pub fn at(&self, size: u64) -> impl Iterator<Item = &VerifierKey> {
        let signs = move |span: &&KeySpan| span.from <= size && span.to.is_none_or(|to| size <= to);
        self.spans.iter().filter(signs).map(|span| &span.key)
    }
}

fn parse_span(line: usize, text: &str) -> Result<KeySpan, KeyringError> {
    let mut parts = text.splitn(3, ' ');
    let (Some(from), Some(to), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(KeyringError::Shape(line));
    };
    let size = |text| parse_number(text).map_err(|source| KeyringError::Size { line, source });
    let to = if to == "-" { None } else { Some(size(to)?) };
    let key = VerifierKey::parse(key).map_err(|source| KeyringError::Key { line, source })?;
    Ok(KeySpan { from: size(from)?, to, key })
}

impl fmt::Display for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEAD}")?;
        for KeySpan { from, to, key } in &self.spans {
            match to {
                Some(to) => writeln!(f, "{from} {to} {key}")?,
                None => writeln!(f, "{from} - {key}")?,
            }
        }
        Ok(())
    }
}
