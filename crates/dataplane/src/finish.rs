//! The guard that owns an unfinished record. Whatever drops it — an answer, a
//! refusal, an error, a panic, a disconnect, a shutdown — finishes the record
//! and hands it over, once.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use domain::{
    context::ClientAddress,
    credential::CredentialMark,
    failure::ErrorCode,
    price::Priced,
    record::{ERROR_BYTES_MAX, Opening, Outcome, Record, bounded},
    redact,
    usage::UsageSource,
};
use http::uri::PathAndQuery;
use tokio::sync::oneshot;

use crate::{
    capture::{Copied, Copies},
    coalesce::Coalescing,
    observe::{Estimator, Kept, ResponseFacts, Texts},
    plane::Plane,
    ports::{Denied, Grant},
    upload::{Upload, UploadFailure},
};

/// Shorter values of a query are page sizes and the like, no secrets.
const QUERY_SECRET_BYTES_MIN: usize = 16;

/// A request that ends sooner writes no opening line: its record is queued
/// before the line could have told more (docs/adr/0013-openings.md).
const OPENING_DELAY: Duration = Duration::from_millis(4);

/// Where the record of a request will go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Room {
    /// Room in the journal is held.
    Reserved,
    /// There was none: the request is refused.
    None,
    /// There is none, and the request is served all the same.
    Unrecorded,
}

/// One request on its way through the data plane.
pub struct Unfinished {
    pub(crate) plane: Arc<Plane>,
    /// `Some` until it is handed over.
    record: Option<Box<Record>>,
    pub(crate) started: Instant,
    /// Time that was not ours: waiting for the client's body before forwarding.
    pub(crate) client_wait: Duration,
    forwarded: Option<Instant>,
    /// Whether the opening line is queued.
    opened: bool,
    /// Priced apart, and not in the record.
    cache_write_1h_tokens: u64,
    room: Room,
    client: ClientAddress,
    /// Of what was presented, where it is no token of ours.
    pub(crate) credential: Option<Box<CredentialMark>>,
    pub(crate) grant: Option<Arc<Grant>>,
    pub(crate) upload: Option<Arc<Upload>>,
    /// Only where bodies are to be kept.
    pub(crate) answer_copy: Option<Copied>,
    /// Never recorded; kept to know it again in what a provider writes.
    pub(crate) query: Option<PathAndQuery>,
}

/// How the relaying of an answer ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Every byte was handed to the client's connection.
    Complete,
    /// The client went away, or we were stopped: see `Plane::stopping`.
    Dropped,
    UpstreamBroken,
    /// Silence, or the whole request took too long.
    TimedOut,
    /// The token was revoked with `terminate`.
    Terminated,
    Panicked,
}

impl Unfinished {
    pub(crate) fn new(
        plane: Arc<Plane>,
        record: Box<Record>,
        started: Instant,
        room: Room,
        client: ClientAddress,
    ) -> Self {
        plane.active.fetch_add(1, Ordering::Relaxed);
        Self {
            plane,
            record: Some(record),
            started,
            client_wait: Duration::ZERO,
            forwarded: None,
            opened: false,
            cache_write_1h_tokens: 0,
            room,
            client,
            credential: None,
            grant: None,
            upload: None,
            answer_copy: None,
            query: None,
        }
    }

    pub fn record(&self) -> &Record {
        self.record.as_ref().expect("the record leaves only with the guard")
    }

    pub(crate) fn record_mut(&mut self) -> &mut Record {
        self.record.as_mut().expect("the record leaves only with the guard")
    }

    /// Notes that the request is handed to the provider now.
    pub(crate) fn forwarding(&mut self) -> Instant {
        let now = Instant::now();
        self.forwarded.get_or_insert(now);
        self.record_mut().attempts += 1;
        now
    }

    pub(crate) fn forwarded_at(&self) -> Option<Instant> {
        self.forwarded
    }

    /// When the opening line must be queued, unless it is.
    pub(crate) fn opening_due(&self) -> Option<Instant> {
        if self.opened {
            return None;
        }
        self.forwarded.map(|at| at + OPENING_DELAY)
    }

