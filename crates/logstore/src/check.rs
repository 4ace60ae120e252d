//! Proves the books from the files alone: checksums, dense numbers, each record
//! once, every opening ended, and the counters that the journal noted.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    path::Path,
    sync::Arc,
};

use domain::ids::{InstanceId, RecordId};

use crate::{
    catalog::{beyond, books::Boot},
    format::{
        COUNTERS_PREFIX, Counters, ENTRY_OPENING_PREFIX, FORMAT, HEADER_PREFIX, Header,
        OPENING_PREFIX, OutcomeWord, RECORD_PREFIX, RecordLine, parse_opening,
    },
    fs::Fs,
    recover::{all_files, read_header},
    scan::{Batch, Scanner},
};

/// Record ids remembered to find doubles: two generations of this many, so a
/// double is found among at least as many newest records.
const IDS_PER_GENERATION: usize = 2_000_000;
/// Findings kept; more are counted.
const FINDINGS_MAX: usize = 100;

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    pub files: u64,
    pub bytes: u64,
    pub batches: u64,
    pub lines: u64,
    pub records: u64,
    /// Captured bodies beside the journal.
    pub bodies: u64,
    pub interrupted: u64,
    pub starts: u64,
    /// Openings of the newest start without an end yet.
    pub open: u64,
    /// Segments and their rows.
    pub segments: u64,
    pub segment_rows: u64,
    pub segment_bytes: u64,
    /// What contradicts the format or the books.
    pub findings: Vec<String>,
    pub findings_left_out: u64,
    /// What is worth knowing and no contradiction.
    pub notes: Vec<String>,
}

impl CheckReport {
    pub fn is_consistent(&self) -> bool {
        self.findings.is_empty()
    }

    pub(crate) fn find(&mut self, finding: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.findings_left_out += 1;
        }
    }
}

/// Where the journal's lines are read from on, and what is known of those before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) sealed_to: u64,
    pub(crate) boot: Boot,
    pub(crate) ids: SeenIds,
}

/// Record ids seen lately.
#[derive(Clone, Debug, Default)]
pub(crate) struct SeenIds([HashSet<RecordId>; 2]);

impl SeenIds {
    /// False if the id was there already.
    pub(crate) fn insert(&mut self, id: RecordId) -> bool {
        let [new, old] = &mut self.0;
        let fresh = !old.contains(&id) && new.insert(id);
        if new.len() >= IDS_PER_GENERATION {
            *old = std::mem::take(new);
        }
        fresh
    }
}

/// Checks every journal file in a directory. Reads only; a server may be
/// writing beside it.
pub fn check(fs: &Arc<dyn Fs>, journal_dir: &Path) -> io::Result<CheckReport> {
    let mut report = CheckReport::default();
    check_behind(fs, journal_dir, HashMap::new(), &mut report)?;
    Ok(report)
}

/// As [`check`], of lines behind those that are known to be sealed.
pub(crate) fn check_behind(
    fs: &Arc<dyn Fs>,
    journal_dir: &Path,
    mut known: HashMap<String, Known>,
    report: &mut CheckReport,
) -> io::Result<()> {
    let mut instances: BTreeMap<String, Vec<(u64, std::path::PathBuf)>> = BTreeMap::new();
    for (instance, first_seq, path) in all_files(&**fs, journal_dir)? {
        instances.entry(instance.as_str().to_owned()).or_default().push((first_seq, path));
    }
    for (instance, mut files) in instances {
        files.sort();
        let known = known.remove(&instance).unwrap_or_default();
        files.drain(..beyond(&files, known.sealed_to));
        let Some(instance) = InstanceId::parse(&instance) else { continue };
        let mut check = InstanceCheck::new(&instance, known, report);
        for (at, (first_seq, path)) in files.iter().enumerate() {
            let next = files.get(at + 1).map(|(first_seq, _)| *first_seq);
            check.file(&**fs, *first_seq, path, next)?;
        }
        check.end();
    }
    crate::bodies::check(&**fs, journal_dir, report)
}

struct InstanceCheck<'r> {
    report: &'r mut CheckReport,
    instance: String,
    seq: Option<u64>,
    sealed_to: u64,
    open: HashMap<RecordId, u64>,
    ids: SeenIds,
    /// The start at hand was seen.
    started: bool,
    /// Records of the current boot, and those that its start wrote.
    records: u64,
    interrupted: u64,
    lost: u64,
    /// The journal is known to miss lines of this boot, so sums cannot fit.
    incomplete: bool,
}

impl<'r> InstanceCheck<'r> {
    fn new(instance: &InstanceId, known: Known, report: &'r mut CheckReport) -> Self {
        let Known { sealed_to, boot, ids } = known;
        Self {
            report,
            instance: instance.as_str().to_owned(),
            seq: (sealed_to > 0).then_some(sealed_to),
            sealed_to,
            open: HashMap::new(),
            ids,
            started: boot.number > 0,
            records: boot.records,
            interrupted: boot.interrupted,
            lost: 0,
            incomplete: boot.incomplete,
        }
    }

