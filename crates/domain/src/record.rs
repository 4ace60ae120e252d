//! The record: what is kept of one proxied request, exactly one for each.
//!
//! [`Record::write_json`] defines the line (schema 1, CONTRACT §6): flat,
//! snake_case, absent when unknown. The schema only grows.

use std::{net::IpAddr, sync::Arc};

use crate::{
    capture::Captured,
    context::{SpanId, TraceId},
    ids::{CorrelationId, InstanceId, ProjectId, RecordId, RequestId, TokenId},
    json::Object,
    key,
    provider::Operation,
    time::Timestamp,
    usage::{Usage, UsageSource, UsdNanos},
};

pub const RECORD_SCHEMA: u64 = 1;
/// Of most lines, so that a buffer grows once for one.
const LINE_BYTES: usize = 2048;

/// Bounds of texts that others choose, in bytes; longer ones are cut at a
/// character boundary before they enter a record.
pub const MODEL_BYTES_MAX: usize = 256;
pub const END_USER_CHARS_MAX: usize = 256;
pub const USER_AGENT_BYTES_MAX: usize = 256;
pub const PATH_BYTES_MAX: usize = 1024;
pub const ERROR_BYTES_MAX: usize = 1024;

/// How a request ended, seen from its client.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    Ok,
    Denied,
    ClientError,
    UpstreamError,
    Timeout,
    ClientClosed,
    Interrupted,
    ProxyError,
}

impl Outcome {
    pub const ALL: &[Self] = &[
        Self::Ok,
        Self::Denied,
        Self::ClientError,
        Self::UpstreamError,
        Self::Timeout,
        Self::ClientClosed,
        Self::Interrupted,
        Self::ProxyError,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Denied => "denied",
            Self::ClientError => "client_error",
            Self::UpstreamError => "upstream_error",
            Self::Timeout => "timeout",
            Self::ClientClosed => "client_closed",
            Self::Interrupted => "interrupted",
            Self::ProxyError => "proxy_error",
        }
    }

    /// The severity under which the record is listed.
    pub const fn level(self) -> &'static str {
        match self {
            Self::Ok => "info",
            Self::Denied | Self::ClientError | Self::ClientClosed => "warn",
            Self::UpstreamError | Self::Timeout | Self::Interrupted | Self::ProxyError => "error",
        }
    }
}

/// What the response cache did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CacheStatus {
    #[default]
    Off,
    Bypass,
    Miss,
    Hit,
}

impl CacheStatus {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Bypass => "bypass",
            Self::Miss => "miss",
            Self::Hit => "hit",
        }
    }
}

/// Written before a request is forwarded, so that a crash cannot make it
/// unseen. It holds what is known by then; the record that ends it repeats all.
#[derive(Clone, Debug)]
pub struct Opening {
    pub record_id: RecordId,
    pub ts: Timestamp,
    pub request_id: RequestId,
    pub correlation_id: CorrelationId,
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub parent_span_id: Option<SpanId>,
    pub project_id: ProjectId,
    pub project: Arc<str>,
    pub token_id: TokenId,
    /// JSON object of the labels, see [`crate::labels::Labels::to_json`].
    pub labels: Option<Arc<str>>,
    pub client_ip: Option<IpAddr>,
    pub provider: Arc<str>,
    pub operation: Operation,
    pub method: Box<str>,
    pub path: Box<str>,
    pub http_version: &'static str,
}

/// One finished request. Fields are public: any combination is legal, and each
/// stage of the data plane adds what it knows.
#[derive(Clone, Debug)]
pub struct Record {
    pub record_id: RecordId,
    /// When the head was read.
    pub ts: Timestamp,
    pub request_id: RequestId,
    pub correlation_id: CorrelationId,
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub parent_span_id: Option<SpanId>,
    pub project_id: Option<ProjectId>,
    pub project: Option<Arc<str>>,
    pub token_id: Option<TokenId>,
    /// JSON object of the labels, see [`crate::labels::Labels::to_json`].
    pub labels: Option<Arc<str>>,
    pub end_user: Option<Box<str>>,
    pub client_ip: Option<IpAddr>,
    pub user_agent: Option<Box<str>>,
    pub provider: Option<Arc<str>>,
    pub operation: Operation,
    pub model: Option<Box<str>>,
    pub response_model: Option<Box<str>>,
    pub method: Box<str>,
    /// Without the query.
    pub path: Box<str>,
    pub http_version: &'static str,
    /// What the client was sent; absent when it was gone before a head.
    pub status_code: Option<u16>,
    pub upstream_status_code: Option<u16>,
    pub upstream_request_id: Option<Box<str>>,
    pub outcome: Outcome,
    pub error_code: Option<Box<str>>,
    pub error: Option<Box<str>>,
    pub stream_response: bool,
    pub finish_reason: Option<Box<str>>,
    /// The answer did not reach its end.
    pub partial: bool,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub events: Option<u64>,
    pub usage: Usage,
    pub usage_source: UsageSource,
    /// Tokenizer behind an estimate.
    pub usage_method: Option<&'static str>,
    pub cost: Option<UsdNanos>,
    pub price_table: Option<Arc<str>>,
    pub cache: CacheStatus,
    /// What became of the bodies.
    pub captured: Captured,
    pub duration_us: u64,
    pub upstream_us: Option<u64>,
    pub ttfb_us: Option<u64>,
    pub ttft_us: Option<u64>,
    /// Our own time until the response head.
    pub overhead_us: Option<u64>,
    /// Times that the request was handed to the provider.
    pub attempts: u32,
    /// Set on coalesced refusals only: how many requests this line stands for.
    pub coalesced: Option<Coalesced>,
}

