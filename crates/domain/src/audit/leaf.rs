//! The leaf itself: its fields, its bytes, its hash, and the strict reader.

use std::{collections::BTreeMap, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    Commitment, LEAF_BYTES_MAX, LEAF_VERSION,
    action::{Action, ActorKind, AuthMethod, Outcome, TargetKind},
    change::Field,
    detail::{self, DetailKey, DetailKind},
    draft::EntryContext,
    jcs::{self, NotCanonical},
    value::Word,
};
use crate::{
    ids::{EntryId, ProjectId, TokenId},
    role::Role,
    time::Timestamp,
};

/// The fields of version 1. What is absent does not appear.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leaf {
    pub v: u64,
    pub id: EntryId,
    pub log: Word,
    pub producer: Word,
    pub seq: u64,
    pub action: Action,
    pub result: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason_code: Option<Word>,
    pub at: Timestamp,
    pub instance: Word,
    pub boot: Word,
    pub actor: LeafActor,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_id: Option<ProjectId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_id: Option<TokenId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<LeafTarget>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<LeafRequest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<LeafChange>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<BTreeMap<String, serde_json::Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<LeafWhy>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sealed: BTreeMap<String, Commitment>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeafActor {
    pub kind: ActorKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    pub auth: AuthMethod,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeafTarget {
    #[serde(rename = "type")]
    pub kind: TargetKind,
    pub id: Word,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rev_before: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rev_after: Option<u64>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeafRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

impl LeafRequest {
    pub(super) fn of(context: &EntryContext, status: Option<u16>) -> Option<Self> {
        let request = Self {
            trace_id: context.trace_id.map(|id| Word::lossy(&id.to_string())),
            method: context.method.clone(),
            route: context.route.clone(),
            status,
        };
        let empty = Self { trace_id: None, method: None, route: None, status: None };
        (request != empty).then_some(request)
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeafChange {
    pub fields: Vec<Field>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeafWhy {
    pub ticket: Word,
}

/// Why bytes are not a leaf.
#[derive(Debug, thiserror::Error)]
pub enum LeafError {
    #[error("the leaf has {0} bytes, more than {LEAF_BYTES_MAX}")]
    TooLarge(usize),
    #[error("the leaf is not canonical")]
    NotCanonical(#[source] NotCanonical),
    #[error("the leaf has version {0}, which this build does not know")]
    UnknownVersion(String),
    #[error("the leaf does not follow its schema")]
    Schema(#[source] serde_json::Error),
    #[error("{0} does not belong into this leaf")]
    Misplaced(String),
    #[error("the opening of {0} does not open its commitment")]
    Opening(String),
}

impl Leaf {
    /// Reads the exact bytes of a leaf, and nothing that merely resembles one.
    pub fn parse(bytes: &[u8]) -> Result<Self, LeafError> {
        match Self::parse_plainly(bytes) {
            Some(leaf) => Ok(leaf),
            // Slower, and it can tell what is wrong.
            None => Self::parse_exactly(bytes),
        }
    }

    /// Reads a leaf if that can be done without writing it again: a verifier
    /// reads millions.
    fn parse_plainly(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > LEAF_BYTES_MAX || !jcs::is_plainly_canonical(bytes) {
            return None;
        }
        let leaf: Self = serde_json::from_slice(bytes).ok()?;
        if leaf.v != LEAF_VERSION || leaf.check_parts().is_err() {
            return None;
        }
        // What types leave open: other spellings of a time or an id, and an
        // object of no commitments. No word of a leaf has a quote in it, so
        // these can stand only where they belong.
        let spelled = [
            Some(format!("\"at\":\"{}\",\"boot\":", leaf.at)),
            Some(format!("\"id\":\"{}\",\"instance\":", leaf.id)),
            leaf.project_id.map(|id| format!("\"project_id\":\"{id}\"")),
            leaf.token_id.map(|id| format!("\"token_id\":\"{id}\"")),
        ];
        let holds = |text: &str| memchr::memmem::find(bytes, text.as_bytes()).is_some();
        let is_exact = spelled.iter().flatten().all(|text| holds(text));
        (is_exact && !holds("\"sealed\":{}")).then_some(leaf)
    }

    fn parse_exactly(bytes: &[u8]) -> Result<Self, LeafError> {
        if bytes.len() > LEAF_BYTES_MAX {
            return Err(LeafError::TooLarge(bytes.len()));
        }
        let value = jcs::parse(bytes).map_err(LeafError::NotCanonical)?;
        let version = &value["v"];
        if version.as_u64() != Some(LEAF_VERSION) {
            let shown = Word::lossy(&version.to_string());
            return Err(LeafError::UnknownVersion(shown.to_string()));
        }
        let leaf: Self = serde_json::from_value(value).map_err(LeafError::Schema)?;
        leaf.check_parts()?;
        // Closes what types leave open: other spellings of a time or an id.
        let again = leaf.to_canonical().map_err(LeafError::NotCanonical)?;
        if again.as_bytes() != bytes {
            return Err(LeafError::NotCanonical(NotCanonical::Bytes));
        }
        Ok(leaf)
    }

    pub(super) fn to_canonical(&self) -> Result<String, NotCanonical> {
        let value = serde_json::to_value(self).map_err(|_| NotCanonical::NotJson)?;
        let bytes = jcs::to_bytes(&value)?;
        String::from_utf8(bytes).map_err(|_| NotCanonical::NotJson)
    }

    fn check_parts(&self) -> Result<(), LeafError> {
        let misplaced = |what: &str| LeafError::Misplaced(Word::lossy(what).to_string());
        for (name, value) in self.details.iter().flatten() {
            let key = self.detail_key(name).ok_or_else(|| misplaced(name))?;
            if !detail::is_of_kind(value, key.kind()) {
                return Err(misplaced(name));
            }
        }
        let fields = self.change.as_ref().map_or(&[][..], |change| &change.fields);
        if fields.windows(2).any(|pair| pair[0].as_str() >= pair[1].as_str()) {
            return Err(misplaced("change/fields"));
        }
        for (path, commitment) in &self.sealed {
            let hash = STANDARD.decode(commitment).ok();
            let well_formed = hash.is_some_and(|hash| hash.len() == 32);
            if !well_formed || !self.may_seal(path, fields) {
                return Err(misplaced(path));
            }
        }
        let empty = self.request == Some(LeafRequest::EMPTY)
            || self.details.as_ref().is_some_and(BTreeMap::is_empty)
            || self.change.as_ref().is_some_and(|change| change.fields.is_empty());
        if empty { Err(misplaced("empty_object")) } else { Ok(()) }
    }

    fn detail_key(&self, name: &str) -> Option<DetailKey> {
        DetailKey::parse(name).filter(|key| self.action.details().contains(key))
    }

    fn may_seal(&self, path: &str, fields: &[Field]) -> bool {
        let sides = ["/change/before/", "/change/after/"];
        if let Some(field) = sides.iter().find_map(|side| path.strip_prefix(side)) {
            return fields.iter().any(|known| known.as_str() == field);
        }
        if let Some(name) = path.strip_prefix("/details/") {
            return self.detail_key(name).is_some_and(|key| key.kind() == DetailKind::Sealed);
        }
        SEALED_PATHS.contains(&path)
    }
}

impl LeafRequest {
    const EMPTY: Self = Self { trace_id: None, method: None, route: None, status: None };
}

/// What is always sealed; the changed fields and the details come to it.
const SEALED_PATHS: &[&str] = &[
    "/actor/name",
    "/request/id",
    "/request/correlation_id",
    "/request/client_ip",
    "/request/peer_ip",
    "/request/user_agent",
    "/why/note",
];

/// The hash of a leaf in the Merkle tree of RFC 6962.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeafHash(pub [u8; 32]);

impl fmt::Display for LeafHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for LeafHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `SHA-256(0x00 || leaf)`.
pub fn leaf_hash(leaf: &[u8]) -> LeafHash {
    LeafHash(Sha256::new().chain_update([0]).chain_update(leaf).finalize().into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Leaf;

    const GOLDEN: &str = include_str!("golden/v1-project-update.json");

    fn agrees(bytes: &[u8]) -> bool {
        match (Leaf::parse_plainly(bytes), Leaf::parse_exactly(bytes)) {
            (Some(one), Ok(other)) => one == other,
            (plain, _) => plain.is_none(),
        }
    }

    #[test]
    fn a_leaf_is_read_plainly_and_its_other_spellings_are_not() {
        let golden = GOLDEN.trim_end();
        assert!(Leaf::parse_plainly(golden.as_bytes()).is_some() && agrees(golden.as_bytes()));
        let sealed = golden.find("\"sealed\":{").expect("commitments") + 10;
        let end = sealed + golden[sealed..].find('}').expect("their end");
        for other in [
            golden.replace("00000000000c\",\"instance", "00000000000C\",\"instance"),
            golden.replace("0000000000aa", "0000000000AA"),
            golden.replace(
                "\"project_id\":\"01980000-0000-7000",
                "\"project_id\":\"019800000000-7000",
            ),
            golden.replace("00000000000a\",\"request", "00000000000A\",\"request"),
            golden.replace(".000123Z", ".0001230Z"),
            golden.replace("T10:00", "t10:00"),
            format!("{}{{}}{}", &golden[..sealed], &golden[end + 1..]),
            golden.replace("\"v\":1", "\"v\":2"),
        ] {
            assert_ne!(other, golden);
            assert!(agrees(other.as_bytes()), "{other}");
        }
    }

    proptest! {
        #[test]
        fn both_ways_to_read_agree(at in any::<usize>(), byte: u8, other: u8) {
            let mut bytes = GOLDEN.trim_end().as_bytes().to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            prop_assert!(agrees(&bytes));
            bytes.insert(at, other);
            prop_assert!(agrees(&bytes));
            bytes.remove(at);
            bytes.remove(at);
            prop_assert!(agrees(&bytes));
        }
    }
}
