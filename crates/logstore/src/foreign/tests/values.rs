//! What tests make of values.

use domain::{
    fields,
    glob::Glob,
    query::{Comparison, Literal, Test},
    time::Timestamp,
};

use crate::foreign::{
    json::{Found, Wanted, unescape},
    value::{ValueTest, time_of},
};

fn is(value: &str) -> Test {
    Test::Any(vec![Literal::Text(value.to_owned())])
}

fn at_least(value: &str) -> Test {
    Test::Compare(Comparison::GreaterOrEqual, Literal::Text(value.to_owned()))
}

fn check(field: &str, test: &Test, raw: &str, expected: bool) {
    let compiled = ValueTest::new(field, test).expect("a test");
    assert_eq!(compiled.holds(raw.as_bytes()), expected, "{field}: {test:?} of {raw}");
}

#[test]
fn equality_is_of_text_and_of_numbers() {
    check("a", &is("500"), "500", true);
    check("a", &is("500"), "5e2", true);
    check("a", &is("500.0"), "500", true);
    check("a", &is("500"), "\"500\"", true);
    check("a", &is("7"), "\"007\"", false);
    check("a", &is("9007199254740993"), "9007199254740992", false);
    check("a", &is("x"), "\"\\u0078\"", true);
    check("a", &is("true"), "true", true);
    check("a", &is("true"), "\"true\"", true);
    check("a", &is("null"), "null", false);
    check("a", &is("b"), "[\"a\", [1], \"b\"]", true);
    check("a", &is("c"), "[\"a\", [\"c\"], \"b\"]", false);
    check("a", &is("NaN"), "NaN", true);
    check("a", &Test::Present, "{}", true);
    check("a", &Test::Present, "null", false);
    check("a", &Test::Like(Glob::new("gpt-*o")), "\"gpt-4o\"", true);
    check("a", &Test::Like(Glob::new("4*")), "429", true);
    check("a", &Test::Regex("^time.?out$".to_owned()), "\"time-out\"", true);
    check("a", &Test::Regex("\"b\": ?1".to_owned()), "{\"b\":1}", true);
    let typed = |literal| Test::Any(vec![literal]);
    check("status_code", &typed(Literal::Integer(500)), "\"500\"", true);
    check("status_code", &typed(Literal::Integer(500)), "\"5e2\"", true);
    check("partial", &typed(Literal::Boolean(true)), "true", true);
    assert!(ValueTest::new("a", &Test::Regex("(".to_owned())).is_err());
}

#[test]
fn an_order_needs_two_of_a_kind() {
    check("a", &at_least("500"), "503", true);
    check("a", &at_least("500"), "\"503\"", true);
    check("a", &at_least("500"), "499.5", false);
    check("a", &at_least("500"), "\"-\"", false);
    check("a", &at_least("b"), "\"c\"", true);
    check("a", &at_least("b"), "7", false);
    check("a", &at_least("500"), "[1, 600]", true);
    check("a", &at_least("2026-11-23"), "\"2026-11-23T00:00:00+00:00\"", true);
    check("a", &at_least("2026-11-23"), "\"2026-11-22T23:59:59Z\"", false);
    check("a", &at_least("2026-11-23"), "1795392000", true);
    check("level", &at_least("warn"), "\"ERROR\"", true);
    check("severity", &at_least("WARN"), "\"Warning\"", true);
    check("level", &at_least("warn"), "\"info\"", false);
    check("level", &at_least("warn"), "\"loud\"", false);
    check("level", &at_least("warn"), "50", true);
    check("level", &at_least("warn"), "30", false);
    check("level", &at_least("30"), "30", true);
    check("level", &is("error"), "\"ERR\"", true);
    check("level", &is("error"), "\"errors\"", false);
    check("grade", &is("error"), "\"ERROR\"", false);
}

