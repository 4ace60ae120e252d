//! Closed journal files become segments.
//!
//! A file is read twice: once here, for the books and to set aside what damage
//! left of it, once by [`segment::seal`]. Damaged bytes, which cannot be sealed,
//! are kept under `journal/torn`, so the journal file can go without anything
//! being lost for good.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use domain::ids::InstanceId;

use super::{
    CatalogError, Manifest, SealedFile,
    books::Tally,
    event::{CatalogEvent, EventKind},
    files,
    manifest::listed_path,
    naming::{SegmentName, UNFINISHED, ids_path},
    snapshot::{HotPart, beyond},
    store::{Catalog, Lists},
};
use crate::{
    format::{FORMAT, INTERNAL_PREFIX, RECORD_PREFIX},
    fs::Fs,
    journal_dir,
    recover::{copy_aside, files_of, read_header},
    scan::Scanner,
    segment::{self, ClosedFile, Dataset, SegmentInfo},
};

/// Of a fresh segment: fast.
const ZSTD_LEVEL: i32 = 1;

/// What one round of sealing did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SealReport {
    /// Journal files sealed.
    pub files: u64,
    pub segments: u64,
    pub rows: u64,
    pub bytes: u64,
    pub seconds: f64,
}

/// What the first reading of a journal file finds.
#[derive(Default)]
struct Survey {
    tally: Tally,
    own: u64,
    visible: u64,
    missing: u64,
    /// Byte ranges that no commit line covers.
    damaged: Vec<(u64, u64)>,
}

/// A closed file and the lines of it that are to be sealed.
struct Closed<'a> {
    path: &'a Path,
    first_seq: u64,
    from: u64,
    last: u64,
}

impl Catalog {
    /// Seals every closed file of this process's journal: those before the one
    /// that begins behind line `closed_to`.
    pub fn seal_closed(&self, closed_to: u64) -> Result<SealReport, CatalogError> {
        let instance = self.config.instance.clone();
        self.step(|lists| {
            let report = self.seal_up_to(lists, &instance, closed_to)?;
            self.tell(lists)?;
            Ok(report)
        })
    }

    /// Seals the files of a journal that nobody writes any more, the last one
    /// included, and removes them.
    pub(crate) fn seal_whole(
        &self,
        instance: &InstanceId,
        last_seq: u64,
    ) -> Result<SealReport, CatalogError> {
        let report = self.step(|lists| {
            let report = self.seal_up_to(lists, instance, last_seq)?;
            self.tell(lists)?;
            Ok(report)
        })?;
        self.step(|lists| {
            let (_, manifest) = listed(lists, instance);
            if manifest.sealed_to < last_seq {
                return Ok(());
            }
            let files = self.journal_files(instance)?;
            self.remove_journal(&files)
        })?;
        Ok(report)
    }