    /// Queues the opening line, so that a crash from now on leaves a record.
    pub(crate) fn open(&mut self) {
        if std::mem::replace(&mut self.opened, true) || self.room != Room::Reserved {
            return;
        }
        if let (Some(record), Some(grant)) = (&self.record, &self.grant) {
            self.plane.parts.outbox.open(opening(record, grant));
        }
    }

    /// Our own time until now: all of it, less what clients and providers took.
    pub(crate) fn overhead(&self, upstream_took: Duration) -> Duration {
        self.started.elapsed().saturating_sub(upstream_took).saturating_sub(self.client_wait)
    }

    /// Ends with an error of ours. Resolves when the record is as durable as an
    /// answer must wait for.
    pub(crate) fn refused(
        mut self,
        code: ErrorCode,
        message: &str,
    ) -> Option<oneshot::Receiver<()>> {
        let overhead = self.overhead(self.upstream_time());
        let upstream_us = self.forwarded.map(|at| micros(at.elapsed()));
        let record = self.record_mut();
        record.upstream_us = upstream_us;
        record.status_code = Some(code.status());
        record.outcome = code.outcome();
        record.error_code = Some(code.as_str().into());
        record.error = Some(bounded(message, ERROR_BYTES_MAX).into());
        record.overhead_us = Some(micros(overhead));
        self.hand_over(None, Instant::now())
    }

    /// Ends with the answer of a provider, as far as it came.
    pub(crate) fn answered(
        mut self,
        end: End,
        facts: ResponseFacts,
    ) -> Option<oneshot::Receiver<()>> {
        let stopping = self.plane.stopping.load(Ordering::Relaxed);
        let now = Instant::now();
        let upstream_us = self.forwarded.map(|at| micros(now - at));
        self.cache_write_1h_tokens = facts.cache_write_1h_tokens.unwrap_or(0);
        let clean = |text: Option<Box<str>>| text.map(|text| self.redact(&text));
        let (error, error_code) = (clean(facts.error), clean(facts.error_code));
        let (model, reason) = (clean(facts.response_model), clean(facts.finish_reason));
        let record = self.record_mut();
        record.upstream_us = upstream_us;
        record.response_model = model;
        record.finish_reason = reason;
        record.events = facts.events;
        record.error_code = error_code;
        record.error = error;
        if let Some(usage) = facts.usage {
            record.usage = usage.with_total();
            record.usage_source = UsageSource::Provider;
        }
        let status = record.upstream_status_code.unwrap_or(0);
        record.outcome = match (end, status) {
            _ if facts.failed_midstream => Outcome::UpstreamError,
            (End::Complete, 500..) => Outcome::UpstreamError,
            (End::Complete, 400..) => Outcome::ClientError,
            (End::Complete, _) => Outcome::Ok,
            (End::Dropped, _) if stopping => Outcome::Interrupted,
            (End::Dropped, _) => Outcome::ClientClosed,
            (End::UpstreamBroken, _) => Outcome::UpstreamError,
            (End::TimedOut, _) => Outcome::Timeout,
            (End::Terminated, _) => Outcome::Denied,
            (End::Panicked, _) => Outcome::ProxyError,
        };
        let whole_answer = end == End::Complete && status < 400;
        record.partial =
            end != End::Complete || facts.failed_midstream || (whole_answer && facts.unterminated);
        let ours = match end {
            End::UpstreamBroken => Some((
                ErrorCode::UpstreamProtocolError,
                "the provider's answer broke off before its end",
            )),
            End::TimedOut => {
                Some((ErrorCode::UpstreamTimeout, "the provider's answer fell silent"))
            }
            End::Terminated => Some((ErrorCode::TokenInactive, "the token was revoked")),
            End::Panicked => Some((ErrorCode::InternalError, "an error of the proxy's own")),
            End::Dropped if stopping => None,
            End::Complete | End::Dropped => None,
        };
        if let Some((code, message)) = ours
            && record.error_code.is_none()
        {
            record.error_code = Some(code.as_str().into());
            record.error = Some(message.into());
        }
        self.hand_over(facts.text, now)
    }

