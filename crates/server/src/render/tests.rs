//! Every format, on one nasty line.

use domain::{audit::is_deceptive, fields::Stream};
use proptest::prelude::*;

use super::*;

const LINE: &str = "{\"stream\":\"record\",\"ts\":\"2026-11-23T10:00:00.000123Z\",\
    \"level\":\"warn\",\"status_code\":401,\"path\":\"/v1/a b\",\"error\":\"x\\u001b[31m\\\"\",\
    \"labels\":{\"team\":\"=1+1\"},\"end_user\":\"\u{202e}a\"}";

fn printed(format: Format, fields: &[&str], look: Look, lines: &[(&str, bool)]) -> String {
    let chosen = fields.iter().map(|name| Column::parse(name).expect("a field")).collect();
    let mut printer = Printer::new(format, chosen, usual(Stream::ALL), look);
    let mut out = Vec::new();
    for (line, context) in lines {
        printer.print(&mut out, line.as_bytes(), *context).expect("a vector");
    }
    printer.flush(&mut out).expect("a vector");
    String::from_utf8(out).expect("text")
}

fn check(format: Format, fields: &[&str], expected: &str) {
    assert_eq!(printed(format, fields, Look::default(), &[(LINE, false)]), expected);
}

#[test]
fn every_format_is_harmless() {
    let fields = ["status", "path", "error", "labels.team"];
    check(
        Format::Table,
        &fields,
        "STATUS_CODE  PATH     ERROR         LABELS.TEAM\n\
         \u{20}       401  /v1/a b  x\\u{1b}[31m\"  =1+1\n",
    );
    check(
        Format::Csv,
        &fields,
        "status_code,path,error,labels.team\r\n401,/v1/a b,\"x\\u{1b}[31m\"\"\",'=1+1\r\n",
    );
    check(
        Format::Logfmt,
        &fields,
        "status_code=401 path=\"/v1/a b\" error=\"x\\\\u{1b}[31m\\\"\" labels.team=\"=1+1\"\n",
    );
    check(
        Format::Json,
        &fields,
        "{\"status_code\":401,\"path\":\"/v1/a b\",\"error\":\"x\\u001b[31m\\\"\",\
         \"labels.team\":\"=1+1\"}\n",
    );
}

#[test]
fn a_pipe_gets_the_line_and_a_terminal_no_disguise() {
    for format in [Format::Json, Format::Raw] {
        check(format, &[], &format!("{LINE}\n"));
        let look = Look { terminal: true, ..Look::default() };
        let line = LINE.replace('\u{202e}', "\\u202e");
        assert_eq!(printed(format, &[], look, &[(LINE, false)]), format!("{line}\n"));
    }
}

#[test]
fn tables_show_what_a_terminal_can() {
    let trace = "{\"stream\":\"trace\",\"ts\":\"2026-11-23T10:00:01Z\",\"level\":\"info\",\
        \"msg\":\"a long message that will not fit into what is left\"}";
    let look =
        Look { terminal: true, color: true, columns_max: Some(56), marks: true, foreign: false };
    let fields = ["ts", "msg"];
    assert_eq!(
        printed(Format::Table, &fields, look, &[(LINE, false), (trace, true)]),
        "\u{1b}[1m   TS                        MSG\u{1b}[0m\n\
         \u{1b}[33m>  2026-11-23T10:00:00.000Z\u{1b}[0m\n\
         \u{1b}[2m   2026-11-23T10:00:01Z      a long message that will n…\u{1b}[0m\n",
    );
    let shown = printed(Format::Table, &[], Look::default(), &[(trace, false)]);
    assert!(shown.trim_end().ends_with("fit into what is left"), "{shown}");
    let shown = printed(Format::Table, &[], Look::default(), &[("no \u{1b}[2J JSON", false)]);
    assert!(shown.ends_with("no \\u{1b}[2J JSON\n"), "{shown}");
}

#[test]
fn figures_are_no_formulas() {
    let check = |text: &str, expected: &str| assert_eq!(quoted_csv(text), expected);
    check("-1.5", "-1.5");
    check("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0");
    check("-a,b", "\"'-a,b\"");
    check("+1 (555)", "'+1 (555)");
    check("@x", "'@x");
    check("a=b", "a=b");
}

#[test]
fn unknown_fields_get_a_suggestion() {
    let error = Column::parse("statuscode").expect_err("unknown").to_string();
    assert_eq!(error, "unknown field 'statuscode'; did you mean 'status_code'?");
    assert_eq!(Column::parse("user").map(|column| column.heading), Ok("end_user".to_owned()));
    let dotted = Column::parse("queue.bytes").expect("an attribute");
    let line = Line::parse(br#"{"queue":{"bytes":5}}"#);
    assert_eq!(dotted.cell(&line), "5");
}

proptest! {
    /// Whatever a line says, a terminal gets text only; CSV and logfmt too.
    #[test]
    fn nothing_steers_a_terminal(
        name in "\\PC{0,8}|[\\x00-\\x1f\u{202e}\u{9b}a]{0,8}",
        value in "\\PC{0,20}|[\\x00-\\x1f\u{202e}\u{9b}\u{e0041}a\\\\\"]{0,20}",
        cut_at in 0..200_usize,
    ) {
        let text = |text: &str| serde_json::to_string(text).expect("text");
        let line = format!(
            "{{\"stream\":\"record\",\"error\":{},{}:{},\"labels\":{{\"team\":{}}}}}",
            text(&value), text(&name), text(&value), text(&value),
        );
        let broken = String::from_utf8_lossy(&line.as_bytes()[..cut_at.min(line.len())]);
        let look = Look { terminal: true, foreign: true, ..Look::default() };
        let formats = [Format::Table, Format::Json, Format::Csv, Format::Logfmt, Format::Raw];
        let lines = |it| [(it, line.as_str()), (it, &*broken)];
        for (format, line) in formats.into_iter().flat_map(lines) {
            for fields in [&[][..], &["error", "labels.team"]] {
                let shown = printed(format, fields, look, &[(line, false)]);
                let steers = |c: char| is_deceptive(c) && !"\r\n".contains(c);
                prop_assert!(!shown.contains(steers), "{:?}", shown);
            }
        }
    }
}
