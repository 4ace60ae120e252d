//! The first use of each token, and its first from each network.
//!
//! Told by the journal's thread of what it stored, off the way of requests. The
//! database remembers, so a use is entered once whatever happens between.

use std::{collections::HashSet, net::IpAddr};

use dataplane::network::client_network;
use domain::{
    audit::{Action, Actor, Detail, EntryContext, EntryDraft, TargetKind, Text},
    context::ClientAddress,
    ids::{ProjectId, TokenId},
    record::Record,
};
use store::{Store, Use};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Uses that wait to be looked at; more are seen when they come again.
const WAITING_MAX: usize = 1024;
/// Pairs of token and network that need no question; beyond, all are asked anew.
const SEEN_MAX: usize = 65_536;

/// A use that may be a first.
pub struct Used {
    token: TokenId,
    project: Option<ProjectId>,
    client: IpAddr,
    context: EntryContext,
}

/// The journal's side.
pub struct UseObserver {
    seen: HashSet<(TokenId, IpAddr)>,
    sender: mpsc::Sender<Used>,
}

/// The database's side.
pub struct Uses(mpsc::Receiver<Used>);

/// Both ends.
pub fn uses() -> (UseObserver, Uses) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (UseObserver { seen: HashSet::new(), sender }, Uses(receiver))
}

impl UseObserver {
    /// Looks at stored records. Never blocks.
    pub fn stored(&mut self, records: &[Box<Record>]) {
        for record in records {
            let used = record.attempts > 0;
            let Some((token, client)) = record.token_id.filter(|_| used).zip(record.client_ip)
            else {
                continue;
            };
            let pair = (token, client_network(client));
            if self.seen.contains(&pair) {
                continue;
            }
            let context = EntryContext {
                request_id: Some(record.request_id.clone()),
                correlation_id: Some(record.correlation_id.clone()),
                trace_id: Some(record.trace_id),
                client: Some(ClientAddress { peer: client, client }),
                user_agent: record.user_agent.as_deref().map(Text::new),
                ..EntryContext::default()
            };
            let used = Used { token, project: record.project_id, client, context };
            if self.sender.try_send(used).is_err() {
                continue;
            }
            if self.seen.len() >= SEEN_MAX {
                self.seen.clear();
            }
            self.seen.insert(pair);
        }
    }
}

impl Uses {
    /// Enters firsts until told to stop, then those that wait.
    pub async fn run(mut self, store: Store, stop: CancellationToken) {
        loop {
            let used = tokio::select! {
                used = self.0.recv() => used,
                () = stop.cancelled() => self.0.try_recv().ok(),
            };
            let Some(used) = used else { return };
            if let Err(error) = enter(&store, used).await {
                // The next process sees the next use.
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "the first use of a token could not be entered");
            }
        }
    }
}

async fn enter(store: &Store, used: Used) -> Result<(), store::Error> {
    let Used { token, project, client, context } = used;
    let network = client_network(client).to_string();
    if store.is_known_use(token, &network).await? {
        return Ok(());
    }
    let mut tx = store.begin(Actor::token(token), context).await?;
    let reason = match tx.note_use(token, &network).await? {
        Use::Known => return tx.rollback().await,
        Use::First => "first_use",
        Use::NewNetwork => "new_network",
    };
    let mut draft = EntryDraft::new(Action::TokenFirstUse)
        .reason(reason)
        .token(token)
        .target(TargetKind::Token, token)
        .detail(Detail::ClientNetwork(Text::new(&network)));
    if let Some(project) = project {
        draft = draft.project(project);
    }
    tx.commit(draft).await.map(drop)
}
