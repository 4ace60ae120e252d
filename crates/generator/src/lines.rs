//! What is written beside records: our own diagnostics, and audit entries.

use domain::{
    audit::{Action, Actor, EntryContext, EntryDraft, Origin, TargetKind, Word},
    context::TraceContext,
    ids::{InstanceId, ManagementKeyId, ProjectId},
    json::Object,
    key,
    record::{Envelope, Outcome, Record},
    role::Role,
    time::Timestamp,
};

use crate::dice::Dice;

const TRACE: u64 = 4;
const ENTRY: u64 = 5;
/// Of records that ended well.
const TRACED: f64 = 0.26;
/// One change for so many records.
const RECORDS_AN_ENTRY: u64 = 1_500;

/// Appends the diagnostic that the n-th record left, if it left one; says
/// whether it did.
pub fn trace(seed: u64, number: u64, record: &Record, to: &Envelope, out: &mut Vec<u8>) -> bool {
    let dice = Dice::new(seed, TRACE, number);
    let failed = !matches!(record.outcome, Outcome::Ok | Outcome::Denied);
    if !failed && !dice.chance(TRACED) {
        return false;
    }
    let (level, component, target, message) = match record.outcome {
        Outcome::UpstreamError | Outcome::Timeout => {
            ("warn", "proxy", "dataplane::upstream", "the provider gave no answer")
        }
        Outcome::ClientClosed => {
            ("info", "proxy", "dataplane::relay", "the client went away before the end")
        }
        _ if failed => ("warn", "proxy", "dataplane::rescue", "a request ended without success"),
        _ => dice.pick(&[
            ("debug", "proxy", "dataplane::upstream", "a pooled connection was used"),
            ("debug", "proxy", "dataplane::observe", "usage was read from the answer"),
            ("info", "directory", "llm_proxy::directory", "a token was read from the store"),
            ("debug", "proxy", "dataplane::admit", "the model is allowed"),
        ]),
    };
    let ended = i64::try_from(record.duration_us).unwrap_or(0);
    let mut line = Object::begin(out);
    line.plain_text(key!("ts"), record.ts.plus_micros(ended));
    line.text(key!("level"), level);
    line.text(key!("msg"), message);
    line.text(key!("stream"), "trace");
    line.text(key!("component"), component);
    line.text(key!("target"), target);
    line.text(key!("instance"), to.instance.as_str());
    line.text(key!("version"), to.version);
    line.text(key!("request_id"), record.request_id.as_str());
    line.text(key!("correlation_id"), record.correlation_id.as_str());
    line.hex(key!("trace_id"), record.trace_id.as_bytes());
    if let Some(id) = record.project_id {
        line.uuid(key!("project_id"), &id.0);
    }
    if let Some(id) = record.token_id {
        line.uuid(key!("token_id"), &id.0);
    }
    if failed {
        line.text_if(key!("error"), record.error.as_deref());
    }
    line.text_if(key!("provider"), record.provider.as_deref());
    line.number(key!("attempt"), u64::from(record.attempts));
    line.end();
    true
}

/// Appends the audit entry that lies beside the n-th record, if one does; says
/// whether it does.
pub fn entry(seed: u64, number: u64, record: &Record, to: &Envelope, out: &mut Vec<u8>) -> bool {
    let Some(project) = record.project_id.filter(|_| number % RECORDS_AN_ENTRY == 7) else {
        return false;
    };
    let dice = Dice::new(seed, ENTRY, number);
    let draft = match dice.below(6) {
        0 => EntryDraft::new(Action::ProjectUpdate).target(TargetKind::Project, project),
        1 => EntryDraft::new(Action::TokenCreate).target(TargetKind::Project, project),
        2 => EntryDraft::new(Action::TokenRevoke).target(TargetKind::Project, project),
        3 => EntryDraft::new(Action::LogsSearch),
        4 => EntryDraft::new(Action::TokenList).denied("forbidden"),
        _ => EntryDraft::new(Action::AuthFailed).denied("invalid_key"),
    };
    write_entry(draft.project(project), number / RECORDS_AN_ENTRY + 1, record.ts, to, &dice, out)
}

