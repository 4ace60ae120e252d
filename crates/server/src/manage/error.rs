//! Why a use case did not happen: one kind for each reaction of a caller.

use std::{borrow::Cow, fmt};

/// What a caller should do about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The request itself is wrong.
    Invalid,
    /// The audit log wants to know why.
    ReasonRequired,
    /// No credential, or one that is not (or no longer) known.
    Unauthenticated,
    /// The caller is known and may not.
    Forbidden,
    /// There is no such thing, or none that the caller may see.
    NotFound,
    /// The thing is in a state that does not allow it.
    Conflict,
    /// Another thing has that name.
    Duplicate,
    /// The thing changed since the caller read it.
    VersionConflict,
    /// Too many failures from this network.
    Limited {
        retry_after_seconds: u32,
    },
    /// Too much of this is at work already.
    Busy,
    TooLarge,
    TimedOut,
    /// The state cannot be read or changed now; nothing was done.
    Unavailable,
    /// The entry that must come first cannot be written; nothing was shown.
    AuditUnavailable,
    Internal,
}

/// A refusal or failure. `text` is for the caller and holds no detail of ours;
/// the source is for the operator and reaches trace lines only.
#[derive(Debug)]
pub struct Error {
    pub kind: Kind,
    pub text: Cow<'static, str>,
    /// Where in a parameter it is wrong.
    pub place: Option<Box<Place>>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// A place in the text of a parameter, in bytes, and the nearest known word.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    pub parameter: String,
    pub at: [usize; 2],
    pub suggestion: Option<String>,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(kind: Kind, text: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, text: text.into(), place: None, source: None }
    }

    pub fn invalid(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Invalid, text)
    }

    pub fn not_found(what: &'static str) -> Self {
        Self::new(Kind::NotFound, format!("no such {what}"))
    }

    pub fn forbidden(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Forbidden, text)
    }

    /// Names the place that is wrong.
    pub fn at(
        mut self,
        parameter: String,
        at: std::ops::Range<usize>,
        suggestion: Option<String>,
    ) -> Self {
        self.place = Some(Box::new(Place { parameter, at: [at.start, at.end], suggestion }));
        self
    }

    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The text and everything behind it, for trace lines. Sources are errors
    /// of ours and of libraries, which hold no secret by their own rules.
    pub fn chain(&self) -> String {
        let mut text = self.text.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(error) = next {
            text.push_str(": ");
            text.push_str(&error.to_string());
            next = error.source();
        }
        text
    }

    /// The stable word for programs.
    pub fn code(&self) -> &'static str {
        match self.kind {
            Kind::Invalid => "invalid_request",
            Kind::ReasonRequired => "reason_required",
            Kind::Unauthenticated => "unauthorized",
            Kind::Forbidden => "forbidden",
            Kind::NotFound => "not_found",
            Kind::Conflict => "conflict",
            Kind::Duplicate => "duplicate_name",
            Kind::VersionConflict => "version_conflict",
            Kind::Limited { .. } => "rate_limited",
            Kind::Busy => "too_many_searches",
            Kind::TooLarge => "body_too_large",
            Kind::TimedOut => "request_timeout",
            Kind::Unavailable => "unavailable",
            Kind::AuditUnavailable => "audit_unavailable",
            Kind::Internal => "internal_error",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
