//! `GET /manage/openapi.json`: made from the route table and the types.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Map, Value, json};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, schema::Schema},
};

use super::{
    Call, Management,
    answer::{ErrorBody, Reply},
    api::{
        audit::{CheckpointView, EntriesPage, EntryShape, ProofShape, VerifiedShape, VerifyOrder},
        health::{Health, ReadinessView},
        keys::{KeyCreate, KeyUpdate},
        levels::LevelChange,
        lines::{FiguresView, LinesPage, StoryView},
        projects::{ProjectCreate, ProjectUpdate},
        segments::{EraseOrder, PruneOrder},
        tags::TagOrder,
        tokens::{TokenCreate, TokenUpdate},
    },
    routes::{self, Access, METRICS, ROUTES, Route},
};
use crate::manage::{
    error::Result,
    keys::KeyView,
    levels::{LevelView, OverrideView},
    projects::ProjectView,
    segments::{AdoptView, CompactView, EraseView, PruneView},
    tags::{TagView, TagsView},
    tokens::{RevokedView, TokenView},
};

/// A body: one object, or a page of them.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    name: &'static str,
    is_list: bool,
    /// The media types that it comes in.
    kinds: &'static [&'static str],
}

const JSON: &[&str] = &["application/json"];
/// A page as JSON; or line by line, as JSON lines or CSV.
const LINES_KINDS: &[&str] = &["application/json", "application/x-ndjson", "text/csv"];
const NOTE_KINDS: &[&str] = &["text/plain", "application/json"];
const EVENTS_KINDS: &[&str] = &["text/event-stream"];

const fn one(name: &'static str) -> Shape {
    Shape { name, is_list: false, kinds: JSON }
}

const fn list(name: &'static str) -> Shape {
    Shape { name, is_list: true, kinds: JSON }
}

pub const HEALTH: Shape = one("Health");
pub const READINESS: Shape = one("ReadinessView");
pub const PROJECT: Shape = one("ProjectView");
pub const PROJECTS: Shape = list("ProjectView");
pub const PROJECT_CREATE: Shape = one("ProjectCreate");
pub const PROJECT_UPDATE: Shape = one("ProjectUpdate");
pub const TOKEN: Shape = one("TokenView");
pub const TOKENS: Shape = list("TokenView");
pub const TOKEN_CREATE: Shape = one("TokenCreate");
pub const TOKEN_UPDATE: Shape = one("TokenUpdate");
pub const REVOKED: Shape = one("RevokedView");
pub const KEY: Shape = one("KeyView");
pub const KEYS: Shape = list("KeyView");
pub const KEY_CREATE: Shape = one("KeyCreate");
pub const KEY_UPDATE: Shape = one("KeyUpdate");
pub const LEVEL: Shape = one("LevelView");
pub const LEVEL_CHANGE: Shape = one("LevelChange");
pub const COMPACTED: Shape = one("CompactView");
pub const PRUNED: Shape = one("PruneView");
pub const PRUNE: Shape = one("PruneOrder");
pub const ERASED: Shape = one("EraseView");
pub const ERASE: Shape = one("EraseOrder");
pub const ADOPTED: Shape = one("AdoptView");
pub const TAG: Shape = one("TagOrder");
pub const TAGS: Shape = one("TagsView");
pub const LINES: Shape = Shape { kinds: LINES_KINDS, ..one("LinesPage") };
pub const EVENTS: Shape = Shape { kinds: EVENTS_KINDS, ..one("LinesPage") };
pub const FIGURES: Shape = Shape { kinds: LINES_KINDS, ..one("FiguresView") };
pub const USAGE: Shape = Shape { kinds: LINES_KINDS, ..one("FiguresView") };
pub const STORY: Shape = one("StoryView");
pub const ENTRIES: Shape = Shape { kinds: LINES_KINDS, ..one("EntriesPage") };
pub const ENTRY: Shape = one("EntryShape");
pub const VERIFY: Shape = one("VerifyOrder");
pub const VERIFIED: Shape = one("VerifiedShape");
pub const PROOF: Shape = one("ProofShape");
pub const CHECKPOINT: Shape = Shape { kinds: NOTE_KINDS, ..one("CheckpointView") };

impl Shape {
    fn content(self) -> Value {
        let schema = |kind: &str| match kind {
            "application/json" => self.schema(),
            _ => json!({ "type": "string" }),
        };
        let kinds = self.kinds.iter();
        let kinds = kinds.map(|kind| ((*kind).to_owned(), json!({ "schema": schema(kind) })));
        Value::Object(kinds.collect())
    }

    fn schema(self) -> Value {
        let item = json!({ "$ref": format!("#/components/schemas/{}", self.name) });
        if !self.is_list {
            return item;
        }
        json!({
            "type": "object",
            "required": ["items", "next_cursor"],
            "properties": {
                "items": { "type": "array", "items": item },
                "next_cursor": { "type": ["string", "null"] },
            },
        })
    }
}

pub async fn describe(management: Arc<Management>, call: Call) -> Result<Reply> {
    call.query.finish()?;
    let metrics_path = management.settings.metrics_path.as_deref();
    Reply::ok(&document(management.version(), metrics_path))
}

/// The whole document, with metrics where they are served.
pub fn document(version: &str, metrics_path: Option<&str>) -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let Some(path) = routes::mounted(route.path, metrics_path) else { continue };
        let path = path.replace("{*", "{");
        let item = paths.entry(path).or_insert_with(|| json!({}));
        item[route.method.as_str().to_ascii_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "llm-proxy management API", "version": version },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "management_key": { "type": "http", "scheme": "bearer" },
                "metrics_token": { "type": "http", "scheme": "bearer" },
            },
        },
    })
}

