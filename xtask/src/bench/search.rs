//! `bench search`: what finding costs, beside ripgrep, jq and DuckDB on the
//! same lines and files, in one run.
//!
//! Owns the order of a run. Promises that every figure comes from the machine
//! that prints it, that all tools were warm, and that an answer counts only
//! after it was compared with another tool's, row by row.

mod data;
mod duck;
mod goal;
mod live;
mod measure;
mod question;
mod report;
mod same;
mod timing;
mod tools;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use self::{
    data::Data,
    duck::Duck,
    goal::Goal,
    live::Live,
    measure::{Bench, Row},
    question::{Ask, Known, More, words},
    report::{Figure, Part, Report},
    tools::Ours,
};
use crate::{args::Args, bench::product, python, shell};

const RUNS: usize = 5;
const RECORDS: u64 = 5_000_000;
const QUICK_RECORDS: u64 = 60_000;
const COPIES: u32 = 20;
const PEAK_MB: f64 = 256.0;
/// As the generator has them: at least one of them is in any data.
const RARE_WORDS: &str = include_str!("../../../crates/generator/src/rare-words.txt");

/// What the command line asks for.
pub struct Options {
    pub records: u64,
    pub seed: u64,
    pub copies: u32,
    pub runs: usize,
    pub fresh: bool,
    /// Measures the binaries that are there.
    built: bool,
    json: Option<PathBuf>,
    check: bool,
}

/// The task.
pub fn run(mut args: Args) -> Result<()> {
    let quick = args.flag("--quick");
    let options = Options {
        records: args.value("--records")?.unwrap_or(if quick { QUICK_RECORDS } else { RECORDS }),
        seed: args.value("--seed")?.unwrap_or(42),
        copies: args.value("--copies")?.unwrap_or(if quick { 2 } else { COPIES }),
        runs: if quick { 1 } else { RUNS },
        fresh: args.flag("--fresh"),
        built: args.flag("--built"),
        json: args.value("--json")?,
        check: args.flag("--check"),
    };
    args.finish()?;
    let report = measure(&options)?;
    report.print();
    if let Some(file) = &options.json {
        std::fs::write(file, report.json()?)?;
        println!("every figure: {}", file.display());
    }
    report.verdict(options.check)
}

fn measure(options: &Options) -> Result<Report> {
    let others = tools::versions()?;
    let requirements = shell::root().join("tests/readers/requirements.txt");
    let python = match python::environment("readers", &requirements)? {
        Ok(python) => python,
        Err(why) => bail!("the benchmark compares with DuckDB: {why}"),
    };
    let (binary, generator) = build(options.built)?;
    let data = Data::prepare(options, &generator)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut duck = Duck::open(&python, &data::views(&binary, &data.sealed)?, cores)?;
    let mut report = Report {
        head: vec![
            format!("{others}, DuckDB {} on {cores} threads", duck.version),
            format!("data: {}", data.written),
        ],
        runs: options.runs,
        parts: Vec::new(),
        figures: written_figures(&data)?,
    };
    let known = Known::look(&mut duck, &RARE_WORDS.lines().collect::<Vec<_>>())?;
    let mut bench = Bench {
        data: &data,
        ours: Ours::new(&binary, &data.sealed),
        duck: &mut duck,
        python,
        runs: options.runs,
        has_raw: true,
    };
    println!("{} records, sealed", options.records);
    let rows = question::questions(&known);
    let mut rows: Vec<Row> = rows.iter().map(|one| bench.ask(one)).collect();
    rows.push(hot(&mut bench)?);
    report.parts.push(Part { title: format!("{} records", options.records), rows });
    report.parts.push(raw_files(&mut bench, &known));
    let copied = at_scale(options, &generator, &mut bench, &known)?;
    report.figures.extend(copied.1);
    let live = Live {
        data: &data,
        generator: &generator,
        binary: &binary,
        lookups: 50 * options.runs,
        filters: 20 * options.runs,
        latency_time: Duration::from_secs(3 * options.runs as u64),
    };
    report.figures.extend(live.measure(&known).unwrap_or_else(|error| {
        println!("FAILED: {error:#}");
        vec![Figure {
            name: format!("beside a server: {error:#}"),
            value: None,
            unit: "",
            goal: Some(Goal::Most(0.0)),
        }]
    }));
    report.parts.push(copied.0);
    let peak = report.parts.iter().flat_map(|part| &part.rows).filter_map(|row| row.own_peak_mb);
    report.figures.push(Figure {
        name: "peak memory of any query".to_owned(),
        value: peak.max_by(f64::total_cmp),
        unit: "MB",
        goal: Some(Goal::Most(PEAK_MB)),
    });
    Ok(report)
}

/// Both in one command: cargo would build what they share twice otherwise.
fn build(built: bool) -> Result<(PathBuf, PathBuf)> {
    let feature = format!("server/{}", product::FEATURE);
    let args = ["build", "--release", "--locked", "--features", &feature];
    if !built {
        shell::run(shell::cargo(args.into_iter().chain(["-p", "server", "-p", "generator"])))?;
    }
    let release = shell::target_dir().join("release");
    Ok((release.join("llm-proxy"), release.join("generator")))
}