    fn journal_files(&self, instance: &InstanceId) -> Result<Vec<(u64, PathBuf)>, CatalogError> {
        let dir = journal_dir(&self.config.data_dir);
        match files_of(&*self.fs, &dir, instance) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            files => files.map_err(CatalogError::io("list", &dir)),
        }
    }

    fn seal_up_to(
        &self,
        lists: &mut Lists,
        instance: &InstanceId,
        closed_to: u64,
    ) -> Result<SealReport, CatalogError> {
        let files = self.journal_files(instance)?;
        let mut report = SealReport::default();
        let (instance, manifest) = listed(lists, instance);
        loop {
            let at = beyond(&files, manifest.sealed_to);
            let Some((first_seq, path)) = files.get(at) else { break };
            let next = files.get(at + 1).map(|(first_seq, _)| first_seq - 1);
            let last = next.unwrap_or(closed_to).min(closed_to);
            let from = manifest.sealed_to.max(first_seq - 1) + 1;
            let whole = next.is_none_or(|next| next <= closed_to);
            if from > last || !whole {
                break;
            }
            self.check_stop()?;
            let begun = Instant::now();
            let closed = Closed { path, first_seq: *first_seq, from, last };
            self.seal_file(instance, manifest, &closed, &mut report)?;
            let seconds = begun.elapsed().as_secs_f64();
            report.files += 1;
            report.seconds += seconds;
            let mut figures = self.figures.lock();
            figures.seals += 1;
            figures.seal_seconds += seconds;
        }
        self.figures.lock().rows_sealed += report.rows;
        Ok(report)
    }

    fn seal_file(
        &self,
        instance: &InstanceId,
        manifest: &mut Manifest,
        closed: &Closed<'_>,
        report: &mut SealReport,
    ) -> Result<(), CatalogError> {
        let fs = &*self.fs;
        let tally = Tally::new(manifest.books.boot.clone());
        let survey = survey(fs, closed, tally).map_err(CatalogError::io("read", closed.path))?;
        let survey = survey.ok_or_else(|| CatalogError::Contradiction {
            path: closed.path.to_owned(),
            what: "a newer build wrote it".to_owned(),
        })?;
        self.set_aside(closed, &survey.damaged)?;
        let (mut written, opaque) = self.write_segments(instance, closed, closed.path)?;
        let rows: u64 = written.iter().map(|sealed| sealed.rows).sum();
        if rows != survey.visible {
            return Err(CatalogError::Contradiction {
                path: closed.path.to_owned(),
                what: format!("{} lines became {rows} rows", survey.visible),
            });
        }
        let bodies = HotPart::bodies(closed.path);
        if fs.identity(&bodies).is_ok() && !bodies_sealed(manifest, closed) {
            written.extend(self.write_segments(instance, closed, &bodies)?.0);
        }
        self.put_in_place(&written)?;

        book(manifest, closed, survey, &written, opaque);
        for sealed in &written {
            report.segments += 1;
            report.rows += sealed.rows;
            report.bytes += sealed.bytes_all();
            manifest.note(event(EventKind::Sealed, instance, sealed, Vec::new()));
        }
        manifest.sealed_to = closed.last;
        manifest.segments.extend(written);
        self.save(instance, manifest)
    }

    /// Writes the segments of one file, or of the bodies beside it, under
    /// temporary names; says how many lines were no JSON objects.
    fn write_segments(
        &self,
        instance: &InstanceId,
        closed: &Closed<'_>,
        path: &Path,
    ) -> Result<(Vec<SealedFile>, u64), CatalogError> {
        let (fs, data_dir) = (&*self.fs, &self.config.data_dir);
        let (first_seq, last_seq) = (closed.from, closed.last);
        let name = SegmentName { instance: instance.clone(), first_seq, last_seq, level: 0 };
        let file = |dataset: Dataset, date: &str| {
            format!("{}/date={date}/{}", dataset.as_str(), name.file())
        };
        let mut failed: Option<CatalogError> = None;
        let mut place = |dataset: Dataset, date: &str| {
            let path = listed_path(data_dir, &file(dataset, date));
            let (parquet, ids) = unfinished(&path);
            let prepared = path
                .parent()
                .map_or(Ok(()), |dir| files::create_dirs(fs, data_dir, dir))
                .and_then(|()| files::remove(fs, &parquet))
                .and_then(|()| files::remove(fs, &ids));
            if let Err(error) = prepared {
                failed = Some(CatalogError::io("create", &path)(error));
            }
            (parquet, ids)
        };
        let options = self.seal_options(instance, ZSTD_LEVEL);
        let lines = match path == closed.path {
            true => {
                ClosedFile { path, first_seq: closed.first_seq, range: closed.from..=closed.last }
            }
            // Bodies have a numbering of their own.
            false => ClosedFile { path, first_seq: 1, range: 1..=u64::MAX },
        };
        let sealed = segment::seal(fs, &lines, &options, &mut place);
        if let Some(error) = failed {
            return Err(error);
        }
        let listed = |info: SegmentInfo| {
            let file = file(info.dataset, &info.date);
            let (_, ids) = unfinished(&listed_path(data_dir, &file));
            let ids_sha256 = files::sha256(fs, &ids).map_err(CatalogError::io("read", &ids))?;
            Ok(SealedFile { file, ids_sha256, first_seq, last_seq, ..sealed_file(info) })
        };
        let sealed = sealed?;
        let segments: Result<Vec<SealedFile>, CatalogError> =
            sealed.segments.into_iter().map(listed).collect();
        Ok((segments?, sealed.opaque))
    }

    /// Gives finished files their names.
    pub(crate) fn put_in_place(&self, written: &[SealedFile]) -> Result<(), CatalogError> {
        let mut dirs: BTreeSet<PathBuf> = BTreeSet::new();
        for sealed in written {
            let path = listed_path(&self.config.data_dir, &sealed.file);
            let (parquet, ids) = unfinished(&path);
            self.fs.rename(&ids, &ids_path(&path)).map_err(CatalogError::io("rename", &ids))?;
            self.fs.rename(&parquet, &path).map_err(CatalogError::io("rename", &parquet))?;
            dirs.extend(path.parent().map(Path::to_owned));
        }
        for dir in dirs {
            self.fs.sync_dir(&dir).map_err(CatalogError::io("sync", &dir))?;
        }
        Ok(())
    }

    /// Copies damaged bytes to `torn/` before their file can go.
    fn set_aside(&self, closed: &Closed<'_>, ranges: &[(u64, u64)]) -> Result<(), CatalogError> {
        if ranges.is_empty() {
            return Ok(());
        }
        let failed = |error| CatalogError::io("copy", closed.path)(error);
        let torn = journal_dir(&self.config.data_dir).join("torn");
        self.fs.create_dir(&torn).map_err(CatalogError::io("create", &torn))?;
        let file = self.fs.open_read(closed.path).map_err(failed)?;
        for range in ranges {
            copy_aside(&*self.fs, &torn, closed.path, &*file, "damaged", *range).map_err(failed)?;
        }
        tracing::error!(
            file = %closed.path.display(),
            ranges = ranges.len(),
            "a journal file is damaged: kept its damaged bytes and sealed the rest"
        );
        Ok(())
    }

    /// Removes journal files that are sealed and that no required reader needs:
    /// all are past line `required`. Returns how many went.
    pub fn drop_sealed(&self, required: u64) -> Result<u64, CatalogError> {
        let instance = self.config.instance.clone();
        self.step(|lists| {
            let (_, manifest) = listed(lists, &instance);
            let mut files = self.journal_files(&instance)?;
            files.truncate(beyond(&files, manifest.sealed_to.min(required)));
            self.remove_journal(&files)?;
            Ok(files.len() as u64)
        })
    }

    fn remove_journal(&self, sealed: &[(u64, PathBuf)]) -> Result<(), CatalogError> {
        for (_, path) in sealed {
            let bodies = HotPart::bodies(path);
            files::remove(&*self.fs, &bodies).map_err(CatalogError::io("remove", &bodies))?;
            files::remove(&*self.fs, path).map_err(CatalogError::io("remove", path))?;
        }
        if sealed.is_empty() {
            return Ok(());
        }
        let dir = journal_dir(&self.config.data_dir);
        self.fs.sync_dir(&dir).map_err(CatalogError::io("sync", &dir))
    }
}

