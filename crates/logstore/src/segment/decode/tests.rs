use arrow_array::cast::AsArray;
use proptest::prelude::*;

use super::*;
use crate::segment::{render::Renderer, schema::column_of};

const LINES: &[&str] = &[
    "{}",
    "{\"ts\":\"2026-11-23T10:00:00.000000Z\"}",
    "{\"ts\":\"2026-11-23T10:00:00.000000Z\",\"level\":\"info\"}",
    "{\"level\":\"info\",\"ts\":\"2026-11-23T10:00:00.000000Z\"}",
    "{\"ts\":\"2026-11-23T10:00:00Z\"}",
    "{\"ts\":\"2026-11-23T12:00:00.000000+02:00\",\"a\":1}",
    "{\"ts\":17}",
    " {\"ts\":\"2026-11-23T10:00:00.000000Z\" , \"x\" : [1, 2]} ",
    "{\"ts\":\"2026-11-23T10:00:00.000000Z\",\"status_code\":\"200\"}",
    "{\"ts\":\"2026-11-23T10:00:00.000000Z\",\"status_code\":200,\"status_code\":404}",
    "{\"ts\":\"2026-11-23T10:00:00.000000Z\",\"x\":1,\"x\":2}",
    "{\"ts\":\"2026-11-23T10:00:00.000000Z\",\"model\":\"a\\u0041\\n\\ud83d\\ude00é\\u0085\"}",
    "{\"ts\":\"2026-11-23T10:00:00.000000Z\",\"model\":\"half \\ud83d\",\"\\ud83d\":1}",
    "{\"ts\":\"2026-11-23T10:00:00.000000Z\",\"labels\":{\"b\":\"1\",\"a\":\"\\n\"}}",
    "{\"ts\":\"2026-11-23T10:00:00.000000Z\",\"labels\":{\"b\":1}}",
    "{\"ts\":\"2026-11-23T10:00:00.000000Z\",\"labels\":{\"b\":\"1\",\"b\":\"2\"}}",
    "{\"ts\":\"2026-11-23T10:00:00.000000Z\",\"labels\":{}}",
    "{\"ts\":\"2026-11-23T10:00:00.000000Z\",\"labels\":{\"b\":\"1\"",
    "{\"ts\":\"2026-11-23T10:00:00.000000Z\",\"duration_ms\":0.001,\"upstream_ms\":12.340}",
    "{\"ts\":\"2026-11-23T10:00:00.000000Z\",\"duration_ms\":12.34,\"upstream_ms\":-1}",
    "{\"ts\":\"2026-11-23T10:00:00.000000Z\",\"duration_ms\":1e3,\"upstream_ms\":1e999}",
    "{\"ts\":\"2026-11-23T10:00:00.000000Z\",\"duration_ms\":999999999999.999}",
    "{\"ts\":\"2026-11-23T10:00:00.000000Z\",\"duration_ms\":99999999999999999999}",
    "{\"ts\":\"2026-11-23T10:00:00.000000Z\",\"request_bytes\":18446744073709551615}",
    "{\"ts\":\"2026-11-23T10:00:00.000000Z\",\"request_bytes\":999999999999999999,\"events\":-7}",
    "{\"ts\":\"2026-11-23T10:00:00.000000Z\",\"request_bytes\":007}",
    "{\"ts\":\"2026-11-23T10:00:00.000000Z\",\"request_bytes\":-0,\"events\":1.0}",
    "{\"ts\":\"2026-11-23T10:00:00.000000Z\",\"cost_usd\":\"0.0015\"}",
    "{\"ts\":\"2026-11-23T10:00:00.000000Z\",\"cost_usd\":\"999999999.999999999\"}",
    "{\"ts\":\"2026-11-23T10:00:00.000000Z\",\"cost_usd\":\"1.50\"}",
    "{\"ts\":\"2026-11-23T10:00:00.000000Z\",\"cost_usd\":0.5}",
    "{\"ts\":\"2026-11-23T10:00:00.000000Z\",\"partial\":null,\"stream_response\":true}",
    "{\"ts\":\"2026-11-23T10:00:00.000000Z\",\"seq\":5,\"line\":\"x\",\"attrs\":{\"a\":[{}]}}",
    "{\"ts\":\"0000-02-29T23:59:59.999999Z\",\"first_ts\":\"2026-02-29T00:00:00.000000Z\"}",
    "{\"ts\":\"9999-12-31T23:59:59.999999Z\"}x",
    "{\"ts\":\"2026-11-23T10:00:00.000000Z\",}",
    "{\"ts\":\"2026-11-23T10:00:00.000000Z\",\"model\":\"a\tb\"}",
    "[1]",
    "",
    "{\"a\"",
    "{\"a\":tru}",
];