    fn file(
        &mut self,
        fs: &dyn Fs,
        first_seq: u64,
        path: &Path,
        next: Option<u64>,
    ) -> io::Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = fs.open_read(path)?;
        if let Some(header) = read_header(&*file)
            && header.format > FORMAT
        {
            self.report.find(format!("{name}: written in format {}", header.format));
            return Ok(());
        }
        let mut scanner = Scanner::new(Arc::clone(&file), first_seq);
        let last = next.map_or(u64::MAX, |next| next - 1);
        while let Some(batch) = scanner.next_batch()? {
            if let Some(damage) = batch.damage {
                self.incomplete = true;
                let (bytes, offset, lines) = (damage.bytes, damage.offset, damage.lines);
                self.report.find(format!(
                    "{name}: {bytes} bytes at {offset} are damaged, {lines} lines are missing"
                ));
                self.seq = Some(batch.first_seq - 1);
            }
            if batch.first_seq > last || batch.last_seq <= self.sealed_to {
                continue;
            }
            self.batch(&name, &batch);
        }
        let bytes = file.identity()?.bytes;
        self.report.files += 1;
        self.report.bytes += bytes;
        if bytes > scanner.good_end() {
            let (torn, at) = (bytes - scanner.good_end(), scanner.good_end());
            self.report.notes.push(match next {
                None => format!("{name}: {torn} bytes at {at} are not committed (yet)"),
                Some(_) => format!("{name}: a torn end of {torn} bytes at {at}"),
            });
        }
        Ok(())
    }

    fn batch(&mut self, name: &str, batch: &Batch<'_>) {
        match self.seq {
            None if batch.first_seq > 1 => self.report.notes.push(format!(
                "{}: lines before {} are not here any more",
                self.instance, batch.first_seq
            )),
            Some(seq) if batch.first_seq != seq + 1 => {
                self.incomplete = true;
                self.report.find(format!(
                    "{name}: line {} follows line {seq}: the lines between are missing",
                    batch.first_seq
                ));
            }
            _ => {}
        }
        self.seq = Some(batch.last_seq);
        self.report.batches += 1;
        self.report.lines += batch.last_seq + 1 - batch.first_seq;
        let mut books = None;
        let mut started = false;
        for (seq, line) in batch.lines() {
            if line.starts_with(HEADER_PREFIX) {
                started |= self.header(name, seq, line);
            } else if line.starts_with(OPENING_PREFIX) && !line.starts_with(ENTRY_OPENING_PREFIX) {
                self.opening(name, seq, line);
            } else if line.starts_with(COUNTERS_PREFIX) {
                books = Some((seq, Counters::parse(line)));
            } else if line.starts_with(RECORD_PREFIX) {
                self.record(name, seq, line, started);
            } else if serde_json::from_slice::<serde::de::IgnoredAny>(line).is_err() {
                self.report.find(format!("{name}: line {seq} is not JSON"));
            }
        }
        if started && !self.open.is_empty() {
            let (count, id) = (self.open.len(), self.open.keys().next().copied());
            let id = id.map(|id| id.to_string()).unwrap_or_default();
            self.report.find(format!("{name}: {count} openings never ended, {id} among them"));
            self.open.clear();
        }
        if let Some((seq, books)) = books {
            self.books(name, seq, books);
        }
    }

    /// True if a new boot begins.
    fn header(&mut self, name: &str, seq: u64, line: &[u8]) -> bool {
        let Some(header) = Header::parse(line) else {
            self.report.find(format!("{name}: line {seq} is no header"));
            return false;
        };
        if header.instance != self.instance || header.first_seq != seq {
            self.report.find(format!("{name}: its header names another file"));
        }
        if header.reason != "start" {
            return false;
        }
        self.report.starts += 1;
        self.started = true;
        self.note_lost();
        (self.records, self.interrupted) = (0, 0);
        // A journal that begins in the middle of a boot starts whole again here.
        self.incomplete = false;
        true
    }

    fn opening(&mut self, name: &str, seq: u64, line: &[u8]) {
        match parse_opening(line) {
            Some(opening) => {
                self.open.insert(opening.record_id, seq);
            }
            None => self.report.find(format!("{name}: line {seq} is no opening")),
        }
    }

    fn record(&mut self, name: &str, seq: u64, line: &[u8], starting: bool) {
        let Some(record) = RecordLine::parse(line) else {
            return self.report.find(format!("{name}: line {seq} is no record"));
        };
        self.report.records += 1;
        self.records += 1;
        self.open.remove(&record.record_id);
        if record.outcome == Some(OutcomeWord::Interrupted) {
            self.report.interrupted += 1;
            self.interrupted += u64::from(starting);
        }
        if !self.ids.insert(record.record_id) {
            self.report.find(format!("{name}: line {seq}: record {} again", record.record_id));
        }
    }

    fn books(&mut self, name: &str, seq: u64, books: Option<Counters>) {
        let Some(books) = books else {
            return self.report.find(format!("{name}: line {seq} is no counters line"));
        };
        if !books.balance() {
            self.report.find(format!("{name}: line {seq}: the counters do not balance"));
        }
        let written = self.records - self.interrupted;
        if self.started && !self.incomplete && written != books.stored {
            self.incomplete = true;
            self.report.find(format!(
                "{name}: line {seq} counts {} stored records of this start, the files hold {written}",
                books.stored
            ));
        }
        self.lost = books.lost;
    }

    fn note_lost(&mut self) {
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            let instance = &self.instance;
            self.report.notes.push(format!("{instance}: one run lost {lost} records to its disk"));
        }
    }

    fn end(mut self) {
        self.note_lost();
        self.report.open += self.open.len() as u64;
    }
}
