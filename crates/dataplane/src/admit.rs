//! The third stage: may this token ask this, now? Yields [`Admitted`], without
//! which nothing is forwarded.

use std::sync::{Arc, atomic::Ordering};

use bytes::{Bytes, BytesMut};
use domain::failure::ErrorCode;
use http::{
    Method,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, ORIGIN},
    request,
};
use http_body_util::BodyExt;
use hyper::body::Body;

use crate::{
    authenticate::Authenticated,
    client_body::ClientBody,
    cors,
    finish::Unfinished,
    limits::BUFFERED_BODY_BYTES_MAX,
    observe::{self, Estimator, RequestObserver, WhyUndecidable},
    path::Mount,
    plane::Plane,
    ports::Grant,
    provider::Provider,
    receive::{self, body_too_large},
    rescue::Refusal,
    upload::{UpBody, Upload},
};

/// Proof that every rule was asked, and the body in the form in which it may be
/// sent. One use is taken when it is forwarded.
pub struct Admitted {
    grant: Arc<Grant>,
    pub body: UpBody,
    /// Held while a whole body is in memory.
    _buffered: Option<BufferedBytes>,
}

impl Admitted {
    pub fn grant(&self) -> &Arc<Grant> {
        &self.grant
    }
}

pub async fn admit(
    plane: &Arc<Plane>,
    authenticated: Authenticated,
    head: &request::Parts,
    body: ClientBody,
    mount: &Mount<'_>,
    exchange: &mut Unfinished,
) -> Result<Admitted, Refusal> {
    let provider = mount.provider;
    check_endpoint(provider, head, mount.path)?;
    cors::check_origin(provider, &head.headers)?;
    check_headers(provider, head)?;
    let grant = Arc::clone(authenticated.grant());
    if let Some(per_minute) = grant.rate_limit_rpm {
        let now = plane.parts.clock.now();
        grant.live.take_rate(per_minute, now).map_err(|wait| {
            Refusal::new(
                ErrorCode::RateLimited,
                format!("this token may send {per_minute} requests a minute; slow down"),
            )
            .retry_after(wait)
        })?;
    }
    let (body, buffered) = take_body(plane, provider, &grant, head, body, exchange).await?;
    Ok(Admitted { grant, body, _buffered: buffered })
}

/// Takes the one use that forwarding costs: exact, never given back.
pub fn take_use(grant: &Grant, now: domain::time::Timestamp) -> Result<(), Refusal> {
    if grant.live.take_use(grant.max_requests) {
        grant.live.last_used_us.store(now.as_micros(), Ordering::Relaxed);
        return Ok(());
    }
    Err(Refusal::new(
        ErrorCode::QuotaExceeded,
        "this token has used all of its requests; ask for another",
    ))
}

fn check_endpoint(provider: &Provider, head: &request::Parts, path: &str) -> Result<(), Refusal> {
    if !provider.allowed_endpoints.iter().any(|endpoint| endpoint.matches(path)) {
        return Err(Refusal::new(
            ErrorCode::EndpointNotFound,
            "this path is not among the provider's allowed endpoints",
        ));
    }
    let methods = &provider.allowed_methods;
    if !methods.is_empty() && !methods.contains(&head.method) {
        let allow = methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        let mut refusal = Refusal::new(
            ErrorCode::MethodNotAllowed,
            format!("this method is not allowed here; allowed: {allow}"),
        );
        refusal.allow = Some(allow);
        return Err(refusal);
    }
    Ok(())
}

fn check_headers(provider: &Provider, head: &request::Parts) -> Result<(), Refusal> {
    for name in &provider.required_headers {
        if head.headers.contains_key(name) {
            continue;
        }
        return Err(if *name == ORIGIN {
            Refusal::new(ErrorCode::OriginRequired, "an Origin header is required here")
        } else {
            let message = format!("the header '{name}' is required here");
            Refusal::new(ErrorCode::InvalidRequest, message)
        });
    }
    Ok(())
}

async fn take_body(
    plane: &Arc<Plane>,
    provider: &Provider,
    grant: &Grant,
    head: &request::Parts,
    body: ClientBody,
    exchange: &mut Unfinished,
) -> Result<(UpBody, Option<BufferedBytes>), Refusal> {
    let may_have_rules = !matches!(head.method, Method::GET | Method::HEAD | Method::DELETE);
    let model_rule = may_have_rules && grant.allowed_models.is_some();
    let param_rule = may_have_rules && !provider.param_whitelist.is_empty();
    if body.is_end_stream() && !model_rule {
        return Ok((UpBody::Empty, None));
    }
    let operation = exchange.record().operation;
    let mut observer = RequestObserver::new(operation, &head.headers);
    if Estimator::may_want(exchange.record()) {
        observer = observer.collecting(plane.parts.estimator.budget());
    }
    let copy = plane.parts.capturing.copy(grant.capture, &head.headers);
    let upload = Upload::new(Some(observer), copy);
    exchange.upload = Some(Arc::clone(&upload));
    let must_see_all = model_rule || (param_rule && is_json(head));
    if !must_see_all {
        let bytes_max = plane.parts.limits.request_bytes_max;
        return Ok((UpBody::Stream { body, upload, bytes_max }, None));
    }
    let began = std::time::Instant::now();
    let deadline = exchange.started + provider.timeouts.request;
    let (body, buffered) = collect(plane, body, &upload, deadline).await?;
    exchange.client_wait += began.elapsed();
    upload.whole(&body);
    check_params(provider, grant, head, &body, model_rule, param_rule)?;
    Ok((UpBody::Whole(Some(body)), Some(buffered)))
}

