//! The management side over HTTP: health, metrics and `/manage`.
//!
//! Owns the way of a management request: ids, route, caller, body, use case,
//! answer. Promises that every answer names its request, that every route's
//! role is enforced from the one table in [`routes`], and that a client that
//! goes away cannot stop a change half way. Must never decide anything about
//! projects, tokens or keys itself: that is [`crate::manage`].

mod answer;
pub mod api;
mod auth;
mod context;
mod limiter;
pub mod openapi;
mod query;
pub mod routes;
pub mod socket;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{FromRequestParts, RawPathParams, Request},
    response::Response,
};
use bytes::Bytes;
use dataplane::{
    answer::Answer,
    listen::Fallback,
    network::client_address,
    ports::BoxFuture,
    scope::{RequestScope, Scoped},
};
use domain::{
    audit::{Action, Detail, EntryDraft, Text},
    context::{ClientAddress, RequestIds},
    secret::Secret,
};
use http::{HeaderMap, HeaderValue, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use ipnet::IpNet;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::{
    manage::{
        Manage,
        access::Caller,
        entered,
        error::{Error, Kind, Result},
        ping::Ping,
        reading::{Cancel, Form, Gone, entries},
    },
    metrics::Metrics,
    readiness::Readiness,
};

use self::{
    answer::Reply,
    limiter::{FailureLimiter, LineLimiter},
    query::Query,
    routes::{Access, Route, Verb},
};

/// No management request needs more.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// What the routes work with.
pub struct Settings {
    /// `None`: no metrics (`ENABLE_METRICS=false`).
    pub metrics_path: Option<String>,
    /// `METRICS_TOKEN`: what a scraper must present; none: metrics are open.
    pub metrics_token: Option<Secret>,
    pub trusted_proxies: Vec<IpNet>,
    pub version: &'static str,
}

/// Where a request came from. Only the transport says so.
#[derive(Clone, Copy, Debug)]
pub enum Origin {
    /// A network peer, who must authenticate.
    Network(IpAddr),
    /// The admin socket, or the command line in this process: the operating
    /// system vouches for this user.
    Local { uid: u32 },
}

/// The management side of a process.
pub struct Management {
    pub manage: Arc<Manage>,
    settings: Settings,
    readiness: Arc<Readiness>,
    metrics: Arc<Metrics>,
    failures: FailureLimiter,
    /// Lines about failed logins.
    lines: LineLimiter,
    ping: Ping,
    tasks: TaskTracker,
    /// Where use cases run: they outlive the connection, and the lane's runtime.
    runtime: tokio::runtime::Handle,
    router: Router<()>,
}

/// Everything a handler gets.
pub struct Call {
    pub caller: Caller,
    /// The `{id}` of the path, or all that is left of it.
    pub id: Option<String>,
    pub query: Query,
    pub body: Bytes,
    /// `If-Match`: the version that a change is meant for.
    pub expected_version: Option<u64>,
    /// Whether the client prefers JSON where there is a choice.
    pub wants_json: bool,
    /// The form that the client asks for.
    pub form: Form,
    /// `Last-Event-ID`: where a tail goes on.
    pub last_event: Option<String>,
    /// Cancelled when the client goes away before it has an answer.
    pub waiting: Cancel,
}

/// What the connection knows, on its way through the router.
#[derive(Clone)]
struct Way {
    management: Arc<Management>,
    ids: RequestIds,
    origin: Origin,
}

impl Management {
    /// Use cases run on `tasks` in the runtime that this is called in; wait for
    /// it before closing the store.
    pub fn new(
        manage: Arc<Manage>,
        settings: Settings,
        readiness: Arc<Readiness>,
        metrics: Arc<Metrics>,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        let router = router(settings.metrics_path.as_deref());
        let (failures, lines) = (FailureLimiter::default(), LineLimiter::default());
        let (ping, runtime) = (Ping::default(), tokio::runtime::Handle::current());
        Arc::new(Self {
            manage,
            settings,
            readiness,
            metrics,
            failures,
            lines,
            ping,
            tasks,
            runtime,
            router,
        })
    }

    /// Answers one request, whatever transport brought it.
    pub async fn handle<B>(self: &Arc<Self>, request: http::Request<B>, origin: Origin) -> Response
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let now = self.manage.clock.now();
        let ids = context::receive(request.headers(), now, &*self.manage.rng);
        let way = Way { management: Arc::clone(self), ids: ids.clone(), origin };
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(way);
        let answered = {
            let scope = RequestScope::new(ids.clone());
            Scoped::new(scope, self.router.clone().oneshot(request)).await
        };
        let mut response = match answered {
            Ok(response) => response,
            Err(never) => match never {},
        };
        context::answer(response.headers_mut(), &ids);
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let nosniff = HeaderValue::from_static("nosniff");
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
        response
    }

    pub(crate) fn version(&self) -> &'static str {
        self.settings.version
    }

    pub(crate) fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

