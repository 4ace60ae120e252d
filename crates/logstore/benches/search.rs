#![expect(clippy::print_stdout, reason = "it prints what it measured")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on fails here")]
//! Times of questions about an existing data directory:
//! `cargo bench -p logstore --bench search -- DATA_DIR [RECORD_OR_REQUEST_ID]`.

use std::{ops::ControlFlow, path::Path, sync::Arc, time::Instant};

use domain::{
    fields,
    query::{Comparison, Expr, FieldRef, Function, Literal, Measure, Stats, Test},
};
use logstore::{
    engine::{self, Report, Search, Sources},
    fs::{Fs, StdFs},
};

const RUNS: usize = 5;

fn field(name: &str) -> FieldRef {
    FieldRef::Known(fields::find(name).unwrap())
}

fn is(name: &str, text: &str) -> Expr {
    Expr::Field(field(name), Test::Any(vec![Literal::Text(text.to_owned())]))
}

fn at_least(name: &str, least: u64) -> Expr {
    let test = Test::Compare(Comparison::GreaterOrEqual, Literal::Integer(least));
    Expr::Field(field(name), test)
}

fn measure(function: Function, name: &str) -> Measure {
    Measure { function, field: Some(field(name)) }
}

fn time(name: &str, run: &dyn Fn() -> Report) {
    let mut times = Vec::new();
    let mut last = None;
    for _ in 0..RUNS {
        let begun = Instant::now();
        last = Some(run());
        times.push(begun.elapsed());
    }
    times.sort();
    let report = last.unwrap();
    println!("{name}: {:.1} ms, {} matched", times[RUNS / 2].as_secs_f64() * 1e3, report.matched);
    println!("{}", report.explain);
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let Some(dir) = arguments.first() else {
        println!("say which data directory");
        return;
    };
    let fs: Arc<dyn Fs> = Arc::new(StdFs);
    let open = || Sources::open(&fs, Path::new(dir)).unwrap();
    let find = |search: &Search| {
        let mut bytes = 0;
        let report = engine::search(&open(), search, &mut |hit| {
            bytes += hit.line.len();
            ControlFlow::Continue(())
        });
        report.unwrap()
    };
    let mut id = arguments.get(1).cloned().unwrap_or_default();
    if id.is_empty() {
        let newest = Search { limit: Some(1), ..Search::new(Expr::All) };
        engine::search(&open(), &newest, &mut |hit| {
            let line: serde_json::Value = serde_json::from_slice(hit.line).unwrap();
            id = line["request_id"].as_str().unwrap().to_owned();
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    time("open", &|| {
        engine::count(&open(), &Search { streams: vec![], ..Search::new(Expr::All) }).unwrap()
    });
    time("id", &|| find(&Search::new(is("request_id", &id))));
    time("id, not there", &|| find(&Search::new(is("request_id", "not-there"))));
    let five = Expr::And(vec![
        is("model", "gpt-4o"),
        at_least("status_code", 500),
        at_least("duration_ms", 1000),
        is("provider", "openai"),
        Expr::Field(field("stream_response"), Test::Any(vec![Literal::Boolean(true)])),
    ]);
    time("five predicates", &|| find(&Search::new(five.clone())));
    time("five predicates, newest 100", &|| {
        find(&Search { limit: Some(100), ..Search::new(five.clone()) })
    });
    time("rare word", &|| find(&Search::new(Expr::Text("zebra".into()))));
    let context = Search { context: 50, ..Search::new(is("request_id", &id)) };
    time("context of one", &|| find(&context));
    time("newest 100", &|| find(&Search { limit: Some(100), ..Search::new(Expr::All) }));
    let ask = |stats: &Stats| engine::stats(&open(), &Search::new(Expr::All), stats).unwrap().1;
    let quantiles = Stats {
        measures: [0.5, 0.95, 0.99]
            .map(|part| measure(Function::Quantile(part), "duration_ms"))
            .to_vec(),
        by: vec![field("model")],
        bucket_micros: None,
    };
    time("p50, p95, p99 by model", &|| ask(&quantiles));
    let cost = Stats {
        measures: vec![measure(Function::Sum, "cost_usd")],
        by: vec![field("project_id")],
        bucket_micros: Some(86_400_000_000),
    };
    time("cost by project and day", &|| ask(&cost));
    time("all lines", &|| find(&Search::new(Expr::All)));
}
