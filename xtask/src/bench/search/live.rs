//! Beside a server that takes in records: what searches on its directory and
//! requests through it take then, and what they take when it is idle.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};

use super::{
    data::Data,
    goal::Goal,
    question::{Ask, Known, five_newest, id_lookups},
    report::Figure,
    timing,
    tools::Ours,
};
use crate::bench::{
    load::{Shot, fixed_rate},
    process::{Running, free_address},
    product::Product,
    report::quantile_of,
    scenario::{self, Kind},
    wire::wait_for,
};

const INGEST_PER_SECOND: u32 = 20_000;
const REQUESTS_PER_SECOND: u32 = 200;
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Below this, differences of latency at this rate are noise on any machine.
const NOISE_US: f64 = 40.0;
/// On a machine that is noisier than this, a difference says nothing.
const NOISE_US_MAX: f64 = 200.0;
const TIMES_IDLE: f64 = 2.0;

/// What is measured, and for how long.
pub struct Live<'a> {
    pub data: &'a Data,
    pub generator: &'a Path,
    pub binary: &'a Path,
    pub lookups: usize,
    pub filters: usize,
    pub latency_time: Duration,
}

/// The 99th percentiles of one state.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    lookup_ms: f64,
    filter_ms: f64,
    added_us: f64,
}

impl Live<'_> {
    pub fn measure(&self, known: &Known) -> Result<Vec<Figure>> {
        println!("beside a server");
        let dir = self.data.copies(self.generator, 1)?;
        let upstream = free_address()?;
        let mut provider = Command::new(self.binary);
        provider.args(["demo", "provider", "--listen", &upstream.to_string()]);
        provider.args(["--prepared", "--no-ledger", "--key-prefix", scenario::KEY_PREFIX]);
        let provider = Running::start("provider", provider, &self.data.dir)?;
        wait_for(upstream, START_TIMEOUT)?;
        let direct = scenario::shot(Kind::Plain, upstream, "", scenario::LINE_TOKEN);
        let direct_us = self.latency_p99(&direct)?;
        let mut idle = Seen::default();
        let mut again_us = 0.0;
        let mut busy = Seen::default();
        for (name, ingest) in [("idle", None), ("ingest", Some(INGEST_PER_SECOND)), ("again", None)]
        {
            let flags = ingest.map(|rate| vec!["--bench-ingest".to_owned(), rate.to_string()]);
            let product = Product::start_on(
                self.binary,
                name,
                &dir,
                &flags.unwrap_or_default(),
                upstream,
                &self.data.dir,
            )?;
            let shot = scenario::shot(Kind::Plain, product.address(), "", product.token());
            let added_us = self.latency_p99(&shot)? - direct_us;
            match name {
                "idle" => idle.added_us = added_us,
                "again" => again_us = added_us,
                _ => busy = Seen { added_us, ..self.searches(&dir, known)? },
            }
            product.end()?;
        }
        provider.end()?;
        let full = self.full_journal()?;
        idle = Seen { added_us: idle.added_us, ..self.searches(&full, known)? };
        Ok(figures(idle, busy, again_us))
    }

    /// Sealed files, and a journal that is as large as it gets.
    fn full_journal(&self) -> Result<PathBuf> {
        let dir = self.data.copies(self.generator, 1)?;
        let journal = dir.join("journal");
        std::fs::create_dir_all(&journal)?;
        for file in std::fs::read_dir(self.data.hot.join("journal"))?.flatten() {
            let name = file.file_name();
            if file.path().extension().is_some_and(|extension| extension == "jsonl") {
                std::fs::hard_link(file.path(), journal.join(name))?;
            }
        }
        Ok(dir)
    }

    fn latency_p99(&self, shot: &Shot) -> Result<f64> {
        fixed_rate(shot, REQUESTS_PER_SECOND, Duration::from_secs(1)).context("warm up")?;
        let latencies = fixed_rate(shot, REQUESTS_PER_SECOND, self.latency_time)?;
        quantile_of(latencies.into_iter(), 0.99).context("no latencies")
    }

    fn searches(&self, dir: &Path, known: &Known) -> Result<Seen> {
        let ours = Ours::new(self.binary, dir);
        let p99 = |asks: &[Ask], count: usize| -> Result<f64> {
            let mut times = Vec::new();
            for number in 0..=count {
                let ask = &asks[number % asks.len()];
                let run = timing::run(ours.search(&ask.ours))?;
                // The first one warms up.
                times.extend((number > 0).then_some(run.time.as_micros() as u32));
            }
            Ok(quantile_of(times.into_iter(), 0.99).context("no times")? / 1000.0)
        };
        Ok(Seen {
            lookup_ms: p99(&id_lookups(known), self.lookups)?,
            filter_ms: p99(&five_newest().asks, self.filters)?,
            added_us: 0.0,
        })
    }
}

fn figures(idle: Seen, busy: Seen, again_us: f64) -> Vec<Figure> {
    let plain = |name: &str, value, unit| Figure {
        name: name.to_owned(),
        value: Some(value),
        unit,
        goal: None,
    };
    let held =
        |name: String, value, unit, goal| Figure { goal: Some(goal), ..plain(&name, value, unit) };
    let noise = NOISE_US.max((idle.added_us - again_us).abs());
    let is_quiet = noise <= NOISE_US_MAX;
    let idle_us = idle.added_us.min(again_us);
    let while_ingesting = |what: &str| format!("{what}, while {INGEST_PER_SECOND}/s are written");
    vec![
        plain("look-up by id p99, idle and the journal full", idle.lookup_ms, "ms"),
        held(
            while_ingesting("look-up by id p99 / idle"),
            busy.lookup_ms / idle.lookup_ms,
            "",
            Goal::Most(TIMES_IDLE),
        ),
        plain("newest 100 of five predicates p99, idle and the journal full", idle.filter_ms, "ms"),
        held(
            while_ingesting("newest 100 of five predicates p99 / idle"),
            busy.filter_ms / idle.filter_ms,
            "",
            Goal::Most(TIMES_IDLE),
        ),
        plain("added latency p99 of requests at 200/s, idle, better of two", idle_us, "us"),
        plain("the two idle runs differ by", (idle.added_us - again_us).abs(), "us"),
        Figure {
            value: is_quiet.then_some(busy.added_us - idle_us),
            ..held(
                while_ingesting("added latency p99 above idle"),
                0.0,
                "us",
                Goal::Most(noise.min(NOISE_US_MAX)),
            )
        },
    ]
}