impl Closed<'_> {
    fn has(&self, seq: u64) -> bool {
        (self.from..=self.last).contains(&seq)
    }
}

/// The list of an instance; an empty one where there is none yet.
pub(crate) fn listed<'l>(
    lists: &'l mut Lists,
    instance: &InstanceId,
) -> (&'l InstanceId, &'l mut Manifest) {
    let fresh = || (instance.clone(), Manifest::empty(instance));
    let key = instance.as_str().to_owned();
    let (instance, manifest) = lists.by_instance.entry(key).or_insert_with(fresh);
    (instance, manifest)
}

/// Enters what became of a file's lines.
fn book(
    manifest: &mut Manifest,
    closed: &Closed<'_>,
    survey: Survey,
    written: &[SealedFile],
    opaque: u64,
) {
    let books = &mut manifest.books;
    if manifest.sealed_to == 0 && closed.from > 1 {
        // The journal had lost its beginning before anything was sealed.
        books.first_line = closed.from;
    } else {
        books.missing += closed.from - manifest.sealed_to - 1;
    }
    for sealed in written {
        books.rows.add(sealed.dataset, sealed.rows);
        if sealed.dataset != Dataset::Bodies {
            books.lines.add(sealed.dataset, sealed.rows);
        }
    }
    books.own += survey.own;
    books.missing += survey.missing;
    books.opaque += opaque;
    books.boot = survey.tally.boot;
}

