//! An entry as a line of the journal: what its leaf shows openly, flat, and the
//! leaf itself. Sealed values do not stand in it, nor do openings.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::{Leaf, LeafError, Opening, Outcome};
use crate::{ids::EntryId, json::Object, key};

/// Appends the line of a leaf, one JSON object (no newline), with the fields of
/// [`crate::fields::ENTRY_FIELDS`]. The text of the leaf stands in it unchanged.
pub fn write_line(text: &str, version: &str, out: &mut Vec<u8>) -> Result<(), LeafError> {
    let leaf = Leaf::parse(text.as_bytes())?;
    let level = match leaf.result {
        Outcome::Success => "info",
        Outcome::Denied => "warn",
        Outcome::Error => "error",
    };
    out.reserve(1024 + 2 * text.len());
    let mut line = Object::begin(out);
    line.text(key!("stream"), "entry");
    line.text(key!("ts"), leaf.at.to_rfc3339().as_str());
    line.text(key!("level"), level);
    line.text(key!("msg"), leaf.action.as_str());
    line.text(key!("component"), "audit");
    line.text(key!("instance"), leaf.instance.as_str());
    line.text(key!("version"), version);
    let request = leaf.request.as_ref();
    let word = |word: Option<&super::Word>| word.map(|word| word.as_str().to_owned());
    line.text_if(key!("trace_id"), word(request.and_then(|it| it.trace_id.as_ref())).as_deref());
    if let Some(id) = leaf.project_id {
        line.uuid(key!("project_id"), &id.0);
    }
    if let Some(id) = leaf.token_id {
        line.uuid(key!("token_id"), &id.0);
    }
    line.uuid(key!("id"), &leaf.id.0);
    line.text(key!("action"), leaf.action.as_str());
    line.text(key!("result"), leaf.result.as_str());
    line.text_if(key!("reason_code"), word(leaf.reason_code.as_ref()).as_deref());
    line.text(key!("actor_kind"), leaf.actor.kind.as_str());
    line.text_if(key!("actor_id"), word(leaf.actor.id.as_ref()).as_deref());
    line.text_if(key!("actor_role"), leaf.actor.role.map(crate::role::Role::as_str));
    if let Some(target) = &leaf.target {
        line.text(key!("target_type"), target.kind.as_str());
        line.text(key!("target_id"), target.id.as_str());
    }
    line.text_if(key!("method"), word(request.and_then(|it| it.method.as_ref())).as_deref());
    line.text_if(key!("route"), word(request.and_then(|it| it.route.as_ref())).as_deref());
    line.number_if(key!("status"), request.and_then(|it| it.status).map(u64::from));
    line.text(key!("producer"), leaf.producer.as_str());
    line.number(key!("seq"), leaf.seq);
    line.text(key!("leaf"), text);
    line.end();
    Ok(())
}

/// Appends the line that carries the openings of an entry which was not born in
/// the database, one JSON object (no newline). It stands before the entry's own
/// line, is the journal's own and is shown to nobody.
pub fn write_openings(id: EntryId, openings: &[Opening], out: &mut Vec<u8>) {
    let told: Vec<_> = openings
        .iter()
        .map(|opening| {
            let salt = STANDARD.encode(opening.salt);
            serde_json::json!({ "path": opening.path, "salt": salt, "value": opening.value })
        })
        .collect();
    out.extend_from_slice(b"{\"_o\":");
    let mut line = Object::begin(out);
    // First: it tells these openings from those of requests.
    line.uuid(key!("id"), &id.0);
    line.raw(key!("openings"), &serde_json::Value::Array(told).to_string());
    line.end();
    out.extend_from_slice(b"}");
}

#[derive(Deserialize)]
struct OpeningsLine {
    #[serde(rename = "_o")]
    told: ToldOpenings,
}

#[derive(Deserialize)]
struct ToldOpenings {
    id: EntryId,
    openings: Vec<ToldOpening>,
}

#[derive(Deserialize)]
struct ToldOpening {
    path: String,
    salt: String,
    value: String,
}

/// Reads what [`write_openings`] wrote; `None` for any other line.
pub fn parse_openings(line: &[u8]) -> Option<(EntryId, Vec<Opening>)> {
    if !line.starts_with(b"{\"_o\":{\"id\":") {
        return None;
    }
    let OpeningsLine { told } = serde_json::from_slice(line).ok()?;
    let opening = |told: ToldOpening| {
        let salt = STANDARD.decode(&told.salt).ok()?.try_into().ok()?;
        Some(Opening { path: told.path, salt, value: told.value })
    };
    let openings = told.openings.into_iter().map(opening).collect::<Option<_>>()?;
    Some((told.id, openings))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{audit::Value, rng::Fixed};

    #[test]
    fn openings_are_read_back_exactly() {
        let id = EntryId(uuid::Uuid::from_u128(7));
        let value = Value::text("a \"quoted\" {\"id\":1} \u{2028} name");
        let openings = vec![Opening::seal("/actor/name".to_owned(), &value, &Fixed(3))];
        let mut line = Vec::new();
        write_openings(id, &openings, &mut line);
        assert_eq!(parse_openings(&line), Some((id, openings)));
        assert!(!line.contains(&b'\n'));
        assert_eq!(parse_openings(b"{\"_o\":{\"record_id\":\"x\"}}"), None);
    }
}