    /// Takes what the provider was sent in confidence and anything
    /// credential-shaped out of a text that the provider wrote.
    pub(crate) fn redact(&self, text: &str) -> Box<str> {
        let keys = || self.grant.iter().flat_map(|grant| grant.keys.values());
        // A query may carry a signature under any name, and an error may quote
        // the address.
        let mut values = query_secrets(self.query.as_ref());
        let suspicious = redact::looks_like_credential(text)
            || keys().any(|key| key.confidential.is_in(text.as_bytes()))
            || values.clone().any(|value| text.contains(value));
        if !suspicious {
            return bounded(text, ERROR_BYTES_MAX).into();
        }
        let mut secrets: Vec<&str> = keys().flat_map(|key| key.confidential.texts()).collect();
        secrets.extend(&mut values);
        bounded(&redact::redacted(text, &secrets), ERROR_BYTES_MAX).into()
    }

    /// What was copied of the bodies, if it is to be kept after this end.
    fn copies(&mut self, record: &Record) -> Option<Copies> {
        let grant = self.grant.as_ref()?;
        if !grant.capture.keeps(record.outcome) {
            return None;
        }
        let request = self.upload.as_ref().and_then(|upload| upload.copied());
        let response = self.answer_copy.take();
        if request.is_none() && response.is_none() {
            return None;
        }
        let provider = self.plane.parts.providers.by_name(record.provider.as_deref()?)?;
        let (rules, grant) = (Arc::clone(&provider.redaction), Arc::clone(grant));
        Some(Copies { request, response, rules, grant, query: self.query.take() })
    }

    /// Whether the client went away in the middle of its body.
    pub(crate) fn client_is_gone(&self) -> bool {
        let failure = self.upload.as_ref().and_then(|upload| upload.failure());
        failure == Some(UploadFailure::Gone)
    }

    fn upstream_time(&self) -> Duration {
        self.forwarded.map(|at| at.elapsed()).unwrap_or_default()
    }

