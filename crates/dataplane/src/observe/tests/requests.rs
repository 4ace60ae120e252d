//! What is read of requests, in passing and as a whole.

use super::*;

fn observe(content_type: &str, body: &[u8], cut: Cut) -> RequestFacts {
    let headers = headers(content_type, None);
    let mut observer = RequestObserver::new(Operation::Chat, &headers);
    for frame in frames(body, cut) {
        observer.data(&frame);
    }
    observer.finish()
}

fn facts(content_type: &str, body: &[u8]) -> RequestFacts {
    let facts = observe(content_type, body, Cut::Whole);
    for cut in [Cut::Bytes, Cut::Seed(3), Cut::Seed(4)] {
        let other = observe(content_type, body, cut);
        assert_eq!(format!("{other:?}"), format!("{facts:?}"), "{cut:?}");
    }
    facts
}

#[test]
fn json_requests_say_model_user_and_stream() {
    let body = br#"{"messages":[{"role":"user","content":"say \"model\":\"no\""}],"metadata":{"user_id":"m"},
        "model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"safety_identifier":"s"}"#;
    let facts = facts("application/json", body);
    assert_eq!(facts.model.as_deref(), Some("gpt-4o"));
    assert_eq!(facts.end_user.as_deref(), Some("s"));
    assert!(facts.stream && facts.include_usage);
}

#[test]
fn end_users_are_bounded_in_characters() {
    let body = format!(r#"{{"user":"{}"}}"#, "é".repeat(300));
    let facts = facts("application/json", body.as_bytes());
    assert_eq!(facts.end_user.map(|user| user.chars().count()), Some(256));
}

fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (disposition, value) in parts {
        body.extend_from_slice(
            format!("--b0\r\nContent-Disposition: form-data; {disposition}\r\n\r\n").as_bytes(),
        );
        body.extend_from_slice(value);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--b0--\r\n");
    body
}

#[test]
fn forms_say_the_model_wherever_it_stands() {
    let content_type = "multipart/form-data; charset=utf-8; boundary=\"b0\"";
    let file = b"RIFF\r\n--b\r\n\r\n--b1 name=\"model\"\r\n\r\nno".repeat(200);
    let upload: (&str, &[u8]) = ("name=\"file\"; filename=\"a.wav\"", &file);
    let model: (&str, &[u8]) = ("name=\"model\"", b"whisper-1");
    for parts in [[upload, model], [model, upload]] {
        let body = form(&parts);
        assert_eq!(facts(content_type, &body).model.as_deref(), Some("whisper-1"));
        let inspected = inspect_whole(&body, Some(content_type), None).expect("decidable");
        assert_eq!(&*inspected.model, "whisper-1");
    }
    let twice = form(&[model, ("name=model", b"gpt-4o")]);
    assert_eq!(inspect_whole(&twice, Some(content_type), None), Err(WhyUndecidable::Duplicate));
    let cut = &form(&[model, upload])[..400];
    assert_eq!(inspect_whole(cut, Some(content_type), None), Err(WhyUndecidable::InvalidForm));
}

#[test]
fn rules_see_scalars_and_refuse_what_is_undecidable() {
    let body = br#"{"model":"gpt-4o","n":2,"temperature":0.5,"stop":null,"tools":[1],"user":"u"}"#;
    let inspected = inspect_whole(body, Some("application/vnd.api+json; charset=\"UTF-8\""), None);
    let inspected = inspected.expect("decidable");
    let param = |name: &str| inspected.param(name).and_then(Param::as_str);
    assert_eq!(&*inspected.model, "gpt-4o");
    assert_eq!(
        (param("n"), param("temperature"), param("stop")),
        (Some("2"), Some("0.5"), Some("null"))
    );
    assert_eq!((inspected.param("tools"), param("user")), (Some(&Param::Composite), Some("u")));

    let check = |body: &str, content_type: Option<&str>, coding: Option<&str>, why| {
        let decided = inspect_whole(body.as_bytes(), content_type, coding);
        assert_eq!(decided.map(|_| ()), Err(why), "{body} {content_type:?} {coding:?}");
    };
    use WhyUndecidable::*;
    let json = Some("application/json");
    let good = r#"{"model":"m"}"#;
    check(good, json, Some("gzip"), Encoded);
    check(good, None, None, ContentType);
    check(good, Some("text/plain"), None, ContentType);
    check(good, Some("application/json; charset=utf-16"), None, ContentType);
    check(r#"{"model":"m","model":"n"}"#, json, None, Duplicate);
    check(r#"{"model":"m","mod\u0065l":"n"}"#, json, None, Duplicate);
    check(r#"{"messages":[]}"#, json, None, NoModel);
    check(r#"{"model":""}"#, json, None, NoModel);
    check(r#"{"model":null}"#, json, None, NoModel);
    check(r#"{"model":["m"]}"#, json, None, NoModel);
    check(r#"["model"]"#, json, None, NotAnObject);
    check(r#"{"model":"m"} {}"#, json, None, InvalidJson);
    check(r#"{"model":"m""#, json, None, InvalidJson);
    check("", json, None, InvalidJson);
    let deep = format!(r#"{{"model":"m","x":{}}}"#, "[".repeat(10_000));
    check(&deep, json, None, TooDeep);
    let deep = format!(r#"{{"model":"m","x":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    check(&deep, json, None, TooDeep);
    let invalid = inspect_whole(b"{\"model\":\"m\",\"x\":{\"\xff\":1}}", json, None);
    assert_eq!(invalid, Err(InvalidJson));
    assert!(inspect_whole(good.as_bytes(), json, Some("identity")).is_ok());
}

#[test]
fn bodies_are_kept_where_tokens_are_counted() {
    let budget = TextBudget::new(1 << 20);
    let kept = |operation, content_type: &str, body: &'static str| {
        let headers = headers(content_type, None);
        let mut observer = RequestObserver::new(operation, &headers).collecting(&budget);
        observer.data(&Bytes::from_static(body.as_bytes()));
        let is_collecting = observer.is_collecting();
        assert_eq!(observer.finish().text.is_some(), is_collecting);
        is_collecting
    };
    let json = "application/json";
    assert!(kept(Operation::Chat, json, r#"{"messages":[],"stream":true}"#));
    assert!(kept(Operation::Messages, json, r#"{"messages":[]}"#));
    assert!(kept(Operation::Embeddings, json, r#"{"input":"x"}"#));
    assert!(!kept(Operation::Images, json, r#"{"prompt":"x"}"#));
    assert!(!kept(Operation::Chat, "application/octet-stream", "{}"));
    assert_eq!(budget.left(), 1 << 20);
}
