//! Builds an entry: who, in what request, did what. The one way to a leaf.

use std::{collections::BTreeMap, fmt::Display};

use super::{
    Commitment, LEAF_BYTES_MAX, LEAF_VERSION, Leaf, LeafHash, Opening,
    action::{Action, ActorKind, AuthMethod, Outcome, TargetKind},
    change::Change,
    detail::{Detail, Part},
    leaf::{LeafActor, LeafChange, LeafRequest, LeafTarget, LeafWhy, leaf_hash},
    value::{Text, Value, Word},
};
use crate::{
    context::{ClientAddress, RequestIds, TraceId},
    ids::{CorrelationId, EntryId, InstanceId, ManagementKeyId, ProjectId, RequestId, TokenId},
    rng::Rng,
    role::Role,
    time::Timestamp,
};

/// Who acts. Made from what authentication found, never from a header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Actor {
    pub kind: ActorKind,
    pub id: Option<Word>,
    pub name: Option<Text>,
    pub role: Option<Role>,
    pub auth: AuthMethod,
}

impl Actor {
    const fn of(kind: ActorKind, auth: AuthMethod) -> Self {
        Self { kind, id: None, name: None, role: None, auth }
    }

    /// The holder of `MANAGEMENT_TOKEN`.
    pub fn root() -> Self {
        Self::of(ActorKind::Root, AuthMethod::ManagementToken).with_role(Role::Admin)
    }

    pub fn key(id: ManagementKeyId, name: &str, role: Role) -> Self {
        let key = Self::of(ActorKind::Key, AuthMethod::ManagementKey);
        Self { id: Some(Word::lossy(&id.to_string())), name: Some(Text::new(name)), ..key }
            .with_role(role)
    }

    /// A person or script on this machine, known by user id.
    pub fn local(user_id: u32) -> Self {
        let id = Some(Word::lossy(&user_id.to_string()));
        Self { id, ..Self::of(ActorKind::Local, AuthMethod::Peer) }.with_role(Role::Admin)
    }

    /// The holder of one of our tokens, on the data plane.
    pub fn token(id: TokenId) -> Self {
        let id = Some(Word::lossy(&id.to_string()));
        Self { id, ..Self::of(ActorKind::Token, AuthMethod::Token) }
    }

    /// This process, without anyone asking.
    pub const fn system() -> Self {
        Self::of(ActorKind::System, AuthMethod::Process)
    }

    pub const fn anonymous() -> Self {
        Self::of(ActorKind::Anonymous, AuthMethod::None)
    }

    fn with_role(self, role: Role) -> Self {
        Self { role: Some(role), ..self }
    }
}

/// The request behind an entry. The default is work that nobody requested.
#[derive(Clone, Debug, Default)]
pub struct EntryContext {
    pub request_id: Option<RequestId>,
    pub correlation_id: Option<CorrelationId>,
    pub trace_id: Option<TraceId>,
    pub method: Option<Word>,
    /// The route's template, never the path.
    pub route: Option<Word>,
    pub client: Option<ClientAddress>,
    pub user_agent: Option<Text>,
    pub on_behalf_of: Option<Word>,
    pub ticket: Option<Word>,
}

impl EntryContext {
    pub fn of_request(ids: &RequestIds) -> Self {
        Self {
            request_id: Some(ids.request_id.clone()),
            correlation_id: Some(ids.correlation_id.clone()),
            trace_id: Some(ids.trace.trace_id),
            ..Self::default()
        }
    }
}

/// Which chain of entries this is, and who writes to it.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The name of the whole chain, the same on every instance.
    pub log: Word,
    /// Whose `seq` is dense: one writer of one instance.
    pub producer: Word,
    pub instance: InstanceId,
    /// This start of the process.
    pub boot: Word,
}

/// Why a draft cannot become an entry. Each is a mistake of ours.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DraftError {
    #[error("the action {action} has no detail {detail}")]
    Detail { action: Action, detail: &'static str },
    #[error("a number is not within ±2^53")]
    Number,
    #[error("the leaf has {0} bytes, more than {LEAF_BYTES_MAX}")]
    TooLarge(usize),
}

/// An entry before it has its place: everything but who, when and `seq`.
#[derive(Clone, Debug)]
pub struct EntryDraft {
    action: Action,
    result: Outcome,
    reason_code: Option<Word>,
    status: Option<u16>,
    project_id: Option<ProjectId>,
    token_id: Option<TokenId>,
    target: Option<LeafTarget>,
    change: Change,
    details: Vec<Detail>,
    note: Option<Text>,
}

impl EntryDraft {
    /// A success, until said otherwise.
    pub fn new(action: Action) -> Self {
        Self {
            action,
            result: Outcome::Success,
            reason_code: None,
            status: None,
            project_id: None,
            token_id: None,
            target: None,
            change: Change::default(),
            details: Vec::new(),
            note: None,
        }
    }

    pub fn action(&self) -> Action {
        self.action
    }

    /// A refusal, with the error code that the caller sees.
    pub fn denied(self, code: &str) -> Self {
        Self { result: Outcome::Denied, reason_code: Some(Word::lossy(code)), ..self }
    }

    /// A failure, with the error code that the caller sees.
    pub fn failed(self, code: &str) -> Self {
        Self { result: Outcome::Error, reason_code: Some(Word::lossy(code)), ..self }
    }

