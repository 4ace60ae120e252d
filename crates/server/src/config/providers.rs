//! The provider file (CONTRACT §4) and the providers that are built in.
//!
//! It is walked by hand rather than by serde: so every problem is found in one
//! go, each with its path, and no message repeats a value (`headers` may hold
//! credentials).

mod reader;

use std::{sync::Arc, time::Duration};

use dataplane::provider::{BaseUrl, Endpoint, Propagate, Provider, Providers, Timeouts};
use domain::{glob::Glob, provider::ProviderKind, redact::Rules};
use http::{HeaderName, HeaderValue, Method, header, uri::Authority};
use serde_yaml_ng::Value as Yaml;

pub use self::reader::Reader;
use super::{
    redaction,
    settings::{RESERVED, Settings},
    source,
};

/// What was asked for in the time between the last byte sent and the head of
/// the answer: reasoning models think for minutes before they say anything.
const RESPONSE_HEADER_TIMEOUT: Duration = Duration::from_secs(300);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(90);
const IDLE_CONNECTIONS_PER_HOST: usize = 64;
const PROVIDERS_MAX: usize = 256;
const NAME_BYTES_MAX: usize = 64;

const OPENAI_ENDPOINTS: &[&str] = &[
    "/v1/chat/completions",
    "/v1/chat/completions/*",
    "/v1/responses",
    "/v1/responses/*",
    "/v1/conversations",
    "/v1/conversations/*",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/models",
    "/v1/models/*",
    "/v1/images/*",
    "/v1/audio/*",
    "/v1/moderations",
    "/v1/files",
    "/v1/files/*",
    "/v1/uploads",
    "/v1/uploads/*",
    "/v1/batches",
    "/v1/batches/*",
    "/v1/vector_stores",
    "/v1/vector_stores/*",
    "/v1/fine_tuning/*",
];
const ANTHROPIC_ENDPOINTS: &[&str] = &[
    "/v1/messages",
    "/v1/messages/*",
    "/v1/complete",
    "/v1/models",
    "/v1/models/*",
    "/v1/files",
    "/v1/files/*",
];

/// The providers of the file over the built-in ones. `None` has been reported.
pub fn load(settings: &Settings, rules: &Rules, problems: &mut Vec<String>) -> Option<Providers> {
    let Some(path) = &settings.api_config_path else {
        return assemble(&Yaml::Null, settings, rules, problems);
    };
    let document = source::read_bounded(path).and_then(|text| {
        serde_yaml_ng::from_str::<Yaml>(&text).map_err(|error| source::not_yaml(&error))
    });
    match document {
        Ok(document) => assemble(&document, settings, rules, problems),
        Err(reason) => {
            problems.push(format!("API_CONFIG_PATH: {}: {reason}", path.display()));
            None
        }
    }
}

fn assemble(
    document: &Yaml,
    settings: &Settings,
    rules: &Rules,
    problems: &mut Vec<String>,
) -> Option<Providers> {
    let before = problems.len();
    let mut all = vec![
        built_in("openai", ProviderKind::Openai, "https://api.openai.com", settings),
        built_in("anthropic", ProviderKind::Anthropic, "https://api.anthropic.com", settings),
    ];
    let shared = Arc::new(rules.clone());
    all.iter_mut().for_each(|provider| provider.redaction = Arc::clone(&shared));
    let mut root = Reader::new(document, "", problems);
    let default = root.text("default_api");
    for (name, value) in root.entries("apis") {
        let path = format!("apis.{name}");
        if let Err(reason) = check_name(&name, settings) {
            root.problem(&path, reason);
        }
        let mut reader = Reader::new(&value, &path, root.problems());
        let redaction = Arc::new(redaction::with_provider(rules, &mut reader));
        let provider = read_provider(&name, &mut reader, settings);
        reader.finish();
        let Some(provider) = provider else { continue };
        let provider = Provider { redaction, ..provider };
        match all.iter_mut().find(|known| known.name == provider.name) {
            Some(known) => *known = provider,
            None => all.push(provider),
        }
    }
    root.finish();
    if all.len() > PROVIDERS_MAX {
        problems.push(format!("apis: at most {PROVIDERS_MAX} providers"));
    }
    let default = default.as_deref().unwrap_or("openai");
    let position = all.iter().position(|provider| &*provider.name == default);
    if position.is_none() {
        problems.push("default_api: there is no such provider".to_owned());
    }
    let all = all.into_iter().map(Arc::new).collect();
    (problems.len() == before).then_some(Providers { all, default: position? })
}

