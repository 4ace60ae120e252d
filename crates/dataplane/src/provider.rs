//! A provider as the data plane sees it: where it is, what may be asked of it,
//! and with which dialect. Built once from the configuration.

use std::{sync::Arc, time::Duration};

use domain::{glob::Glob, provider::ProviderKind, redact::Rules};
use http::{
    HeaderName, HeaderValue, Method,
    uri::{Authority, Scheme},
};

/// All providers, and which one answers under `/v1`.
#[derive(Clone, Debug)]
pub struct Providers {
    pub all: Vec<Arc<Provider>>,
    /// Index into `all`.
    pub default: usize,
}

impl Providers {
    pub fn default_provider(&self) -> &Arc<Provider> {
        &self.all[self.default]
    }

    pub fn by_name(&self, name: &str) -> Option<&Arc<Provider>> {
        self.all.iter().find(|provider| &*provider.name == name)
    }
}

#[derive(Clone, Debug)]
pub struct Provider {
    /// Also its mount: `/<name>/*`.
    pub name: Arc<str>,
    pub kind: ProviderKind,
    pub base: BaseUrl,
    /// `Authorization` with `Bearer`, or `x-api-key` bare, or what is configured.
    pub auth_header: HeaderName,
    /// Precedes the key in the header, space included; may be empty.
    pub auth_scheme: String,
    /// Added to every request upstream.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub allowed_endpoints: Vec<Endpoint>,
    /// Empty: every method.
    pub allowed_methods: Vec<Method>,
    /// Param name to the globs of its legal values; empty: no rule.
    pub param_whitelist: Vec<(String, Vec<Glob>)>,
    /// Empty: no rule; `*`: any.
    pub allowed_origins: Vec<String>,
    /// Lower-case names that a request must carry; `origin` gives
    /// `origin_required`, others `invalid_request`.
    pub required_headers: Vec<HeaderName>,
    pub propagate: Propagate,
    pub timeouts: Timeouts,
    pub max_idle_connections_per_host: usize,
    /// What is taken out of captured bodies.
    pub redaction: Arc<Rules>,
}

/// `base_url` split for cheap joining.
#[derive(Clone, Debug)]
pub struct BaseUrl {
    pub scheme: Scheme,
    pub authority: Authority,
    /// Without a trailing slash; empty for the root.
    pub path: String,
}

/// An allowed path below the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Exact(String),
    /// `/v1/files/*`: the prefix with its slash; matches anything longer, and
    /// the prefix without its slash.
    Below(String),
}

impl Endpoint {
    /// `None` when the text is neither an absolute path nor one ending in `/*`.
    pub fn parse(text: &str) -> Option<Self> {
        if !text.starts_with('/') {
            return None;
        }
        match text.strip_suffix('*') {
            Some(prefix) if prefix.ends_with('/') && !prefix.contains('*') => {
                Some(Self::Below(prefix.to_owned()))
            }
            Some(_) => None,
            None => (!text.contains('*')).then(|| Self::Exact(text.to_owned())),
        }
    }

    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == path,
            Self::Below(prefix) => {
                path.starts_with(prefix.as_str()) || path == prefix.trim_end_matches('/')
            }
        }
    }
}

/// Which of the caller's context headers go upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Propagate {
    pub traceparent: bool,
    pub tracestate: bool,
    pub baggage: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    pub connect: Duration,
    /// The whole exchange.
    pub request: Duration,
    /// From the last byte sent to the response head.
    pub response_header: Duration,
    /// How long an unused pooled connection is kept.
    pub idle_connection: Duration,
    /// Silence on a streamed answer.
    pub stream_idle: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_exact_or_below_a_slash() {
        let check = |pattern: &str, path: &str, expected: bool| {
            let endpoint = Endpoint::parse(pattern).expect("a valid pattern");
            assert_eq!(endpoint.matches(path), expected, "{pattern} against {path}");
        };
        check("/v1/models", "/v1/models", true);
        check("/v1/models", "/v1/models/x", false);
        check("/v1/models/*", "/v1/models/x", true);
        check("/v1/models/*", "/v1/models", true);
        check("/v1/models/*", "/v1/models-and-more", false);
        check("/*", "/anything", true);
        assert_eq!(Endpoint::parse("v1/models"), None);
        assert_eq!(Endpoint::parse("/v1/mod*"), None);
        assert_eq!(Endpoint::parse("/*/models"), None);
    }
}
