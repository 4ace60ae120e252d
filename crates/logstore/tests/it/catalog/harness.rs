//! A data directory with a journal and a catalog, and a look at every line that
//! a reader finds in it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use domain::{
    ids::{InstanceId, ProjectId},
    record::Record,
    time::{ManualClock, Timestamp},
};
use logstore::{
    Journal, JournalConfig, Stream,
    catalog::{
        Catalog, CatalogConfig, CatalogError, CatalogEvent, CatalogObserver, SealReport, sealed_to,
        snapshot,
    },
    format::INTERNAL_PREFIX,
    fs::Fs,
    scan::Scanner,
    segment::{Renderer, Segment, Selection, schema},
};
use parking_lot::Mutex;
use uuid::Uuid;

use crate::support::{config, envelope, instance, record};

/// 2025-11-23T10:00:00Z, when the records of these tests begin.
pub(crate) const START: Timestamp = Timestamp::from_micros(1_763_892_000_000_000);
pub(crate) const HOUR: i64 = 3600 * 1_000_000;

/// A directory as one process sees it.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) dir: PathBuf,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) events: Arc<Mutex<Vec<CatalogEvent>>>,
}

struct Listener(Arc<Mutex<Vec<CatalogEvent>>>);

impl CatalogObserver for Listener {
    fn told(&self, event: &CatalogEvent) -> bool {
        self.0.lock().push(event.clone());
        true
    }
}

impl Place {
    pub(crate) fn new(fs: Arc<dyn Fs>, dir: &Path) -> Self {
        let clock = Arc::new(ManualClock::at(START));
        Self { fs, dir: dir.to_owned(), clock, events: Arc::default() }
    }

    pub(crate) fn catalog(&self) -> Result<Catalog, CatalogError> {
        let config = CatalogConfig {
            grace: Duration::ZERO,
            ..CatalogConfig::new(&self.dir, instance(), "0")
        };
        let listener = Box::new(Listener(Arc::clone(&self.events)));
        Catalog::open(config, Arc::clone(&self.fs), self.clock.clone(), listener)
            .map(|(catalog, _)| catalog)
    }

    pub(crate) fn journal_config(&self) -> Result<JournalConfig, CatalogError> {
        Ok(JournalConfig {
            closes_last_file: true,
            linger: Duration::ZERO,
            seq_floor: sealed_to(&*self.fs, &self.dir, &instance())?,
            ..config(&logstore::journal_dir(&self.dir))
        })
    }

    pub(crate) fn journal(&self) -> Option<Journal> {
        let config = self.journal_config().ok()?;
        let (fs, clock) = (Arc::clone(&self.fs), self.clock.clone());
        let opened = Journal::open(config, envelope(), fs, clock, Box::new(()));
        opened.ok().map(|(journal, _)| journal)
    }

    /// Seals every file before the newest; says up to which line.
    pub(crate) fn seal(&self, catalog: &Catalog) -> SealReport {
        catalog.seal_closed(self.closed_to()).unwrap()
    }

    pub(crate) fn closed_to(&self) -> u64 {
        let names = self.fs.list(&logstore::journal_dir(&self.dir)).unwrap();
        let parsed = names.iter().filter_map(|name| logstore::format::parse_file_name(name));
        let own = parsed.filter(|(owner, _)| *owner == instance());
        own.map(|(_, first_seq)| first_seq - 1).max().unwrap()
    }

    /// Everything that a reader finds, by instance and number: the exact lines.
    pub(crate) fn lines(&self) -> BTreeMap<(String, u64), Vec<String>> {
        let mut found: BTreeMap<(String, u64), Vec<String>> = BTreeMap::new();
        let snapshot = snapshot(&*self.fs, &self.dir).unwrap();
        for sealed in &snapshot.segments {
            let segment = Segment::open(&self.fs, &sealed.path).unwrap();
            let schema = schema(sealed.info.dataset);
            let columns: Vec<&str> =
                schema.fields().iter().map(|field| field.name().as_str()).collect();
            for batch in segment.read(&Selection::All, &columns).unwrap() {
                let batch = batch.unwrap();
                let numbers = batch.column_by_name("seq").unwrap();
                let numbers =
                    arrow_array::cast::as_primitive_array::<arrow_array::types::Int64Type>(numbers);
                let renderer = Renderer::new(&batch);
                for row in 0..batch.num_rows() {
                    let mut line = Vec::new();
                    renderer.render(row, &mut line);
                    let key = (
                        sealed.instance.as_str().to_owned(),
                        u64::try_from(numbers.value(row)).unwrap(),
                    );
                    found.entry(key).or_default().push(text(&line));
                }
            }
        }
        for part in &snapshot.hot {
            for (at, (first_seq, path)) in part.files.iter().enumerate() {
                let next = part.files.get(at + 1).map_or(u64::MAX, |(first_seq, _)| *first_seq);
                let file = self.fs.open_read(path).unwrap();
                let mut scanner = Scanner::new(file, *first_seq);
                while let Some(batch) = scanner.next_batch().unwrap() {
                    for (seq, line) in batch.lines() {
                        if seq > part.after_seq && seq < next && !line.starts_with(INTERNAL_PREFIX)
                        {
                            let key = (part.instance.as_str().to_owned(), seq);
                            found.entry(key).or_default().push(text(line));
                        }
                    }
                }
            }
        }
        found
    }