/// What every line must do, whatever it says: an error if it is no object, else
/// a row that renders back to the same bytes.
fn check(dataset: Dataset, lines: &[&[u8]]) -> RecordBatch {
    let mut decoder = Decoder::new(dataset, None);
    let mut kept = Vec::new();
    for (seq, line) in (1u64..).zip(lines) {
        let valid = serde_json::from_slice::<Pairs>(line).ok();
        match decoder.push(line, seq) {
            Ok(()) => kept.push((seq, *line)),
            Err(_) => assert!(valid.is_none(), "{}", String::from_utf8_lossy(line)),
        }
    }
    let batch = decoder.finish();
    assert_eq!(batch.num_rows(), kept.len());
    let renderer = Renderer::new(&batch);
    let seqs = batch.column_by_name(SEQ).expect("seq");
    let seqs = seqs.as_primitive::<arrow_array::types::Int64Type>();
    for (row, (seq, line)) in kept.iter().enumerate() {
        let mut out = Vec::new();
        renderer.render(row, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(line));
        assert_eq!(u64::try_from(seqs.value(row)).ok(), Some(*seq));
    }
    batch
}

/// Any JSON object, repeated keys too.
struct Pairs;

impl<'de> serde::Deserialize<'de> for Pairs {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Pairs;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Pairs, A::Error> {
                use serde::de::IgnoredAny;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Pairs)
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

#[test]
fn odd_lines_render_back() {
    let lines: Vec<&[u8]> = LINES.iter().map(|line| line.as_bytes()).collect();
    for dataset in Dataset::ALL {
        check(*dataset, &lines);
        for line in &lines {
            check(*dataset, &[line]);
        }
    }
}

#[test]
fn our_lines_need_no_copy_of_themselves() {
    let record = "{\"schema\":1,\"stream\":\"record\",\"record_id\":\"0\",\
        \"ts\":\"2026-11-23T10:00:00.000001Z\",\"level\":\"info\",\"project\":\"a \\\"b\\\" é\",\
        \"labels\":{\"team\":\"x\"},\"status_code\":\"odd\",\"duration_ms\":12.345,\
        \"cost_usd\":\"0.0015\",\"later\":{\"a\":1},\"and\":null}";
    let batch = check(Dataset::Records, &[record.as_bytes(), record.as_bytes()]);
    let lines = batch.column_by_name(LINE).expect("line");
    assert_eq!(lines.null_count(), 2);
    let trace = "{\"ts\":\"2026-11-23T10:00:00.000001Z\",\"level\":\"info\",\"msg\":\"m\",\
        \"stream\":\"trace\",\"component\":\"app\",\"target\":\"t\",\"instance\":\"i\",\
        \"version\":\"1\",\"request_id\":\"r\",\"attempt\":3,\"error\":\"x\"}";
    let batch = check(Dataset::Traces, &[trace.as_bytes()]);
    assert_eq!(batch.column_by_name(LINE).expect("line").null_count(), 1);
}

#[test]
fn wanted_columns_only() {
    let line = "{\"ts\":\"2026-11-23T10:00:00.000000Z\",\"status_code\":200,\"x\":[1,{\"a\":2}]}";
    let mut decoder = Decoder::new(Dataset::Records, Some(&["status_code", "seq", "no such"]));
    decoder.push(line.as_bytes(), 7).expect("an object");
    decoder.push(b"{\"x\":1,\"status_code\":404,\"ts\":1}", 8).expect("an object");
    assert!(decoder.push(b"{\"status_code\":500,", 9).is_err());
    let batch = decoder.finish();
    let names: Vec<_> = batch.schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["seq", "status_code"]);
    let codes = batch.column(1).as_primitive::<arrow_array::types::Int64Type>();
    assert_eq!(codes.values().as_ref(), [200, 404]);
    assert_eq!(decoder.finish().num_rows(), 0);
}

