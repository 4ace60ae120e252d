//! What each dialect says at its end, when it fails, and when it is cut.

use super::*;

const CHUNK: &str = r#"data: {"object":"chat.completion.chunk","model":"gpt-4o","choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}"#;
const LAST_CHUNK: &str =
    r#"data: {"model":"gpt-4o","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;

#[test]
fn streams_that_lack_their_last_event_are_unterminated() {
    let check = |kind, operation, body: &str, expected: bool| {
        let case = Case { kind, ..Case::sse(operation, body) };
        assert_eq!(case.facts().unterminated, expected, "{kind:?} {body}");
    };
    use Operation::{Chat, Messages, Other, Responses};
    use ProviderKind::{Anthropic, Openai, Other as OtherKind};
    let cut = format!("{CHUNK}\n\n");
    let no_done = format!("{CHUNK}\n\n{LAST_CHUNK}\n\n");
    let whole = format!("{no_done}data: [DONE]\n\n");
    check(Openai, Chat, &cut, true);
    check(OtherKind, Chat, &cut, true);
    check(Openai, Chat, &no_done, true);
    check(OtherKind, Chat, &no_done, false);
    check(Openai, Chat, &whole, false);
    check(Openai, Other, &cut, true);
    check(Openai, Chat, "", true);
    check(OtherKind, Other, "data: tick\n\n", false);
    let begun = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{}}\n\n";
    check(Anthropic, Messages, begun, true);
    check(OtherKind, Other, begun, true);
    check(Anthropic, Messages, &format!("{begun}data: {{\"type\":\"message_stop\"}}\n\n"), false);
    let created =
        "data: {\"type\":\"response.created\",\"response\":{\"status\":\"in_progress\"}}\n\n";
    check(Openai, Responses, created, true);
    for end in ["completed", "failed", "incomplete", "cancelled"] {
        let body = format!("{created}data: {{\"type\":\"response.{end}\",\"response\":{{}}}}\n\n");
        check(Openai, Responses, &body, false);
    }
}

#[test]
fn line_ends_comments_and_marks_of_sse_make_no_difference() {
    let plain = format!("{CHUNK}\n\n{LAST_CHUNK}\n\ndata: [DONE]\n\n");
    let facts = format!("{:?}", Case::sse(Operation::Chat, &plain).facts());
    let check = |body: &str| {
        assert_eq!(format!("{:?}", Case::sse(Operation::Chat, body).facts()), facts, "{body}");
    };
    check(&plain.replace('\n', "\r\n"));
    check(&plain.replace('\n', "\r"));
    check(&format!("\u{feff}{plain}"));
    check(&format!(": hello\nretry: 10\nid: 7\n\n{}: ping\n\n", plain.replace("data: ", "data:")));
    check(&plain.replace("\"model\"", "\n\"model\"").replace("\n\"model\"", "\ndata: \"model\""));
    check(plain.trim_end());
}

#[test]
fn several_choices_give_all_their_finish_reasons() {
    let body = r#"{"choices":[{"finish_reason":"stop"},{"finish_reason":"length"},{"finish_reason":"stop"}]}"#;
    let facts = Case::json(Operation::Chat, 200, body).facts();
    assert_eq!(facts.finish_reason.as_deref(), Some("stop,length"));
}

