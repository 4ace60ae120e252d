//! Who calls: from the credential alone, never from anything else in the
//! request.

use std::time::Duration;

use domain::{
    audit::{Actor, EntryContext, Text, Word},
    context::{ClientAddress, RequestIds},
    credential::family,
    role::Role,
    secret::Secret,
};
use http::{HeaderMap, HeaderName, header};

use super::{
    Management, Origin,
    limiter::network,
    routes::{Route, Scope},
};
use crate::{
    events::denials::FailedLogin,
    manage::{
        ManagementKey,
        access::{Caller, Permission},
        credentials::{Holder, Refused},
        error::{Error, Kind, Result},
    },
};

const REASON: HeaderName = HeaderName::from_static("x-audit-reason");
const TICKET: HeaderName = HeaderName::from_static("x-audit-ticket");
/// What an entry keeps of a reason.
const REASON_BYTES_MAX: usize = 1024;
/// A question to the store about a key takes no longer.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// An authenticated party.
pub(super) enum Who {
    Root,
    Key(Box<ManagementKey>),
    Local { uid: u32 },
}

/// What is known of a request before anybody is.
pub(super) struct Attempt<'a> {
    pub(super) route: &'a Route,
    pub(super) ids: &'a RequestIds,
    pub(super) client: Option<ClientAddress>,
    pub(super) headers: &'a HeaderMap,
}

impl Management {
    /// Every failure is counted and entered; see [`crate::events::denials`].
    fn login_failed(
        &self,
        reason: &'static str,
        status: u16,
        attempt: &Attempt<'_>,
        presented: Option<&Secret>,
    ) {
        let Some(client) = attempt.client else { return };
        let denials = self.manage.events.denials();
        denials.login_failed(FailedLogin {
            reason,
            status,
            context: context(attempt.route, attempt.ids, attempt.client, attempt.headers),
            client,
            credential: presented.map(|presented| denials.mark_secret(presented)),
        });
    }

    /// The metrics token guards metrics where one is configured; a local caller
    /// needs none.
    pub(super) fn scraper(&self, origin: Origin, attempt: &Attempt<'_>) -> Result<()> {
        let token = self.settings.metrics_token.as_ref();
        let (Some(token), Origin::Network(_)) = (token, origin) else { return Ok(()) };
        let presented = bearer(attempt.headers);
        if presented.as_ref().is_some_and(|presented| presented == token) {
            return Ok(());
        }
        self.login_failed("metrics_token", 401, attempt, presented.as_ref());
        Err(unauthenticated("the metrics token is required as a bearer token"))
    }

    pub(super) async fn authenticate(&self, origin: Origin, attempt: &Attempt<'_>) -> Result<Who> {
        let Some(client) = attempt.client else {
            return match origin {
                Origin::Local { uid } => Ok(Who::Local { uid }),
                Origin::Network(_) => Err(unauthenticated("a management key is required")),
            };
        };
        let now = self.manage.clock.now();
        let presented = bearer(attempt.headers);
        let hash = presented.as_ref().and_then(|it| self.manage.credentials.hash(it));
        let admitted = self.failures.admit(client.client, hash.as_ref(), now);
        if let Err(retry_after_seconds) = admitted {
            tracing::debug!(network = %network(client.client), "a login waits: too many failed");
            self.login_failed("key_limited", 429, attempt, presented.as_ref());
            return Err(Error::new(
                Kind::Limited { retry_after_seconds },
                "too many failed logins from your network; wait",
            ));
        }
        let Some(presented) = presented else {
            self.login_failed("key_missing", 401, attempt, None);
            if let Some(left_out) = self.lines.pass(now) {
                tracing::warn!(
                    client_ip = %client.client,
                    reason = "missing",
                    left_out = (left_out > 0).then_some(left_out),
                    "a management login failed"
                );
            }
            return Err(unauthenticated("a management key is required as a bearer token"));
        };
        let checked = self.manage.credentials.check(&self.manage.store, &presented, now);
        let checked = tokio::time::timeout(CHECK_TIMEOUT, checked).await.map_err(|_| {
            Error::new(Kind::Unavailable, "management keys cannot be checked now")
        })??;
        match checked {
            Ok(Holder::Root) => Ok(Who::Root),
            Ok(Holder::Key(key)) => Ok(Who::Key(key)),
            Err(refused) => {
                self.failures.failed(client.client, hash.as_ref(), now);
                let reason = match refused {
                    Refused::Unknown => "key_unknown",
                    Refused::Revoked => "key_revoked",
                    Refused::Expired => "key_expired",
                };
                self.login_failed(reason, 401, attempt, Some(&presented));
                if let Some(left_out) = self.lines.pass(now) {
                    tracing::warn!(
                        client_ip = %client.client,
                        reason = refused.as_str(),
                        credential_family = family(presented.expose().as_bytes()),
                        credential_bytes = presented.expose().len(),
                        left_out = (left_out > 0).then_some(left_out),
                        "a management login failed"
                    );
                }
                // One answer for all: whether a key once was good is not for guessers.
                Err(unauthenticated("the management key is not valid"))
            }
        }
    }
}

