//! The query parameters of searches, with what they mean.

/// What every search takes.
const FILTERS: [(&str, &str); 16] = [
    ("q", "a query in the language of docs/search.md"),
    ("stream", "record, entry, trace, several of them with commas, or all"),
    ("request_id", "lines of this request"),
    ("correlation_id", "lines of all requests with this correlation id"),
    ("trace_id", "lines of this W3C trace"),
    ("project", "name or id; like those below it takes * as a wildcard"),
    ("token", "token id"),
    ("user", "end user"),
    ("model", "asked for or answered with"),
    ("provider", "its name"),
    ("path", "of the request"),
    ("status", "500, 5xx, >=400, or a list of them"),
    ("outcome", "ok, denied, client_error and so on"),
    ("errors", "true: what went wrong"),
    ("slow", "took at least so many milliseconds, or 2s"),
    ("level", "this level or a graver one"),
];
pub(super) const TIMES: [(&str, &str); 2] =
    [("since", "15m, 1h30m, 7d, 2026-11-23 or an RFC 3339 time"), ("until", "before this time")];
const EXPLAIN: (&str, &str) = ("explain", "true tells what was read and left out");
const BODIES: (&str, &str) =
    ("bodies", "false looks for words in records only, as it is for viewer and operator");

/// The parameters of a route on top of those of every search.
const fn with_filters<const N: usize, const M: usize>(
    own: [(&'static str, &'static str); N],
) -> [(&'static str, &'static str); M] {
    let mut all = [("", ""); M];
    let mut at = 0;
    while at < M {
        all[at] = if at < N { own[at] } else { FILTERS[at - N] };
        at += 1;
    }
    all
}

pub(super) const SEARCH: [(&str, &str); 25] = with_filters([
    ("limit", "1 to 1000, 100 by default; more as JSON lines or CSV, for auditor and admin"),
    ("cursor", "next_cursor of the page before"),
    ("order", "desc, the newest first, or asc"),
    ("context", "neighbours in time on each side of a match"),
    ("fields", "of each line, with commas"),
    TIMES[0],
    TIMES[1],
    EXPLAIN,
    BODIES,
]);
pub(super) const TAIL: [(&str, &str); 17] =
    with_filters([("cursor", "tail_cursor of a search, or the id of an event")]);
pub(super) const STATS: [(&str, &str); 24] = with_filters([
    ("fn", "count, sum(cost_usd), p95(duration_ms) and so on, with commas"),
    ("by", "up to three fields to group by"),
    ("bucket", "figures for each span of time: 5m, 1h, 1d"),
    ("limit", "1 to 10000 groups"),
    TIMES[0],
    TIMES[1],
    EXPLAIN,
    BODIES,
]);

/// What lists and exports of audit entries take.
pub(super) const ENTRIES: [(&str, &str); 26] = [
    ("action", "token.create, access.denied and so on"),
    ("result", "success, denied or error"),
    ("reason_code", "why, in one word"),
    ("actor_kind", "root, key, local, user, token, system or anonymous"),
    ("actor_id", "which of them"),
    ("actor_name", "its name, while it is not erased"),
    ("project_id", "of this project"),
    ("token_id", "of this token"),
    ("target_type", "project, token, key and so on"),
    ("target_id", "which of them"),
    ("request_id", "of this request, or of one with this correlation id"),
    ("correlation_id", "of requests with this correlation id"),
    ("trace_id", "of this W3C trace"),
    ("client_ip", "from this address, while it is not erased"),
    ("user_agent", "exactly this, while it is not erased"),
    ("method", "of the management request"),
    ("route", "its template: /manage/tokens/{id}"),
    ("instance", "of this process"),
    ("leaf_hash", "lower-case hexadecimal"),
    ("search", "stands anywhere in the entry, in upper or lower case"),
    TIMES[0],
    TIMES[1],
    ("limit", "1 to 1000, 100 by default; exports give all unless told otherwise"),
    ("cursor", "next_cursor of the page before"),
    ("after", "entries behind this index, the oldest first"),
    ("before", "entries before this index"),
];
