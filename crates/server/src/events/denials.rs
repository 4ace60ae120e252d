//! Counts refusals, exactly, in bounded memory.
//!
//! The first five of a key in ten seconds become entries of their own, the rest
//! of the window one aggregate. With too many keys at once they are told apart
//! less, and no count is lost: what is counted is entered, or in a window, or on
//! its way to the writer, and nowhere else.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use dataplane::ports::Denied;
use domain::{
    audit::{Action, Actor, EntryContext, Word},
    context::ClientAddress,
    credential::CredentialMark,
    ids::RequestId,
    secret::Secret,
    time::{Clock, Timestamp},
};
use parking_lot::Mutex;

use super::{
    Event, Mailbox,
    denial::{Denial, Folded, Key, Party},
    restore::Restored,
    tags::Tags,
};

/// Counts by reason.
pub type Totals = BTreeMap<Word, u64>;

const WINDOW_MICROS: i64 = 10_000_000;
/// Entries of their own, for each key and window.
const INDIVIDUAL_MAX: u32 = 5;
/// Keys of open windows. Past the first bound networks are not told apart any
/// more, past the second nobody is; what is left then are reasons and classes of
/// routes, fewer than what stands between the second bound and the third.
const KEYS_WITH_NETWORK_MAX: usize = 49_152;
const KEYS_WITH_PARTY_MAX: usize = 64_512;
const KEYS_MAX: usize = 65_536;
/// Unknown credentials that are told apart for each network in a window. Whoever
/// guesses presents another each time, and must not fill the disk with tags.
const CREDENTIALS_MAX: u32 = 16;
/// Refusals that wait for their own entry; those beyond are folded.
const INDIVIDUALS_MAX: usize = 2_048;
/// Request ids that an aggregate names.
const SAMPLES_MAX: usize = 3;

/// The count of refusals and the windows they are in.
pub struct Denials {
    clock: Arc<dyn Clock>,
    tags: Tags,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// All refusals ever, those of earlier processes included.
    counted: Totals,
    windows: HashMap<Key, Window>,
    individuals: VecDeque<Denial>,
    /// Without one nobody writes entries.
    mailbox: Option<Mailbox>,
}

struct Window {
    begins: Timestamp,
    individual: u32,
    /// Unknown credentials that have windows of their own beside this one.
    credentials: u32,
    folded: Option<Box<Folded>>,
}

impl Window {
    fn new(begins: Timestamp) -> Self {
        Self { begins, individual: 0, credentials: 0, folded: None }
    }
}

/// What is to be entered, with how many refusals it stands for.
pub(super) struct Due {
    pub(super) event: Event,
    pub(super) reason: Word,
    pub(super) count: u64,
    pub(super) at: Timestamp,
}

/// A management request that was refused for who sent it.
#[derive(Clone, Debug)]
pub struct FailedLogin {
    /// `key_missing`, `key_unknown`, …: closed words of the caller.
    pub reason: &'static str,
    pub status: u16,
    pub context: EntryContext,
    pub client: ClientAddress,
    pub credential: Option<CredentialMark>,
}

