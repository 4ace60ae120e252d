//! What the data plane refuses or fails with: the closed list of CONTRACT §4.

use crate::record::Outcome;

macro_rules! error_codes {
    ($($name:ident = $code:literal, $status:literal, $outcome:ident, $kind:ident;)+) => {
        /// One row of the error table: a stable code with its HTTP status, its
        /// place in [`Outcome`] and the provider-style error type.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum ErrorCode { $($name,)+ }

        impl ErrorCode {
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)+ }
            }
            pub const fn outcome(self) -> Outcome {
                match self { $(Self::$name => Outcome::$outcome,)+ }
            }
            pub const fn kind(self) -> ErrorKind {
                match self { $(Self::$name => ErrorKind::$kind,)+ }
            }
        }
    };
}

error_codes! {
    TokenMissing = "token_missing", 401, Denied, Authentication;
    TokenInvalid = "token_invalid", 401, Denied, Authentication;
    TokenNotFound = "token_not_found", 401, Denied, Authentication;
    TokenInactive = "token_inactive", 401, Denied, Authentication;
    TokenExpired = "token_expired", 401, Denied, Authentication;
    ProjectInactive = "project_inactive", 403, Denied, Permission;
    OriginNotAllowed = "origin_not_allowed", 403, Denied, Permission;
    ModelNotAllowed = "model_not_allowed", 403, Denied, Permission;
    ParamNotAllowed = "param_not_allowed", 400, Denied, InvalidRequest;
    OriginRequired = "origin_required", 400, Denied, InvalidRequest;
    InvalidRequest = "invalid_request", 400, ClientError, InvalidRequest;
    TokenInQuery = "token_in_query", 400, Denied, InvalidRequest;
    EndpointNotFound = "endpoint_not_found", 404, Denied, NotFound;
    MethodNotAllowed = "method_not_allowed", 405, Denied, InvalidRequest;
    RequestTimeout = "request_timeout", 408, ClientError, InvalidRequest;
    BodyTooLarge = "body_too_large", 413, ClientError, TooLarge;
    HeadersTooLarge = "headers_too_large", 431, ClientError, TooLarge;
    QuotaExceeded = "quota_exceeded", 429, Denied, RateLimit;
    RateLimited = "rate_limited", 429, Denied, RateLimit;
    InternalError = "internal_error", 500, ProxyError, Server;
    UpgradeNotSupported = "upgrade_not_supported", 501, ClientError, InvalidRequest;
    UpstreamUnreachable = "upstream_unreachable", 502, UpstreamError, Server;
    UpstreamProtocolError = "upstream_protocol_error", 502, UpstreamError, Server;
    UpstreamKeyError = "upstream_key_error", 503, ProxyError, Server;
    Overloaded = "overloaded", 503, ProxyError, Overloaded;
    AuditUnavailable = "audit_unavailable", 503, ProxyError, Server;
    DirectoryUnavailable = "directory_unavailable", 503, ProxyError, Server;
    CircuitOpen = "circuit_open", 503, UpstreamError, Overloaded;
    UpstreamTimeout = "upstream_timeout", 504, Timeout, Timeout;
}

/// The family of an error, in the words that the providers' SDKs use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorKind {
    Authentication,
    Permission,
    InvalidRequest,
    NotFound,
    TooLarge,
    RateLimit,
    Overloaded,
    Timeout,
    Server,
}

impl ErrorKind {
    /// The `type` of an error in OpenAI's shape.
    pub const fn openai_type(self) -> &'static str {
        match self {
            Self::Authentication => "authentication_error",
            Self::Permission => "permission_error",
            Self::InvalidRequest | Self::NotFound | Self::TooLarge => "invalid_request_error",
            Self::RateLimit => "rate_limit_error",
            Self::Overloaded | Self::Timeout | Self::Server => "server_error",
        }
    }

    /// The `type` of an error in Anthropic's shape.
    pub const fn anthropic_type(self) -> &'static str {
        match self {
            Self::Authentication => "authentication_error",
            Self::Permission => "permission_error",
            Self::InvalidRequest => "invalid_request_error",
            Self::NotFound => "not_found_error",
            Self::TooLarge => "request_too_large",
            Self::RateLimit => "rate_limit_error",
            Self::Overloaded => "overloaded_error",
            Self::Timeout => "timeout_error",
            Self::Server => "api_error",
        }
    }
}
