//! The one table of management routes: method, path, who may, what it leaves in
//! the audit log, and what runs. The router, the roles, the OpenAPI document
//! and the tests are all read from it.

mod kinds;
mod parameters;

pub use self::kinds::{Access, Handler, Route, Scope, Verb};
use self::parameters::{ENTRIES, SEARCH, STATS, TAIL, TIMES};
use super::{
    api::{audit, health, keys, levels, lines, metrics, projects, segments, tags, tokens},
    openapi,
};
use crate::manage::access::Permission;
use domain::audit::{Action, TargetKind};

pub const METRICS: &str = "/metrics";
const VIEW: Access = Access::Role(Permission::View);
const OPERATE: Access = Access::Role(Permission::Operate);
const ADMINISTER: Access = Access::Role(Permission::Administer);
const AUDIT: Access = Access::Role(Permission::Audit);

const PAGE: [(&str, &str); 2] =
    [("limit", "1 to 1000, 100 by default"), ("cursor", "next_cursor of the page before")];
const TERMINATE: (&str, &str) = ("terminate", "true also ends running requests");

/// A row; what is not set stays as it is for a read that anyone may make.
const fn row(method: Verb, path: &'static str, summary: &'static str, run: Handler) -> Route {
    Route {
        method,
        path,
        access: Access::Open,
        scope: Scope::Public,
        action: None,
        reads: None,
        target: None,
        summary,
        query: &[],
        request: None,
        answer: (200, None),
        run,
    }
}

macro_rules! run {
    ($handler:path) => {
        |management, call| Box::pin($handler(management, call))
    };
}

