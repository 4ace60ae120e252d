//! Takes a project's or an end user's lines out of sealed segments. Only files
//! that hold some are written again, and the old ones go at once.
//!
//! Concerned are records, bodies and traces; of an end user the traces of the
//! requests whose records name them. Those go first, while the records still tell
//! which they are, so that an erasure that was cut off can be done again. Entries
//! are not concerned: what they say of a person is sealed in them and erased by
//! its opening. Whatever is still in the journal must be sealed before, see
//! [`crate::Journal::turn`]; damaged bytes in `journal/torn/` are nobody's lines
//! and stay.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::Path,
    sync::Arc,
};

use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch, cast::AsArray as _};
use arrow_select::filter::filter_record_batch;
use domain::ids::{InstanceId, ProjectId};

use super::{
    CatalogError, Manifest, SealedFile, event::EventKind, manifest::listed_path, merge,
    seal::event, store::Catalog,
};
use crate::{
    fs::Fs,
    segment::{Dataset, Segment, SegmentError, Selection},
};

/// Whose lines go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Erase {
    Project(ProjectId),
    EndUser(String),
}

impl Erase {
    fn column(&self) -> &'static str {
        match self {
            Self::Project(_) => "project_id",
            Self::EndUser(_) => "end_user",
        }
    }

    fn value(&self) -> String {
        match self {
            Self::Project(id) => id.to_string(),
            Self::EndUser(user) => user.clone(),
        }
    }
}

/// Requests of one end user whose traces are found: 8 bytes and some each.
const REQUESTS_MAX: usize = 4_000_000;

/// Which rows of a file go.
enum Rows {
    With {
        column: &'static str,
        value: String,
    },
    /// Of these requests, by the hashes of their ids.
    OfRequests(HashSet<u64>),
}

impl Rows {
    fn column(&self) -> &'static str {
        match self {
            Self::With { column, .. } => column,
            Self::OfRequests(_) => REQUEST_ID,
        }
    }

    fn has(&self, text: &str) -> bool {
        match self {
            Self::With { value, .. } => text == value,
            Self::OfRequests(ids) => ids.contains(&hash_of(text)),
        }
    }

    fn are_none(&self) -> bool {
        matches!(self, Self::OfRequests(ids) if ids.is_empty())
    }
}

const REQUEST_ID: &str = "request_id";

fn hash_of(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

/// What an erasure took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EraseReport {
    /// Files that were looked at, and those written again or gone.
    pub files: u64,
    pub rewritten: u64,
    pub rows: u64,
    /// Up to where the own journal was sealed: later lines were not looked at.
    pub sealed_to: u64,
    /// Files that could not be read, with the reason.
    pub failed: Vec<String>,
}

impl Catalog {
    /// Erases from every listed segment. A file that cannot be read stays, and
    /// the report names it.
    pub fn erase(&self, what: &Erase) -> Result<EraseReport, CatalogError> {
        let mut report = EraseReport::default();
        self.step(|lists| {
            for (instance, manifest) in lists.by_instance.values_mut() {
                if *instance == self.config.instance {
                    report.sealed_to = manifest.sealed_to;
                }
                let own = Rows::With { column: what.column(), value: what.value() };
                let traces = match what {
                    Erase::Project(_) => None,
                    Erase::EndUser(_) => Some(self.requests_of(manifest, &own, &mut report)?),
                };
                let mut files: Vec<SealedFile> = manifest.segments.clone();
                files.retain(|file| file.dataset != Dataset::Entries);
                files.sort_by_key(|file| file.dataset != Dataset::Traces);
                for file in &files {
                    self.check_hurry()?;
                    report.files += 1;
                    let of_traces = traces.as_ref().filter(|_| file.dataset == Dataset::Traces);
                    let rows = of_traces.unwrap_or(&own);
                    match self.erase_from(instance, manifest, file, rows) {
                        Ok(rows) => {
                            report.rows += rows;
                            report.rewritten += u64::from(rows > 0);
                        }
                        Err(CatalogError::Segment(error)) => report.failed.push(error.to_string()),
                        Err(error) => return Err(error),
                    }
                }
            }
            // Earlier states of these rows must not wait for a grace period.
            self.sweep_older(lists, i64::MIN)?;
            self.figures.lock().rows_erased += report.rows;
            self.tell(lists)
        })?;
        Ok(report)
    }