/// The management side behind the public listener.
pub struct Door(pub Arc<Management>);

impl Fallback for Door {
    fn call(
        &self,
        request: http::Request<Incoming>,
        peer: SocketAddr,
    ) -> BoxFuture<'_, http::Response<Answer>> {
        Box::pin(async move {
            let response = self.0.handle(request, Origin::Network(peer.ip())).await;
            response.map(|body| Answer::Other(body.map_err(Into::into).boxed_unsync()))
        })
    }
}

/// One axum route for each path of the table; methods are chosen from the
/// table too, so that `Allow` and the roles cannot disagree with it.
fn router(metrics_path: Option<&str>) -> Router<()> {
    let mut router = Router::new();
    for path in routes::paths() {
        let Some(mounted) = routes::mounted(path, metrics_path) else { continue };
        let at_path: Vec<&'static Route> = routes::at(path).collect();
        let service = axum::routing::any(move |request: Request| serve(at_path.clone(), request));
        router = router.route(&mounted, service);
    }
    router.fallback(|request: Request| async move {
        let (parts, _) = request.into_parts();
        match parts.extensions.get::<Way>() {
            Some(way) => answer::refusal(&Error::not_found("route"), &way.ids),
            None => missing_way(),
        }
    })
}

/// Finds the row for the method, then does what the row says.
async fn serve(at_path: Vec<&'static Route>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let Some(way) = parts.extensions.remove::<Way>() else { return missing_way() };
    let Some(route) = at_path.iter().find(|route| route.method.answers(&parts.method)) else {
        return answer::method_not_allowed(&routes::allow(&at_path), &way.ids);
    };
    let ids = way.ids.clone();
    let result = run(route, way, parts, body).await;
    match result {
        Ok(reply) => reply.into_response(),
        Err(error) => {
            report(route, &error);
            answer::refusal(&error, &ids)
        }
    }
}

async fn run(
    route: &'static Route,
    way: Way,
    mut parts: http::request::Parts,
    body: Body,
) -> Result<Reply> {
    let Way { management, ids, origin } = way;
    let client = match origin {
        Origin::Network(peer) => {
            Some(client_address(peer, &parts.headers, &management.settings.trusted_proxies))
        }
        Origin::Local { .. } => None,
    };
    let caller = management.admit(route, &ids, origin, client, &parts.headers).await?;
    if matches!(route.access, Access::Role(_)) {
        entered::check_writable(&management.manage)?;
    }
    if let Some(action) = route.action {
        entered::check_reason(&management.manage, &caller, action)?;
    }
    let mut query = Query::parse(parts.uri.query())?;
    let wants_receipt = route.action.is_some() && query.boolean("receipt")?.unwrap_or(false);
    let params = RawPathParams::from_request_parts(&mut parts, &()).await;
    let id = params.ok().and_then(|params| {
        params
            .iter()
            .find(|(name, _)| ["id", "path"].contains(name))
            .map(|(_, value)| value.to_owned())
    });
    let expected_version = if_match(&parts.headers)?;
    let (wants_json, form) = (wants(&parts.headers, "application/json"), form(&parts.headers));
    let last_event = parts.headers.get("last-event-id");
    let last_event = last_event.and_then(|id| id.to_str().ok()).map(str::to_owned);
    // Dropped with this future, when nobody waits for the answer any more.
    let gone = Gone::default();
    let waiting = gone.cancel();
    let body = if route.method == Verb::Get { Bytes::new() } else { read(body).await? };
    let call =
        Call { caller, id, query, body, expected_version, wants_json, form, last_event, waiting };
    // A task of its own: the client may go away, the change goes on.
    let (tasks, runtime) = (management.tasks.clone(), management.runtime.clone());
    let look = route.reads.map(|action| Look::new(route, action, &call));
    let handler = (route.run)(Arc::clone(&management), call);
    let work = async move {
        let reply = handler.await?;
        if let Some(look) = look {
            look.enter(&management.manage).await?;
        }
        Ok(if wants_receipt { with_receipt(&management.manage, reply).await } else { reply })
    };
    let task = tasks.spawn_on(Scoped::inherit(work), &runtime);
    task.await.unwrap_or_else(|panic| {
        Err(Error::new(Kind::Internal, "something went wrong on our side").with_source(panic))
    })
}

