//! What a row of the table says.

use std::sync::Arc;

use dataplane::ports::BoxFuture;
use domain::audit::{Action, TargetKind};

use super::super::{Call, Management, answer::Reply, openapi::Shape};
use crate::manage::{access::Permission, error::Result};

pub type Handler = fn(Arc<Management>, Call) -> BoxFuture<'static, Result<Reply>>;

/// The methods that routes have; [`http::Method`] cannot stand in a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Verb {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// A HEAD is a GET whose body the connection leaves out.
    pub fn answers(self, method: &http::Method) -> bool {
        method.as_str() == self.as_str() || (self == Self::Get && method == http::Method::HEAD)
    }
}

/// Who may call a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Anyone: load balancers ask.
    Open,
    /// Whoever has the metrics token, where one is configured.
    Metrics,
    /// A management key whose role has this permission.
    Role(Permission),
}

/// What a route is about: what a key limited to projects may reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// One project, or things of one; the use case checks which.
    Project,
    /// A list, from which the use case leaves out other projects.
    List,
    /// The service as a whole: beyond a limited key.
    Service,
    /// Nothing that belongs to a project.
    Public,
}

pub struct Route {
    pub method: Verb,
    pub path: &'static str,
    pub access: Access,
    pub scope: Scope,
    /// The entry that a successful call leaves; every mutating route has one.
    pub action: Option<Action>,
    /// The entry that a read leaves, once in a while for each caller and
    /// question. What reads lines tells of itself: see [`crate::manage::entered`].
    pub reads: Option<Action>,
    /// What `{id}` names.
    pub target: Option<TargetKind>,
    pub summary: &'static str,
    /// Names of query parameters with what they mean.
    pub query: &'static [(&'static str, &'static str)],
    pub request: Option<Shape>,
    /// Status and body of success.
    pub answer: (u16, Option<Shape>),
    pub run: Handler,
}