#[test]
fn canonical_times_are_those_that_time_prints() {
    for micros in [0, -1, 951_782_400_000_000, 1_763_892_000_000_001, -62_167_219_200_000_000] {
        let mut text = domain::time::Timestamp::from_micros(micros).to_string();
        text.push('"');
        assert_eq!(parse::canonical_time(text.as_bytes()), Some(micros), "{text}");
    }
}

fn json_value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<u64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(|n| format!("{n:?}")),
        (0u64..u64::MAX / 1000).prop_map(|n| format!("{}.{:03}", n / 1_000_000, n % 1000)),
        "[0-9]{1,10}\\.[0-9]{1,10}".prop_map(|n| format!("\"{n}\"")),
        "\\PC{0,12}|[\\x00-\\x1f\\x7f-\\u{9f}\"\\\\é漢]{0,6}".prop_map(|text| {
            let mut out = Vec::new();
            domain::json::write_text(&mut out, &text);
            String::from_utf8(out).expect("text")
        }),
        "\\PC{0,12}".prop_map(|text| serde_json::to_string(&text).expect("text")),
        (-2_000_000_000_000_000i64..4_000_000_000_000_000)
            .prop_map(|micros| { format!("\"{}\"", domain::time::Timestamp::from_micros(micros)) }),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3)
                .prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec(("[a-c]", inner), 0..3).prop_map(|pairs| {
                let pairs = pairs.iter().map(|(key, value)| format!("\"{key}\":{value}"));
                format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
            }),
        ]
    })
}

fn key(dataset: Dataset) -> impl Strategy<Value = String> {
    let keys: Vec<String> =
        schema::layout(dataset).columns.iter().map(|column| column.key.to_owned()).collect();
    prop_oneof![4 => proptest::sample::select(keys), 1 => "[a-z]{1,3}", 1 => "\\PC{0,3}"]
}

/// Lines that have keys in our order more often than not; those with a time
/// that counts have the same.
pub(crate) fn line(dataset: Dataset) -> impl Strategy<Value = String> {
    let pairs = proptest::collection::vec((key(dataset), json_value()), 0..20);
    (pairs, any::<bool>(), any::<bool>()).prop_map(move |(mut pairs, sorted, timed)| {
        if timed {
            let ts = "\"2026-11-23T10:00:00.000000Z\"".to_owned();
            pairs.retain(|(key, _)| key != "ts");
            pairs.push(("ts".to_owned(), ts));
        }
        if sorted {
            let columns = &schema::layout(dataset).columns;
            pairs.sort_by_key(|(key, _)| {
                columns.iter().position(|column| column.key == key).unwrap_or(columns.len())
            });
        }
        let pairs = pairs
            .iter()
            .map(|(key, value)| format!("{}:{value}", serde_json::to_string(key).expect("text")));
        format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
    })
}

proptest! {
    #[test]
    fn any_lines_render_back(lines in proptest::collection::vec(line(Dataset::Records), 1..12)) {
        let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
        check(Dataset::Records, &lines);
    }

    #[test]
    fn any_traces_render_back(lines in proptest::collection::vec(line(Dataset::Traces), 1..12)) {
        let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
        check(Dataset::Traces, &lines);
        check(Dataset::Entries, &lines);
    }

    #[test]
    fn any_bytes_are_a_row_or_an_error(
        lines in proptest::collection::vec("[{}\\[\\]\":,\\\\ua-f0-9. -]{0,40}", 1..8),
    ) {
        let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
        check(Dataset::Records, &lines);
    }

    #[test]
    fn plain_text_ends_where_the_first_special_byte_is(
        bytes in proptest::collection::vec(any::<u8>(), 0..40), from in 0usize..8,
    ) {
        let special = |b: &u8| !(0x20..0x7f).contains(b) || matches!(b, b'"' | b'\\');
        let from = from.min(bytes.len());
        let expected = bytes[from..].iter().position(special).map_or(bytes.len(), |at| from + at);
        prop_assert_eq!(token::plain_end(&bytes, from), expected);
    }
}

#[test]
fn an_entrys_own_number_has_its_own_column() {
    assert_eq!(column_of(Dataset::Entries, "seq").map(|c| c.name), Some("producer_seq"));
    check(Dataset::Entries, &[b"{\"ts\":\"2026-11-23T10:00:00.000000Z\",\"seq\":4}"]);
}