/// Where a segment and its side index are until they are finished.
pub(crate) fn unfinished(path: &Path) -> (PathBuf, PathBuf) {
    let with = |path: &Path| {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(UNFINISHED);
        path.with_file_name(name)
    };
    (with(path), with(&ids_path(path)))
}

pub(crate) fn sealed_file(info: SegmentInfo) -> SealedFile {
    SealedFile {
        dataset: info.dataset,
        file: String::new(),
        level: 0,
        rows: info.rows,
        bytes: info.bytes,
        ids_bytes: info.ids_bytes,
        sha256: info.sha256,
        ids_sha256: String::new(),
        first_seq: info.first_seq,
        last_seq: info.last_seq,
        min_ts: info.min_ts,
        max_ts: info.max_ts,
    }
}

pub(crate) fn event(
    kind: EventKind,
    instance: &InstanceId,
    sealed: &SealedFile,
    replaced: Vec<String>,
) -> CatalogEvent {
    CatalogEvent {
        kind,
        dataset: sealed.dataset.as_str().to_owned(),
        file: sealed.file.clone(),
        rows: sealed.rows,
        bytes: sealed.bytes,
        sha256: sealed.sha256.clone(),
        instance: instance.as_str().to_owned(),
        first_seq: sealed.first_seq,
        last_seq: sealed.last_seq,
        replaced,
    }
}

fn bodies_sealed(manifest: &Manifest, closed: &Closed<'_>) -> bool {
    manifest
        .segments
        .iter()
        .any(|it| it.dataset == Dataset::Bodies && it.overlaps(closed.from, closed.last))
}

/// `None`: the file has a newer format.
fn survey(fs: &dyn Fs, closed: &Closed<'_>, tally: Tally) -> io::Result<Option<Survey>> {
    let file = fs.open_read(closed.path)?;
    if read_header(&*file).is_some_and(|header| header.format > FORMAT) {
        return Ok(None);
    }
    let mut survey = Survey { tally, ..Survey::default() };
    let mut scanner = Scanner::new(Arc::clone(&file), closed.first_seq);
    let mut reached = closed.from - 1;
    while let Some(batch) = scanner.next_batch()? {
        if let Some(damage) = batch.damage {
            survey.damaged.push((damage.offset, damage.offset + damage.bytes));
        }
        survey.tally.batch_begins();
        for (seq, line) in batch.lines().filter(|(seq, _)| closed.has(*seq)) {
            if seq > reached + 1 {
                survey.missing += seq - reached - 1;
                survey.tally.lines_missing();
            }
            reached = seq;
            if line.starts_with(INTERNAL_PREFIX) {
                survey.own += 1;
                survey.tally.own_line(line);
            } else {
                survey.visible += 1;
                if line.starts_with(RECORD_PREFIX) {
                    survey.tally.record(line);
                }
            }
        }
    }
    if reached < closed.last {
        survey.missing += closed.last - reached;
        survey.tally.lines_missing();
        survey.damaged.push((scanner.good_end(), file.identity()?.bytes));
    }
    Ok(Some(survey))
}
