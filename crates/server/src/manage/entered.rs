//! What the audit log hears of looks: searches, lists and reads once in a while
//! for each caller and question, bodies and exports before anything is shown.
//!
//! While no entry can be written nothing is changed and nothing is shown.

use std::collections::HashMap;

use domain::{
    audit::{Action, EntryDraft},
    ids::EntryId,
    time::Timestamp,
};
use parking_lot::Mutex;

use super::{
    Manage,
    access::Caller,
    error::{Error, Kind, Result},
};
use crate::events::{Event, Unwritten};

/// How long one entry stands for the same look of the same caller.
const WINDOW_MICROS: i64 = 10 * 60 * 1_000_000;
/// Looks that are remembered; beyond it, those of one window are forgotten
/// and leave another entry.
const LOOKS_MAX: usize = 4096;
/// Of a query; a longer one is told apart by its length and beginning.
const QUERY_BYTES_MAX: usize = 1024;

type Look = (String, String);

/// Who looked at what lately.
#[derive(Default)]
pub struct Said(Mutex<HashMap<Look, Timestamp>>);

impl Said {
    /// What to forget should the entry fail; `None` when there is an entry.
    fn first(&self, caller: &Caller, what: &str, now: Timestamp) -> Option<Look> {
        let actor = &caller.actor;
        let who = format!("{} {:?}", actor.kind, actor.id);
        let cut = &what[..what.floor_char_boundary(QUERY_BYTES_MAX)];
        let look = (who, format!("{} {cut}", what.len()));
        let mut known = self.0.lock();
        let is_recent =
            |said: &Timestamp| (now.as_micros() - said.as_micros()).abs() < WINDOW_MICROS;
        if known.get(&look).is_some_and(is_recent) {
            return None;
        }
        if known.len() >= LOOKS_MAX {
            known.retain(|_, said| is_recent(said));
            if known.len() >= LOOKS_MAX {
                known.clear();
            }
        }
        known.insert(look.clone(), now);
        Some(look)
    }

    fn forget(&self, look: &Look) {
        self.0.lock().remove(look);
    }
}

/// Refuses everything that would need an entry while none can be written.
pub fn check_writable(manage: &Manage) -> Result<()> {
    match manage.events.is_writable() {
        true => Ok(()),
        false => Err(unavailable(Unwritten::Failed)),
    }
}

/// Refuses an action that must be explained and is not.
pub fn check_reason(manage: &Manage, caller: &Caller, action: Action) -> Result<()> {
    let explained = caller.reason.as_ref().is_some_and(|reason| !reason.trim().is_empty());
    if explained || !manage.reasons_required.contains(&action) {
        return Ok(());
    }
    let text = format!("{action} needs a reason: send X-Audit-Reason, or give --reason");
    Err(Error::new(Kind::ReasonRequired, text))
}

/// Tells of a look, unless the same caller looked for the same `what` lately.
pub async fn looked(manage: &Manage, caller: &Caller, what: &str, draft: EntryDraft) -> Result<()> {
    check_reason(manage, caller, draft.action())?;
    let what = format!("{} {what}", draft.action());
    let Some(first) = manage.said.first(caller, &what, manage.clock.now()) else { return Ok(()) };
    let Err(error) = manage.events.enter(event(caller, draft)).await else { return Ok(()) };
    manage.said.forget(&first);
    if let Unwritten::Store(error) = error {
        // Without a server, on a database that is away: the files can still be
        // read, and the next look tries again.
        let error: &dyn std::error::Error = &error;
        tracing::warn!(error, "the entry of a look could not be written");
        return Ok(());
    }
    Err(unavailable(error))
}

/// The same of a look at what only some may see: durably, before it is shown.
pub async fn looked_inside(
    manage: &Manage,
    caller: &Caller,
    what: &str,
    draft: EntryDraft,
) -> Result<()> {
    check_reason(manage, caller, draft.action())?;
    let what = format!("{} {what}", draft.action());
    let Some(first) = manage.said.first(caller, &what, manage.clock.now()) else { return Ok(()) };
    let entered = manage.events.enter_first(event(caller, draft)).await;
    if entered.is_err() {
        manage.said.forget(&first);
    }
    entered.map(drop).map_err(unavailable)
}

/// Tells before anything is shown, durably.
pub async fn entered(manage: &Manage, caller: &Caller, draft: EntryDraft) -> Result<EntryId> {
    check_reason(manage, caller, draft.action())?;
    manage.events.enter_first(event(caller, draft)).await.map_err(unavailable)
}

fn event(caller: &Caller, draft: EntryDraft) -> Event {
    let (actor, context) = (caller.actor.clone(), caller.context.clone());
    Event { draft: caller.explain(draft), actor, context }
}

fn unavailable(error: Unwritten) -> Error {
    let text = "the audit log cannot be written now; nothing is changed or shown";
    Error::new(Kind::AuditUnavailable, text).with_source(error)
}