fn built_in(name: &str, kind: ProviderKind, base: &str, settings: &Settings) -> Provider {
    let (auth_header, auth_scheme) = auth_of(kind);
    Provider {
        name: name.into(),
        kind,
        base: base_url(base).expect("the built-in addresses are valid"),
        auth_header,
        auth_scheme,
        headers: Vec::new(),
        allowed_endpoints: endpoints_of(kind),
        allowed_methods: Vec::new(),
        param_whitelist: Vec::new(),
        allowed_origins: Vec::new(),
        required_headers: Vec::new(),
        propagate: Propagate::default(),
        timeouts: timeouts(settings),
        max_idle_connections_per_host: IDLE_CONNECTIONS_PER_HOST,
        redaction: Arc::default(),
    }
}

fn timeouts(settings: &Settings) -> Timeouts {
    Timeouts {
        connect: CONNECT_TIMEOUT,
        request: settings.request_timeout,
        response_header: RESPONSE_HEADER_TIMEOUT.min(settings.request_timeout),
        idle_connection: IDLE_CONNECTION_TIMEOUT,
        stream_idle: settings.stream_idle_timeout,
    }
}

/// How a dialect sends its key.
fn auth_of(kind: ProviderKind) -> (HeaderName, String) {
    match kind {
        ProviderKind::Anthropic => (HeaderName::from_static("x-api-key"), String::new()),
        ProviderKind::Openai | ProviderKind::Other => (header::AUTHORIZATION, "Bearer ".to_owned()),
    }
}

fn endpoints_of(kind: ProviderKind) -> Vec<Endpoint> {
    let texts = match kind {
        ProviderKind::Openai => OPENAI_ENDPOINTS,
        ProviderKind::Anthropic => ANTHROPIC_ENDPOINTS,
        ProviderKind::Other => &[],
    };
    texts.iter().filter_map(|text| Endpoint::parse(text)).collect()
}

fn check_name(name: &str, settings: &Settings) -> Result<(), &'static str> {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(plain) {
        return Err("a name is 1 to 64 characters of [a-z0-9_-]");
    }
    let metrics = settings.metrics_path.0[1..].split('/').next().unwrap_or_default();
    if RESERVED.contains(&name) || name == metrics {
        return Err("the name is reserved");
    }
    Ok(())
}

fn read_provider(name: &str, reader: &mut Reader<'_, '_>, settings: &Settings) -> Option<Provider> {
    let kind = reader.parsed("kind", "openai, anthropic or other", |text| match text {
        "openai" => Some(ProviderKind::Openai),
        "anthropic" => Some(ProviderKind::Anthropic),
        "other" => Some(ProviderKind::Other),
        _ => None,
    });
    // The two names that everybody knows need not say what they speak.
    let kind = kind.unwrap_or(match name {
        "openai" => ProviderKind::Openai,
        "anthropic" => ProviderKind::Anthropic,
        _ => ProviderKind::Other,
    });
    let base =
        reader.parsed("base_url", "an http(s) address without user, query and fragment", base_url);
    if !reader.has("base_url") {
        reader.problem_at("base_url", "is required");
    }
    let endpoint_form = "an absolute path, or one that ends in /*";
    let endpoints = reader.list("allowed_endpoints", endpoint_form, Endpoint::parse);
    if endpoints.is_none() && kind == ProviderKind::Other {
        reader.problem_at("allowed_endpoints", "is required for this kind");
    }
    let (auth_header, auth_scheme) = read_auth(reader, kind);
    let provider = Provider {
        name: name.into(),
        kind,
        auth_header,
        auth_scheme,
        headers: read_headers(reader),
        allowed_endpoints: endpoints.unwrap_or_else(|| endpoints_of(kind)),
        allowed_methods: reader
            .list("allowed_methods", "an HTTP method", |text| {
                Method::from_bytes(text.to_ascii_uppercase().as_bytes()).ok()
            })
            .unwrap_or_default(),
        param_whitelist: read_whitelist(reader),
        allowed_origins: reader
            .list("allowed_origins", "an origin (https://host[:port]) or *", origin)
            .unwrap_or_default(),
        required_headers: reader
            .list("required_headers", "a header name", |text| text.parse().ok())
            .unwrap_or_default(),
        propagate: read_propagate(reader),
        timeouts: read_timeouts(reader, settings),
        max_idle_connections_per_host: read_connection(reader),
        redaction: Arc::default(),
        // Last: whatever else is wrong has been reported by now.
        base: base?,
    };
    Some(provider)
}

/// Splits a base URL, or says no.
fn base_url(text: &str) -> Option<BaseUrl> {
    let url = url::Url::parse(text).ok()?;
    let scheme: http::uri::Scheme = match url.scheme() {
        "http" => http::uri::Scheme::HTTP,
        "https" => http::uri::Scheme::HTTPS,
        _ => return None,
    };
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    let host = url.host_str().filter(|_| plain)?;
    let authority: Authority = match url.port() {
        Some(port) => format!("{host}:{port}").parse().ok()?,
        None => host.parse().ok()?,
    };
    Some(BaseUrl { scheme, authority, path: url.path().trim_end_matches('/').to_owned() })
}

