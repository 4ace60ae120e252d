//! Proves the catalog from its files: manifests are whole, every listed file is
//! there with the rows that are listed, ranges do not overlap, and the books
//! balance against the journal's numbering. Deep: checksums of files, every row
//! within its range, every journal line and every record once.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
};

use arrow_array::{RecordBatch, cast::AsArray as _, types::Int64Type};

use super::{
    CatalogError, Manifest, SealedFile, files,
    manifest::{self, listed_path},
    naming::ids_path,
};
use crate::{
    check::{CheckReport, Known, SeenIds, check_behind},
    fs::Fs,
    journal_dir,
    segment::{Dataset, Segment, SegmentError, Selection, schema::SEQ},
};

/// How often a check begins again because the catalog moved under it.
const TRIES_MAX: u32 = 5;

/// Checks journal and segments of a data directory. Reads only; a server may be
/// writing beside it.
pub fn verify(fs: &Arc<dyn Fs>, data_dir: &Path, deep: bool) -> Result<CheckReport, CatalogError> {
    let mut tries = 1;
    loop {
        let before = super::snapshot(&**fs, data_dir)?;
        let report = once(fs, data_dir, deep)?;
        let still = before.is_current(&**fs, data_dir);
        if report.is_consistent() || still || tries == TRIES_MAX {
            return Ok(report);
        }
        tries += 1;
    }
}

fn once(fs: &Arc<dyn Fs>, data_dir: &Path, deep: bool) -> Result<CheckReport, CatalogError> {
    let mut report = CheckReport::default();
    let mut known: HashMap<String, Known> = HashMap::new();
    for instance in manifest::instances(&**fs, data_dir)? {
        let loaded = manifest::load(&**fs, data_dir, &instance)?;
        for problem in loaded.problems {
            report.find(problem.to_string());
        }
        let Some(manifest) = loaded.manifest else { continue };
        let mut check = Check { fs, data_dir, deep, report: &mut report, lines: Lines::default() };
        let ids = check.instance(instance.as_str(), &manifest);
        let Manifest { sealed_to, books, .. } = manifest;
        known.insert(instance.as_str().to_owned(), Known { sealed_to, boot: books.boot, ids });
    }
    let dir = journal_dir(data_dir);
    check_behind(fs, &dir, known, &mut report).map_err(CatalogError::io("read", &dir))?;
    Ok(report)
}

struct Check<'c> {
    fs: &'c Arc<dyn Fs>,
    data_dir: &'c Path,
    deep: bool,
    report: &'c mut CheckReport,
    lines: Lines,
}