/// A provider may take a body without a type for JSON, and one whose type is
/// not text for anything.
fn is_json(head: &request::Parts) -> bool {
    let content_type = receive::header_text(&head.headers, &CONTENT_TYPE);
    content_type.is_none_or(observe::is_json_type)
}

/// The rules that need the body. What they cannot decide is refused.
fn check_params(
    provider: &Provider,
    grant: &Grant,
    head: &request::Parts,
    body: &Bytes,
    model_rule: bool,
    param_rule: bool,
) -> Result<(), Refusal> {
    let content_type = receive::header_text(&head.headers, &CONTENT_TYPE);
    let encoding = receive::header_text(&head.headers, &CONTENT_ENCODING);
    let undecidable = |why: WhyUndecidable| {
        let code = if model_rule { ErrorCode::ModelNotAllowed } else { ErrorCode::ParamNotAllowed };
        Refusal::new(code, format!("a rule of this token or provider cannot be checked: {why}"))
    };
    let inspected = if model_rule {
        observe::inspect_whole(body, content_type, encoding)
    } else {
        // Only what is JSON or could be taken for it comes here.
        let content_type = content_type.unwrap_or("application/json");
        observe::inspect_params(body, Some(content_type), encoding)
    };
    let inspected = inspected.map_err(undecidable)?;
    if let Some(models) = grant.allowed_models.as_ref().filter(|_| model_rule)
        && !models.iter().any(|allowed| allowed.matches(&inspected.model))
    {
        let message = "this token may not use this model; ask which models it allows";
        return Err(Refusal::new(ErrorCode::ModelNotAllowed, message));
    }
    if !param_rule || !is_json(head) {
        return Ok(());
    }
    for (name, allowed) in &provider.param_whitelist {
        let Some(param) = inspected.param(name) else { continue };
        // A list or an object matches no pattern.
        let matches = |value| allowed.iter().any(|glob| glob.matches(value));
        if !param.as_str().is_some_and(matches) {
            return Err(Refusal::new(
                ErrorCode::ParamNotAllowed,
                format!("the value of '{name}' is not among those allowed here"),
            ));
        }
    }
    Ok(())
}

/// Bytes taken from the global room for whole bodies; given back on drop.
pub struct BufferedBytes {
    plane: Arc<Plane>,
    bytes: usize,
}

impl BufferedBytes {
    fn grow(&mut self, more: usize) -> Result<(), Refusal> {
        let max = self.plane.parts.limits.buffered_bytes_max;
        let before = self.plane.buffered_bytes.fetch_add(more, Ordering::Relaxed);
        self.bytes += more;
        if before + more > max {
            return Err(Refusal::new(
                ErrorCode::Overloaded,
                "too many request bodies are being checked at once; try again shortly",
            )
            .retry_after(1_000_000));
        }
        Ok(())
    }
}

impl Drop for BufferedBytes {
    fn drop(&mut self) {
        self.plane.buffered_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

async fn collect(
    plane: &Arc<Plane>,
    mut body: ClientBody,
    upload: &Upload,
    deadline: std::time::Instant,
) -> Result<(Bytes, BufferedBytes), Refusal> {
    let each_max = BUFFERED_BODY_BYTES_MAX;
    let too_large = || body_too_large(each_max as u64);
    let mut room = BufferedBytes { plane: Arc::clone(plane), bytes: 0 };
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > each_max {
        return Err(too_large());
    }
    let mut whole = BytesMut::new();
    let idle = plane.parts.limits.request_body_idle;
    loop {
        let until = (std::time::Instant::now() + idle).min(deadline);
        let frame = tokio::time::timeout_at(until.into(), body.frame()).await;
        let frame = frame.map_err(|_| {
            Refusal::new(ErrorCode::RequestTimeout, "the request body did not arrive in time")
        })?;
        let Some(frame) = frame else { return Ok((whole.freeze(), room)) };
        let broken = |error: hyper::Error| {
            upload.broken(&error);
            Refusal::new(ErrorCode::InvalidRequest, "the request body is malformed or broke off")
        };
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        if whole.len() + data.len() > each_max {
            return Err(too_large());
        }
        room.grow(data.len())?;
        whole.extend_from_slice(&data);
    }
}

/// The value of `Origin`, for the answer's CORS headers.
pub fn origin(head: &request::Parts) -> Option<HeaderValue> {
    head.headers.get(ORIGIN).cloned()
}