/// What every record has from its first moment on.
#[derive(Clone, Debug)]
pub struct Begun {
    pub record_id: RecordId,
    pub ts: Timestamp,
    pub request_id: RequestId,
    pub correlation_id: CorrelationId,
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub operation: Operation,
    pub method: Box<str>,
    pub path: Box<str>,
    pub http_version: &'static str,
}

/// A flood of equal refusals in one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coalesced {
    pub count: u64,
    pub first_ts: Timestamp,
    pub last_ts: Timestamp,
}

impl Record {
    /// The record of a request of which nothing is known but where it came in: what
    /// everything that is learnt later is written into. Should nothing be, its
    /// client went away.
    pub fn begun(begun: Begun) -> Self {
        let Begun { record_id, ts, request_id, correlation_id, trace_id, span_id, .. } = begun;
        Self {
            record_id,
            ts,
            request_id,
            correlation_id,
            trace_id,
            span_id,
            parent_span_id: None,
            project_id: None,
            project: None,
            token_id: None,
            labels: None,
            end_user: None,
            client_ip: None,
            user_agent: None,
            provider: None,
            operation: begun.operation,
            model: None,
            response_model: None,
            method: begun.method,
            path: begun.path,
            http_version: begun.http_version,
            status_code: None,
            upstream_status_code: None,
            upstream_request_id: None,
            outcome: Outcome::ClientClosed,
            error_code: None,
            error: None,
            stream_response: false,
            finish_reason: None,
            partial: false,
            request_bytes: 0,
            response_bytes: 0,
            events: None,
            usage: Usage::default(),
            usage_source: UsageSource::Unknown,
            usage_method: None,
            cost: None,
            price_table: None,
            cache: CacheStatus::Off,
            captured: Captured::default(),
            duration_us: 0,
            upstream_us: None,
            ttfb_us: None,
            ttft_us: None,
            overhead_us: None,
            attempts: 0,
            coalesced: None,
        }
    }

    /// The record of a request whose end was never seen: the process died.
    pub fn interrupted(opening: Opening, interrupted_at: Timestamp) -> Self {
        let duration = interrupted_at.as_micros().saturating_sub(opening.ts.as_micros());
        let begun = Begun {
            record_id: opening.record_id,
            ts: opening.ts,
            request_id: opening.request_id,
            correlation_id: opening.correlation_id,
            trace_id: opening.trace_id,
            span_id: opening.span_id,
            operation: opening.operation,
            method: opening.method,
            path: opening.path,
            http_version: opening.http_version,
        };
        Self {
            parent_span_id: opening.parent_span_id,
            project_id: Some(opening.project_id),
            project: Some(opening.project),
            token_id: Some(opening.token_id),
            labels: opening.labels,
            client_ip: opening.client_ip,
            provider: Some(opening.provider),
            outcome: Outcome::Interrupted,
            error: Some("the proxy stopped before this request ended".into()),
            partial: true,
            duration_us: u64::try_from(duration).unwrap_or(0),
            attempts: 1,
            ..Self::begun(begun)
        }
    }