fn write_entry(
    draft: EntryDraft,
    seq: u64,
    at: Timestamp,
    to: &Envelope,
    dice: &Dice,
    out: &mut Vec<u8>,
) -> bool {
    let key_id = ManagementKeyId(domain::ids::uuid_v7(at, dice));
    let actor = Actor::key(key_id, "on-call", Role::Operator);
    let ids = domain::context::RequestIds {
        request_id: domain::ids::RequestId::generate(at, dice),
        correlation_id: domain::ids::CorrelationId::generate(at, dice),
        trace: TraceContext::from_traceparent(None, dice),
    };
    let context = EntryContext {
        method: Word::parse("POST"),
        route: Word::parse("/manage/projects/{id}"),
        ..EntryContext::of_request(&ids)
    };
    let Ok(sealed) = draft.status(200).seal(&actor, &context, &origin(&to.instance), seq, at, dice)
    else {
        return false;
    };
    let leaf = &sealed.leaf;
    let mut line = Object::begin(out);
    line.text(key!("stream"), "entry");
    line.plain_text(key!("ts"), at);
    line.text(key!("level"), "info");
    line.text(key!("msg"), leaf.action.as_str());
    line.text(key!("component"), "audit");
    line.text(key!("instance"), to.instance.as_str());
    line.text(key!("version"), to.version);
    line.text(key!("request_id"), ids.request_id.as_str());
    line.text(key!("correlation_id"), ids.correlation_id.as_str());
    line.hex(key!("trace_id"), ids.trace.trace_id.as_bytes());
    line.plain_text(key!("project_id"), leaf.project_id.unwrap_or(ProjectId(key_id.0)));
    line.plain_text(key!("id"), leaf.id);
    line.text(key!("action"), leaf.action.as_str());
    line.text(key!("result"), leaf.result.as_str());
    line.text_if(key!("reason_code"), leaf.reason_code.as_ref().map(Word::as_str));
    line.text(key!("actor_kind"), leaf.actor.kind.as_str());
    line.plain_text(key!("actor_id"), key_id);
    line.text(key!("actor_role"), Role::Operator.as_str());
    if let Some(target) = &leaf.target {
        line.text(key!("target_type"), target.kind.as_str());
        line.text(key!("target_id"), target.id.as_str());
    }
    line.text(key!("method"), "POST");
    line.text(key!("route"), "/manage/projects/{id}");
    line.number(key!("status"), 200);
    line.text(key!("producer"), leaf.producer.as_str());
    line.number(key!("seq"), seq);
    line.text(key!("leaf"), &sealed.text);
    line.end();
    true
}

fn origin(instance: &InstanceId) -> Origin {
    Origin {
        log: Word::lossy("generated"),
        producer: Word::lossy("manage"),
        instance: instance.clone(),
        boot: Word::lossy("1"),
    }
}

#[cfg(test)]
mod tests {
    use domain::audit::Leaf;

    use super::*;
    use crate::{record::Records, timeline::Timeline};

    #[test]
    fn traces_and_entries_are_lines_of_their_streams() {
        let end = Timestamp::parse("2026-11-23T00:00:00Z").expect("a time");
        let records = Records::new(42, Timeline::new(end, 1, 9_000));
        let envelope =
            Envelope { instance: InstanceId::parse("gen").expect("an id"), version: "0.0.0" };
        let (mut traces, mut entries) = (0, 0);
        for number in 0..9_000 {
            let record = records.get(number);
            let mut line = Vec::new();
            if trace(42, number, &record, &envelope, &mut line) {
                let value: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
                assert_eq!(value["stream"], "trace");
                assert_eq!(value["request_id"], record.request_id.as_str());
                traces += 1;
            }
            let mut line = Vec::new();
            if entry(42, number, &record, &envelope, &mut line) {
                let value: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
                let leaf = value["leaf"].as_str().expect("a text");
                Leaf::parse(leaf.as_bytes()).expect("a leaf");
                entries += 1;
            }
        }
        assert!((2_300..3_300).contains(&traces), "{traces}");
        assert!((4..7).contains(&entries), "{entries}");
    }
}
