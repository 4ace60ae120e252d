//! One question, put to every tool: warm, several times, and compared.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::{
    data::Data,
    duck::Duck,
    goal::{Goal, Times, Verdict},
    question::{Ask, More, Question, Same, words},
    same, timing,
    tools::{self, Ours},
};
use crate::bench::table::median;

/// One row of the table.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    pub name: String,
    pub ripgrep_ms: Option<f64>,
    /// Scaled from a sample where the whole would take minutes.
    pub jq_ms: Option<f64>,
    pub duck_ms: Option<f64>,
    /// From the start of the process to its end.
    pub own_ms: Option<f64>,
    /// The search alone, as `--explain` tells it.
    pub inside_ms: Option<f64>,
    pub bytes_read: Option<u64>,
    pub own_peak_mb: Option<f64>,
    pub duck_peak_mb: Option<f64>,
    /// Rows that were compared and equal.
    pub compared: Option<u64>,
    /// Why the question could not be measured, or whose answer differed.
    pub trouble: Option<String>,
    #[serde(skip)]
    pub goal: Option<Goal>,
}

impl Row {
    /// A row that says why there are no figures; the other questions go on.
    pub fn failed(name: &str, goal: Option<Goal>, error: &anyhow::Error) -> Self {
        println!("  FAILED: {name}: {error:#}");
        let trouble = Some(format!("{error:#}"));
        Self { name: name.to_owned(), goal, trouble, ..Self::default() }
    }

    pub fn verdict(&self) -> Option<Verdict> {
        if self.trouble.is_some() {
            return Some(Verdict::Missed);
        }
        let others = Times { ripgrep: self.ripgrep_ms, jq: self.jq_ms, duck: self.duck_ms };
        Some(self.goal?.judge(self.own_ms, others))
    }
}

/// What a question needs.
pub struct Bench<'a> {
    pub data: &'a Data,
    pub ours: Ours,
    pub duck: &'a mut Duck,
    pub python: PathBuf,
    pub runs: usize,
    /// Whether ripgrep and jq have these lines in a file.
    pub has_raw: bool,
}

impl Bench<'_> {
    /// All of a row.
    pub fn ask(&mut self, question: &Question) -> Row {
        println!("  {}", question.name);
        self.measure(question)
            .unwrap_or_else(|error| Row::failed(question.name, question.goal, &error))
    }

    fn measure(&mut self, question: &Question) -> Result<Row> {
        let first = question.asks.first().context("a question without words")?;
        let mut row = Row { name: question.name.to_owned(), goal: question.goal, ..Row::default() };
        row.compared = self.compare(question)?;
        row.own_ms = self.times(&question.asks, |bench, ask| {
            Ok(Some(timing::run(bench.ours.search(&ask.ours))?.ms()))
        })?;
        row.inside_ms = self.times(&question.asks, |bench, ask| {
            let explained = bench.explain(ask)?;
            Ok(tools::inside_ms(&explained))
        })?;
        row.bytes_read = tools::bytes_read(&self.explain(first)?);
        row.duck_ms = self.times(&question.asks, |bench, ask| {
            ask.sql.as_deref().map(|sql| bench.duck.time(sql)).transpose()
        })?;
        if self.has_raw {
            row.ripgrep_ms = self.times(&question.asks, |bench, ask| {
                let Some(args) = &ask.ripgrep else { return Ok(None) };
                Ok(Some(timing::run(tools::ripgrep(args, &bench.data.raw))?.ms()))
            })?;
            let sampled = self.times(&question.asks, |bench, ask| {
                let Some(filter) = &ask.jq else { return Ok(None) };
                Ok(Some(timing::run(tools::jq(filter, &bench.data.sample))?.ms()))
            })?;
            row.jq_ms = sampled.map(|ms| ms * self.data.sample_times);
        }
        let search = self.ours.search(&first.ours);
        row.own_peak_mb = Some(timing::peak_mb(&self.python, &self.data.dir, &search)?.0);
        row.duck_peak_mb = first.sql.as_deref().map(|sql| self.duck.peak_mb(sql)).transpose()?;
        Ok(row)
    }

    /// The median of several runs after one that warms up; each with the next
    /// way of asking.
    fn times(
        &mut self,
        asks: &[Ask],
        mut run: impl FnMut(&mut Self, &Ask) -> Result<Option<f64>>,
    ) -> Result<Option<f64>> {
        let mut times = Vec::new();
        for number in 0..=self.runs {
            match run(self, &asks[number % asks.len()])? {
                None => return Ok(None),
                Some(_) if number == 0 => {}
                Some(ms) => times.push(ms),
            }
        }
        Ok(median(times))
    }

    fn explain(&self, ask: &Ask) -> Result<String> {
        let args = words("--explain").and(ask.ours.clone());
        Ok(timing::run(self.ours.search(&args))?.stderr)
    }

    /// How many rows were the same; None where nothing can be compared.
    fn compare(&mut self, question: &Question) -> Result<Option<u64>> {
        let mut rows = None;
        for ask in question.asks.iter().take(2) {
            let own = timing::run(self.ours.search(&ask.ours))?;
            let sql = ask.exact_sql.as_ref().or(ask.sql.as_ref());
            let compared = match (question.same, sql) {
                (Same::Nothing, _) | (_, None) => return Ok(None),
                (Same::Lines, Some(sql)) => self.compare_lines(ask, sql, &own)?,
                (Same::Table { columns, tolerance }, Some(sql)) => {
                    let (head, own) = same::read_csv(&String::from_utf8(own.stdout)?)?;
                    let own = same::pick(&head, own, columns)?;
                    let count = own.len() as u64;
                    same::tables(own, self.duck.rows(sql)?, tolerance)?;
                    count
                }
            };
            rows = Some(rows.unwrap_or(0) + compared);
        }
        Ok(rows)
    }

    fn compare_lines(&mut self, ask: &Ask, sql: &str, own: &timing::Run) -> Result<u64> {
        let file = self.data.dir.join("answer.jsonl");
        std::fs::write(&file, &own.stdout)?;
        let rows = self.duck.compare(sql, &file)?;
        if let Some(args) = ask.ripgrep.as_ref().filter(|_| self.has_raw) {
            let found = timing::run(tools::ripgrep(args, &self.data.raw))?;
            let mut lines = found.sorted_lines();
            // It cannot tell records from traces that name the same request.
            lines.retain(|line| is_record(line));
            if lines != own.sorted_lines() {
                bail!("ripgrep finds {} lines, not the {rows} of llm-proxy", lines.len());
            }
        }
        Ok(rows)
    }
}

