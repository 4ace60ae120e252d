//! The language, case by case, and that printed trees parse back.

use proptest::prelude::*;

use super::{flags::Flags, *};
use crate::{
    fields::{self, Kind},
    glob::Glob,
    time::Timestamp,
};

const NOW: Timestamp = Timestamp::from_micros(1_795_435_200_000_000);

fn check(text: &str, expected: &str) {
    let expr = parse(text, NOW).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(expr.to_string(), expected, "{text}");
    assert_eq!(parse(expected, NOW).as_ref(), Ok(&expr), "{expected}");
}

#[test]
fn terms_mean_what_the_page_says() {
    check("", "*");
    check("  ", "*");
    check("*", "*");
    check("Timeout", "timeout");
    check("tim* *out", "tim out");
    check("\"Rate  limit\"", "\"rate  limit\"");
    check(r#""say \"no\" \\ \d""#, r#""say \"no\" \\ \\d""#);
    check("status_code:500", "status_code:500");
    check("status_code=500", "status_code:500");
    check("status_code!=500", "-status_code:500");
    check("status_code:500,502", "status_code:500,502");
    check("status_code:5xx", "status_code>=500 status_code<=599");
    check("status_code:429,5XX", "status_code:429 OR (status_code>=500 status_code<=599)");
    check("status_code >= 500", "status_code>=500");
    check("status_code:>=500", "status_code>=500");
    check("model:gpt-4*", "model:gpt-4*");
    check("model:gpt-4*,o1", "model:o1 OR model:gpt-4*");
    check("model:*", "model:*");
    check("model:**", "model:*");
    check("model:\"gpt-4*\"", "model:\"gpt-4*\"");
    check("error:\"a b\"", "error:\"a b\"");
    check("error:/rate (limit|quota)/", "error:/rate (limit|quota)/");
    check("error:/Rate/i", "error:/(?i)Rate/");
    check("path:/^\\/v1\\/chat/", "path:/^\\/v1\\/chat/");
    check("path:/v1/chat/completions", "path:\"/v1/chat/completions\"");
    check("path:/v1/*", "path:\\/v1\\/*");
    check("path:/", "path:\"/\"");
    check("duration_ms>2s", "duration_ms>2000");
    check("duration_ms>1m1.5s", "duration_ms>61500");
    check("duration_ms<=1.5", "duration_ms<=1.5");
    check("overhead_us>1ms", "overhead_us>1000");
    check("request_bytes>64KiB", "request_bytes>65536");
    check("cost_usd>$0.05", "cost_usd>0.05");
    check("partial:TRUE", "partial:true");
    check("level:warning", "level:warn");
    check("level>=warn", "level:warn,error");
    check("level<debug", "level:trace");
    check("level>error", "-*");
    check("ts>=1h", "ts>=2026-11-23T11:00:00.000000Z");
    check("ts:2026-11-23", "ts>=2026-11-23T00:00:00.000000Z ts<2026-11-24T00:00:00.000000Z");
    check("labels.team:blue", "labels.team:blue");
    check("attrs.queue.bytes>5", "attrs.queue.bytes>5");
    check("attrs.queue.bytes>\"5\"", "attrs.queue.bytes>\"5\"");
    check("\"labels.odd name\":x", "\"labels.odd name\":x");
    check("project:blue", "project:blue");
    check("\"project\":blue", "\"project\":blue");
    check("-project:blue", "-project:blue");
    check("status:500", "status:500");
    check("user:bob", "end_user:bob");
    check("cost>1", "cost_usd>1");
    check("user:o\\,neil*", "end_user:o\\,neil*");
    check("12:30", "\"12:30\"");
    check("a->b", "\"a->b\"");
}

#[test]
fn terms_are_joined() {
    check("a b", "a b");
    check("a AND b", "a b");
    check("a OR b c", "a OR (b c)");
    check("(a OR b) c", "(a OR b) c");
    check("((a)) ((b c))", "a b c");
    check("-a NOT b", "-a -b");
    check("NOT (a b)", "-(a b)");
    check("NOT -a", "a");
    check("a or b", "a or b");
    check("ANDy ORacle", "andy oracle");
    check("- a", "\"-\" a");
    check("* OR a", "*");
    check("outcome:*(a)b", "outcome:* a b");
    check(
        "project:a OR project:b",
        "\"project\":a OR project_id:a OR \"project\":b OR project_id:b",
    );
}

fn check_error(text: &str, place: &str, message: &str) {
    let error = parse(text, NOW).expect_err(text);
    assert_eq!((&text[error.at.clone()], error.to_string().as_str()), (place, message), "{text}");
}

#[test]
fn errors_point_at_the_place() {
    check_error(
        "ok statuscode:500",
        "statuscode",
        "unknown field 'statuscode'; did you mean 'status_code'?",
    );
    check_error("modle:x", "modle", "unknown field 'modle'; did you mean 'model'?");
    check_error(
        "http://x",
        "http",
        "unknown field 'http' (to look for the text itself, put it in quotation marks)",
    );
    check_error(
        "queue.bytes:5",
        "queue.bytes",
        "unknown field 'queue.bytes' (an attribute of a trace is attrs.queue.bytes)",
    );
    check_error("a (b", "(", "the parenthesis is not closed");
    check_error("a) b", ")", "this parenthesis closes nothing");
    check_error("a ()", "()", "nothing stands in these parentheses");
    check_error("a \"b", "\"", "the quotation mark is not closed");
    check_error("\"\"", "\"\"", "nothing stands in these quotation marks");
    check_error("OR a", "OR", "OR needs a term on both sides");
    check_error("a AND OR b", "OR", "OR needs a term on both sides");
    check_error("a AND", "", "a term is missing here");
    check_error("(a OR)", ")", "a term is missing here");
    check_error(
        "model: x",
        "model:",
        "a value is missing; model:* finds lines that have the field",
    );
    check_error("model:(a OR b)", "(", "write a list as model:a,b");
    check_error("status_code>", "status_code>", "a value is missing");
    check_error(
        "status_code:abc",
        "abc",
        "status_code is a whole number: expected 500, 5xx, >=400 or a list such as 429,5xx",
    );
    check_error("attempts:-1", "-1", "attempts is a whole number: expected digits only");
    check_error(
        "duration_ms>fast",
        "fast",
        "duration_ms is a number: expected a number such as 250, or 2s",
    );
    check_error("model>x", "x", "model is text, which has no order");
    check_error("error:/(/", "/(/", "the regex is wrong: unclosed group");
    check_error("error:/a{9999}{9999}/", "/a{9999}{9999}/", "the regex is too large");
    check_error("path:/^/v1/", "/^/v1/", "inside of a regex a slash is written \\/");
    check_error("status_code:/5../", "/5../", "status_code is a whole number: a regex is for text");
    check_error("user:o\"neil\"", "\"", "put the whole value in quotation marks");
    check_error("labels:blue", "blue", "labels holds many: ask for one, as in labels.team:blue");
    check_error(
        "level:wran",
        "wran",
        "unknown level: expected one of trace, debug, info, warn, error; did you mean 'warn'?",
    );
    check_error(
        "ts>soon",
        "soon",
        "ts is a time: expected 15m, 1h30m, 7d, 2026-11-23 or 2026-11-23T10:00Z",
    );
}

#[test]
fn the_place_is_drawn() {
    let check = |query: &str, expected: &str| {
        let error = parse(query, NOW).expect_err(query);
        assert_eq!(error.place(query), expected);
    };
    check("ok statuscode:500", "ok statuscode:500\n   ^^^^^^^^^^");
    check("a AND", "a AND\n     ^");
    check("\u{1b}[31m\u{202e} (ü", "·[31m· (ü\n       ^");
    let long = format!("{} modle:x {}", "a".repeat(100), "b".repeat(100));
    let (before, after) = ("a".repeat(29), "b".repeat(27));
    check(&long, &format!("…{before} modle:x {after}…\n{}^^^^^", " ".repeat(31)));
}

#[test]
fn bounds_hold() {
    let fails = |text: &str, part: &str| {
        let error = parse(text, NOW).expect_err(part).to_string();
        assert!(error.contains(part), "{error}");
    };
    fails(&"a ".repeat(QUERY_BYTES_MAX), "longer than 102400 bytes");
    fails(&"(".repeat(1000), "more than 64 parentheses");
    fails(&"-".repeat(1000), "more than 64 parentheses");
    fails(&format!("{}a", "NOT ".repeat(1000)), "more than 64 parentheses");
    fails(&"a ".repeat(QUERY_TERMS_MAX + 1), "more than 1024 terms");
    fails(&format!("request_id:{}a", "a,".repeat(2000)), "more than 1024 terms");
    fails(&"error:/a/ ".repeat(QUERY_REGEXES_MAX + 1), "more than 32 regexes");
    let deep = format!("{}a{}", "(".repeat(64), ")".repeat(64));
    assert_eq!(parse(&deep, NOW), Ok(Expr::Text("a".to_owned())));
}

#[test]
fn others_have_names_of_their_own() {
    let check = |text: &str, expected: &str| {
        let expr = parse_for_foreign(text, NOW).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(expr.to_string(), expected, "{text}");
    };
    check("status:open", "attrs.status:open");
    check("status_code:5xx", "status_code>=500 status_code<=599");
    check("error.code>5", "attrs.error.code>5");
    check("level>=warning", "level>=warning");
    check("level:NOTICE", "level:notice");
    check("user:bob", "attrs.user:bob");
    check("ts>1h", "ts>2026-11-23T11:00:00.000000Z");
    check("duration_ms:fast", "attrs.duration_ms:fast");
    check("@timestamp>5", "\"attrs.@timestamp\">5");
}

#[test]
fn statistics_are_read() {
    let check = |text: &str, expected: &str| {
        let stats = parse_stats(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(stats.to_string(), expected, "{text}");
        assert_eq!(parse_stats(expected), Ok(stats));
    };
    check("count", "count");
    check("COUNT(*), count()", "count, count");
    check(
        "count, p95(duration_ms), sum(cost_usd) by model",
        "count, p95(duration_ms), sum(cost_usd) by model",
    );
    check(
        "p99.9(latency),median(ttft) by project , user",
        "p99.9(duration_ms), p50(ttft_ms) by \"project\", end_user",
    );
    check("distinct(user) by labels.team", "distinct(end_user) by labels.team");
    check("max(ts), min(\"status\")", "max(ts), min(\"status\")");
    let check_error = |text: &str, place: &str, part: &str| {
        let error = parse_stats(text).expect_err(text);
        assert_eq!(&text[error.at.clone()], place, "{text}: {error}");
        assert!(error.to_string().contains(part), "{error}");
    };
    check_error("", "", "expected a measure: count, sum, avg");
    check_error("cuont", "cuont", "did you mean 'count'?");
    check_error("p95", "p95", "p95 needs a field: p95(duration_ms)");
    check_error("p0(duration_ms)", "p0", "expected a measure");
    check_error("sum(model)", "model", "model is no number, so it has no sum");
    check_error("sum(cost", "(", "the parenthesis is not closed");
    check_error("count by", "", "a field is missing here");
    check_error("count model", "model", "expected a comma, or 'by'");
    check_error("count by model;", ";", "expected the end");
    check_error("count by modle", "modle", "did you mean 'model'?");
    check_error("count by model,provider,path,ts", "", "at most 3 fields");
    check_error("count by labels", "labels", "name one, as in labels.team");
    check_error(&"count,".repeat(20), "", "more than 16 measures");
    assert_eq!(parse_bucket("5m"), Ok(300_000_000));
    for wrong in ["", "5", "0s", "100ms", "400d", "-5m", "5 m", "1e9d"] {
        assert!(parse_bucket(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn flags_say_the_same() {
    let check = |flags: Flags, expected: &str| {
        let expr = flags.expr(NOW).unwrap_or_else(|error| panic!("{flags:?}: {error}"));
        assert_eq!(expr.to_string(), expected, "{flags:?}");
    };
    let some = |text: &str| Some(text.to_owned());
    check(Flags::default(), "*");
    check(Flags { status: some("5xx"), ..Flags::default() }, "status_code>=500 status_code<=599");
    check(Flags { status: some(">=400"), ..Flags::default() }, "status_code>=400");
    check(
        Flags { status: some("429, <300"), ..Flags::default() },
        "status_code:429 OR status_code<300",
    );
    check(Flags { project: some("blue"), ..Flags::default() }, "project:blue");
    check(
        Flags { model: some("gpt-4*"), ..Flags::default() },
        "model:gpt-4* OR response_model:gpt-4*",
    );
    check(
        Flags { user: some("a, b \"c\"*"), ..Flags::default() },
        "end_user:a\\,\\ b\\ \\\"c\\\"*",
    );
    check(
        Flags { slow: some("2s"), level: some("warn"), ..Flags::default() },
        "duration_ms>=2000 level:warn,error",
    );
    check(
        Flags { query: some("a OR b"), request_id: some("r-1"), ..Flags::default() },
        "(a OR b) request_id:r-1",
    );
    check(
        Flags { errors: true, ..Flags::default() },
        "(outcome:* -outcome:ok) OR (-outcome:* level:error)",
    );
    check(Flags { outcome: some("timeout,denied"), ..Flags::default() }, "outcome:timeout,denied");
    let check_error = |flags: Flags, expected: &str| {
        assert_eq!(flags.expr(NOW).expect_err("wrong").to_string(), expected);
    };
    check_error(
        Flags { status: some("abc"), ..Flags::default() },
        "status: status_code is a whole number: expected 500, 5xx, >=400 or a list such as 429,5xx",
    );
    check_error(
        Flags { outcome: some("tiemout"), ..Flags::default() },
        "outcome: expected one of ok, denied, client_error, upstream_error, timeout, \
         client_closed, interrupted, proxy_error; did you mean 'timeout'?",
    );
    check_error(Flags { model: some("a,,b"), ..Flags::default() }, "model: a value is missing");
    check_error(Flags { query: some("("), ..Flags::default() }, "query: a term is missing here");
}

#[test]
fn times_are_read() {
    let check = |text: &str, expected: Option<&str>| {
        let parsed = parse_time(text, NOW).map(|time| time.to_string());
        assert_eq!(parsed.as_deref(), expected, "{text}");
    };
    check("1h", Some("2026-11-23T11:00:00.000000Z"));
    check("7d", Some("2026-11-16T12:00:00.000000Z"));
    check("1h30m", Some("2026-11-23T10:30:00.000000Z"));
    check("30m1h", None);
    check("1h30", None);
    check("", None);
    check("now", Some("2026-11-23T12:00:00.000000Z"));
    check("2026-11-23", Some("2026-11-23T00:00:00.000000Z"));
    check("2026-11-23T10:00Z", Some("2026-11-23T10:00:00.000000Z"));
    check("2026-11-23T10:00", Some("2026-11-23T10:00:00.000000Z"));
    check("2026-11-23T10:00:00+02:00", Some("2026-11-23T08:00:00.000000Z"));
    check("yesterday", None);
    check("99999999999999999h", None);
    check("-1h", None);
    check("nand", None);
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9]{1,6}", "[ -~]{1,8}", "\\PC{1,6}", Just("*".to_owned())]
}

fn literal(kind: Kind) -> BoxedStrategy<Literal> {
    match kind {
        Kind::Integer => any::<u64>().prop_map(Literal::Integer).boxed(),
        Kind::Number | Kind::Decimal => {
            any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(Literal::Number).boxed()
        }
        Kind::Boolean => any::<bool>().prop_map(Literal::Boolean).boxed(),
        Kind::Time => (0..4_000_000_000_000_000i64)
            .prop_map(|micros| Literal::Time(Timestamp::from_micros(micros)))
            .boxed(),
        Kind::Text | Kind::Id | Kind::Labels => text().prop_map(Literal::Text).boxed(),
    }
}

fn comparison() -> impl Strategy<Value = Comparison> {
    prop_oneof![
        Just(Comparison::Less),
        Just(Comparison::LessOrEqual),
        Just(Comparison::Greater),
        Just(Comparison::GreaterOrEqual),
    ]
}

/// A test that text can ask for.
fn term() -> impl Strategy<Value = Expr> {
    let names: Vec<&str> = names::known_names().collect();
    let known = proptest::sample::select(names).prop_filter_map("a field", |name| {
        fields::find(name).filter(|field| !["level", "labels"].contains(&field.name))
    });
    let other =
        prop_oneof![text().prop_map(FieldRef::Label), text().prop_map(FieldRef::Attribute),];
    let field = prop_oneof![3 => known.prop_map(FieldRef::Known), 1 => other];
    let tested = field.prop_flat_map(|field| {
        let kind = match &field {
            FieldRef::Known(known) => known.kind,
            _ => Kind::Text,
        };
        let any_of = proptest::collection::vec(literal(kind), 1..4).prop_map(Test::Any);
        let mut tests = vec![Just(Test::Present).boxed(), any_of.boxed()];
        if kind.is_ordered() {
            let compared = (comparison(), literal(kind));
            tests.push(compared.prop_map(|(op, literal)| Test::Compare(op, literal)).boxed());
        }
        if matches!(kind, Kind::Text | Kind::Id) {
            let glob =
                (text(), text()).prop_map(|(a, b)| Test::Like(Glob::new(format!("{a}*{b}"))));
            let glob = glob.prop_filter("not all", |test| {
                !matches!(test, Test::Like(glob) if glob.as_str().bytes().all(|b| b == b'*'))
            });
            tests.push(glob.boxed());
            let regex = "[a-z/ ()|]{1,8}".prop_filter("valid", |text| compile_regex(text).is_ok());
            tests.push(regex.prop_map(Test::Regex).boxed());
        }
        let test = proptest::strategy::Union::new(tests);
        test.prop_map(move |test| Expr::Field(field.clone(), test))
    });
    let word = text().prop_map(|text| Expr::Text(fold(&text)));
    prop_oneof![4 => tested, 2 => word, 1 => Just(Expr::All)]
}

fn tree() -> impl Strategy<Value = Expr> {
    term().prop_recursive(4, 24, 4, |inner| {
        let parts = || proptest::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            parts().prop_map(Expr::and),
            parts().prop_map(Expr::or),
            inner.clone().prop_map(Expr::negated),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_parses_back(expr in tree()) {
        let printed = expr.to_string();
        prop_assert_eq!(parse(&printed, NOW), Ok(expr), "{}", printed);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[-a-z:<>=!*/\"\\\\(), .0-9\u{e9}\u{202e}]{0,40}") {
        for parsed in [parse(&text, NOW), parse_for_foreign(&text, NOW)] {
            if let Err(error) = parsed {
                prop_assert!(text.get(error.at.clone()).is_some(), "{:?}", error);
                prop_assert_eq!(error.place(&text).lines().count(), 2);
            }
        }
        if let Ok(expr) = parse(&text, NOW) {
            prop_assert_eq!(parse(&expr.to_string(), NOW), Ok(expr));
        }
        if let Err(error) = parse_stats(&text) {
            prop_assert!(text.get(error.at.clone()).is_some(), "{:?}", error);
        }
    }
}
