//! Long, deep, broken and hostile bodies: bounded, without a panic, and the same
//! facts wherever they are cut.

use std::io::Write as _;

use proptest::prelude::*;

use super::*;

/// Feeds `piece` until `bytes` are reached; nothing may grow with them.
fn endless(case: Case<'_>, head: &str, piece: &str, bytes: usize, tail: &str) -> ResponseFacts {
    let headers = headers(case.content_type, case.coding);
    let mut observer = ResponseObserver::new(case.kind, case.operation, case.status, &headers);
    observer.data(&Bytes::copy_from_slice(head.as_bytes()));
    let frame = Bytes::from(piece.repeat(64 * 1024 / piece.len()));
    for _ in 0..bytes / frame.len() {
        observer.data(&frame);
    }
    observer.data(&Bytes::copy_from_slice(tail.as_bytes()));
    observer.finish(true)
}

#[test]
fn a_hundred_megabytes_on_one_line_still_end_in_usage() {
    let head = r#"data: {"choices":[{"delta":{"content":""#;
    let tail = "\"}}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\ndata: [DONE]\n\n";
    let facts = endless(Case::sse(Operation::Chat, ""), head, "abcdefgh", 100 << 20, tail);
    assert_eq!(facts.usage.and_then(|usage| usage.total_tokens), Some(7));
    assert_eq!(facts.events, Some(2));
    let head = r#"{"data":[{"embedding":[0.1"#;
    let tail = r#"]}],"usage":{"prompt_tokens":9,"total_tokens":9}}"#;
    let facts = endless(Case::json(Operation::Embeddings, 200, ""), head, ",-0.25", 32 << 20, tail);
    assert_eq!(facts.usage.and_then(|usage| usage.input_tokens), Some(9));
}

