//! An entry as a line of the journal: what its leaf shows openly, flat, and the
//! leaf itself. Sealed values do not stand in it, nor do openings.

use super::{Leaf, LeafError, Outcome};
use crate::{json::Object, key};

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
