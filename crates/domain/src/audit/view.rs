//! An entry as the API and the command line show it (CONTRACT §8): the leaf
//! with what its openings reveal, each checked against its commitment.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    Leaf, LeafError, Opening,
    action::{Action, ActorKind, AuthMethod, Outcome, TargetKind},
    change::Field,
    leaf::leaf_hash,
    value::Word,
};
use crate::{
    ids::{EntryId, ProjectId, TokenId},
    role::Role,
    time::Timestamp,
};

#[derive(Clone, Debug, Serialize)]
pub struct EntryView {
    /// Its place in the tree; absent until it is sequenced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    pub id: EntryId,
    pub ts: Timestamp,
    pub action: Action,
    pub result: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason_code: Option<Word>,
    pub actor: ActorView,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_id: Option<ProjectId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_id: Option<TokenId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<ChangeView>,
    pub details: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    pub instance: Word,
    pub producer: Word,
    pub seq: u64,
    pub leaf_hash: String,
    /// Sealed values whose opening is gone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub erased: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ActorView {
    pub kind: ActorKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    pub auth: AuthMethod,
}

#[derive(Clone, Debug, Serialize)]
pub struct TargetView {
    #[serde(rename = "type")]
    pub kind: TargetKind,
    pub id: Word,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rev_before: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rev_after: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ChangeView {
    pub fields: Vec<Field>,
    pub before: Map<String, Value>,
    pub after: Map<String, Value>,
}

impl EntryView {
    /// Shows a leaf with those of its openings that still exist.
    pub fn new(leaf: &str, openings: &[Opening], index: Option<u64>) -> Result<Self, LeafError> {
        let hash = leaf_hash(leaf.as_bytes());
        let leaf = Leaf::parse(leaf.as_bytes())?;
        let mut revealed = Revealed::open(&leaf, openings)?;
        let change = leaf.change.map(|change| ChangeView {
            fields: change.fields,
            before: revealed.take_under("/change/before/"),
            after: revealed.take_under("/change/after/"),
        });
        let mut details: Map<String, Value> = leaf.details.into_iter().flatten().collect();
        details.extend(revealed.take_under("/details/"));
        let request = leaf.request;
        Ok(Self {
            index,
            id: leaf.id,
            ts: leaf.at,
            action: leaf.action,
            result: leaf.result,
            reason_code: leaf.reason_code,
            actor: ActorView {
                kind: leaf.actor.kind,
                id: leaf.actor.id,
                name: revealed.take_text("/actor/name"),
                role: leaf.actor.role,
                auth: leaf.actor.auth,
            },
            on_behalf_of: leaf.on_behalf_of,
            project_id: leaf.project_id,
            token_id: leaf.token_id,
            target: leaf.target.map(|target| TargetView {
                kind: target.kind,
                id: target.id,
                rev_before: target.rev_before,
                rev_after: target.rev_after,
            }),
            request_id: revealed.take_text("/request/id"),
            correlation_id: revealed.take_text("/request/correlation_id"),
            trace_id: request.as_ref().and_then(|request| request.trace_id.clone()),
            client_ip: revealed.take_text("/request/client_ip"),
            peer_ip: revealed.take_text("/request/peer_ip"),
            user_agent: revealed.take_text("/request/user_agent"),
            method: request.as_ref().and_then(|request| request.method.clone()),
            route: request.as_ref().and_then(|request| request.route.clone()),
            status: request.as_ref().and_then(|request| request.status),
            change,
            details,
            ticket: leaf.why.map(|why| why.ticket),
            note: revealed.take_text("/why/note"),
            instance: leaf.instance,
            producer: leaf.producer,
            seq: leaf.seq,
            leaf_hash: hash.to_string(),
            erased: revealed.erased,
        })
    }
}

/// The sealed values by path.
struct Revealed {
    values: Map<String, Value>,
    erased: Vec<String>,
}

impl Revealed {
    fn open(leaf: &Leaf, openings: &[Opening]) -> Result<Self, LeafError> {
        let mut revealed = Self { values: Map::new(), erased: Vec::new() };
        for opening in openings {
            let value = leaf.sealed.get(&opening.path).and_then(|known| opening.open(known));
            let value = value.ok_or_else(|| LeafError::Opening(opening.path.clone()))?;
            revealed.values.insert(opening.path.clone(), value);
        }
        let is_open = |path: &&String| revealed.values.contains_key(path.as_str());
        revealed.erased = leaf.sealed.keys().filter(|path| !is_open(path)).cloned().collect();
        Ok(revealed)
    }

    fn take_text(&mut self, path: &str) -> Option<String> {
        match self.values.remove(path)? {
            Value::String(text) => Some(text),
            // An oversize value stands as an object; it is shown as it is.
            other => Some(other.to_string()),
        }
    }

    fn take_under(&mut self, prefix: &str) -> Map<String, Value> {
        let values = self.values.iter();
        let under = values.filter_map(|(path, value)| {
            path.strip_prefix(prefix).map(|name| (name.to_owned(), value.clone()))
        });
        under.collect()
    }
}