impl Check<'_> {
    fn instance(&mut self, instance: &str, manifest: &Manifest) -> SeenIds {
        let mut ids = SeenIds::default();
        self.books(instance, manifest);
        self.ranges(manifest);
        for file in &manifest.segments {
            self.report.segments += 1;
            self.report.segment_rows += file.rows;
            self.report.segment_bytes += file.bytes_all();
            let path = listed_path(self.data_dir, &file.file);
            match self.segment(&path, file, &mut ids) {
                Ok(()) => {}
                Err(CatalogError::Segment(error)) => self.report.find(error.to_string()),
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    let cause = error.source().map(|it| format!(": {it}")).unwrap_or_default();
                    self.report.find(format!("{error}{cause}"));
                }
            }
        }
        ids
    }

    fn books(&mut self, instance: &str, manifest: &Manifest) {
        let books = &manifest.books;
        let report = &mut *self.report;
        if !books.lines_balance(manifest.sealed_to) {
            report.find(format!(
                "{instance}: the lines from {} to {} do not add up",
                books.first_line, manifest.sealed_to
            ));
        }
        for dataset in Dataset::ALL {
            let listed = manifest.segments.iter().filter(|it| it.dataset == *dataset);
            let rows: u64 = listed.map(|it| it.rows).sum();
            if books.rows_left(*dataset) != Some(rows) {
                let left = books.rows_left(*dataset).unwrap_or(0);
                let dataset = dataset.as_str();
                report.find(format!(
                    "{instance}: {dataset}: {rows} rows are listed, by the books {left} are left"
                ));
            }
        }
        if books.missing > 0 {
            let lines = books.missing;
            report.find(format!(
                "{instance}: {lines} lines are damaged or missing in files that were sealed"
            ));
        }
        if books.boot.contradictions > 0 {
            let times = books.boot.contradictions;
            report.find(format!("{instance}: the journal's counters did not fit {times} times"));
        }
        if books.opaque > 0 {
            let lines = books.opaque;
            let note = format!("{instance}: {lines} lines are no JSON objects (among the traces)");
            report.notes.push(note);
        }
        if books.first_line > 1 {
            let first = books.first_line;
            report.notes.push(format!("{instance}: lines before {first} are not here any more"));
        }
    }

    fn ranges(&mut self, manifest: &Manifest) {
        let mut dates: BTreeMap<(Dataset, &str), Vec<&SealedFile>> = BTreeMap::new();
        for file in &manifest.segments {
            if file.last_seq > manifest.sealed_to {
                self.report.find(format!("{}: it is beyond what is sealed", file.file));
            }
            dates.entry((file.dataset, file.date())).or_default().push(file);
        }
        for mut files in dates.into_values() {
            files.sort_by_key(|it| it.first_seq);
            for pair in files.windows(2) {
                if pair[0].overlaps(pair[1].first_seq, pair[1].last_seq) {
                    let (one, other) = (&pair[0].file, &pair[1].file);
                    self.report.find(format!("{one}: its range overlaps that of {other}"));
                }
            }
        }
    }

    fn segment(
        &mut self,
        path: &Path,
        file: &SealedFile,
        ids: &mut SeenIds,
    ) -> Result<(), CatalogError> {
        let size = |path: &Path| self.fs.identity(path).map(|it| it.bytes);
        let bytes = size(path).map_err(CatalogError::io("find", path))?;
        let mut wrong = |what: String| self.report.find(format!("{}: {what}", file.file));
        if bytes != file.bytes {
            wrong(format!("it has {bytes} bytes, {} are listed", file.bytes));
        }
        if !size(&ids_path(path)).is_ok_and(|bytes| bytes == file.ids_bytes) {
            wrong("its side index is missing or of another size".to_owned());
        }
        let segment = Segment::open(self.fs, path)?;
        if segment.dataset() != file.dataset || segment.rows() != file.rows {
            wrong(format!("it has {} rows, {} are listed", segment.rows(), file.rows));
        }
        if let Some(problem) = segment.ids_problem() {
            wrong(format!("its side index cannot be used: {problem}"));
        }
        if segment.times() != (file.min_ts, file.max_ts) {
            wrong("its times are not those that are listed".to_owned());
        }
        if !self.deep {
            return Ok(());
        }
        let sha256 = files::sha256(&**self.fs, path).map_err(CatalogError::io("read", path))?;
        if sha256 != file.sha256 {
            wrong("its checksum is not the one that is listed".to_owned());
        }
        let index = ids_path(path);
        let known = !file.ids_sha256.is_empty();
        if known && !files::sha256(&**self.fs, &index).is_ok_and(|sum| sum == file.ids_sha256) {
            wrong("the checksum of its side index is not the one that is listed".to_owned());
        }
        self.rows(&segment, file, ids)?;
        Ok(())
    }

    fn rows(
        &mut self,
        segment: &Segment,
        file: &SealedFile,
        ids: &mut SeenIds,
    ) -> Result<(), SegmentError> {
        let columns: &[&str] = match file.dataset {
            Dataset::Records => &["record_id", SEQ],
            _ => &[SEQ],
        };
        let (mut rows, mut outside, mut again) = (0, 0u64, 0u64);
        for batch in segment.read(&Selection::All, columns)? {
            let batch = batch?;
            rows += batch.num_rows() as u64;
            // Bodies have a numbering of their own.
            if file.dataset != Dataset::Bodies {
                for seq in numbers(&batch) {
                    outside += u64::from(seq < file.first_seq || file.last_seq < seq);
                    again += u64::from(!self.lines.insert(seq));
                }
            }
            again += twice(&batch, ids);
        }
        for (count, what) in [
            (outside, "rows are of lines outside of its range"),
            (again, "lines or records are there again"),
        ] {
            if count > 0 {
                self.report.find(format!("{}: {count} {what}", file.file));
            }
        }
        if rows != file.rows {
            self.report.find(format!("{}: {rows} rows came back", file.file));
        }
        Ok(())
    }
}

fn numbers(batch: &RecordBatch) -> Vec<u64> {
    let seq = batch.column_by_name(SEQ).and_then(|it| it.as_primitive_opt::<Int64Type>());
    let numbers = seq.into_iter().flat_map(|seq| seq.iter());
    numbers.map(|seq| seq.and_then(|seq| u64::try_from(seq).ok()).unwrap_or(0)).collect()
}

/// How many records of a batch were there before.
fn twice(batch: &RecordBatch, ids: &mut SeenIds) -> u64 {
    let column = batch.column_by_name("record_id").and_then(|it| it.as_string_opt::<i32>());
    let Some(column) = column else { return 0 };
    let known = column.iter().flatten().filter_map(|text| text.parse().ok());
    known.filter(|id| !ids.insert(*id)).count() as u64
}

/// Which journal lines were seen: a bit each, in pieces as they come.
#[derive(Default)]
struct Lines(HashMap<u64, Box<[u64; Lines::WORDS]>>);

impl Lines {
    const WORDS: usize = 1024;

    /// False if the line was there already.
    fn insert(&mut self, seq: u64) -> bool {
        let bits = Self::WORDS as u64 * 64;
        let piece = self.0.entry(seq / bits).or_insert_with(|| Box::new([0; Self::WORDS]));
        let at = seq % bits;
        let word = &mut piece[usize::try_from(at / 64).unwrap_or(0)];
        let bit = 1u64 << (at % 64);
        let fresh = *word & bit == 0;
        *word |= bit;
        fresh
    }
}
