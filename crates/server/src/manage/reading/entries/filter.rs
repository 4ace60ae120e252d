//! Which entries are asked for, as parameters say it.

use std::{collections::BTreeMap, fmt, ops::Range, str::FromStr};

use domain::{
    audit::{Action, ActorKind, Outcome, TargetKind},
    time::Timestamp,
};
use store::EntryFilter;

use super::super::asked::span;
use crate::manage::{
    access::Caller,
    error::{Error, Result},
};

/// The parameters that were given.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// By name, one of [`Asked::FILTERS`].
    pub filters: BTreeMap<&'static str, String>,
    /// Only behind this index.
    pub after: Option<u64>,
    /// Only before it.
    pub before: Option<u64>,
}

/// The query as the audit log keeps it: the same whatever the order was.
impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filters: Vec<String> =
            self.filters.iter().map(|(name, value)| format!("{name}={value}")).collect();
        f.write_str(&filters.join("&"))
    }
}

impl Asked {
    pub const FILTERS: [&'static str; 22] = [
        "action",
        "result",
        "reason_code",
        "actor_kind",
        "actor_id",
        "actor_name",
        "project_id",
        "token_id",
        "target_type",
        "target_id",
        "request_id",
        "correlation_id",
        "trace_id",
        "client_ip",
        "user_agent",
        "method",
        "route",
        "instance",
        "leaf_hash",
        "search",
        "since",
        "until",
    ];

    pub(super) fn indexes(&self) -> Range<u64> {
        let end = self.before.unwrap_or(u64::MAX).min(i64::MAX as u64);
        self.after.map_or(0, |after| after.saturating_add(1))..end
    }

    /// The same for the store, within what the caller may see.
    pub(super) fn filter(&self, caller: &Caller, now: Timestamp) -> Result<EntryFilter> {
        let text = |name: &str| self.filters.get(name).cloned();
        let named = |name: &str| self.filters.get(name).map(String::as_str);
        let (since, until) = span(named("since"), named("until"), now)?;
        Ok(EntryFilter {
            action: self.word("action", Action::parse)?,
            result: self.word("result", Outcome::parse)?,
            reason_code: text("reason_code"),
            actor_kind: self.word("actor_kind", ActorKind::parse)?,
            actor_id: text("actor_id"),
            actor_name: text("actor_name"),
            project_id: self.id("project_id")?,
            project_ids: caller.project_ids(),
            token_id: self.id("token_id")?,
            target_type: self.word("target_type", TargetKind::parse)?,
            target_id: text("target_id"),
            request_id: text("request_id"),
            correlation_id: text("correlation_id"),
            trace_id: text("trace_id"),
            client_ip: text("client_ip"),
            user_agent: text("user_agent"),
            method: text("method"),
            route: text("route"),
            instance: text("instance"),
            leaf_hash: text("leaf_hash"),
            search: text("search"),
            since,
            until,
        })
    }

    fn word<T>(&self, name: &str, parse: fn(&str) -> Option<T>) -> Result<Option<T>> {
        let Some(text) = self.filters.get(name) else { return Ok(None) };
        let wrong = || Error::invalid(format!("{name} is not one that entries have"));
        parse(text).map(Some).ok_or_else(wrong)
    }

    fn id<T: FromStr>(&self, name: &str) -> Result<Option<T>> {
        let Some(text) = self.filters.get(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Error::invalid(format!("{name} must be a UUID")))
    }
}