#[test]
fn errors_are_read_in_every_shape() {
    let check = |status, body: &str, code: Option<&str>, text: Option<&str>| {
        let facts = Case::json(Operation::Chat, status, body).facts();
        assert_eq!(facts.error_code.as_deref(), code, "{body}");
        assert_eq!(facts.error.as_deref(), text, "{body}");
        assert_eq!(facts.usage, None, "{body}");
    };
    let openai =
        r#"{"error":{"code":"rate_limit_exceeded","message":"slow down","type":"tokens"}}"#;
    check(429, openai, Some("rate_limit_exceeded"), Some("slow down"));
    let no_code = r#"{"error":{"message":"no","type":"invalid_request_error","code":null}}"#;
    check(400, no_code, Some("invalid_request_error"), Some("no"));
    let anthropic = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"r"}"#;
    check(529, anthropic, Some("overloaded_error"), Some("Overloaded"));
    let numeric = r#"{"error":{"code":404,"message":"gone"}}"#;
    check(404, numeric, Some("404"), Some("gone"));
    check(400, r#"{"error":"plain words"}"#, None, Some("plain words"));
    check(400, r#""bare words""#, None, Some("bare words"));
    check(422, r#"{"detail":"Not Found"}"#, None, Some("Not Found"));
    check(
        422,
        r#"{"detail":[{"loc":["body"],"msg":"field required"}]}"#,
        None,
        Some("field required"),
    );
    let mistral =
        r#"{"object":"error","message":"Invalid model","type":"invalid_model","code":1500}"#;
    check(400, mistral, Some("1500"), Some("Invalid model"));
    check(200, r#"{"error":null,"choices":[]}"#, None, None);
    check(200, r#"{"message":"fine"}"#, None, None);
    let nested = Case { operation: Operation::Files, ..Case::json(Operation::Files, 200, openai) };
    assert_eq!(nested.facts().error, None, "only generation answers are taken at their word");
    let text = Case { content_type: "text/plain", ..Case::json(Operation::Chat, 503, " busy\n") };
    assert_eq!(text.facts().error.as_deref(), Some("busy"));
}

#[test]
fn errors_in_the_middle_of_a_stream_are_told_apart() {
    let check = |operation, event: &str, code: Option<&str>, text: Option<&str>| {
        let body = format!("{CHUNK}\n\n{event}\n\n");
        let facts = Case::sse(operation, &body).facts();
        assert!(facts.failed_midstream && !facts.unterminated, "{event}");
        assert_eq!(facts.error_code.as_deref(), code, "{event}");
        assert_eq!(facts.error.as_deref(), text, "{event}");
    };
    use Operation::{Chat, Messages, Responses};
    let openai = r#"data: {"error":{"message":"boom","type":"server_error","code":null}}"#;
    check(Chat, openai, Some("server_error"), Some("boom"));
    let anthropic = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}";
    check(Messages, anthropic, Some("overloaded_error"), Some("Overloaded"));
    let late = r#"data: {"message":"too late","code":"server_error","type":"error"}"#;
    check(Responses, late, Some("server_error"), Some("too late"));
    let failed = r#"data: {"type":"response.failed","response":{"status":"failed","error":{"code":"c","message":"m"}}}"#;
    check(Responses, failed, Some("c"), Some("m"));
    check(Chat, "event: error\ndata: {\"message\":\"named\"}", None, Some("named"));
}

#[test]
fn responses_tell_how_they_ended() {
    let check = |body: &str, expected: Option<&str>| {
        let facts = Case::json(Operation::Responses, 200, body).facts();
        assert_eq!(facts.finish_reason.as_deref(), expected, "{body}");
    };
    check(
        r#"{"object":"response","status":"completed","incomplete_details":null}"#,
        Some("completed"),
    );
    check(
        r#"{"incomplete_details":{"reason":"content_filter"},"status":"incomplete"}"#,
        Some("content_filter"),
    );
    check(r#"{"status":"queued"}"#, None);
    let batch = Case::json(Operation::Other, 200, r#"{"object":"batch","status":"completed"}"#);
    assert_eq!(batch.facts().finish_reason, None);
}

#[test]
fn figures_of_other_shapes_count() {
    let check = |body: &str, input: Option<u64>, output: Option<u64>, total: Option<u64>| {
        let usage = Case::json(Operation::Chat, 200, body).facts().usage.unwrap_or_default();
        assert_eq!(
            (usage.input_tokens, usage.output_tokens, usage.total_tokens),
            (input, output, total),
            "{body}"
        );
    };
    check(
        r#"{"usage":{"prompt_tokens":12.0,"completion_tokens":1e2}}"#,
        Some(12),
        Some(100),
        Some(112),
    );
    check(r#"{"usage":{"prompt_tokens":-1,"completion_tokens":2}}"#, None, Some(2), None);
    check(r#"{"usage":{"prompt_tokens":"12","completion_tokens":null}}"#, None, None, None);
    check(r#"{"us\u0061ge":{"prompt\u005ftokens":5,"total_tokens":5}}"#, Some(5), None, Some(5));
    check(r#"{"usage":{"prompt_tokens":1},"usage":{"prompt_tokens":7}}"#, Some(7), None, None);
    // A gateway's copy of Anthropic's figures beside OpenAI's is not added.
    check(
        r#"{"usage":{"prompt_tokens":100,"cache_read_input_tokens":40,"completion_tokens":1}}"#,
        Some(100),
        Some(1),
        Some(101),
    );
    check(
        r#"{"usage":{"prompt_tokens":18446744073709551615,"completion_tokens":1}}"#,
        Some(u64::MAX),
        Some(1),
        Some(u64::MAX),
    );
    check(r#"{"a":{"usage":{"prompt_tokens":1}}}"#, None, None, None);
}