#[test]
fn times_come_in_many_forms() {
    let expected = Timestamp::parse("2026-11-23T10:00:00.5Z");
    assert!(expected.is_some());
    for raw in [
        "\"2026-11-23T10:00:00.5Z\"",
        "\"2026-11-23T10:00:00.500000Z\"",
        "\"2026-11-23T10:00:00.500000999Z\"",
        "\"2026-11-23T11:00:00.5+01:00\"",
        "\"2026-11-23 10:00:00.5\"",
        "\"2026-11-23 10:00:00,500\"",
        "\"2026-11-23T10:00:00.5\"",
        "1795428000.5",
        "1795428000500",
        "1795428000500000",
        "1795428000500000000",
        "\"1795428000500\"",
    ] {
        assert_eq!(time_of(raw.as_bytes()), expected, "{raw}");
    }
    for raw in ["\"soon\"", "true", "\"2026-13-01T00:00:00Z\"", "\"2026-02-29T00:00:00Z\"", "1e30"]
    {
        assert_eq!(time_of(raw.as_bytes()), None, "{raw}");
    }
    for text in ["1969-12-31T23:59:59Z", "2000-02-29T12:00:00Z", "2024-12-31T23:59:59.999999Z"] {
        let raw = format!("\"{text}\"");
        assert_eq!(time_of(raw.as_bytes()), Timestamp::parse(text), "{text}");
    }
}

#[test]
fn escapes_are_resolved_as_serde_does() {
    for raw in [r#"a\"b\\c\/d\b\f\n\r\t"#, r"\u00e9\u6f22\ud83d\ude00", r"plain", r"\u0000"] {
        let expected: String = serde_json::from_str(&format!("\"{raw}\"")).expect("a string");
        assert_eq!(&*unescape(raw.as_bytes()), expected.as_bytes(), "{raw}");
    }
    // What no parser takes stays as it is.
    for (raw, expected) in [
        (r"\ud83d", "\u{fffd}"),
        (r"\ud83dx", "\u{fffd}x"),
        (r"\ude00\ud83d", "\u{fffd}\u{fffd}"),
        (r"\x41", r"\x41"),
        (r"\u12", r"\u12"),
        ("\\", "\\"),
    ] {
        assert_eq!(&*unescape(raw.as_bytes()), expected.as_bytes(), "{raw}");
    }
}

#[test]
fn a_path_is_a_key_or_a_way() {
    let check = |line: &str, path: &str, expected: Option<&str>| {
        let wanted = Wanted::new(&[path.to_owned()]);
        let mut found = Found::default();
        wanted.read(line.as_bytes(), &mut found);
        let value = wanted.value(0, line.as_bytes(), &found);
        assert_eq!(value, expected.map(str::as_bytes), "{path} of {line}");
    };
    check(r#" { "a" : 1 , "b":{"a":2} } "#, "a", Some("1"));
    check(r#"{"b":{"a":2}}"#, "a", None);
    check(r#"{"b":{"a":2}}"#, "b.a", Some("2"));
    check(r#"{"b.a":1,"b":{"a":2}}"#, "b.a", Some("1"));
    check(r#"{"b.a":null,"b":{"a":2}}"#, "b.a", Some("2"));
    check(r#"{"a":{"b.c":1},"a.b":{"c":2}}"#, "a.b.c", Some("2"));
    check(r#"{"a":{"b.c":1,"b":{"c":3}}}"#, "a.b.c", Some("1"));
    check(r#"{"a":1,"a":2}"#, "a", Some("2"));
    check(r#"{"b":{"a":1},"b":{"c":2}}"#, "b.a", None);
    check(r#"{"b":{"a":1},"b":3}"#, "b.a", None);
    check(r#"{"\u0061":1}"#, "a", Some("1"));
    check(r#"{"s":"\"a\":1"}"#, "a", None);
    check(r#"{"a":1,}"#, "a", None);
    check(r#"{"a":1"#, "a", None);
    check(r#"{"a":1} x"#, "a", None);
    check(r#"{"a":1,"b":tru}"#, "a", None);
    check(r#"{"a":1,"b":[1,]}"#, "a", None);
    check(r#"{"a":01}"#, "a", None);
    check(r#"{"a":NaN,"b":-Infinity}"#, "a", Some("NaN"));
    check(r#"[{"a":1}]"#, "a", None);
    let deep = format!("{{\"a\":1,\"b\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
    check(&deep, "a", None);
    let many = "x.".repeat(20) + "x";
    check(&format!("{{\"{many}\":1}}"), &many, Some("1"));
    assert!(fields::find("ts").is_some());
}
