//! One refusal, and the entry that it becomes.

use std::net::IpAddr;

use dataplane::{network::client_network, ports::Denied};
use domain::{
    audit::{Action, Actor, Detail, EntryContext, EntryDraft, TargetKind, Text, Word},
    credential::CredentialMark,
    failure::ErrorCode,
    ids::{ProjectId, RequestId, TokenId},
    time::Timestamp,
};

use super::Event;

/// Refusals that are told together: what they have in common.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Key {
    /// [`Action::AccessDenied`] or [`Action::AuthFailed`].
    pub(super) action: Action,
    pub(super) reason: &'static str,
    /// What kind of route was asked for.
    pub(super) class: &'static str,
    pub(super) party: Party,
    pub(super) network: Option<IpAddr>,
}

/// Who was refused, as far as that is known.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Party {
    Nobody,
    Project(ProjectId),
    Credential(CredentialMark),
    /// A management key that may not do this.
    Key(Word),
}

impl Key {
    /// With less to tell apart: first without the network, then without anyone.
    pub(super) fn coarser(self) -> Option<Self> {
        if self.network.is_some() {
            return Some(Self { network: None, ..self });
        }
        (self.party != Party::Nobody).then_some(Self { party: Party::Nobody, ..self })
    }
}

/// A refusal with all that its own entry says.
#[derive(Clone, Debug)]
pub(super) struct Denial {
    pub(super) key: Key,
    pub(super) at: Timestamp,
    pub(super) actor: Actor,
    pub(super) context: EntryContext,
    pub(super) status: u16,
    pub(super) project: Option<ProjectId>,
    pub(super) token: Option<TokenId>,
    pub(super) provider: Option<Word>,
    pub(super) model: Option<Text>,
    pub(super) path: Option<Text>,
}

/// The code of a finished record that was refused.
pub(super) fn reason(code: Option<&str>) -> &'static str {
    let known = ErrorCode::ALL.iter().find(|known| Some(known.as_str()) == code);
    // A provider's own code, in a stream that a revocation ended.
    known.map_or(ErrorCode::TokenInactive.as_str(), |known| known.as_str())
}

impl Key {
    pub(super) fn of_request(denied: &Denied<'_>) -> Self {
        let record = denied.record;
        let party = match (record.project_id, denied.credential) {
            (Some(project), _) => Party::Project(project),
            (None, Some(mark)) => Party::Credential(mark.clone()),
            (None, None) => Party::Nobody,
        };
        Self {
            action: Action::AccessDenied,
            reason: reason(record.error_code.as_deref()),
            class: record.operation.as_str(),
            party,
            network: Some(client_network(denied.client.client)),
        }
    }
}

impl Denial {
    pub(super) fn of_request(key: Key, denied: &Denied<'_>) -> Self {
        let record = denied.record;
        let text = |text: &Option<Box<str>>| text.as_deref().map(Text::new);
        Self {
            key,
            at: record.ts,
            actor: record.token_id.map_or_else(Actor::anonymous, Actor::token),
            context: EntryContext {
                request_id: Some(record.request_id.clone()),
                correlation_id: Some(record.correlation_id.clone()),
                trace_id: Some(record.trace_id),
                method: Some(Word::lossy(&record.method)),
                client: Some(denied.client),
                user_agent: text(&record.user_agent),
                ..EntryContext::default()
            },
            status: record.status_code.unwrap_or_default(),
            project: record.project_id,
            token: record.token_id,
            provider: record.provider.as_deref().map(Word::lossy),
            model: text(&record.model),
            path: Some(Text::new(&record.path)),
        }
    }

    pub(super) fn into_event(self) -> Event {
        let Self { key, actor, context, status, project, token, provider, model, path, .. } = self;
        let mut draft = EntryDraft::new(key.action).denied(key.reason).status(status);
        draft = with_class(draft, &key);
        if let Party::Credential(mark) = &key.party {
            draft = with_mark(draft, mark);
        }
        if let Some(id) = project {
            draft = draft.project(id);
        }
        if let Some(id) = token {
            draft = draft.token(id).target(TargetKind::Token, id);
        } else if let Some(route) = &context.route {
            draft = draft.target(TargetKind::Route, route);
        }
        let details =
            [provider.map(Detail::Provider), model.map(Detail::Model), path.map(Detail::Path)];
        let details = details.into_iter().flatten();
        let known = key.action.details();
        let draft =
            details.filter(|detail| known.contains(&detail.key())).fold(draft, EntryDraft::detail);
        Event { draft, actor, context }
    }
}

/// What a window left beyond the individual entries of its key.
#[derive(Clone, Debug)]
pub(super) struct Folded {
    pub(super) count: u64,
    pub(super) first_at: Timestamp,
    pub(super) last_at: Timestamp,
    pub(super) samples: Vec<RequestId>,
}

impl Folded {
    pub(super) fn into_event(self, key: &Key) -> Event {
        let action = match key.action {
            Action::AccessDenied => Action::AccessDeniedAggregate,
            other => other,
        };
        let samples = self.samples.iter().map(|id| Text::new(id.as_str())).collect();
        let mut draft = EntryDraft::new(action)
            .denied(key.reason)
            .detail(Detail::Count(self.count))
            .detail(Detail::FirstAt(self.first_at))
            .detail(Detail::LastAt(self.last_at))
            .detail(Detail::SampleRequestIds(samples));
        draft = with_class(draft, key);
        if let Some(network) = key.network {
            draft = draft.detail(Detail::ClientNetwork(Text::new(&network.to_string())));
        }
        let mut actor = Actor::anonymous();
        match &key.party {
            Party::Nobody => {}
            Party::Project(id) => draft = draft.project(*id),
            Party::Credential(mark) => draft = with_mark(draft, mark),
            Party::Key(id) => {
                actor.kind = domain::audit::ActorKind::Key;
                actor.id = Some(id.clone());
                actor.auth = domain::audit::AuthMethod::ManagementKey;
            }
        }
        Event { draft, actor, context: EntryContext::default() }
    }
}

fn with_class(draft: EntryDraft, key: &Key) -> EntryDraft {
    draft.detail(Detail::RouteClass(Word::lossy(key.class)))
}

fn with_mark(draft: EntryDraft, mark: &CredentialMark) -> EntryDraft {
    let draft = draft
        .detail(Detail::CredentialBytes(mark.bytes))
        .detail(Detail::CredentialFamily(Word::lossy(mark.family)));
    match &mark.tag {
        Some(tag) => draft.detail(Detail::CredentialTag(Word::lossy(tag))),
        None => draft,
    }
}