    /// How often each record is found, with its outcome.
    pub(crate) fn records(&self) -> BTreeMap<u128, Vec<String>> {
        let mut found: BTreeMap<u128, Vec<String>> = BTreeMap::new();
        for line in self.lines().into_values().flatten() {
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            if line["stream"] == "record" {
                let id: Uuid = line["record_id"].as_str().unwrap().parse().unwrap();
                let outcome = line["outcome"].as_str().unwrap().to_owned();
                found.entry(id.as_u128()).or_default().push(outcome);
            }
        }
        found
    }

    /// No contradiction in any file, by the deep check.
    pub(crate) fn assert_consistent(&self, context: &str) {
        let report = logstore::catalog::verify::verify(&self.fs, &self.dir, true).unwrap();
        assert_eq!(report.findings, Vec::<String>::new(), "{context}");
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8(line.to_vec()).unwrap()
}

/// Which project a record belongs to.
pub(crate) fn project_of(number: u128) -> ProjectId {
    ProjectId(Uuid::from_u128(700 + number % 2))
}

/// A record of some hour: every tenth belongs to the day before.
pub(crate) fn record_at(number: u128) -> Box<Record> {
    let mut record = record(number);
    let minutes = i64::try_from(number % 50).unwrap();
    let day = if number.is_multiple_of(10) { 24 * HOUR } else { 0 };
    record.ts = START.plus_micros(minutes * 60 * 1_000_000 - day);
    record.project_id = Some(project_of(number));
    record
}

/// What was told of each record that was handed over.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<BTreeMap<u128, Option<bool>>>>);

impl Ledger {
    /// Hands a record over and remembers what becomes of it.
    pub(crate) fn write(&self, journal: &Journal, number: u128) {
        let intake = journal.intake();
        if intake.reserve().is_err() {
            return;
        }
        if number.is_multiple_of(3) {
            intake.open(crate::support::opening(number));
        }
        self.0.lock().insert(number, None);
        let told = Arc::clone(&self.0);
        let tell = move |stored| {
            told.lock().insert(number, Some(stored));
        };
        intake.finish(record_at(number), Some(Box::new(tell)));
        let trace = format!(
            "{{\"ts\":\"{}\",\"level\":\"info\",\"msg\":\"note {number}\",\"stream\":\"trace\"}}",
            START.plus_micros(i64::try_from(number).unwrap())
        );
        // Traces may be dropped: nothing is promised of them.
        intake.line(Stream::Trace, trace.into_bytes()).unwrap_or_default();
    }

    pub(crate) fn stored(&self) -> Vec<u128> {
        let told = self.0.lock();
        told.iter().filter(|(_, told)| **told == Some(true)).map(|(number, _)| *number).collect()
    }

    /// Every acknowledged record is found once; nothing is found twice.
    pub(crate) fn assert_kept(&self, place: &Place, context: &str) {
        let found = place.records();
        for (number, outcomes) in &found {
            assert_eq!(outcomes.len(), 1, "{context}: record {number} is there as {outcomes:?}");
        }
        for number in self.stored() {
            let outcome = found.get(&number).map(|outcomes| outcomes[0].as_str());
            assert_eq!(outcome, Some("ok"), "{context}: acknowledged record {number}");
        }
        for ((instance, seq), lines) in place.lines() {
            assert_eq!(lines.len(), 1, "{context}: line {seq} of {instance}: {lines:?}");
        }
    }
}

pub(crate) fn named(text: &str) -> InstanceId {
    InstanceId::parse(text).unwrap()
}
