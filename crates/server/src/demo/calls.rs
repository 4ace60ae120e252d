//! The requests that the demo sends, as data: what is asked, and how it has to
//! end.

use serde_json::{Value, json};

/// Which credential a call presents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Credential {
    Normal,
    /// May use `gpt-4o` only.
    ModelLimited,
    /// Good for one request.
    OneRequest,
    Revoked,
    /// Well formed and unknown.
    Unknown,
    None,
}

/// What the client does with its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reading {
    ToTheEnd,
    /// Leaves after the first bytes.
    LeavesEarly,
}

/// One request and its expected end.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) name: &'static str,
    pub(super) credential: Credential,
    pub(super) path: &'static str,
    /// Absent: a GET.
    pub(super) body: Option<Value>,
    /// For the sample provider.
    pub(super) directives: &'static str,
    pub(super) reading: Reading,
    pub(super) status: u16,
    pub(super) outcome: &'static str,
    pub(super) error_code: Option<&'static str>,
    /// Whether the body arrives whole.
    pub(super) whole: bool,
    pub(super) reaches_provider: bool,
}

impl Call {
    fn new(name: &'static str, path: &'static str, body: Option<Value>) -> Self {
        Self {
            name,
            credential: Credential::Normal,
            path,
            body,
            directives: "",
            reading: Reading::ToTheEnd,
            status: 200,
            outcome: "ok",
            error_code: None,
            whole: true,
            reaches_provider: true,
        }
    }

    fn told(mut self, directives: &'static str) -> Self {
        self.directives = directives;
        self
    }

    fn with(mut self, credential: Credential) -> Self {
        self.credential = credential;
        self
    }

    fn ends(mut self, status: u16, outcome: &'static str) -> Self {
        (self.status, self.outcome) = (status, outcome);
        self
    }

    /// The proxy's own refusal: the provider never sees the request.
    fn refused(mut self, status: u16, code: &'static str) -> Self {
        (self.error_code, self.reaches_provider) = (Some(code), false);
        self.ends(status, "denied")
    }

    fn broken(mut self, outcome: &'static str) -> Self {
        self.whole = false;
        self.ends(200, outcome)
    }
}

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/anthropic/v1/messages";

/// Everything that the sample provider can show.
pub(super) fn sample_calls() -> Vec<Call> {
    let mut calls = successes();
    calls.extend(anthropic_calls());
    calls.extend(provider_failures());
    calls.extend(refusals());
    calls
}

/// A few cheap requests for a real provider.
pub(super) fn real_calls() -> Vec<Call> {
    vec![
        Call::new("models", "/v1/models", None),
        Call::new("chat", CHAT, Some(short(chat("gpt-4o-mini")))),
        Call::new("chat-stream", CHAT, Some(with_usage(short(chat("gpt-4o-mini"))))),
        model_not_allowed(),
        Call::new("unknown-token", CHAT, Some(chat("gpt-4o-mini")))
            .with(Credential::Unknown)
            .refused(401, "token_not_found"),
    ]
}

fn chat(model: &str) -> Value {
    json!({"model": model, "user": "user-7", "messages": [
        {"role": "system", "content": "You answer in one sentence."},
        {"role": "user", "content": "What does a proxy that keeps the record do?"}]})
}

fn short(mut body: Value) -> Value {
    body["max_tokens"] = 32.into();
    body
}

fn streamed(mut body: Value) -> Value {
    body["stream"] = true.into();
    body
}

fn with_usage(body: Value) -> Value {
    let mut body = streamed(body);
    body["stream_options"] = json!({"include_usage": true});
    body
}

fn message() -> Value {
    json!({"model": "claude-sonnet-4-5", "max_tokens": 64,
           "messages": [{"role": "user", "content": "What is a record?"}]})
}

fn weather_tool(schema: &str) -> Value {
    json!({"name": "weather", "description": "The weather of a city",
           schema: {"type": "object", "properties": {"city": {"type": "string"}}}})
}