/// `*`, or an origin exactly as a browser sends it.
fn origin(text: &str) -> Option<String> {
    if text == "*" {
        return Some(text.to_owned());
    }
    let url = url::Url::parse(text).ok()?;
    let serialized = url.origin().ascii_serialization();
    (serialized != "null" && text.trim_end_matches('/') == serialized).then_some(serialized)
}

fn read_auth(reader: &mut Reader<'_, '_>, kind: ProviderKind) -> (HeaderName, String) {
    let (header, scheme) = auth_of(kind);
    reader
        .below("auth", |auth| {
            let named = auth.parsed("header", "a header name", |text| text.parse().ok());
            let given = auth.parsed("scheme", "one word or nothing", |text| {
                let word = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
                word.then(|| if text.is_empty() { String::new() } else { format!("{text} ") })
            });
            // A header of one's own carries the bare key unless told otherwise.
            let default = match &named {
                Some(named) if *named != header::AUTHORIZATION => String::new(),
                Some(_) => "Bearer ".to_owned(),
                None => scheme.clone(),
            };
            (named.unwrap_or_else(|| header.clone()), given.unwrap_or(default))
        })
        .unwrap_or((header, scheme))
}

fn read_headers(reader: &mut Reader<'_, '_>) -> Vec<(HeaderName, HeaderValue)> {
    /// These belong to the connection or to us.
    const OURS: &[&str] = &[
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "te",
        "trailer",
        "x-request-id",
        "x-correlation-id",
        "traceparent",
    ];
    let mut headers = Vec::new();
    for (name, value) in reader.entries("headers") {
        let path = format!("headers.{name}");
        let (parsed, text) = (name.parse::<HeaderName>(), source::scalar(&value));
        match (parsed, text.and_then(|text| HeaderValue::from_str(&text).ok())) {
            (Ok(name), _) if OURS.contains(&name.as_str()) => {
                reader.problem_at(&path, "this header cannot be set");
            }
            (Ok(name), Some(mut value)) => {
                value.set_sensitive(true);
                headers.push((name, value));
            }
            _ => reader.problem_at(&path, "must be a header name and its value"),
        }
    }
    headers
}

fn read_whitelist(reader: &mut Reader<'_, '_>) -> Vec<(String, Vec<Glob>)> {
    let entries = reader.entries("param_whitelist");
    let mut rules = Vec::with_capacity(entries.len());
    for (name, value) in entries {
        let globs = match &value {
            Yaml::Sequence(items) => items.iter().map(source::scalar).collect(),
            one => source::scalar(one).map(|one| vec![one]),
        };
        match globs {
            Some(globs) => rules.push((name, globs.iter().map(Glob::new).collect())),
            None => {
                let path = format!("param_whitelist.{name}");
                reader.problem_at(&path, "must be a list of patterns");
            }
        }
    }
    rules
}

fn read_propagate(reader: &mut Reader<'_, '_>) -> Propagate {
    let mut propagate = Propagate::default();
    let names = reader.list("propagate", "traceparent, tracestate or baggage", |text| {
        matches!(text, "traceparent" | "tracestate" | "baggage").then(|| text.to_owned())
    });
    for name in names.unwrap_or_default() {
        match name.as_str() {
            "traceparent" => propagate.traceparent = true,
            "tracestate" => propagate.tracestate = true,
            _ => propagate.baggage = true,
        }
    }
    propagate
}

fn read_timeouts(reader: &mut Reader<'_, '_>, settings: &Settings) -> Timeouts {
    let mut timeouts = timeouts(settings);
    reader.below("timeouts", |below| {
        let slots = [
            ("request", &mut timeouts.request),
            ("response_header", &mut timeouts.response_header),
            ("idle_connection", &mut timeouts.idle_connection),
        ];
        for (key, slot) in slots {
            let length = below.parsed(key, "a length of time (30s, 10m)", |text| {
                super::values::duration(text).filter(|length| !length.is_zero())
            });
            *slot = length.unwrap_or(*slot);
        }
    });
    timeouts
}

fn read_connection(reader: &mut Reader<'_, '_>) -> usize {
    let form = "a whole number from 1 to 10000";
    reader
        .below("connection", |below| {
            below.parsed("max_idle_conns_per_host", form, |text| {
                text.parse().ok().filter(|number| (1..=10_000).contains(number))
            })
        })
        .flatten()
        .unwrap_or(IDLE_CONNECTIONS_PER_HOST)
}