/// The caller of a route that asks for no credential.
pub(super) fn anonymous(
    route: &Route,
    ids: &RequestIds,
    client: Option<ClientAddress>,
    headers: &HeaderMap,
) -> Result<Caller> {
    Ok(Caller {
        actor: Actor::anonymous(),
        role: Role::Viewer,
        projects: None,
        context: entry_context(route, ids, client, headers)?,
        reason: None,
    })
}

pub(super) fn caller(
    who: Who,
    route: &Route,
    ids: &RequestIds,
    client: Option<ClientAddress>,
    headers: &HeaderMap,
) -> Result<Caller> {
    let context = entry_context(route, ids, client, headers)?;
    let reason = reason(headers)?;
    let (actor, role, projects) = match who {
        Who::Root => (Actor::root(), Role::Admin, None),
        Who::Local { uid } => (Actor::local(uid), Role::Admin, None),
        Who::Key(key) => {
            let projects = key.project_ids.map(|ids| ids.into_iter().collect());
            (Actor::key(key.id, &key.name, key.role), key.role, projects)
        }
    };
    Ok(Caller { actor, role, projects, context, reason })
}

/// The role, and for a key limited to projects that the route is about some.
pub(super) fn authorise(caller: &Caller, needed: Permission, route: &Route) -> Result<()> {
    if !needed.granted_to(caller.role) {
        tracing::info!(
            route = route.path,
            role = caller.role.as_str(),
            needed = needed.as_str(),
            "a management request was refused: the role may not"
        );
        return Err(Error::forbidden(format!("the role {} may not do this", caller.role.as_str())));
    }
    if caller.projects.is_some() && route.scope == Scope::Service {
        return Err(Error::forbidden("a key limited to projects may not do this"));
    }
    Ok(())
}

fn entry_context(
    route: &Route,
    ids: &RequestIds,
    client: Option<ClientAddress>,
    headers: &HeaderMap,
) -> Result<EntryContext> {
    let ticket = match headers.get(TICKET) {
        None => None,
        Some(value) => {
            let word = value.to_str().ok().and_then(Word::parse);
            let bad = || Error::invalid("X-Audit-Ticket must be 1 to 128 plain characters");
            Some(word.ok_or_else(bad)?)
        }
    };
    Ok(EntryContext { ticket, ..context(route, ids, client, headers) })
}

/// What an entry says of a request, whoever sent it.
fn context(
    route: &Route,
    ids: &RequestIds,
    client: Option<ClientAddress>,
    headers: &HeaderMap,
) -> EntryContext {
    let user_agent = headers
        .get(header::USER_AGENT)
        .map(|value| Text::new(&String::from_utf8_lossy(value.as_bytes())));
    EntryContext {
        request_id: Some(ids.request_id.clone()),
        correlation_id: Some(ids.correlation_id.clone()),
        trace_id: Some(ids.trace.trace_id),
        method: Some(Word::lossy(route.method.as_str())),
        route: Some(Word::lossy(route.path)),
        client,
        user_agent,
        on_behalf_of: None,
        ticket: None,
    }
}

fn reason(headers: &HeaderMap) -> Result<Option<String>> {
    let Some(value) = headers.get(REASON) else { return Ok(None) };
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) if text.len() <= REASON_BYTES_MAX => Ok(Some(text.to_owned())),
        _ => Err(Error::invalid(format!(
            "X-Audit-Reason must be UTF-8 text of at most {REASON_BYTES_MAX} bytes"
        ))),
    }
}

fn bearer(headers: &HeaderMap) -> Option<Secret> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credential) = text.split_once(' ')?;
    let credential = credential.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !credential.is_empty())
        .then(|| Secret::new(credential))
}

fn unauthenticated(text: &'static str) -> Error {
    Error::new(Kind::Unauthenticated, text)
}