    /// Appends the record as one JSON object (no newline).
    pub fn write_json(&self, envelope: &Envelope, out: &mut Vec<u8>) {
        out.reserve(LINE_BYTES);
        let mut line = Object::begin(out);
        line.number(key!("schema"), RECORD_SCHEMA);
        line.text(key!("stream"), "record");
        line.uuid(key!("record_id"), &self.record_id.0);
        line.text(key!("ts"), self.ts.to_rfc3339().as_str());
        line.text(key!("level"), self.outcome.level());
        line.text(key!("msg"), "request completed");
        line.text(key!("component"), "proxy");
        line.text(key!("instance"), envelope.instance.as_str());
        line.text(key!("version"), envelope.version);
        line.text(key!("request_id"), self.request_id.as_str());
        line.text(key!("correlation_id"), self.correlation_id.as_str());
        line.hex(key!("trace_id"), self.trace_id.as_bytes());
        line.hex(key!("span_id"), self.span_id.as_bytes());
        if let Some(parent) = self.parent_span_id {
            line.hex(key!("parent_span_id"), parent.as_bytes());
        }
        self.write_caller(&mut line);
        self.write_exchange(&mut line);
        self.write_usage(&mut line);
        if let Some(Coalesced { count, first_ts, last_ts }) = self.coalesced {
            line.number(key!("count"), count);
            line.text(key!("first_ts"), first_ts.to_rfc3339().as_str());
            line.text(key!("last_ts"), last_ts.to_rfc3339().as_str());
        }
        line.end();
    }

    fn write_caller(&self, line: &mut Object<'_>) {
        if let Some(id) = self.project_id {
            line.uuid(key!("project_id"), &id.0);
        }
        line.text_if(key!("project"), self.project.as_deref());
        if let Some(id) = self.token_id {
            line.uuid(key!("token_id"), &id.0);
        }
        if let Some(labels) = &self.labels {
            line.raw(key!("labels"), labels);
        }
        line.text_if(key!("end_user"), self.end_user.as_deref());
        if let Some(address) = self.client_ip {
            line.plain_text(key!("client_ip"), address);
        }
        line.text_if(key!("user_agent"), self.user_agent.as_deref());
    }

    fn write_exchange(&self, line: &mut Object<'_>) {
        line.text_if(key!("provider"), self.provider.as_deref());
        line.text(key!("operation"), self.operation.as_str());
        line.text_if(key!("model"), self.model.as_deref());
        line.text_if(key!("response_model"), self.response_model.as_deref());
        line.text(key!("method"), &self.method);
        line.text(key!("path"), &self.path);
        line.text(key!("http_version"), self.http_version);
        line.number_if(key!("status_code"), self.status_code.map(u64::from));
        line.number_if(key!("upstream_status_code"), self.upstream_status_code.map(u64::from));
        line.text_if(key!("upstream_request_id"), self.upstream_request_id.as_deref());
        line.text(key!("outcome"), self.outcome.as_str());
        line.text_if(key!("error_code"), self.error_code.as_deref());
        line.text_if(key!("error"), self.error.as_deref());
        line.boolean(key!("stream_response"), self.stream_response);
        line.text_if(key!("finish_reason"), self.finish_reason.as_deref());
        line.boolean(key!("partial"), self.partial);
        line.number(key!("request_bytes"), self.request_bytes);
        line.number(key!("response_bytes"), self.response_bytes);
        line.number_if(key!("events"), self.events);
        line.millis_if(key!("duration_ms"), Some(self.duration_us));
        line.millis_if(key!("upstream_ms"), self.upstream_us);
        line.millis_if(key!("ttfb_ms"), self.ttfb_us);
        line.millis_if(key!("ttft_ms"), self.ttft_us);
        line.number_if(key!("overhead_us"), self.overhead_us);
        line.number(key!("attempts"), u64::from(self.attempts));
    }

    fn write_usage(&self, line: &mut Object<'_>) {
        line.number_if(key!("input_tokens"), self.usage.input_tokens);
        line.number_if(key!("output_tokens"), self.usage.output_tokens);
        line.number_if(key!("total_tokens"), self.usage.total_tokens);
        line.number_if(key!("cached_input_tokens"), self.usage.cached_input_tokens);
        line.number_if(key!("cache_write_tokens"), self.usage.cache_write_tokens);
        line.number_if(key!("reasoning_tokens"), self.usage.reasoning_tokens);
        line.text(key!("usage_source"), self.usage_source.as_str());
        line.text_if(key!("usage_method"), self.usage_method);
        if let Some(cost) = self.cost {
            line.plain_text(key!("cost_usd"), cost);
            line.text_if(key!("price_table"), self.price_table.as_deref());
        }
        line.text(key!("cache"), self.cache.as_str());
        if !self.captured.is_empty() {
            line.plain_text(key!("captured"), self.captured);
        }
    }
}

/// What every line of this process says of itself.
#[derive(Clone, Debug)]
pub struct Envelope {
    pub instance: InstanceId,
    pub version: &'static str,
}

/// Cuts `text` to at most `bytes_max` bytes at a character boundary.
pub fn bounded(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
mod tests;