#[test]
fn ten_thousand_levels_are_passed_over() {
    let deep = format!("{}1{}", r#"{"a":["#.repeat(10_000), "]}".repeat(10_000));
    let body = format!(
        r#"{{"x":{deep},"choices":[{{"message":{{"content":{deep}}}}}],"usage":{{"total_tokens":5}}}}"#
    );
    let facts = Case::json(Operation::Chat, 200, &body).facts();
    assert_eq!(facts.usage.and_then(|usage| usage.total_tokens), Some(5));
    let open = format!(r#"{{"model":"m","x":{}"#, "[".repeat(100_000));
    assert_eq!(
        Case::json(Operation::Chat, 200, &open).facts().response_model.as_deref(),
        Some("m")
    );
}

/// Found by fuzzing: blank for ASCII, not for JSON.
#[test]
fn a_form_feed_before_an_error_changes_nothing() {
    let body = "\u{c}\"it broke\"";
    let case = Case { content_type: "text/plain", ..Case::json(Operation::Chat, 500, body) };
    assert_eq!(case.facts().error.as_deref(), Some("it broke"));
}

#[test]
fn texts_of_others_are_bounded() {
    let long = "\u{e9}".repeat(5000);
    let body = format!(r#"{{"model":"{long}","error":{{"message":"{long}","code":"{long}"}}}}"#);
    let facts = Case::json(Operation::Chat, 500, &body).facts();
    let bytes = |text: Option<Box<str>>| text.map_or(0, |text| text.len());
    assert_eq!(bytes(facts.error), 1024);
    assert!(bytes(facts.response_model) <= 256);
    assert!(bytes(facts.error_code) <= 128);
}

#[test]
fn a_bomb_ends_the_observation_only() {
    let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let spaces = vec![b' '; 1 << 20];
    for _ in 0..64 {
        coder.write_all(&spaces).expect("memory");
    }
    coder.write_all(br#"{"usage":{"total_tokens":5}}"#).expect("memory");
    let bomb = coder.finish().expect("memory");
    let case = Case { coding: Some("gzip"), body: &bomb, ..Case::json(Operation::Chat, 200, "") };
    assert_eq!(case.observe(Cut::Whole).0.usage, None);
    let broken =
        Case { coding: Some("gzip"), ..Case::json(Operation::Chat, 200, "not gzip at all") };
    assert_eq!(broken.facts().usage, None);
    let unknown = Case { coding: Some("lzma"), ..Case::json(Operation::Chat, 200, "{}") };
    assert_eq!(unknown.facts().usage, None);
}

/// Pieces of which broken and whole texts are made.
fn scraps() -> impl Strategy<Value = Vec<u8>> {
    let scrap = prop_oneof![
        prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"",
            "\\",
            "\\u",
            "\\ud83d",
            "\\ude00",
            "\\n",
            "\n",
            "\r",
            "\r\n",
            "\n\n",
            "data:",
            "data: ",
            "event: error",
            ": c",
            "[DONE]",
            "null",
            "true",
            "12",
            "-1.5e3",
            "\"usage\"",
            "\"model\"",
            "\"type\":\"message_stop\"",
            "\"choices\"",
            "\"delta\"",
            "\"content\"",
            "\"finish_reason\":\"stop\"",
            "{\"usage\":{\"prompt_tokens\":1}}",
            "\"error\":{\"message\":\"m\"}",
            "\u{feff}",
            "é",
            "😀",
            " ",
            "--b0",
            "--b0--",
            "Content-Disposition: form-data; name=\"model\"",
            "\r\n\r\n",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..6),
    ];
    prop::collection::vec(scrap, 0..60).prop_map(|scraps| scraps.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn cuts_never_change_what_is_read(
        body in scraps(),
        seed: u64,
        status in prop::sample::select(vec![200u16, 500]),
    ) {
        for content_type in ["text/event-stream", "application/json", "text/plain"] {
            let base = Case { status, content_type, body: &body, ..Case::json(Operation::Chat, 200, "") };
            let whole = format!("{:?}", base.observe(Cut::Whole));
            prop_assert_eq!(&format!("{:?}", base.observe(Cut::Bytes)), &whole);
            prop_assert_eq!(&format!("{:?}", base.observe(Cut::Seed(seed))), &whole);
        }
        for content_type in ["application/json", "multipart/form-data; boundary=b0"] {
            let read = |cut| {
                let headers = headers(content_type, None);
                let mut observer =
                    RequestObserver::new(Operation::Chat, &headers);
                frames(&body, cut).iter().for_each(|frame| observer.data(frame));
                format!("{:?}", observer.finish())
            };
            prop_assert_eq!(read(Cut::Bytes), read(Cut::Whole));
            prop_assert_eq!(read(Cut::Seed(seed)), read(Cut::Whole));
        }
    }

    #[test]
    fn any_bytes_are_survived(body in prop::collection::vec(any::<u8>(), 0..300)) {
        for coding in ["gzip", "deflate", "br", "zstd", "br, gzip"] {
            let case = Case { coding: Some(coding), body: &body, ..Case::json(Operation::Chat, 200, "") };
            case.observe(Cut::Bytes);
        }
        drop(inspect_whole(&body, Some("application/json"), None));
        drop(inspect_whole(&body, Some("multipart/form-data; boundary=b"), None));
    }

    #[test]
    fn decoded_text_is_what_serde_reads(text in "\\PC*|[\\x00-\\x1f\"\\\\é漢😀]*", seed: u64) {
        let mut body = serde_json::json!({ "model": text }).to_string();
        if seed % 2 == 0 {
            body = body.chars().map(|c| if c.is_ascii() { c.to_string() } else {
                c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect()
            }).collect();
        }
        let case = Case { body: body.as_bytes(), ..Case::json(Operation::Chat, 200, "") };
        let model = case.observe(Cut::Seed(seed)).0.response_model.unwrap_or_default();
        prop_assert_eq!(&*model, domain::record::bounded(&text, 256));
    }
}
