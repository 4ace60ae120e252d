//! Joins three accounts of the same requests: what the client saw, what the
//! sample provider says it received, and what the records hold.

use domain::usage::Usage;
use serde_json::Value;

use super::{
    calls::Call,
    provider::ledger::Ledger,
    proxy::{AuditLine, Books},
    send::Seen,
};

/// A call with the id under which it was sent and what came back.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) call: Call,
    pub(super) request_id: String,
    pub(super) seen: Seen,
}

/// All that does not agree, in words; empty if everything does.
pub(super) fn disagreements(
    sent: &[Sent],
    records: &[Value],
    ledger: Option<&Ledger>,
) -> Vec<String> {
    let mut found = Vec::new();
    if records.len() != sent.len() {
        found.push(format!("{} requests were sent, {} records exist", sent.len(), records.len()));
    }
    for sent in sent {
        let mut say = |what: String| found.push(format!("{}: {what}", sent.call.name));
        check_seen(sent, &mut say);
        let id = Some(sent.request_id.as_str());
        let mine: Vec<_> =
            records.iter().filter(|record| text(record, "request_id") == id).collect();
        match mine[..] {
            [record] => {
                check_record(sent, record, &mut say);
                if let Some(ledger) = ledger {
                    check_ledger(sent, record, ledger, &mut say);
                }
            }
            _ => say(format!("{} records instead of one", mine.len())),
        }
    }
    found
}

fn check_seen(sent: &Sent, say: &mut impl FnMut(String)) {
    let (call, seen) = (&sent.call, &sent.seen);
    if seen.status != call.status {
        say(format!("status {} instead of {}", seen.status, call.status));
    }
    if seen.whole != call.whole {
        say(if call.whole { "the body broke off" } else { "the body looks whole" }.into());
    }
    if seen.request_id.as_deref() != Some(sent.request_id.as_str()) {
        say("the response does not carry the request id".into());
    }
}

fn check_record(sent: &Sent, record: &Value, say: &mut impl FnMut(String)) {
    let call = &sent.call;
    if text(record, "outcome") != Some(call.outcome) {
        say(format!("outcome {:?} instead of {:?}", text(record, "outcome"), call.outcome));
    }
    if number(record, "status_code") != Some(u64::from(call.status)) {
        say(format!("the record says status {:?}", number(record, "status_code")));
    }
    if call.error_code.is_some() && text(record, "error_code") != call.error_code {
        say(format!(
            "error code {:?} instead of {:?}",
            text(record, "error_code"),
            call.error_code
        ));
    }
    let partial = record.get("partial").and_then(Value::as_bool).unwrap_or(false);
    if partial == call.whole {
        say(format!("the record says partial: {partial}"));
    }
}

fn check_ledger(sent: &Sent, record: &Value, ledger: &Ledger, say: &mut impl FnMut(String)) {
    let entry = ledger.entry(&sent.request_id);
    let received = entry.as_ref().map_or(0, |entry| entry.count);
    if received != u64::from(sent.call.reaches_provider) {
        say(format!("the provider received it {received} times"));
    }
    let Some(usage) = entry.and_then(|entry| entry.usage).filter(|_| sent.call.whole) else {
        return;
    };
    for (field, reported) in usage_fields(&usage) {
        // A figure of zero may be left out of a record.
        if reported.unwrap_or(0) != number(record, field).unwrap_or(0) {
            let recorded = number(record, field);
            say(format!("{field}: the provider said {reported:?}, the record {recorded:?}"));
        }
    }
    if text(record, "usage_source") != Some("provider") {
        say("the record does not take the provider's figures".into());
    }
}

fn usage_fields(usage: &Usage) -> [(&'static str, Option<u64>); 6] {
    [
        ("input_tokens", usage.input_tokens),
        ("output_tokens", usage.output_tokens),
        ("total_tokens", usage.total_tokens),
        ("cached_input_tokens", usage.cached_input_tokens),
        ("cache_write_tokens", usage.cache_write_tokens),
        ("reasoning_tokens", usage.reasoning_tokens),
    ]
}

/// The books have to balance with nothing lost, and each governed change has
/// to have its entry.
pub(super) fn check_accounts(books: &Books, entries: &[AuditLine], tokens: usize) -> Vec<String> {
    let mut found = Vec::new();
    if !books.balance() {
        found.push("the books do not balance".into());
    }
    if books.lost > 0 {
        found.push(format!("{} records were lost", books.lost));
    }
    let mut expect = |action: &str, expected: usize| {
        let entries = entries.iter().filter(|entry| entry.action == action).count();
        if entries < expected {
            found.push(format!("{entries} audit entries '{action}' for {expected} such changes"));
        }
    };
    expect("project.create", 1);
    expect("token.create", tokens);
    expect("token.revoke", 1);
    found
}

pub(super) fn text<'a>(record: &'a Value, field: &str) -> Option<&'a str> {
    record.get(field).and_then(Value::as_str)
}

pub(super) fn number(record: &Value, field: &str) -> Option<u64> {
    record.get(field).and_then(Value::as_u64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::demo::calls::sample_calls;

    fn sent(name: &str) -> Sent {
        let call = sample_calls().into_iter().find(|call| call.name == name).expect("a known name");
        let seen = Seen {
            status: call.status,
            request_id: Some("id".into()),
            whole: call.whole,
            bytes: 1,
        };
        Sent { call, request_id: "id".into(), seen }
    }

    fn record(output_tokens: u64) -> Value {
        json!({"request_id": "id", "outcome": "ok", "status_code": 200, "partial": false,
               "output_tokens": output_tokens, "usage_source": "provider"})
    }

    fn ledger() -> Ledger {
        let ledger = Ledger::default();
        let mut line = ledger.receive(Some("id"), "POST", "/v1/chat/completions");
        line.answers(200, Some(Usage { output_tokens: Some(9), ..Usage::default() }));
        line.ends(crate::demo::provider::ledger::Ending::Complete);
        ledger
    }

    #[test]
    fn agreement_is_silent() {
        assert_eq!(disagreements(&[sent("chat")], &[record(9)], Some(&ledger())), [""; 0]);
    }

    #[test]
    fn each_disagreement_is_named() {
        let check = |records: &[Value], expected: &str| {
            let found = disagreements(&[sent("chat")], records, Some(&ledger())).join("; ");
            assert!(found.contains(expected), "{found}");
        };
        check(&[record(8)], "output_tokens: the provider said Some(9), the record Some(8)");
        check(&[record(9), record(9)], "2 records instead of one");
        check(&[], "1 requests were sent, 0 records exist");
        let found = disagreements(&[sent("quota-used-up")], &[record(9)], Some(&ledger()));
        assert!(found.join(";").contains("the provider received it 1 times"), "{found:?}");
    }

    #[test]
    fn books_are_checked() {
        let books = Books { accepted: 3, stored: 1, coalesced: 0, lost: 1, in_flight: 0 };
        let found = check_accounts(&books, &[], 2).join("; ");
        assert!(found.contains("do not balance") && found.contains("1 records were lost"));
        assert!(found.contains("0 audit entries 'token.create' for 2"));
    }
}