impl Denials {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, tags: Tags::default(), state: Mutex::default() }
    }

    /// The keys that unknown credentials are tagged with.
    pub fn tags(&self) -> &Tags {
        &self.tags
    }

    /// Takes over what the last process counted.
    pub(super) fn begin(&self, restored: &Restored, mailbox: Mailbox) {
        let mut state = self.state.lock();
        for (reason, count) in restored.counted() {
            *state.counted.entry(reason).or_default() += count;
        }
        state.mailbox = Some(mailbox);
    }

    /// All that were refused, by reason: those of now and of earlier processes.
    pub fn counted(&self) -> Totals {
        self.state.lock().counted.clone()
    }

    /// A management login that failed.
    pub fn login_failed(&self, login: FailedLogin) {
        let now = self.clock.now();
        let FailedLogin { reason, status, context, client, credential } = login;
        let key = Key {
            action: Action::AuthFailed,
            reason,
            class: "manage",
            party: credential.map_or(Party::Nobody, Party::Credential),
            network: Some(dataplane::network::client_network(client.client)),
        };
        let request_id = context.request_id.clone();
        self.take(key, now, request_id.as_ref(), |key| {
            management(key, now, Actor::anonymous(), context, status)
        });
    }

    /// A management key that may not do what it asked for.
    pub fn forbidden(&self, actor: &Actor, context: &EntryContext, status: u16) {
        let now = self.clock.now();
        let key = Key {
            action: Action::AccessDenied,
            reason: "forbidden",
            class: "manage",
            party: actor.id.clone().map_or(Party::Nobody, Party::Key),
            network: context.client.map(|it| dataplane::network::client_network(it.client)),
        };
        let request_id = context.request_id.clone();
        self.take(key, now, request_id.as_ref(), |key| {
            management(key, now, actor.clone(), context.clone(), status)
        });
    }

    /// What may be kept of a management credential.
    pub fn mark_secret(&self, presented: &Secret) -> CredentialMark {
        self.tags.mark(presented.expose().as_bytes(), self.clock.now())
    }

    fn take(
        &self,
        key: Key,
        at: Timestamp,
        request_id: Option<&RequestId>,
        individual: impl FnOnce(Key) -> Denial,
    ) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let State { counted, windows, individuals, mailbox } = &mut *state;
        match counted.iter_mut().find(|(reason, _)| reason.as_str() == key.reason) {
            Some((_, count)) => *count += 1,
            None => drop(counted.insert(Word::lossy(key.reason), 1)),
        }
        let key = placed(windows, key, now);
        let window = windows.entry(key.clone()).or_insert_with(|| Window::new(now));
        let alone = window.folded.is_none()
            && window.individual < INDIVIDUAL_MAX
            && individuals.len() < INDIVIDUALS_MAX;
        if alone {
            window.individual += 1;
            individuals.push_back(individual(key));
        } else {
            let folded = window.folded.get_or_insert_with(|| {
                let samples = Vec::new();
                Box::new(Folded { count: 0, first_at: at, last_at: at, samples })
            });
            folded.count += 1;
            folded.first_at = folded.first_at.min(at);
            folded.last_at = folded.last_at.max(at);
            if folded.samples.len() < SAMPLES_MAX {
                folded.samples.extend(request_id.cloned());
            }
        }
        let first = alone && individuals.len() == 1;
        let mailbox = mailbox.clone().filter(|_| first);
        drop(state);
        if let Some(mailbox) = mailbox {
            mailbox.stir();
        }
    }

    /// Up to `max` entries that are due at `now`, or due at all with `all`.
    pub(super) fn due(&self, now: Timestamp, all: bool, max: usize) -> Vec<Due> {
        let mut state = self.state.lock();
        let alone = state.individuals.len().min(max);
        let mut due: Vec<Due> = Vec::new();
        let individuals: Vec<Denial> = state.individuals.drain(..alone).collect();
        let mut over = Vec::new();
        if alone < max {
            let is_over = |window: &Window| {
                let age = now.as_micros() - window.begins.as_micros();
                // A clock set back must not keep a window open for ever.
                all || !(0..WINDOW_MICROS).contains(&age)
            };
            let ended = state.windows.extract_if(|_, window| is_over(window));
            let folded = ended.filter_map(|(key, window)| Some((key, window.folded?)));
            over.extend(folded.take(max - alone));
        }
        if state.windows.is_empty() && state.windows.capacity() > 4096 {
            state.windows = HashMap::new();
        }
        drop(state);
        for denial in individuals {
            let (reason, at) = (Word::lossy(denial.key.reason), denial.at);
            due.push(Due { event: denial.into_event(), reason, count: 1, at });
        }
        for (key, folded) in over {
            let (reason, count) = (Word::lossy(key.reason), folded.count);
            due.push(Due { event: folded.into_event(&key), reason, count, at: now });
        }
        due
    }

    /// Whether anything waits for a window's end or for the writer.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.windows.is_empty() && state.individuals.is_empty()
    }
}

impl dataplane::ports::Denials for Denials {
    fn mark(&self, credential: &[u8]) -> CredentialMark {
        self.tags.mark(credential, self.clock.now())
    }

    fn denied(&self, denied: &Denied<'_>) {
        let key = Key::of_request(denied);
        let record = denied.record;
        self.take(key, record.ts, Some(&record.request_id), |key| Denial::of_request(key, denied));
    }
}

/// The key as far as there is room to tell it apart.
fn placed(windows: &mut HashMap<Key, Window>, mut key: Key, now: Timestamp) -> Key {
    let is_credential = matches!(key.party, Party::Credential(_));
    if is_credential && !windows.contains_key(&key) && windows.len() < KEYS_WITH_NETWORK_MAX {
        let beside = Key { party: Party::Nobody, ..key.clone() };
        let window = windows.entry(beside.clone()).or_insert_with(|| Window::new(now));
        if window.credentials >= CREDENTIALS_MAX {
            return beside;
        }
        window.credentials += 1;
    }
    loop {
        let max = match (&key.network, &key.party) {
            (Some(_), _) => KEYS_WITH_NETWORK_MAX,
            (None, Party::Nobody) => return key,
            (None, _) => KEYS_WITH_PARTY_MAX,
        };
        if windows.len() < max || windows.contains_key(&key) {
            return key;
        }
        match key.clone().coarser() {
            Some(coarser) => key = coarser,
            None => return key,
        }
    }
}

fn management(key: Key, at: Timestamp, actor: Actor, context: EntryContext, status: u16) -> Denial {
    let (project, token, provider, model, path) = (None, None, None, None, None);
    Denial { key, at, actor, context, status, project, token, provider, model, path }
}

/// Reasons and classes alone are few; see [`KEYS_WITH_PARTY_MAX`].
const _: () = assert!(KEYS_WITH_PARTY_MAX + 1024 <= KEYS_MAX);

#[cfg(test)]
mod tests;