    /// Why, as a code, whatever the result.
    pub fn reason(self, code: &str) -> Self {
        Self { reason_code: Some(Word::lossy(code)), ..self }
    }

    /// The status of the answer.
    pub fn status(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }

    pub fn project(self, id: ProjectId) -> Self {
        Self { project_id: Some(id), ..self }
    }

    pub fn token(self, id: TokenId) -> Self {
        Self { token_id: Some(id), ..self }
    }

    pub fn target(self, kind: TargetKind, id: impl Display) -> Self {
        let id = Word::lossy(&id.to_string());
        Self { target: Some(LeafTarget { kind, id, rev_before: None, rev_after: None }), ..self }
    }

    /// The target's revisions; without a target they say nothing.
    pub fn revisions(mut self, before: Option<u64>, after: Option<u64>) -> Self {
        if let Some(target) = &mut self.target {
            (target.rev_before, target.rev_after) = (before, after);
        }
        self
    }

    pub fn change(self, change: Change) -> Self {
        Self { change, ..self }
    }

    pub fn detail(mut self, detail: Detail) -> Self {
        self.details.push(detail);
        self
    }

    /// Why, in a person's words.
    pub fn note(self, text: &str) -> Self {
        Self { note: Some(Text::new(text)), ..self }
    }

    /// Gives the entry its place: the leaf, its hash and its openings.
    pub fn seal(
        self,
        actor: &Actor,
        context: &EntryContext,
        origin: &Origin,
        seq: u64,
        at: Timestamp,
        rng: &dyn Rng,
    ) -> Result<SealedEntry, DraftError> {
        let mut seals = Seals { rng, openings: Vec::new(), sealed: BTreeMap::new() };
        seals.take("/actor/name", actor.name.clone());
        seal_context(&mut seals, context);
        seals.take("/why/note", self.note);
        for (field, (before, after)) in &self.change.0 {
            seals.take(&format!("/change/before/{field}"), before.clone());
            seals.take(&format!("/change/after/{field}"), after.clone());
        }
        let details = split_details(self.action, self.details, &mut seals)?;
        let change = LeafChange { fields: self.change.fields() };
        let leaf = Leaf {
            v: LEAF_VERSION,
            id: EntryId::new(at, rng),
            log: origin.log.clone(),
            producer: origin.producer.clone(),
            seq,
            action: self.action,
            result: self.result,
            reason_code: self.reason_code,
            at,
            instance: Word::lossy(origin.instance.as_str()),
            boot: origin.boot.clone(),
            actor: LeafActor {
                kind: actor.kind,
                id: actor.id.clone(),
                role: actor.role,
                auth: actor.auth,
            },
            on_behalf_of: context.on_behalf_of.clone(),
            project_id: self.project_id,
            token_id: self.token_id,
            target: self.target,
            request: LeafRequest::of(context, self.status),
            change: (!self.change.is_empty()).then_some(change),
            details: (!details.is_empty()).then_some(details),
            why: context.ticket.clone().map(|ticket| LeafWhy { ticket }),
            sealed: seals.sealed,
        };
        let text = leaf.to_canonical().map_err(|_| DraftError::Number)?;
        if text.len() > LEAF_BYTES_MAX {
            return Err(DraftError::TooLarge(text.len()));
        }
        let hash = leaf_hash(text.as_bytes());
        Ok(SealedEntry { leaf, text, hash, openings: seals.openings })
    }
}

/// An entry in its place.
#[derive(Clone, Debug)]
pub struct SealedEntry {
    pub leaf: Leaf,
    /// The canonical text: what is stored, hashed and never written again.
    pub text: String,
    pub hash: LeafHash,
    pub openings: Vec<Opening>,
}

struct Seals<'a> {
    rng: &'a dyn Rng,
    openings: Vec<Opening>,
    sealed: BTreeMap<String, Commitment>,
}

impl Seals<'_> {
    fn take(&mut self, path: &str, value: Option<impl Into<Value>>) {
        let Some(value) = value else { return };
        let opening = Opening::seal(path.to_owned(), &value.into(), self.rng);
        self.sealed.insert(path.to_owned(), opening.commitment());
        self.openings.push(opening);
    }
}

fn seal_context(seals: &mut Seals<'_>, context: &EntryContext) {
    let text = |text: &str| Text::new(text);
    seals.take("/request/id", context.request_id.as_ref().map(|id| text(id.as_str())));
    let correlation = context.correlation_id.as_ref();
    seals.take("/request/correlation_id", correlation.map(|id| text(id.as_str())));
    let client = context.client;
    seals.take("/request/client_ip", client.map(|c| text(&c.client.to_string())));
    seals.take("/request/peer_ip", client.map(|c| text(&c.peer.to_string())));
    seals.take("/request/user_agent", context.user_agent.clone());
}

fn split_details(
    action: Action,
    details: Vec<Detail>,
    seals: &mut Seals<'_>,
) -> Result<BTreeMap<String, serde_json::Value>, DraftError> {
    let mut plain = BTreeMap::new();
    for detail in details {
        let key = detail.key();
        if !action.details().contains(&key) {
            return Err(DraftError::Detail { action, detail: key.as_str() });
        }
        match detail.into_part() {
            Part::Plain(value) => {
                plain.insert(key.as_str().to_owned(), value);
            }
            Part::Sealed(value) => seals.take(&format!("/details/{key}"), Some(value)),
        }
    }
    Ok(plain)
}