fn operation(route: &Route) -> Value {
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": route.summary,
        "responses": responses(route),
        "parameters": parameters(route),
    });
    match route.access {
        Access::Open => operation["security"] = json!([]),
        Access::Metrics => operation["security"] = json!([{}, { "metrics_token": [] }]),
        Access::Role(permission) => {
            operation["security"] = json!([{ "management_key": [] }]);
            operation["x-permission"] = permission.as_str().into();
        }
    }
    if let Some(action) = route.action {
        operation["x-audit-action"] = action.as_str().into();
    }
    if let Some(shape) = route.request {
        operation["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": shape.schema() } } });
    }
    operation
}

/// `patch_manage_tokens_id`: stable, and unique because the table is.
fn operation_id(route: &Route) -> String {
    let words = route.path.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    format!("{}_{}", route.method.as_str().to_ascii_lowercase(), words.join("_"))
}

fn parameters(route: &Route) -> Vec<Value> {
    let mut parameters = Vec::new();
    if route.path.contains("{*path}") {
        let schema = json!({ "type": "string" });
        let parameter = json!({ "name": "path", "in": "path", "required": true, "schema": schema });
        parameters.push(parameter);
    }
    if route.path.contains("{id}") {
        // Requests have ids that their clients choose, entries an index too.
        let chosen = ["/manage/requests/", "/manage/audit/"];
        let schema = match chosen.iter().any(|begin| route.path.starts_with(begin)) {
            true => json!({ "type": "string" }),
            false => json!({ "type": "string", "format": "uuid" }),
        };
        parameters.push(json!({ "name": "id", "in": "path", "required": true, "schema": schema }));
    }
    parameters.extend(route.query.iter().map(|(name, description)| {
        json!({
            "name": name, "in": "query", "required": false, "description": description,
            "schema": { "type": "string" },
        })
    }));
    if route.action.is_some() {
        parameters.push(json!({
            "name": "receipt", "in": "query", "required": false,
            "description": "1 waits for the entry's place in the audit tree and adds its receipt",
            "schema": { "type": "string" },
        }));
        for (name, description) in [
            ("X-Audit-Reason", "why, in your words; kept in the entry"),
            ("X-Audit-Ticket", "a ticket's name; kept in the entry"),
        ] {
            parameters.push(json!({
                "name": name, "in": "header", "required": false, "description": description,
                "schema": { "type": "string" },
            }));
        }
    }
    parameters
}

fn responses(route: &Route) -> Value {
    let (status, shape) = route.answer;
    let mut success = json!({ "description": "done" });
    let object = json!({ "schema": { "type": "object" } });
    match (shape, route.access) {
        (Some(shape), _) => {
            success["content"] = shape.content();
        }
        (None, Access::Metrics) => {
            let text = json!({ "schema": { "type": "string" } });
            success["content"] = match route.path {
                METRICS => json!({ "text/plain": text, "application/json": object }),
                _ => json!({ "text/plain": text }),
            };
        }
        (None, _) if status != StatusCode::NO_CONTENT => {
            success["content"] = json!({ "application/json": object });
        }
        (None, _) => {}
    }
    if route.action.is_some() {
        success["headers"] = json!({
            "Audit-Id": {
                "description": "the entry of this change; absent when nothing changed",
                "schema": { "type": "string", "format": "uuid" },
            },
        });
    }
    let mut responses = json!({
        status.to_string(): success,
        "default": {
            "description": "refused or failed",
            "content": { "application/json": { "schema": one("ErrorBody").schema() } },
        },
    });
    if shape.is_some_and(|shape| shape.name == READINESS.name) {
        responses["503"] = json!({
            "description": "not ready; the checks say why",
            "content": { "application/json": { "schema": READINESS.schema() } },
        });
    }
    responses
}

fn schemas() -> Value {
    let mut schemas = Map::new();
    add::<ErrorBody>(&mut schemas);
    add::<Health>(&mut schemas);
    add::<ReadinessView>(&mut schemas);
    add::<ProjectView>(&mut schemas);
    add::<ProjectCreate>(&mut schemas);
    add::<ProjectUpdate>(&mut schemas);
    add::<TokenView>(&mut schemas);
    add::<TokenCreate>(&mut schemas);
    add::<TokenUpdate>(&mut schemas);
    add::<RevokedView>(&mut schemas);
    add::<KeyView>(&mut schemas);
    add::<KeyCreate>(&mut schemas);
    add::<KeyUpdate>(&mut schemas);
    add::<LevelView>(&mut schemas);
    add::<OverrideView>(&mut schemas);
    add::<LevelChange>(&mut schemas);
    add::<CompactView>(&mut schemas);
    add::<PruneView>(&mut schemas);
    add::<PruneOrder>(&mut schemas);
    add::<EraseView>(&mut schemas);
    add::<EraseOrder>(&mut schemas);
    add::<TagOrder>(&mut schemas);
    add::<TagView>(&mut schemas);
    add::<TagsView>(&mut schemas);
    add::<AdoptView>(&mut schemas);
    add::<LinesPage>(&mut schemas);
    add::<FiguresView>(&mut schemas);
    add::<StoryView>(&mut schemas);
    add::<EntriesPage>(&mut schemas);
    add::<EntryShape>(&mut schemas);
    add::<ProofShape>(&mut schemas);
    add::<VerifyOrder>(&mut schemas);
    add::<VerifiedShape>(&mut schemas);
    add::<CheckpointView>(&mut schemas);
    Value::Object(schemas)
}

fn add<T: PartialSchema + ToSchema>(schemas: &mut Map<String, Value>) {
    let schema: RefOr<Schema> = T::schema();
    let value = serde_json::to_value(schema).expect("a schema is plain data");
    schemas.insert(T::name().into_owned(), value);
}
