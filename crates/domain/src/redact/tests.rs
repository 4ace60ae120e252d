use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::capture::Omission;

#[test]
fn credentials_are_masked_wherever_they_stand() {
    let check = |text: &str, expected: &str| {
        assert_eq!(redacted(text, &["canary-4711"]), expected);
    };
    check("Incorrect API key provided: sk-proj-abcdef123456.", "Incorrect API key provided: ***");
    check("authorization: BeArEr abcdefghijkl rest", "authorization: BeArEr *** rest");
    check("echo canary-4711!", "echo ***!");
    check("a risk-assessment of things", "a risk-assessment of things");
    check("ключ sk-12345678 и", "ключ *** и");
    check("nothing here", "nothing here");
    check("bearer of bad news", "bearer of bad news");
}

/// One of each, as they are issued, and the rule that knows it.
const CANARIES: &[(&str, &str)] = &[
    ("sk-Zk3vQ9xT7mB2wR5yL8nC4dF6gH1jK0pA3sD5fG7hJ9k", "credentials"),
    ("mk-Zk3vQ9xT7mB2wR5yL8nC4dF6gH1jK0pA3sD5fG7hJ9k", "credentials"),
    ("sk-proj-T3BlbkFJa1b2c3d4e5f6g7h8_i9-J0", "credentials"),
    ("sk-ant-api03-a1B2c3D4e5F6g7H8i9J0-kLmNoPqR_AA", "credentials"),
    ("ghp_16C7e42F292c6912E7710c838347Ae178B4a", "credentials"),
    ("github_pat_11ABCDEFG0abcdefghijkl_MNOPQRSTUV", "credentials"),
    ("xoxb-123456789012-1234567890123-AbCdEfGhIjKl", "credentials"),
    ("AKIAIOSFODNN7EXAMPLE", "credentials"),
    ("AIzaSyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY", "credentials"),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmN", "credentials"),
    ("hf_aBcDeFgHiJkLmNoPqRsTuVwXyZ012345", "credentials"),
    ("glpat-1A2b3C4d5E6f7G8h9I0j", "credentials"),
    ("alice.b+news@mail.example.com", "email"),
    ("4111 1111 1111 1111", "card"),
    ("5500-0055-5555-5559", "card"),
    ("378282246310005", "card"),
    ("+49 30 901820", "phone"),
    ("+1 (415) 555-2671", "phone"),
    ("(415) 555-2671", "phone"),
    ("0171 1234567", "phone"),
    ("01 44 55 66 77", "phone"),
];

fn redact_as(content_type: &str, body: &str, cut: bool) -> Redacted {
    let content_type = Some(content_type).filter(|text| !text.is_empty());
    let source = Source { bytes: body.as_bytes(), content_type, cut };
    Rules::default().redact(&source, &["canary-4711"]).expect("readable")
}

#[test]
fn every_rule_finds_its_own_and_names_itself() {
    for (canary, rule) in CANARIES {
        let text = format!("so {canary}, and on");
        let redacted = redact_as("text/plain", &text, false);
        assert_eq!(redacted.as_str(), format!("so [redacted:{rule}], and on"));
        assert_eq!(redacted.by_rule(), [((*rule).into(), 1)]);
        // What was replaced is not replaced again.
        let again = redact_as("text/plain", redacted.as_str(), false);
        assert_eq!((again.as_str(), again.redactions()), (redacted.as_str(), 0));
    }
}

#[test]
fn words_and_figures_stay() {
    for text in [
        "a risk-assessment of sk-learn-pipelines and the basic understanding of bearer bonds",
        "The authentication token generation uses basic JavaScript and a hf_dataset_name",
        "created 1763892000, at 1763892000000001, 2026-11-23T10:00:00.123456Z, in 12.5 ms",
        "v1.2.3, 10.0.0.1, 192.168.100.200:8080, 3.14159265358979, 100 000 000 000",
        "01234567-89ab-4def-8123-456789abcdef chatcmpl-4111111111111111 req_378282246310005",
        "chapter 05/06/2026 10:20, pages 0012-0034, order 4111111111111112, @@ -1,7 +1,12 @@",
        "mail alice at example dot com; @app.route; a@b; 50 %; f(x) = x+12345678",
        "The password must be strong. No secret, no cookie.",
    ] {
        let redacted = redact_as("text/plain", text, false);
        assert_eq!(redacted.as_str(), text);
    }
    let answer = json!({ "id": "call_4155552671", "object": "chat.completion",
        "created": 1763892000, "model": "gpt-4o-2024-08-06", "system_fingerprint": "fp_44709d6fcb",
        "user_id": "415 555 2671", "max_tokens": 4096, "token": "hello", "logprob": -0.00012345678,
        "usage": { "prompt_tokens": 1234567890, "total_tokens": 12345678901u64 } });
    let text = answer.to_string();
    assert_eq!(redact_as("application/json", &text, false).as_str(), text);
}

