//! How fast foreign JSON lines are searched: `cargo bench -p logstore --bench
//! foreign [FILE]`. A file that is not there is written, of a gigabyte; without
//! one it lies in a temporary directory.

#![expect(clippy::print_stdout, reason = "figures are what this is run for")]

use std::{
    io::{BufWriter, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use domain::{
    query::{Comparison, Expr, FieldRef, Function, Literal, Measure, Stats, Test},
    time::Timestamp,
};
use logstore::{
    foreign::{Input, Search, count, search, stats},
    fs::{Fs, StdFs},
};

const LINES: u64 = 1_200_000;
const RUNS: usize = 3;
const MODELS: [&str; 6] =
    ["gpt-4o", "gpt-4o-mini", "gpt-4.1", "o3", "claude-sonnet-4", "text-embedding-3-small"];

fn write_lines(path: &Path) -> std::io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, std::fs::File::create(path)?);
    let mut seed = 7u64;
    for line in 0..LINES {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (a, b, c) = (seed >> 33, seed.rotate_left(17) ^ line, seed.rotate_left(40));
        let ts = Timestamp::from_micros(1_795_000_000_000_000 + line as i64 * 70_000);
        let model = MODELS[(a % 6) as usize];
        let (status, outcome) = match a % 40 {
            0 => (503, "upstream_error"),
            1 => (429, "client_error"),
            _ => (200, "ok"),
        };
        let error = match a % 100_000 {
            40 => r#""error":"upstream said: wombat overflow","#,
            n if n % 40 == 0 => r#""error":"upstream timed out after 30 s","#,
            _ => "",
        };
        writeln!(
            out,
            "{{\"schema\":1,\"stream\":\"record\",\"record_id\":\"{b:016x}-{c:016x}\",\
             \"ts\":\"{ts}\",\"level\":\"info\",\"msg\":\"request completed\",\
             \"component\":\"proxy\",\"instance\":\"proxy-1\",\"version\":\"0.1.0\",\
             \"request_id\":\"req-{c:016x}{b:016x}\",\"correlation_id\":\"req-{c:016x}\",\
             \"trace_id\":\"{a:016x}{b:016x}\",\"span_id\":\"{c:016x}\",\
             \"project_id\":\"0199c1f0-1111-7000-8000-0000000000{:02}\",\"project\":\"team-{:02}\",\
             \"token_id\":\"0199c1f0-2222-7000-8000-0000000000{:02}\",\
             \"labels\":{{\"team\":\"blue\",\"env\":\"prod\"}},\"end_user\":\"user-{}\",\
             \"client_ip\":\"10.0.{}.{}\",\"user_agent\":\"OpenAI/Python 1.58.1\",\
             \"provider\":\"openai\",\"operation\":\"chat\",\"model\":\"{model}\",\
             \"response_model\":\"{model}-2025-08-06\",\"method\":\"POST\",\
             \"path\":\"/v1/chat/completions\",\"http_version\":\"1.1\",\
             \"status_code\":{status},\"upstream_status_code\":{status},\"outcome\":\"{outcome}\",\
             {error}\"stream_response\":true,\"finish_reason\":\"stop\",\"request_bytes\":{},\
             \"response_bytes\":{},\"events\":53,\"duration_ms\":{}.{:03},\"upstream_ms\":{}.5,\
             \"ttft_ms\":311.25,\"overhead_us\":41,\"attempts\":1,\"input_tokens\":{},\
             \"output_tokens\":{},\"usage_source\":\"provider\",\"cost_usd\":\"0.00{}\"}}",
            a % 20,
            a % 20,
            b % 50,
            c % 5000,
            a % 256,
            b % 256,
            b % 9000,
            c % 90_000,
            a % 5000,
            b % 1000,
            a % 4900,
            b % 4000,
            c % 2000,
            a % 9000,
        )?;
    }
    out.flush()
}