pub static ROUTES: &[Route] = &[
    Route {
        answer: (200, Some(openapi::HEALTH)),
        ..row(Verb::Get, "/health", "Says that the process answers.", run!(health::alive))
    },
    Route {
        answer: (200, Some(openapi::HEALTH)),
        ..row(Verb::Get, "/live", "Says that the process answers.", run!(health::alive))
    },
    Route {
        answer: (200, Some(openapi::READINESS)),
        ..row(
            Verb::Get,
            "/ready",
            "Checks database, journal, audit and disk; 503 names what fails.",
            run!(health::ready),
        )
    },
    Route {
        access: Access::Metrics,
        ..row(
            Verb::Get,
            METRICS,
            "Metrics as Prometheus text, or JSON where Accept asks for it.",
            run!(metrics::negotiated),
        )
    },
    Route {
        access: Access::Metrics,
        ..row(
            Verb::Get,
            "/metrics/prometheus",
            "Metrics as Prometheus text.",
            run!(metrics::prometheus),
        )
    },
    Route {
        access: VIEW,
        ..row(Verb::Get, "/manage/openapi.json", "This description.", run!(openapi::describe))
    },
    Route {
        reads: Some(Action::ProjectList),
        access: VIEW,
        scope: Scope::List,
        query: &[PAGE[0], PAGE[1], ("name", "exact name"), ("isActive", "true or false")],
        answer: (200, Some(openapi::PROJECTS)),
        ..row(Verb::Get, "/manage/projects", "Lists projects.", run!(projects::list))
    },
    Route {
        access: OPERATE,
        scope: Scope::Service,
        action: Some(Action::ProjectCreate),
        request: Some(openapi::PROJECT_CREATE),
        answer: (201, Some(openapi::PROJECT)),
        ..row(Verb::Post, "/manage/projects", "Creates a project.", run!(projects::create))
    },
    Route {
        reads: Some(Action::ProjectRead),
        target: Some(TargetKind::Project),
        access: VIEW,
        scope: Scope::Project,
        answer: (200, Some(openapi::PROJECT)),
        ..row(Verb::Get, "/manage/projects/{id}", "Shows a project.", run!(projects::get))
    },
    Route {
        access: OPERATE,
        scope: Scope::Project,
        action: Some(Action::ProjectUpdate),
        query: &[TERMINATE],
        request: Some(openapi::PROJECT_UPDATE),
        answer: (200, Some(openapi::PROJECT)),
        ..row(Verb::Patch, "/manage/projects/{id}", "Changes a project.", run!(projects::update))
    },
    Route {
        access: OPERATE,
        scope: Scope::Project,
        action: Some(Action::TokenRevokeBatch),
        query: &[TERMINATE],
        answer: (200, Some(openapi::REVOKED)),
        ..row(
            Verb::Post,
            "/manage/projects/{id}/tokens/revoke",
            "Revokes every token of a project in one transaction.",
            run!(tokens::revoke_batch),
        )
    },
    Route {
        reads: Some(Action::TokenList),
        access: VIEW,
        scope: Scope::List,
        query: &[
            PAGE[0],
            PAGE[1],
            ("projectId", "tokens of this project"),
            ("activeOnly", "true leaves out revoked, inactive and expired ones"),
        ],
        answer: (200, Some(openapi::TOKENS)),
        ..row(Verb::Get, "/manage/tokens", "Lists tokens.", run!(tokens::list))
    },
    Route {
        access: OPERATE,
        scope: Scope::Project,
        action: Some(Action::TokenCreate),
        request: Some(openapi::TOKEN_CREATE),
        answer: (201, Some(openapi::TOKEN)),
        ..row(
            Verb::Post,
            "/manage/tokens",
            "Creates a token; its text stands in this answer only.",
            run!(tokens::create),
        )
    },
    Route {
        reads: Some(Action::TokenRead),
        target: Some(TargetKind::Token),
        access: VIEW,
        scope: Scope::Project,
        answer: (200, Some(openapi::TOKEN)),
        ..row(Verb::Get, "/manage/tokens/{id}", "Shows a token.", run!(tokens::get))
    },
    Route {
        access: OPERATE,
        scope: Scope::Project,
        action: Some(Action::TokenUpdate),
        query: &[TERMINATE],
        request: Some(openapi::TOKEN_UPDATE),
        answer: (200, Some(openapi::TOKEN)),
        ..row(Verb::Patch, "/manage/tokens/{id}", "Changes a token.", run!(tokens::update))
    },
    Route {
        access: OPERATE,
        scope: Scope::Project,
        action: Some(Action::TokenRevoke),
        query: &[TERMINATE],
        answer: (204, None),
        ..row(
            Verb::Delete,
            "/manage/tokens/{id}",
            "Revokes a token for good; again is no error.",
            run!(tokens::revoke),
        )
    },
    Route {
        reads: Some(Action::KeyList),
        access: ADMINISTER,
        scope: Scope::Service,
        query: &PAGE,
        answer: (200, Some(openapi::KEYS)),
        ..row(Verb::Get, "/manage/keys", "Lists management keys.", run!(keys::list))
    },
    Route {
        access: ADMINISTER,
        scope: Scope::Service,
        action: Some(Action::KeyCreate),
        request: Some(openapi::KEY_CREATE),
        answer: (201, Some(openapi::KEY)),
        ..row(
            Verb::Post,
            "/manage/keys",
            "Creates a management key; its text stands in this answer only.",
            run!(keys::create),
        )
    },
    Route {
        access: ADMINISTER,
        scope: Scope::Service,
        action: Some(Action::KeyUpdate),
        request: Some(openapi::KEY_UPDATE),
        answer: (200, Some(openapi::KEY)),
        ..row(Verb::Patch, "/manage/keys/{id}", "Changes a management key.", run!(keys::update))
    },
    Route {
        access: ADMINISTER,
        scope: Scope::Service,
        action: Some(Action::KeyRevoke),
        answer: (204, None),
        ..row(
            Verb::Delete,
            "/manage/keys/{id}",
            "Revokes a management key; again is no error.",
            run!(keys::revoke),
        )
    },
    Route {
        access: VIEW,
        scope: Scope::Service,
        answer: (200, Some(openapi::LEVEL)),
        ..row(Verb::Get, "/manage/log-level", "Shows the trace levels.", run!(levels::get))
    },
    Route {
        access: ADMINISTER,
        scope: Scope::Service,
        action: Some(Action::LogLevelChange),
        request: Some(openapi::LEVEL_CHANGE),
        answer: (200, Some(openapi::LEVEL)),
        ..row(
            Verb::Put,
            "/manage/log-level",
            "Changes a trace level, for a while and for a project or token if given.",
            run!(levels::put),
        )
    },
    Route {
        access: ADMINISTER,
        scope: Scope::Service,
        action: Some(Action::SegmentCompacted),
        answer: (200, Some(openapi::COMPACTED)),
        ..row(
            Verb::Post,
            "/manage/logs/compact",
            "Seals what the journal holds and merges small segments.",
            run!(segments::compact),
        )
    },
    Route {
        access: ADMINISTER,
        scope: Scope::Service,
        action: Some(Action::SegmentPruned),
        request: Some(openapi::PRUNE),
        answer: (200, Some(openapi::PRUNED)),
        ..row(
            Verb::Post,
            "/manage/logs/prune",
            "Drops what retention no longer keeps.",
            run!(segments::prune),
        )
    },
    Route {
        access: ADMINISTER,
        scope: Scope::Service,
        action: Some(Action::LogsErase),
        request: Some(openapi::ERASE),
        answer: (200, Some(openapi::ERASED)),
        ..row(
            Verb::Post,
            "/manage/logs/erase",
            "Erases the records, bodies and traces of a project or an end user.",
            run!(segments::erase),
        )
    },
    Route {
        access: ADMINISTER,
        scope: Scope::Service,
        action: Some(Action::SegmentSealed),
        answer: (200, Some(openapi::ADOPTED)),
        ..row(
            Verb::Post,
            "/manage/logs/adopt",
            "Seals journals that dead instances left in the data directory.",
            run!(segments::adopt),
        )
    },
    Route {
        access: AUDIT,
        scope: Scope::List,
        query: &ENTRIES,
        answer: (200, Some(openapi::ENTRIES)),
        ..row(
            Verb::Get,
            "/manage/audit",
            "Lists audit entries, or exports them with what proves them.",
            run!(audit::list),
        )
    },
    Route {
        access: AUDIT,
        scope: Scope::List,
        answer: (200, Some(openapi::CHECKPOINT)),
        ..row(
            Verb::Get,
            "/manage/audit/checkpoint",
            "Gives the newest checkpoint of the audit tree, as a signed note or JSON.",
            run!(audit::checkpoint),
        )
    },
    Route {
        access: AUDIT,
        scope: Scope::List,
        answer: (200, Some(openapi::ENTRY)),
        ..row(
            Verb::Get,
            "/manage/audit/{id}",
            "Shows an audit entry by its id or its index.",
            run!(audit::get),
        )
    },
    Route {
        access: AUDIT,
        scope: Scope::List,
        answer: (200, Some(openapi::PROOF)),
        ..row(
            Verb::Get,
            "/manage/audit/{id}/proof",
            "Proves that an entry is in the audit tree.",
            run!(audit::proof),
        )
    },
    Route {
        access: AUDIT,
        scope: Scope::Service,
        action: Some(Action::AuditVerify),
        request: Some(openapi::VERIFY),
        answer: (200, Some(openapi::VERIFIED)),
        ..row(
            Verb::Post,
            "/manage/audit/verify",
            "Verifies the audit tree and the database beside it.",
            run!(audit::verify),
        )
    },
    Route {
        access: AUDIT,
        scope: Scope::Service,
        ..row(
            Verb::Get,
            "/audit/tlog/{*path}",
            "Serves the files of the audit tree: checkpoint, keys, tiles, bundles.",
            run!(audit::file),
        )
    },
    Route {
        access: Access::Role(Permission::Export),
        scope: Scope::Service,
        action: Some(Action::AuditRead),
        request: Some(openapi::TAG),
        answer: (200, Some(openapi::TAGS)),
        ..row(
            Verb::Post,
            "/manage/audit/tag",
            "Says which tags a leaked credential would have left in the audit log.",
            run!(tags::tag),
        )
    },
    Route {
        access: VIEW,
        scope: Scope::List,
        query: &SEARCH,
        answer: (200, Some(openapi::LINES)),
        ..row(
            Verb::Get,
            "/manage/logs",
            "Searches records, entries and traces.",
            run!(lines::search),
        )
    },
    Route {
        access: VIEW,
        scope: Scope::List,
        query: &TAIL,
        answer: (200, Some(openapi::EVENTS)),
        ..row(
            Verb::Get,
            "/manage/logs/tail",
            "Sends each line that matches as it is committed.",
            run!(lines::tail),
        )
    },
    Route {
        access: VIEW,
        scope: Scope::List,
        query: &STATS,
        answer: (200, Some(openapi::FIGURES)),
        ..row(
            Verb::Get,
            "/manage/logs/stats",
            "Figures about the lines that match.",
            run!(lines::stats),
        )
    },
    Route {
        access: VIEW,
        scope: Scope::List,
        query: &[("bodies", "false leaves out captured bodies")],
        answer: (200, Some(openapi::STORY)),
        ..row(
            Verb::Get,
            "/manage/requests/{id}",
            "Tells the story of a request by any of its ids.",
            run!(lines::request),
        )
    },
    Route {
        access: VIEW,
        scope: Scope::List,
        query: &[
            ("group_by", "of project, model, day, token, end_user, provider: up to four"),
            TIMES[0],
            TIMES[1],
        ],
        answer: (200, Some(openapi::USAGE)),
        ..row(
            Verb::Get,
            "/manage/usage",
            "Requests, tokens and cost, from the records.",
            run!(lines::usage),
        )
    },
];

/// Each path of the table once, in its order.
pub fn paths() -> Vec<&'static str> {
    let mut paths: Vec<&'static str> = Vec::new();
    for route in ROUTES {
        if !paths.contains(&route.path) {
            paths.push(route.path);
        }
    }
    paths
}

/// The rows of a path.
pub fn at(path: &str) -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().filter(move |route| route.path == path)
}

/// Where a path of the table is served: metrics move with `METRICS_PATH`, and
/// are nowhere without one.
pub fn mounted(path: &str, metrics_path: Option<&str>) -> Option<String> {
    match path.strip_prefix(METRICS) {
        None => Some(path.to_owned()),
        Some(below) => metrics_path.map(|mount| format!("{}{below}", mount.trim_end_matches('/'))),
    }
}

/// The value of `Allow` for these rows.
pub fn allow(at_path: &[&'static Route]) -> String {
    let methods: Vec<&str> = at_path.iter().map(|route| route.method.as_str()).collect();
    methods.join(", ")
}
