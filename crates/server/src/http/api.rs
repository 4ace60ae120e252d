//! The handlers: each reads its parameters, calls one use case and shapes the
//! answer. What is allowed is decided before (the route table) and below (the
//! use case), never here.

pub mod audit;
pub mod health;
pub mod keys;
pub mod levels;
pub mod lines;
pub mod metrics;
pub mod projects;
pub mod segments;
pub mod tags;
pub mod tokens;

use std::str::FromStr;

use http::StatusCode;
use serde::Serialize;

use super::{Call, answer::Reply};
use crate::manage::{
    Done, Listing,
    error::{Error, Result},
};

impl Call {
    /// The `{id}` of the path; what cannot be an id names nothing.
    fn id<T: FromStr>(&self, what: &'static str) -> Result<T> {
        let id = self.id.as_deref().and_then(|text| text.parse().ok());
        id.ok_or_else(|| Error::not_found(what))
    }
}

/// An id within a body or query, where a wrong one is the caller's mistake.
fn parse_id<T: FromStr>(field: &'static str, text: &str) -> Result<T> {
    text.parse().map_err(|_| Error::invalid(format!("{field} must be a UUID")))
}

fn shown<T: Serialize>(status: StatusCode, done: &Done<T>) -> Result<Reply> {
    Ok(Reply::json(status, &done.view)?.audited(done.entry).versioned(done.version))
}

/// The shape of every list.
#[derive(Debug, Serialize)]
struct List<'a, T> {
    items: &'a [T],
    next_cursor: Option<&'a str>,
}

fn listed<T: Serialize>(listing: &Listing<T>) -> Result<Reply> {
    Reply::ok(&List { items: &listing.items, next_cursor: listing.next_cursor.as_deref() })
}