fn field(name: &str, test: Test) -> Expr {
    Expr::Field(FieldRef::Attribute(name.to_owned()), test)
}

fn is(name: &str, value: &str) -> Expr {
    field(name, Test::Any(vec![Literal::Text(value.to_owned())]))
}

fn at_least(name: &str, value: &str) -> Expr {
    let literal = Literal::Text(value.to_owned());
    field(name, Test::Compare(Comparison::GreaterOrEqual, literal))
}

/// Milliseconds of CPU that this process took (the kernel counts in ticks of
/// ten).
fn cpu_millis() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() * 10.0
}

/// The median of some runs, with their mean CPU and what they found.
fn measure(name: &str, gigabytes: f64, run: &dyn Fn() -> u64) {
    let mut found = 0;
    let cpu = cpu_millis();
    let mut millis: Vec<f64> = (0..RUNS)
        .map(|_| {
            let begun = Instant::now();
            found = run();
            begun.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    let cpu = (cpu_millis() - cpu) / RUNS as f64;
    millis.sort_by(f64::total_cmp);
    let median = millis[RUNS / 2];
    println!(
        "{name:40} {median:9.1} ms {:6.2} GB/s {:6.2} GB/s of CPU {found:9} lines",
        gigabytes / median * 1000.0,
        gigabytes / cpu * 1000.0,
    );
}

fn main() {
    let named = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let dir = tempfile::tempdir().expect("a directory");
    let path = named.map_or_else(|| dir.path().join("lines.jsonl"), PathBuf::from);
    if !path.exists() {
        write_lines(&path).expect("a file");
    }
    let bytes = std::fs::metadata(&path).expect("a file").len();
    let gigabytes = bytes as f64 / 1e9;
    println!("{bytes} bytes, median of {RUNS}");
    let fs: Arc<dyn Fs> = Arc::new(StdFs);
    let inputs = || vec![Input::File(path.clone())];
    let lines = |expr: &Expr| {
        let mut bytes = 0;
        let report = search(&fs, inputs(), &Search::new(expr.clone()), &mut |hit| {
            bytes += hit.line.len();
            ControlFlow::Continue(())
        });
        report.expect("a report").matched
    };
    let text = |text: &str| Expr::Text(text.to_owned());
    let both = Expr::And(vec![at_least("status_code", "500"), is("model", "gpt-4o")]);
    for (name, expr) in [
        ("all lines", Expr::All),
        ("rare word: wombat", text("wombat")),
        ("common word: timed", text("timed")),
        ("word of common letters: no such one", text("no such one")),
        ("one id", is("request_id", "req-none")),
        ("status_code>=500", at_least("status_code", "500")),
        ("status_code>=500 model:gpt-4o", both.clone()),
        ("model:gpt-4o", is("model", "gpt-4o")),
        ("labels.env:dev", is("labels.env", "dev")),
        ("NOT level:info", Expr::Not(Box::new(is("level", "info")))),
    ] {
        measure(name, gigabytes, &|| lines(&expr));
    }
    measure("count status_code>=500 model:gpt-4o", gigabytes, &|| {
        count(&fs, inputs(), &Search::new(both.clone())).expect("a report").matched
    });
    let since = Some(Timestamp::from_micros(1_795_080_000_000_000));
    measure("count since", gigabytes, &|| {
        let search = Search { since, ..Search::new(Expr::All) };
        count(&fs, inputs(), &search).expect("a report").matched
    });
    let duration = Some(FieldRef::Attribute("duration_ms".to_owned()));
    let question = Stats {
        measures: vec![
            Measure { function: Function::Count, field: None },
            Measure { function: Function::Quantile(0.95), field: duration },
        ],
        by: vec![FieldRef::Attribute("model".to_owned())],
        bucket_micros: None,
    };
    measure("count, p95(duration_ms) by model", gigabytes, &|| {
        let answer = stats(&fs, inputs(), &Search::new(Expr::All), &question, None);
        answer.expect("a table").1.matched
    });
}