fn successes() -> Vec<Call> {
    let mut choices = chat("gpt-4o");
    choices["n"] = 3.into();
    let mut tools = chat("gpt-4o");
    tools["tools"] = json!([{"type": "function", "function": weather_tool("parameters")}]);
    let input = json!({"model": "gpt-5", "input": "What is a record?"});
    let embedding = json!({"model": "text-embedding-3-small", "input": ["one", "two"]});
    let legacy = json!({"model": "gpt-3.5-turbo-instruct", "prompt": "Once upon a time"});
    vec![
        Call::new("models", "/v1/models", None),
        Call::new("chat", CHAT, Some(chat("gpt-4o-mini"))),
        Call::new("chat-again", CHAT, Some(chat("gpt-4.1"))),
        Call::new("chat-choices", CHAT, Some(choices)),
        Call::new("chat-tool", CHAT, Some(tools)),
        Call::new("chat-cached", CHAT, Some(chat("gpt-4o"))).told("cached=16"),
        Call::new("chat-reasoning", CHAT, Some(chat("o4-mini"))).told("reasoning=48"),
        Call::new("chat-gzip", CHAT, Some(chat("gpt-4o"))).told("gzip"),
        Call::new("chat-slow", CHAT, Some(chat("gpt-4o"))).told("latency=250ms"),
        Call::new("stream", CHAT, Some(with_usage(chat("gpt-4o")))).told("chunks=40"),
        Call::new("stream-paced", CHAT, Some(with_usage(chat("gpt-4o-mini"))))
            .told("latency=40ms,chunks=24,chunk_delay=8ms"),
        Call::new("stream-gzip", CHAT, Some(with_usage(chat("gpt-4o")))).told("gzip,split=5"),
        Call::new("stream-no-usage", CHAT, Some(streamed(chat("gpt-4o-mini")))),
        Call::new("responses", RESPONSES, Some(input.clone())),
        Call::new("responses-stream", RESPONSES, Some(streamed(input))),
        Call::new("embeddings", "/v1/embeddings", Some(embedding)),
        Call::new("completions", "/v1/completions", Some(legacy)),
    ]
}

fn anthropic_calls() -> Vec<Call> {
    let mut tools = message();
    tools["tools"] = json!([weather_tool("input_schema")]);
    let mut cached = message();
    cached["system"] = json!([{"type": "text", "text": "Long instructions. ".repeat(40),
                               "cache_control": {"type": "ephemeral"}}]);
    vec![
        Call::new("message", MESSAGES, Some(message())),
        Call::new("message-stream", MESSAGES, Some(streamed(message()))).told("chunks=20"),
        Call::new("message-tool", MESSAGES, Some(tools)),
        Call::new("message-cache", MESSAGES, Some(cached)).told("cached=64"),
    ]
}

fn provider_failures() -> Vec<Call> {
    let call = |name, directives| Call::new(name, CHAT, Some(chat("gpt-4o"))).told(directives);
    let stream =
        |name, directives| Call::new(name, CHAT, Some(with_usage(chat("gpt-4o")))).told(directives);
    let mut leaver = stream("client-leaves", "chunks=500,chunk_delay=10ms").broken("client_closed");
    leaver.reading = Reading::LeavesEarly;
    vec![
        call("provider-400", "status=400").ends(400, "client_error"),
        call("provider-429", "status=429").ends(429, "client_error"),
        call("provider-500", "status=500").ends(500, "upstream_error"),
        Call::new("provider-529", MESSAGES, Some(message()))
            .told("status=529")
            .ends(529, "upstream_error"),
        stream("stream-cut", "chunks=20,cut=6").broken("upstream_error"),
        leaver,
    ]
}

fn model_not_allowed() -> Call {
    Call::new("model-denied", CHAT, Some(chat("gpt-4o-mini")))
        .with(Credential::ModelLimited)
        .refused(403, "model_not_allowed")
}

fn refusals() -> Vec<Call> {
    let call = |name| Call::new(name, CHAT, Some(chat("gpt-4o")));
    vec![
        call("model-allowed").with(Credential::ModelLimited),
        model_not_allowed(),
        call("last-request").with(Credential::OneRequest),
        call("quota-used-up").with(Credential::OneRequest).refused(429, "quota_exceeded"),
        call("unknown-token").with(Credential::Unknown).refused(401, "token_not_found"),
        call("no-token").with(Credential::None).refused(401, "token_missing"),
        call("revoked-token").with(Credential::Revoked).refused(401, "token_inactive"),
        Call::new("unknown-path", "/v1/nothing-here", Some(chat("gpt-4o")))
            .refused(404, "endpoint_not_found"),
    ]
}
