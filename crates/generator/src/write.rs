//! From the generator's records to a data directory, on the product's own way:
//! the journal's queue, its writer, its files, and the sealer behind them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use domain::{
    record::Envelope,
    time::{Clock, Timestamp},
};
use generator::{lines, record::Records, timeline::Timeline};
use logstore::{DataDirLock, Intake, Journal, JournalConfig, Stream, catalog, fs::StdFs};

use crate::{
    gate::Gate,
    options::{Options, machine_time},
    raw::Raw,
    seal::{self, Sealing},
};

/// Handed over at once, as busy connections do.
const BURST: u64 = 256;
/// Shorter waits are not worth a system call.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Written {
    pub records: u64,
    pub traces: u64,
    pub entries: u64,
    /// Until the journal was closed, and until everything was sealed.
    pub journal_seconds: f64,
    pub seconds: f64,
    /// For merging small files afterwards.
    pub compact_seconds: f64,
}

impl Written {
    /// One line that people and the benchmark read.
    pub fn describe(&self) -> String {
        let Self { records, traces, entries, .. } = self;
        let Self { journal_seconds, seconds, compact_seconds, .. } = self;
        let rate = *records as f64 / seconds.max(1e-9);
        format!(
            "{records} records, {traces} traces, {entries} entries in {seconds:.2} s \
             (journal {journal_seconds:.2} s, compaction later {compact_seconds:.2} s): \
             {rate:.0} records/s"
        )
    }
}

/// The time of the record at hand, so that files say what their records say.
struct RecordTime(AtomicI64);

impl Clock for RecordTime {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::Relaxed))
    }
}

/// Writes everything that the options ask for.
pub fn run(options: &Options) -> Result<Written> {
    let data_dir = options.data_dir.as_deref().context("--data-dir is missing")?;
    std::fs::create_dir_all(data_dir).with_context(|| format!("create {}", data_dir.display()))?;
    let _lock = DataDirLock::acquire(data_dir)?;
    let timeline = match options.rate {
        Some(rate) => Timeline::even(machine_time(), rate),
        None => Timeline::new(options.end, options.days, options.records),
    };
    let records = Records::new(options.seed, timeline);
    let clock = Arc::new(RecordTime(records.timeline().at(0).as_micros().into()));
    let envelope = envelope(options);
    let mut config = JournalConfig::new(logstore::journal_dir(data_dir));
    config.closes_last_file = options.seals;
    config.seq_floor = catalog::sealed_to(&StdFs, data_dir, &options.instance)?;
    let start = Instant::now();
    let (journal, _) = Journal::open(
        config,
        envelope.clone(),
        Arc::new(StdFs),
        Arc::clone(&clock) as Arc<dyn Clock>,
        Box::new(()),
    )?;
    let clock_of_files = Arc::clone(&clock) as Arc<dyn Clock>;
    let sealing = options
        .seals
        .then(|| Sealing::start(data_dir, &envelope, clock_of_files, &journal))
        .transpose()?;
    let mut hand = Hand {
        intake: journal.intake(),
        gate: Gate::default(),
        clock,
        envelope,
        seed: options.seed,
        raw: options.also_jsonl.as_deref().map(Raw::create).transpose()?,
        written: Written::default(),
    };
    hand.over(&records, options, start)?;
    if let Some(raw) = &mut hand.raw {
        raw.flush()?;
    }
    let closed = journal.close();
    let lost = closed.accounts.lost.total() + hand.gate.lost() + closed.accounts.traces_dropped;
    if lost > 0 || !closed.synced {
        bail!("the journal did not take everything: {closed:?}");
    }
    let mut written = hand.written;
    written.journal_seconds = start.elapsed().as_secs_f64();
    let catalog = sealing.map(Sealing::finish).transpose()?;
    written.seconds = start.elapsed().as_secs_f64();
    if let Some(catalog) = catalog.filter(|_| options.compacts) {
        let start = Instant::now();
        seal::compact(&catalog)?;
        written.compact_seconds = start.elapsed().as_secs_f64();
    }
    Ok(written)
}

/// What every line says of the process that wrote it.
pub fn envelope(options: &Options) -> Envelope {
    Envelope { instance: options.instance.clone(), version: env!("CARGO_PKG_VERSION") }
}

