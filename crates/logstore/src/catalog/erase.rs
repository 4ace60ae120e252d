//! Takes a project's or an end user's lines out of sealed segments. Only files
//! that hold some are written again, and the old ones go at once.
//!
//! Concerned are records, bodies and traces. Entries are not: what they say of a
//! person is sealed in them and erased by its opening. Whatever is still in the
//! journal must be sealed before, see [`crate::Journal::turn`].

use std::{path::Path, sync::Arc};

use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch, cast::AsArray as _};
use arrow_select::filter::filter_record_batch;
use domain::ids::{InstanceId, ProjectId};

use super::{
    CatalogError, Manifest, SealedFile, event::EventKind, manifest::listed_path, merge::Rows,
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
                let files: Vec<SealedFile> = manifest.segments.clone();
                for file in files.iter().filter(|it| it.dataset != Dataset::Entries) {
                    self.check_hurry()?;
                    report.files += 1;
                    match self.erase_from(instance, manifest, file, what) {
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

    fn erase_from(
        &self,
        instance: &InstanceId,
        manifest: &mut Manifest,
        file: &SealedFile,
        what: &Erase,
    ) -> Result<u64, CatalogError> {
        let path = listed_path(&self.config.data_dir, &file.file);
        let hits = count_hits(&self.fs, &path, file, what)?;
        if hits == 0 {
            return Ok(0);
        }
        let mut rows = Rows::open(&self.fs, path, file)?;
        let (column, value) = (what.column(), what.value());
        let mut next = || -> Result<Option<RecordBatch>, CatalogError> {
            let Some(batch) = rows.next()? else { return Ok(None) };
            let hit = batch.column_by_name(column).map(|it| equal_to(it, &value));
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
    what: &Erase,
) -> Result<u64, SegmentError> {
    let (column, value) = (what.column(), what.value());
    if !super::merge::all_columns(file.dataset).iter().any(|known| known == column) {
        return Ok(0);
    }
    let segment = Segment::open(fs, path)?;
    let mut hits = 0;
    for batch in segment.read(&Selection::All, &[column])? {
        if let Some(values) = batch?.column_by_name(column) {
            hits += equal_to(values, &value).into_iter().filter(|hit| *hit).count() as u64;
        }
    }
    Ok(hits)
}

/// Which values of a text column are `value`.
fn equal_to(column: &ArrayRef, value: &str) -> Vec<bool> {
    if let Some(texts) = column.as_string_opt::<i32>() {
        return texts.iter().map(|text| text == Some(value)).collect();
    }
    let Some(words) = column.as_dictionary_opt::<arrow_array::types::Int32Type>() else {
        return vec![false; column.len()];
    };
    let Some(known) = words.values().as_string_opt::<i32>() else {
        return vec![false; column.len()];
    };
    let hits: Vec<bool> = known.iter().map(|text| text == Some(value)).collect();
    let hit = |key: Option<i32>| {
        let key = key.and_then(|key| usize::try_from(key).ok());
        key.is_some_and(|key| hits.get(key).copied().unwrap_or(false))
    };
    words.keys().iter().map(hit).collect()
}