fn is_record(line: &[u8]) -> bool {
    line.starts_with(b"{\"schema\":")
}

/// Ours, ripgrep and jq on the same raw file; `args` are those of the search.
pub fn foreign(
    bench: &mut Bench<'_>,
    question: &'static str,
    ask: &Ask,
    file: &Path,
    goal: Goal,
) -> Row {
    println!("  {question}");
    measure_foreign(bench, question, ask, file, goal)
        .unwrap_or_else(|error| Row::failed(question, Some(goal), &error))
}

fn measure_foreign(
    bench: &mut Bench<'_>,
    question: &'static str,
    ask: &Ask,
    file: &Path,
    goal: Goal,
) -> Result<Row> {
    let asks = std::slice::from_ref(ask);
    let mut row = Row { name: question.to_owned(), goal: Some(goal), ..Row::default() };
    let binary = bench.ours.binary.clone();
    let search = || Ours::search_file(&binary, &ask.ours, file);
    row.own_ms = bench.times(asks, |_, _| Ok(Some(timing::run(search())?.ms())))?;
    let own = timing::run(search())?;
    let lines = own.sorted_lines();
    if let Some(args) = &ask.ripgrep {
        let command = || tools::ripgrep(args, file);
        row.ripgrep_ms = bench.times(asks, |_, _| Ok(Some(timing::run(command())?.ms())))?;
        if timing::run(command())?.sorted_lines() != lines {
            bail!("ripgrep finds other lines");
        }
    }
    if let Some(filter) = &ask.jq {
        let command = || tools::jq(filter, file);
        row.jq_ms = bench.times(asks, |_, _| Ok(Some(timing::run(command())?.ms())))?;
        // It writes a line anew, so only the lines' ids can be compared.
        let found = timing::run(command())?;
        let mut ids: Vec<&[u8]> = lines.iter().filter_map(|line| record_id(line)).collect();
        let mut others: Vec<&[u8]> =
            found.stdout.split(|byte| *byte == b'\n').filter_map(record_id).collect();
        ids.sort_unstable();
        others.sort_unstable();
        if ids != others {
            bail!("jq finds {} records, not {}", others.len(), ids.len());
        }
    }
    row.compared = Some(lines.len() as u64);
    row.own_peak_mb = Some(timing::peak_mb(&bench.python, &bench.data.dir, &search())?.0);
    Ok(row)
}

fn record_id(line: &[u8]) -> Option<&[u8]> {
    const KEY: &[u8] = b"\"record_id\":\"";
    let at = line.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    line.get(at..at + 36)
}
