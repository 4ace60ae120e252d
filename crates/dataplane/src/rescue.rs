//! Turns a cause into a response: the only place of the data plane that does.

use std::borrow::Cow;

use bytes::Bytes;
use domain::{context::RequestIds, failure::ErrorCode, json::write_text, provider::ProviderKind};
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE, RETRY_AFTER},
};

use crate::{
    answer::Answer,
    hop::{REQUEST_ID, TRACERESPONSE, X_CORRELATION_ID, X_OVERHEAD, X_REQUEST_ID},
};

const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// A request that will not be forwarded, or whose forwarding failed.
#[derive(Debug)]
pub struct Refusal {
    pub code: ErrorCode,
    /// For the client: what happened and what to do. Holds nothing secret.
    pub message: Cow<'static, str>,
    pub retry_after_seconds: Option<u64>,
    pub allow: Option<String>,
}

impl Refusal {
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), retry_after_seconds: None, allow: None }
    }

    pub fn retry_after(mut self, micros: i64) -> Self {
        let seconds = micros.max(0).unsigned_abs().div_ceil(1_000_000).max(1);
        self.retry_after_seconds = Some(seconds);
        self
    }
}

/// The response to a refusal, in the shape that the provider's SDKs parse.
pub fn response(refusal: &Refusal, kind: ProviderKind, ids: &RequestIds) -> Response<Answer> {
    let body = body(refusal, kind, ids);
    let mut response = Response::new(Answer::full(body));
    let status = StatusCode::from_u16(refusal.code.status());
    *response.status_mut() = status.expect("the error table holds valid status codes");
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(seconds) = refusal.retry_after_seconds {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if refusal.code == ErrorCode::QuotaExceeded {
        // A lifetime quota does not refill: the SDKs must not try again.
        headers.insert(X_SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    if let Some(allow) = refusal.allow.as_deref().and_then(|allow| allow.parse().ok()) {
        headers.insert(ALLOW, allow);
    }
    set_context(headers, kind, ids);
    response
}

/// The ids that every answer of the data plane carries.
pub fn set_context(headers: &mut HeaderMap, kind: ProviderKind, ids: &RequestIds) {
    let request_id = id_value(ids.request_id.as_str());
    if kind == ProviderKind::Anthropic {
        // Where Anthropic's SDKs look for the id that they report.
        headers.insert(REQUEST_ID, request_id.clone());
    }
    headers.insert(X_REQUEST_ID, request_id);
    headers.insert(X_CORRELATION_ID, id_value(ids.correlation_id.as_str()));
    let trace = ids.trace.traceparent();
    headers.insert(TRACERESPONSE, HeaderValue::try_from(trace).expect("hex and dashes"));
}

/// Our own time until the response head, in microseconds.
pub fn set_overhead(headers: &mut HeaderMap, overhead_us: u64) {
    headers.insert(X_OVERHEAD, HeaderValue::from(overhead_us));
}

pub fn id_value(id: &str) -> HeaderValue {
    HeaderValue::from_str(id).expect("ids are made of header-safe characters")
}

fn body(refusal: &Refusal, kind: ProviderKind, ids: &RequestIds) -> Bytes {
    let (code, message) = (refusal.code, &*refusal.message);
    let mut out = Vec::with_capacity(256);
    let mut text = |raw: &str, value: &str| {
        out.extend_from_slice(raw.as_bytes());
        write_text(&mut out, value);
    };
    match kind {
        ProviderKind::Anthropic => {
            text(r#"{"type":"error","error":{"type":"#, code.kind().anthropic_type());
            text(r#","message":"#, message);
            text(r#","code":"#, code.as_str());
            text(r#"},"request_id":"#, ids.request_id.as_str());
            out.extend_from_slice(b"}");
        }
        ProviderKind::Openai | ProviderKind::Other => {
            text(r#"{"error":{"message":"#, message);
            text(r#","type":"#, code.kind().openai_type());
            text(r#","code":"#, code.as_str());
            text(r#","param":null,"request_id":"#, ids.request_id.as_str());
            out.extend_from_slice(b"}}");
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use domain::{context::TraceContext, ids::RequestId, rng::Fixed};

    use super::*;

    #[test]
    fn every_code_is_json_in_both_shapes() {
        let request_id = RequestId::parse(b"req-1").expect("valid");
        let trace = TraceContext::from_traceparent(None, &Fixed(7));
        let ids = RequestIds { correlation_id: request_id.clone().into(), request_id, trace };
        for code in ErrorCode::ALL {
            let refusal = Refusal::new(*code, "say \"what\"\nto do");
            let openai = body(&refusal, ProviderKind::Openai, &ids);
            let openai: serde_json::Value = serde_json::from_slice(&openai).expect("JSON");
            assert_eq!(openai["error"]["code"], code.as_str());
            assert_eq!(openai["error"]["request_id"], "req-1");
            assert!(openai["error"]["param"].is_null());
            let anthropic = body(&refusal, ProviderKind::Anthropic, &ids);
            let anthropic: serde_json::Value = serde_json::from_slice(&anthropic).expect("JSON");
            assert_eq!(anthropic["type"], "error");
            assert_eq!(anthropic["error"]["code"], code.as_str());
            assert_eq!(anthropic["request_id"], "req-1");
        }
    }
}