/// What the generator told when it wrote, and what lies on the disk.
fn written_figures(data: &Data) -> Result<Vec<Figure>> {
    let rate = data.written.rsplit(": ").next().and_then(|text| text.split(' ').next());
    Ok(vec![
        Figure {
            name: "ingest with journal, seal and index".to_owned(),
            value: rate.and_then(|rate| rate.parse().ok()),
            unit: "records/s",
            goal: Some(Goal::Least(150_000.0)),
        },
        Figure {
            name: "bytes per record, side index included".to_owned(),
            value: Some(data::bytes_per_record(&data.sealed)?),
            unit: "B",
            goal: Some(Goal::Most(110.0)),
        },
        Figure {
            name: "bytes per line of JSON, traces and entries included".to_owned(),
            value: Some(line_bytes(&data.sample)?),
            unit: "B",
            goal: None,
        },
    ])
}

fn line_bytes(file: &Path) -> Result<f64> {
    let text = std::fs::read(file)?;
    let lines = text.iter().filter(|byte| **byte == b'\n').count();
    Ok(text.len() as f64 / lines.max(1) as f64)
}

/// An id in a journal that is as large as it gets.
fn hot(bench: &mut Bench<'_>) -> Result<Row> {
    let sealed = bench.ours.data_dir.clone();
    bench.ours.data_dir.clone_from(&bench.data.hot);
    bench.has_raw = false;
    let newest = bench.ours.search(&words("--stream record -o csv --fields request_id --limit 6"));
    let ids = String::from_utf8(timing::run(newest)?.stdout)?;
    let ask = |id: &str| Ask {
        ours: words("--stream record -o raw --request-id").with(id),
        ..Ask::default()
    };
    let question = question::Question {
        name: "one request by request id, in the journal",
        asks: ids.lines().skip(1).map(ask).collect(),
        same: question::Same::Nothing,
        goal: Some(Goal::Ms(25.0)),
    };
    let row = bench.ask(&question);
    bench.ours.data_dir = sealed;
    bench.has_raw = true;
    Ok(row)
}

/// Files that nobody wrote for us.
fn raw_files(bench: &mut Bench<'_>, known: &Known) -> Part {
    let by_field = Ask {
        ours: words("-o raw --limit 0 status_code>=500"),
        jq: Some("select(.status_code >= 500)".to_owned()),
        ..Ask::default()
    };
    let word = known.rare_word();
    let by_text = Ask {
        ours: words("-o raw --limit 0").with(&format!("error:*{word}*")),
        ripgrep: Some(vec![format!("\"error\":\"[^\"]*{word}")]),
        ..Ask::default()
    };
    let (sample, raw) = (bench.data.sample.clone(), bench.data.raw.clone());
    let rows = vec![
        measure::foreign(
            bench,
            "field filter, the sample's lines",
            &by_field,
            &sample,
            Goal::TimesJq(1.0 / 20.0),
        ),
        measure::foreign(bench, "text in one field", &by_text, &raw, Goal::TimesRipgrep(1.5)),
    ];
    Part { title: "raw JSON lines, no data directory".to_owned(), rows }
}

/// Twenty times as many, by linked copies: ids repeat, so each is found as
/// often as there are copies.
fn at_scale(
    options: &Options,
    generator: &Path,
    bench: &mut Bench<'_>,
    known: &Known,
) -> Result<(Part, Vec<Figure>)> {
    let records = options.records * u64::from(options.copies);
    println!("{records} records, {} linked copies", options.copies);
    let copies = bench.data.copies(generator, options.copies)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut duck = Duck::open(&bench.python, &data::views(&bench.ours.binary, &copies)?, cores)?;
    let mut scaled = Bench {
        data: bench.data,
        ours: Ours::new(&bench.ours.binary, &copies),
        duck: &mut duck,
        python: bench.python.clone(),
        runs: bench.runs,
        has_raw: false,
    };
    let questions = question::at_scale(known);
    let rows: Vec<Row> = questions.iter().map(|one| scaled.ask(one)).collect();
    let args = words("--stream record -o raw --limit 0 model:gpt-4o");
    println!("  all wide rows of one model, streamed");
    let wide = scaled.ours.search(&args);
    let (peak, time) = timing::peak_mb(&scaled.python, &scaled.data.dir, &wide)?;
    let count = timing::run(scaled.ours.search(&args.with("--count")))?;
    let count: f64 = String::from_utf8(count.stdout)?.trim().parse().context("a count")?;
    let figures = vec![
        Figure {
            name: format!("memory while {:.1} million wide rows stream", count / 1e6),
            value: Some(peak),
            unit: "MB",
            goal: Some(Goal::Most(PEAK_MB)),
        },
        Figure {
            name: "their rate".to_owned(),
            value: Some(count / time.as_secs_f64()),
            unit: "rows/s",
            goal: None,
        },
    ];
    let title = format!("{records} records, {} linked copies", options.copies);
    Ok((Part { title, rows }, figures))
}