    /// The requests of an instance whose records are to go. A file that cannot be
    /// read is named when its turn comes.
    fn requests_of(
        &self,
        manifest: &Manifest,
        own: &Rows,
        report: &mut EraseReport,
    ) -> Result<Rows, CatalogError> {
        let mut ids = HashSet::new();
        for file in manifest.segments.iter().filter(|it| it.dataset == Dataset::Records) {
            self.check_hurry()?;
            let path = listed_path(&self.config.data_dir, &file.file);
            let Ok(segment) = Segment::open(&self.fs, &path) else { continue };
            for batch in segment.read(&Selection::All, &[own.column(), REQUEST_ID])? {
                let Ok(batch) = batch else { break };
                let hits = batch.column_by_name(own.column()).map(|it| hits(it, own));
                let requests = batch.column_by_name(REQUEST_ID);
                let requests = requests.and_then(|it| it.as_string_opt::<i32>());
                for (request, hit) in requests.into_iter().flatten().zip(hits.unwrap_or_default()) {
                    ids.extend(request.filter(|_| hit && ids.len() < REQUESTS_MAX).map(hash_of));
                }
            }
        }
        if ids.len() == REQUESTS_MAX {
            let what = format!("traces of more than {REQUESTS_MAX} requests");
            report.failed.push(what);
        }
        Ok(Rows::OfRequests(ids))
    }

    fn erase_from(
        &self,
        instance: &InstanceId,
        manifest: &mut Manifest,
        file: &SealedFile,
        going: &Rows,
    ) -> Result<u64, CatalogError> {
        let path = listed_path(&self.config.data_dir, &file.file);
        let hits = count_hits(&self.fs, &path, file, going)?;
        if hits == 0 {
            return Ok(0);
        }
        let mut rows = merge::Rows::open(&self.fs, path, file)?;
        let mut next = || -> Result<Option<RecordBatch>, CatalogError> {
            let Some(batch) = rows.next()? else { return Ok(None) };
            let hit = batch.column_by_name(going.column()).map(|it| self::hits(it, going));
            let Some(hit) = hit else { return Ok(Some(batch)) };
            let keep: BooleanArray = hit.into_iter().map(|hit| Some(!hit)).collect();
            let kept = filter_record_batch(&batch, &keep)
                .map_err(|error| rows.damaged(&error.to_string()))?;
            Ok(Some(kept))
        };
        let made = self.rewrite(instance, std::slice::from_ref(file), &mut next)?;
        let left = made.as_ref().map_or(0, |made| made.rows);
        if left + hits != file.rows {
            return Err(CatalogError::Contradiction {
                path: listed_path(&self.config.data_dir, &file.file),
                what: format!("{hits} of {} rows were to go, {left} are left", file.rows),
            });
        }
        if let Some(made) = &made {
            self.put_in_place(std::slice::from_ref(made))?;
        }
        manifest.retire(&file.file, self.clock.now());
        manifest.books.erased.add(file.dataset, hits);
        let mut erased = event(
            EventKind::Erased,
            instance,
            made.as_ref().unwrap_or(file),
            vec![file.file.clone()],
        );
        erased.rows = hits;
        manifest.note(erased);
        manifest.segments.extend(made);
        self.save(instance, manifest)?;
        Ok(hits)
    }
}

/// How many rows of a file are concerned, by one column.
fn count_hits(
    fs: &Arc<dyn Fs>,
    path: &Path,
    file: &SealedFile,
    going: &Rows,
) -> Result<u64, SegmentError> {
    let column = going.column();
    let known = merge::all_columns(file.dataset);
    if going.are_none() || !known.iter().any(|known| known == column) {
        return Ok(0);
    }
    let segment = Segment::open(fs, path)?;
    let mut hits = 0;
    for batch in segment.read(&Selection::All, &[column])? {
        if let Some(values) = batch?.column_by_name(column) {
            hits += self::hits(values, going).into_iter().filter(|hit| *hit).count() as u64;
        }
    }
    Ok(hits)
}

/// Which rows of a text column go.
fn hits(column: &ArrayRef, going: &Rows) -> Vec<bool> {
    if let Some(texts) = column.as_string_opt::<i32>() {
        return texts.iter().map(|text| text.is_some_and(|text| going.has(text))).collect();
    }
    let Some(words) = column.as_dictionary_opt::<arrow_array::types::Int32Type>() else {
        return vec![false; column.len()];
    };
    let Some(known) = words.values().as_string_opt::<i32>() else {
        return vec![false; column.len()];
    };
    let hits: Vec<bool> = known.iter().map(|text| text.is_some_and(|it| going.has(it))).collect();
    let hit = |key: Option<i32>| {
        let key = key.and_then(|key| usize::try_from(key).ok());
        key.is_some_and(|key| hits.get(key).copied().unwrap_or(false))
    };
    words.keys().iter().map(hit).collect()
}