    fn hand_over(
        &mut self,
        answer_text: Option<Kept>,
        now: Instant,
    ) -> Option<oneshot::Receiver<()>> {
        let record = self.record.as_mut()?;
        record.duration_us = micros(now - self.started);
        let mut request_text = None;
        if let Some(upload) = &self.upload {
            let seen = upload.facts();
            record.request_bytes = seen.bytes;
            if let Some(facts) = seen.facts {
                record.model = record.model.take().or(facts.model);
                record.end_user = record.end_user.take().or(facts.end_user);
                request_text = facts.text;
            }
        }
        // People paste keys into any field.
        for field in [&mut record.model, &mut record.end_user].into_iter().flatten() {
            if redact::looks_like_credential(field) {
                *field = redact::redacted(field, &[]).into();
            }
        }
        let texts = Texts::of(request_text, answer_text);
        let texts = texts.filter(|_| Estimator::wants(record));
        let mut record = self.record.take()?;
        if record.outcome == Outcome::Denied {
            let credential = self.credential.as_deref();
            let denied = Denied { record: &record, client: self.client, credential };
            self.plane.parts.denials.denied(&denied);
        }
        if self.room == Room::Unrecorded {
            self.plane.parts.outbox.unrecorded();
            return None;
        }
        let copies = self.copies(&record);
        // Tokenising and redacting take their time: until then an opening line
        // stands for the record.
        let is_late = self.forwarded.is_some() && (texts.is_some() || copies.is_some());
        if let (true, false, Some(grant)) = (is_late, self.opened, &self.grant) {
            self.opened = true;
            self.plane.parts.outbox.open(opening(&record, grant));
        }
        let plane = &self.plane;
        plane.price(&mut record, self.cache_write_1h_tokens);
        let wait = plane.parts.outbox.holds_answers();
        let (stored, receiver) = if wait {
            let (sender, receiver) = oneshot::channel();
            (Some(sender), Some(receiver))
        } else {
            (None, None)
        };
        plane.deliver(record, self.room == Room::Reserved, texts, copies, stored);
        receiver
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(record) = &mut self.record {
            // Nobody ended it: the client left, we were stopped, or it panicked.
            if std::thread::panicking() {
                record.outcome = Outcome::ProxyError;
                record.status_code = Some(ErrorCode::InternalError.status());
                record.error_code = Some(ErrorCode::InternalError.as_str().into());
            } else if self.plane.stopping.load(Ordering::Relaxed) {
                record.outcome = Outcome::Interrupted;
                record.error = Some("the proxy was stopped before this request ended".into());
            } else {
                record.outcome = Outcome::ClientClosed;
            }
            record.partial = true;
            let upstream_us = self.forwarded.map(|at| micros(at.elapsed()));
            record.upstream_us = upstream_us;
            drop(self.hand_over(None, Instant::now()));
        }
        self.plane.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Plane {
    /// Prices what is known of the usage.
    fn price(&self, record: &mut Record, cache_write_1h_tokens: u64) {
        let prices = &self.parts.prices;
        record.cost = prices.cost(&Priced {
            usage: record.usage,
            cache_write_1h_tokens,
            model: record.model.as_deref(),
            response_model: record.response_model.as_deref(),
            provider: record.provider.as_deref().unwrap_or(""),
        });
        record.price_table = record.cost.map(|_| Arc::clone(prices.version()));
    }

    /// Hands a finished record over, by whichever way it must go.
    fn deliver(
        self: &Arc<Self>,
        record: Box<Record>,
        reserved: bool,
        texts: Option<Texts>,
        copies: Option<Copies>,
        stored: Option<oneshot::Sender<()>>,
    ) {
        let outbox = &self.parts.outbox;
        // Refusals, and whatever else costs a caller no token: preflights too.
        let unauthenticated = record.token_id.is_none();
        if unauthenticated || !reserved {
            let now = self.parts.clock.now();
            match self.coalescer.take(record, reserved, now) {
                Coalescing::Write(record) => outbox.finish(record, stored),
                Coalescing::Folded => {}
            }
            return;
        }
        match texts {
            Some(texts) => {
                let plane = Arc::clone(self);
                self.parts.estimator.submit(record, texts, move |mut record| {
                    plane.price(&mut record, 0);
                    plane.hand_over(record, copies, stored);
                });
            }
            None => self.hand_over(record, copies, stored),
        }
    }

    /// The last step: by way of the redactor where there are bodies.
    fn hand_over(
        self: &Arc<Self>,
        record: Box<Record>,
        copies: Option<Copies>,
        stored: Option<oneshot::Sender<()>>,
    ) {
        let Some(copies) = copies else {
            self.parts.outbox.finish(record, stored);
            return;
        };
        let outbox = Arc::clone(&self.parts.outbox);
        self.parts.capturing.redactor.submit(record, copies, move |record, bodies| {
            outbox.finish_with_bodies(record, bodies, stored);
        });
    }
}

/// Values of a query that may be signatures and keys, whatever their names.
pub(crate) fn query_secrets(query: Option<&PathAndQuery>) -> impl Iterator<Item = &str> + Clone {
    let query = query.and_then(PathAndQuery::query).unwrap_or("");
    let values = query.split('&').map(|pair| pair.split_once('=').map_or(pair, |pair| pair.1));
    values.filter(|value| value.len() >= QUERY_SECRET_BYTES_MIN)
}

/// What a crash leaves of a request.
fn opening(record: &Record, grant: &Grant) -> Opening {
    Opening {
        record_id: record.record_id,
        ts: record.ts,
        request_id: record.request_id.clone(),
        correlation_id: record.correlation_id.clone(),
        trace_id: record.trace_id,
        span_id: record.span_id,
        parent_span_id: record.parent_span_id,
        project_id: grant.project_id,
        project: Arc::clone(&grant.project),
        token_id: grant.token_id,
        labels: grant.labels.clone(),
        client_ip: record.client_ip,
        provider: record.provider.clone().unwrap_or_else(|| "".into()),
        operation: record.operation,
        method: record.method.clone(),
        path: record.path.clone(),
        http_version: record.http_version,
    }
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
