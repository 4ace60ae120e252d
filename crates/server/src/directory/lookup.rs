//! Looks up unknown hashes in groups: one question to the store for all who
//! asked within a millisecond, one answer for all who asked the same.

use std::{collections::HashMap, sync::Arc, time::Duration};

use dataplane::ports::{Found, Grant, Unavailable};
use domain::token::TokenHash;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{IDS_A_QUERY, QUERY_TIMEOUT, TokenDirectory};

/// How long the first asker waits for company.
const GATHER: Duration = Duration::from_millis(1);

type Answer = Result<Option<Arc<Grant>>, Unavailable>;

pub(super) struct Question {
    hash: TokenHash,
    answer: oneshot::Sender<Answer>,
}

/// The askers' side.
pub(super) struct Lookups {
    questions: mpsc::Sender<Question>,
}

impl Lookups {
    /// `waiters` bounds how many may wait at once.
    pub(super) fn new(waiters: usize) -> (Self, mpsc::Receiver<Question>) {
        let (questions, receiver) = mpsc::channel(waiters);
        (Self { questions }, receiver)
    }

    /// Refuses at once when too many wait already.
    pub(super) async fn ask(&self, hash: TokenHash) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.questions.try_send(Question { hash, answer }).map_err(|_| Unavailable)?;
        answered.await.map_err(|_| Unavailable)?
    }
}

/// Serves questions, group after group, until told to stop.
pub(super) async fn serve(
    directory: Arc<TokenDirectory>,
    mut questions: mpsc::Receiver<Question>,
    stop: CancellationToken,
) {
    loop {
        let first = tokio::select! {
            () = stop.cancelled() => return,
            question = questions.recv() => question,
        };
        let Some(first) = first else { return };
        let group = gather(first, &mut questions).await;
        answer(&directory, group).await;
    }
}

type Group = HashMap<TokenHash, Vec<oneshot::Sender<Answer>>>;

async fn gather(first: Question, questions: &mut mpsc::Receiver<Question>) -> Group {
    let deadline = tokio::time::Instant::now() + GATHER;
    let mut group = Group::new();
    group.entry(first.hash).or_default().push(first.answer);
    while group.len() < IDS_A_QUERY {
        match tokio::time::timeout_at(deadline, questions.recv()).await {
            Ok(Some(next)) => group.entry(next.hash).or_default().push(next.answer),
            Ok(None) | Err(_) => break,
        }
    }
    group
}

async fn answer(directory: &TokenDirectory, mut group: Group) {
    let writing = directory.writing.lock().await;
    // What the group before this one brought need not be asked again.
    let now = directory.clock.now();
    group.retain(|hash, askers| {
        let known = match directory.memory.find(hash, now) {
            Found::Grant(grant) => Some(grant),
            _ => return true,
        };
        tell(std::mem::take(askers), &Ok(known));
        false
    });
    let hashes: Vec<TokenHash> = group.keys().copied().collect();
    if hashes.is_empty() {
        return;
    }
    let asked = directory.store.tokens_by_hash(&hashes);
    let rows = match tokio::time::timeout(QUERY_TIMEOUT, asked).await {
        Ok(Ok(rows)) => rows,
        Ok(Err(error)) => return refuse(group, &error.to_string()),
        Err(_) => return refuse(group, "the store does not answer in time"),
    };
    for (hash, grant) in directory.put(rows) {
        if let Some(askers) = group.remove(&hash) {
            tell(askers, &Ok(Some(grant)));
        }
    }
    for (hash, askers) in group {
        directory.memory.insert_absent(hash, now);
        tell(askers, &Ok(None));
    }
    drop(writing);
}

fn refuse(group: Group, error: &str) {
    let askers = group.values().map(Vec::len).sum::<usize>();
    tracing::warn!(error, askers, "unknown tokens cannot be looked up");
    for askers in group.into_values() {
        tell(askers, &Err(Unavailable));
    }
}

fn tell(askers: Vec<oneshot::Sender<Answer>>, answer: &Answer) {
    for asker in askers {
        // An asker whose client went away no longer listens.
        drop(asker.send(answer.clone()));
    }
}