#[test]
fn members_and_assignments_named_as_secrets_go() {
    let check = |body: &str, expected: &str| {
        assert_eq!(redact_as("application/json", body, false).as_str(), expected);
    };
    check(
        r#"{"api_key":"hunter2","dbPassword": "a\"b", "x":{"client-secret":[ "y", 12 ]}}"#,
        concat!(
            r#"{"api_key":"[redacted:credentials]","dbPassword": "[redacted:credentials]", "#,
            r#""x":{"client-secret":[ "[redacted:credentials]", "[redacted:credentials]" ]}}"#
        ),
    );
    // The schema of a tool is no secret, and neither is an empty one.
    let schema = r#"{"properties":{"password":{"type":"string"}},"secret":"","api_key":null}"#;
    check(schema, schema);
    let escaped = r#"{"arguments":"{\"user\":\"bob\",\"password\":\"hunter\\u0032\"}"}"#;
    let expected = r#"{"arguments":"{\"user\":\"bob\",\"password\":\"[redacted:credentials]\"}"}"#;
    check(escaped, expected);
    for (text, expected) in [
        ("export API_KEY=abc-def-123", "export API_KEY=[redacted:credentials]"),
        ("password: \"open sesame\"", "password: \"[redacted:credentials]\""),
        (r#"say {\"password\": \"x y\"}"#, r#"say {\"password\": \"[redacted:credentials]\"}"#),
        ("postgres://bob:pass123@db/x", "postgres://bob:[redacted:credentials]@db/x"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic [redacted:credentials]"),
        ("canary-4711", "[redacted:credentials]"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nrest",
            "[redacted:credentials]\nrest",
        ),
        ("-----BEGIN PRIVATE KEY-----\nMIIE\nabc", "[redacted:credentials]"),
    ] {
        assert_eq!(redact_as("text/plain", text, false).as_str(), expected);
    }
}

#[test]
fn escapes_hide_nothing() {
    for (canary, rule) in CANARIES {
        let escaped: String = canary.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        let body = format!("{{\"messages\":[{{\"content\":\"so {escaped}!\"}}]}}");
        let redacted = redact_as("application/json", &body, false);
        let expected = format!("{{\"messages\":[{{\"content\":\"so [redacted:{rule}]!\"}}]}}");
        assert_eq!(redacted.as_str(), expected);
        // A document that breaks cannot be read where it has escapes.
        let broken = format!("{{\"content\":\"so {escaped}!\"]");
        let source =
            Source { bytes: broken.as_bytes(), content_type: Some("application/json"), cut: false };
        let refused = Rules::default().redact(&source, &[]).map(|redacted| redacted.text);
        assert_eq!(refused, Err(Omission::Unreadable));
    }
}

#[test]
fn a_broken_document_without_escapes_is_read_as_text() {
    let body = r#"{"user":"alice@example.com","messages":[}"#;
    let expected = r#"{"user":"[redacted:email]","messages":[}"#;
    assert_eq!(redact_as("application/json", body, false).as_str(), expected);
}

/// Each dialect's event around a piece of generated text.
fn event(dialect: usize, piece: &str) -> Value {
    match dialect {
        0 => json!({ "id": "chatcmpl-1", "object": "chat.completion.chunk",
            "choices": [{ "index": 0, "delta": { "content": piece } }] }),
        1 => json!({ "id": "chatcmpl-1", "choices": [{ "delta": { "tool_calls": [
            { "function": { "arguments": piece }, "index": 0 }] }, "index": 1 }] }),
        2 => json!({ "type": "content_block_delta", "index": 0,
            "delta": { "type": "text_delta", "text": piece } }),
        3 => json!({ "type": "response.output_text.delta", "item_id": "msg_1",
            "output_index": 0, "delta": piece }),
        _ => json!({ "candidates": [{ "content": { "parts": [{ "text": piece }] } }] }),
    }
}

fn text_of(dialect: usize, event: &Value) -> String {
    let place = match dialect {
        0 => "/choices/0/delta/content",
        1 => "/choices/0/delta/tool_calls/0/function/arguments",
        2 => "/delta/text",
        3 => "/delta",
        _ => "/candidates/0/content/parts/0/text",
    };
    event.pointer(place).and_then(Value::as_str).expect("the text").to_owned()
}

/// The stream's events, with another text interleaved where the dialect can.
fn stream(dialect: usize, text: &str, size: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::new();
    for piece in chars.chunks(size) {
        let piece: String = piece.iter().collect();
        out.push_str(&format!("event: x\r\ndata: {}\r\n\r\n", event(dialect, &piece)));
        if dialect == 0 {
            let other = json!({ "choices": [{ "delta": { "content": "~" }, "index": 1 }] });
            out.push_str(&format!("data: {other}\n\n"));
        }
    }
    out + "data: [DONE]\n\n"
}

fn texts(dialect: usize, stream: &str) -> String {
    let payloads = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    let events = payloads.filter_map(|payload| serde_json::from_str::<Value>(payload).ok());
    let texts = events.map(|event| text_of(dialect, &event));
    texts.filter(|text| text != "~").collect()
}

#[test]
fn a_secret_cut_across_events_does_not_survive() {
    for (canary, rule) in CANARIES {
        for dialect in 0..5 {
            for size in [1, 2, 3, 7, canary.len() / 2 + 1] {
                let body = stream(dialect, &format!("so {canary}, and on"), size);
                let redacted = redact_as("text/event-stream; charset=utf-8", &body, false);
                let expected = format!("so [redacted:{rule}], and on");
                let said = texts(dialect, redacted.as_str());
                assert_eq!(said, expected, "{canary} of {dialect} by {size}");
                // All else is as it was.
                assert_eq!(
                    redacted.as_str().matches("event: x\r\n").count(),
                    body.matches("event: x\r\n").count()
                );
                assert!(redacted.as_str().ends_with("data: [DONE]\n\n"));
            }
        }
    }
}

#[test]
fn one_document_a_line_and_one_long_array_are_streams_too() {
    let pieces = ["so alice@exa", "mple.com, and", " on"];
    let lines: String =
        pieces.iter().map(|piece| format!("{}\n", json!({ "response": piece }))).collect();
    let redacted = redact_as("application/x-ndjson", &lines, false);
    let expected = "{\"response\":\"so [redacted:email]\"}\n{\"response\":\", and\"}\n\
        {\"response\":\" on\"}\n";
    assert_eq!(redacted.as_str(), expected);
    let array: Vec<Value> = pieces.iter().map(|piece| json!({ "text": piece })).collect();
    let redacted = redact_as("application/json", &Value::from(array).to_string(), false);
    let expected = r#"[{"text":"so [redacted:email]"},{"text":", and"},{"text":" on"}]"#;
    assert_eq!(redacted.as_str(), expected);
}

#[test]
fn a_cut_body_ends_before_its_last_word() {
    for (canary, _) in CANARIES {
        let body =
            json!({ "messages": [{ "content": format!("so I said {canary}") }] }).to_string();
        let at = body.find(canary).expect("it is there");
        for end in at..at + canary.len() {
            let redacted = redact_as("application/json", &body[..end], true);
            let kept = redacted.as_str();
            // Three characters could be anybody's.
            let shown = (4..canary.len()).filter(|n| kept.contains(&canary[..*n])).count();
            assert_eq!(shown, 0, "{canary} in {kept}");
            assert!(kept.contains("so I"), "{kept}");
        }
        let whole = stream(0, &format!("so I said {canary}"), 1);
        for (end, _) in whole.match_indices("\"delta\"").skip(10) {
            let redacted = redact_as("text/event-stream", &whole[..end], true);
            let said = texts(0, redacted.as_str());
            let shown = (4..canary.len()).filter(|n| said.contains(&canary[..*n])).count();
            assert_eq!(shown, 0, "{canary} in {said}");
        }
    }
}

#[test]
fn forms_lose_their_files_and_their_secrets() {
    let pairs = "user=alice%40example.com&note=a+b&password=p%26q&alice%40example.com=1";
    let expected = "user=[redacted:email]&note=a+b&password=[redacted:credentials]\
        &[redacted:email]=1";
    let redacted = redact_as("application/x-www-form-urlencoded", pairs, false);
    assert_eq!(redacted.as_str(), expected);

    let mut form = b"--b0\r\ncontent-disposition: form-data; name=\"prompt\"\r\n\r\ncall \
        +49 30 901820 now\r\n--b0\r\ncontent-disposition: form-data; name=\"api_key\"\r\n\r\n\
        hunter2\r\n--b0\r\ncontent-disposition: form-data; name=\"file\"; \
        filename=\"alice@example.com.png\"\r\ncontent-type: image/png\r\n\r\n"
        .to_vec();
    form.extend_from_slice(&[0x89, 0xff, 0xfe, 0, 1]);
    form.extend_from_slice(b"\r\n--b0--\r\n");
    let content_type = Some("multipart/form-data; boundary=\"b0\"");
    let source = Source { bytes: &form, content_type, cut: false };
    let redacted = Rules::default().redact(&source, &[]).expect("readable");
    let expected = "--b0\r\ncontent-disposition: form-data; name=\"prompt\"\r\n\r\ncall \
        [redacted:phone] now\r\n--b0\r\ncontent-disposition: form-data; name=\"api_key\"\r\n\r\n\
        [redacted:credentials]--b0\r\ncontent-disposition: form-data; name=\"file\"; \
        filename=\"[redacted:email]\"\r\ncontent-type: image/png\r\n\r\n\
        [left out: 5 bytes]\r\n--b0--\r\n";
    assert_eq!(redacted.as_str(), expected);
}

#[test]
fn what_no_rule_can_read_is_refused() {
    let check = |content_type, bytes: &[u8], why| {
        let source = Source { bytes, content_type, cut: false };
        let refused = Rules::default().redact(&source, &[]).map(|redacted| redacted.text);
        assert_eq!(refused, Err(why), "{content_type:?}");
    };
    check(Some("image/png"), b"text", Omission::Binary);
    check(Some("application/octet-stream"), b"text", Omission::Binary);
    check(Some("multipart/form-data"), b"text", Omission::Binary);
    check(Some("application/json"), b"{\"a\":\"\xff\"}", Omission::Unreadable);
    check(None, b"\xff\xfe", Omission::Unreadable);
    check(Some("text/plain"), "ü".as_bytes()[..1].as_ref(), Omission::Unreadable);
}

#[test]
fn an_operators_rules_add_to_ours() {
    let paths = ["messages.*.name", "**.ssn", "metadata"];
    let paths = paths.iter().filter_map(|path| Path::parse(path)).collect();
    let employee = Pattern::new("employee", r"\bE[0-9]{6}\b").expect("a pattern");
    let rules = Rules::new(vec![Builtin::Email], Vec::new(), Vec::new()).and(paths, vec![employee]);
    assert_eq!(rules.names(), ["email", "path", "employee"]);
    let check = |content_type, body: &str, expected: &str| {
        let source =
            Source { bytes: body.as_bytes(), content_type: Some(content_type), cut: false };
        assert_eq!(rules.redact(&source, &[]).expect("readable").as_str(), expected);
    };
    check(
        "application/json",
        r#"{"messages":[{"name":"Bob","content":"E123456, a@b.de, 0171 1234567"}],"metadata":{"a":[1]},"x":{"ssn":7}}"#,
        r#"{"messages":[{"name":"[redacted:path]","content":"[redacted:employee], [redacted:email], 0171 1234567"}],"metadata":"[redacted:path]","x":{"ssn":"[redacted:path]"}}"#,
    );
    check("text/event-stream", "data: {\"ssn\":\"7", "data: {\"ssn\":\"[redacted:path]\"");
    let refused = [
        ("email", "x", PatternError::Name),
        ("path", "x", PatternError::Name),
        ("Ä", "x", PatternError::Name),
        ("a", "(", PatternError::Syntax),
        ("a", "x*", PatternError::Empty),
        ("a", r"(\w{100}){100}", PatternError::Size),
    ];
    for (name, text, why) in refused {
        assert_eq!(Pattern::new(name, text).map(drop), Err(why), "{name} {text}");
    }
}

#[test]
fn time_is_linear() {
    // Each of these costs a backtracking or a restarting search its square.
    let parts = [
        "a@",
        "sk-",
        "+1 ",
        "4111-",
        "0171 ",
        "eyJ",
        "-----BEGIN PRIVATE KEY-----",
        "password=",
        "{\"a\":",
        "[",
        "a:b@",
        "http://",
        "bearer ",
        "\\\"",
        "\u{0}",
    ];
    for part in parts {
        let body = part.repeat((512 << 10) / part.len());
        for content_type in ["text/plain", "application/json", "text/event-stream"] {
            redact_as(content_type, &body, true);
        }
    }
}

/// Documents with a known secret in them, bent at random places: whatever is
/// still read does not have it, and what has nothing stays as it is.
#[test]
fn bent_bodies_keep_no_secret() {
    const SECRET: &str = "canary-4711";
    let nested = json!({ "arguments": json!({ "a": SECRET, "b": [1, "x"] }).to_string() });
    let lines = format!("{nested}\n{}\n", json!({ "t": format!("é {SECRET}"), "id": SECRET }));
    let bodies = [
        ("application/json", nested.to_string()),
        ("application/x-ndjson", lines),
        ("text/event-stream", stream(0, &format!("so {SECRET} on"), 3)),
        ("text/event-stream", stream(2, &format!("so {SECRET} on"), 5)),
        ("application/x-www-form-urlencoded", format!("a={SECRET}&b%20=c+{SECRET}%21")),
        (
            "multipart/form-data; boundary=b0",
            format!("--b0\r\nx: \"{SECRET}\"\r\n\r\na {SECRET}\r\n--b0--\r\n"),
        ),
    ];
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |bound: usize| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        usize::try_from(dice >> 11).unwrap_or_default() % bound.max(1)
    };
    const BYTES: &[u8] = b"\"\\{}[]:,u0\n\r\0 d";
    for round in 0..4000 {
        let (content_type, body) = &bodies[round % bodies.len()];
        let mut bytes = body.clone().into_bytes();
        for _ in 0..below(4) {
            let at = below(bytes.len());
            match below(3) {
                0 => bytes[at] = BYTES[below(BYTES.len())],
                1 => bytes.insert(at, BYTES[below(BYTES.len())]),
                _ => drop(bytes.remove(at)),
            }
        }
        let cut = below(4) == 0;
        let source = Source { bytes: &bytes, content_type: Some(content_type), cut };
        let Ok(redacted) = Rules::default().redact(&source, &[SECRET]) else { continue };
        let kept = redacted.as_str();
        assert!(!kept.contains(SECRET), "{kept}\nof {}", String::from_utf8_lossy(&bytes));
        if redacted.redactions() == 0 && !cut && !content_type.starts_with("multipart") {
            assert_eq!(kept.as_bytes(), bytes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn documents_without_findings_stay_byte_for_byte(
        body in "(\\{\"[a-z]{1,3}\":(\"([a-zäß@. ]|\\\\n|\\\\u00e9){0,9}\"|[0-9]{1,4}|\\[true, null\\])\\}[ \n]?){1,5}",
    ) {
        let redacted = redact_as("application/json", &body, false);
        if redacted.redactions() == 0 {
            prop_assert_eq!(redacted.as_str(), body);
        }
    }

    #[test]
    fn any_bytes_are_survived(body in proptest::collection::vec(any::<u8>(), 0..300), cut: bool) {
        for content_type in ["application/json", "text/event-stream", "text/plain",
            "application/x-www-form-urlencoded", "multipart/form-data; boundary=a"] {
            let source = Source { bytes: &body, content_type: Some(content_type), cut };
            drop(Rules::default().redact(&source, &["abcd"]));
        }
    }

    #[test]
    fn a_redacted_document_is_still_one(canary in 0..CANARIES.len(), before in "\\PC{0,9}") {
        let body = json!({ "a": [format!("{before} {}", CANARIES[canary].0)], "b": 1 }).to_string();
        let redacted = redact_as("application/json", &body, false);
        let back: Value = serde_json::from_str(redacted.as_str()).expect("JSON");
        prop_assert_eq!(&back["b"], &json!(1));
        prop_assert!(!redacted.as_str().contains(CANARIES[canary].0));
    }
}