/// Waits for the place of the change's entry in the tree. The change is made: a
/// receipt that takes too long is left out, not an error.
async fn with_receipt(manage: &Manage, reply: Reply) -> Reply {
    let Some(id) = reply.audit_id() else { return reply };
    let receipt = match entries::receipt_of(manage, id).await {
        Ok(receipt) => receipt,
        Err(error) => {
            tracing::warn!(cause = error.chain(), "a receipt could not be made");
            None
        }
    };
    reply.with_member("receipt", receipt.into())
}

impl Management {
    /// Who calls, and whether this route is theirs to call.
    async fn admit(
        &self,
        route: &'static Route,
        ids: &RequestIds,
        origin: Origin,
        client: Option<ClientAddress>,
        headers: &HeaderMap,
    ) -> Result<Caller> {
        match route.access {
            Access::Open => auth::anonymous(route, ids, client, headers),
            Access::Metrics => {
                let attempt = auth::Attempt { route, ids, client, headers };
                self.scraper(origin, &attempt)?;
                auth::anonymous(route, ids, client, headers)
            }
            Access::Role(permission) => {
                let attempt = auth::Attempt { route, ids, client, headers };
                let who = self.authenticate(origin, &attempt).await?;
                let caller = auth::caller(who, route, ids, client, headers)?;
                let authorised = auth::authorise(&caller, permission, route);
                if let Err(refused) = &authorised {
                    let status = answer::status(refused.kind).as_u16();
                    let denials = self.manage.events.denials();
                    denials.forbidden(&caller.actor, &caller.context, status);
                }
                authorised.map(|()| caller)
            }
        }
    }
}

/// A read that leaves an entry once in a while.
struct Look {
    caller: Caller,
    what: String,
    draft: EntryDraft,
}

impl Look {
    fn new(route: &Route, action: Action, call: &Call) -> Self {
        let asked = call.query.normalised();
        let mut draft = EntryDraft::new(action);
        let id = call.id.as_deref().unwrap_or_default();
        if let Some(kind) = route.target.filter(|_| !id.is_empty()) {
            draft = draft.target(kind, id);
        }
        if !asked.is_empty() {
            draft = draft.detail(Detail::Query(Text::new(&asked)));
        }
        let what = format!("{} {id} {asked}", route.path);
        Self { caller: call.caller.clone(), what, draft }
    }

    async fn enter(self, manage: &Manage) -> Result<()> {
        entered::looked(manage, &self.caller, &self.what, self.draft).await
    }
}

async fn read(body: Body) -> Result<Bytes> {
    let collected = Limited::new(body, BODY_BYTES_MAX).collect();
    match tokio::time::timeout(BODY_TIMEOUT, collected).await {
        Err(_) => Err(Error::new(Kind::TimedOut, "the body did not arrive in time")),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Error::new(
            Kind::TooLarge,
            format!("the body is longer than {BODY_BYTES_MAX} bytes"),
        )),
        Ok(Err(error)) => Err(Error::invalid("the body broke off").with_source(error)),
    }
}

/// `If-Match: "<version>"`, as the `ETag` of a read gave it.
fn if_match(headers: &HeaderMap) -> Result<Option<u64>> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let version = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    match version.and_then(|text| text.parse().ok()) {
        Some(version) => Ok(Some(version)),
        None => Err(Error::invalid("If-Match must be an ETag of ours")),
    }
}

/// A page of JSON, unless `Accept` names another form that searches have.
fn form(headers: &HeaderMap) -> Form {
    if wants(headers, "application/x-ndjson") {
        Form::JsonLines
    } else if wants(headers, "text/csv") {
        Form::Csv
    } else {
        Form::Json
    }
}

fn wants(headers: &HeaderMap, wanted: &str) -> bool {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepts
        .flat_map(|value| value.split(','))
        .any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == wanted))
}

/// Failures are said once, here, with their cause; refusals at debug level.
fn report(route: &Route, error: &Error) {
    let cause = error.chain();
    match error.kind {
        Kind::Internal => {
            tracing::error!(route = route.path, cause, "a management request failed");
        }
        Kind::Unavailable | Kind::AuditUnavailable => {
            tracing::warn!(route = route.path, cause, "a management request cannot be served now");
        }
        _ => tracing::debug!(
            route = route.path,
            code = error.code(),
            "a management request was refused"
        ),
    }
}

/// Reached only if a request did not come through [`Management::handle`].
fn missing_way() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
    response
}

#[cfg(test)]
pub(crate) mod tests;