/// The one that hands over: the journal's caller.
struct Hand {
    intake: Intake,
    gate: Gate,
    clock: Arc<RecordTime>,
    envelope: Envelope,
    seed: u64,
    raw: Option<Raw>,
    written: Written,
}

impl Hand {
    fn over(&mut self, records: &Records, options: &Options, start: Instant) -> Result<()> {
        let burst = options.rate.map_or(BURST, |rate| (u64::from(rate) / 100).clamp(1, BURST));
        let mut number = 0;
        while number < options.records {
            let end = options.records.min(number + burst);
            if let Some(rate) = options.rate {
                wait_until(start + Duration::from_secs_f64(number as f64 / f64::from(rate)));
            }
            let mut stored = Some(self.gate.enter());
            for number in number..end {
                let told = if number + 1 == end { stored.take() } else { None };
                self.one(records, number, told)?;
            }
            number = end;
        }
        Ok(())
    }

    fn one(
        &mut self,
        records: &Records,
        number: u64,
        stored: Option<logstore::Stored>,
    ) -> Result<()> {
        let record = records.get(number);
        self.clock.0.store(records.timeline().at(number).as_micros(), Ordering::Relaxed);
        let mut trace = Vec::new();
        if lines::trace(self.seed, number, &record, &self.envelope, &mut trace) {
            self.line(Stream::Trace, trace)?;
            self.written.traces += 1;
        }
        let mut entry = Vec::new();
        if lines::entry(self.seed, number, &record, &self.envelope, &mut entry) {
            self.line(Stream::Entry, entry)?;
            self.written.entries += 1;
        }
        if let Some(raw) = &mut self.raw {
            let mut line = Vec::new();
            record.write_json(&self.envelope, &mut line);
            raw.line(&line)?;
        }
        self.intake.reserve().context("the journal takes no record")?;
        self.intake.finish(Box::new(record), stored);
        self.written.records += 1;
        Ok(())
    }

    fn line(&mut self, stream: Stream, line: Vec<u8>) -> Result<()> {
        if let Some(raw) = &mut self.raw {
            raw.line(&line)?;
        }
        self.intake.line(stream, line).context("the journal takes no line")
    }
}

#[expect(clippy::disallowed_methods, reason = "a tool that keeps to a rate")]
fn wait_until(due: Instant) {
    let left = due.saturating_duration_since(Instant::now());
    if left > WAIT_MIN {
        std::thread::sleep(left);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn options(dir: &std::path::Path, flags: &str) -> Options {
        let line = format!("--data-dir {} {flags}", dir.display());
        Options::read(line.split_whitespace().map(str::to_owned)).expect("options")
    }

    /// How many lines of each stream there are, journal-only ones left out.
    fn streams(text: &str) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with("{\"_")) {
            let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let stream = value["stream"].as_str().expect("a stream");
            *counts.entry(stream.to_owned()).or_default() += 1;
        }
        counts
    }

    fn journal(dir: &std::path::Path) -> String {
        let files = std::fs::read_dir(logstore::journal_dir(dir)).expect("a journal");
        let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
        paths.sort();
        paths.iter().map(|path| std::fs::read_to_string(path).expect("text")).collect()
    }

    #[test]
    fn the_raw_file_holds_the_lines_of_the_journal() {
        let dir = tempfile::tempdir().expect("a directory");
        let raw = dir.path().join("raw.jsonl");
        let data = dir.path().join("data");
        let flags = format!("--records 3000 --unsealed --also-jsonl {}", raw.display());
        let written = run(&options(&data, &flags)).expect("written");
        let raw = std::fs::read_to_string(raw).expect("the raw file");
        let journal = journal(&data);
        let expected = [
            ("entry".to_owned(), written.entries),
            ("record".to_owned(), 3_000),
            ("trace".to_owned(), written.traces),
        ];
        assert_eq!(streams(&raw), BTreeMap::from(expected));
        let own: Vec<&str> = journal.lines().filter(|line| !line.starts_with("{\"_")).collect();
        assert_eq!(raw.lines().collect::<Vec<_>>(), own);
    }

    #[test]
    fn a_rate_is_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let flags = "--records 400 --unsealed --rate 2000";
        let written = run(&options(dir.path(), flags)).expect("written");
        assert!(written.seconds > 0.17, "{written:?}");
    }
}
