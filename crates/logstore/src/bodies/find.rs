//! The bodies of given records, sealed or not.

use std::{collections::HashSet, io, ops::ControlFlow, path::Path, sync::Arc};

use domain::ids::RecordId;
use serde::Deserialize;

use super::read;
use crate::{
    catalog::{CatalogError, HotPart, Problem, SegmentRef, Snapshot, snapshot},
    fs::Fs,
    segment::{Dataset, Renderer, Segment, SegmentError, Selection, schema},
};

/// Bodies that one look-up gives; a record has two.
pub const BODIES_FOUND_MAX: usize = 128;
/// How often files may be sealed under the look.
const LOOKS_MAX: usize = 4;

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Lines as they were written, at most [`BODIES_FOUND_MAX`].
    pub lines: Vec<Vec<u8>>,
    /// What could not be read.
    pub problems: Vec<Problem>,
}

#[derive(Deserialize)]
struct BodyLine {
    record_id: RecordId,
}

/// The bodies of these records, beside a running writer or without one.
pub fn of_records(
    fs: &Arc<dyn Fs>,
    data_dir: &Path,
    records: &[RecordId],
) -> Result<Found, CatalogError> {
    let mut looks = 0;
    loop {
        looks += 1;
        let snapshot = snapshot(&**fs, data_dir)?;
        let mut found = Found { lines: Vec::new(), problems: snapshot.problems.clone() };
        if !records.is_empty() {
            sealed(fs, &snapshot, records, &mut found);
            hot(&**fs, &snapshot, records, &mut found);
        }
        // Sealed meanwhile: what is gone here is there now.
        if looks == LOOKS_MAX || snapshot.is_current(&**fs, data_dir) {
            found.lines.truncate(BODIES_FOUND_MAX);
            return Ok(found);
        }
    }
}

fn sealed(fs: &Arc<dyn Fs>, snapshot: &Snapshot, records: &[RecordId], found: &mut Found) {
    let of_bodies = |segment: &&SegmentRef| segment.info.dataset == Dataset::Bodies;
    for segment in snapshot.segments.iter().filter(of_bodies) {
        if let Err(error) = in_segment(fs, &segment.path, records, &mut found.lines) {
            let what = error.to_string();
            found.problems.push(Problem { path: segment.path.clone(), what });
        }
    }
}

fn in_segment(
    fs: &Arc<dyn Fs>,
    path: &Path,
    records: &[RecordId],
    lines: &mut Vec<Vec<u8>>,
) -> Result<(), SegmentError> {
    let segment = Segment::open(fs, path)?;
    let mut rows = Vec::new();
    for id in records {
        rows.extend(segment.find(&id.to_string(), &["record_id"])?);
    }
    rows.sort_unstable();
    rows.dedup();
    rows.truncate(BODIES_FOUND_MAX);
    if rows.is_empty() {
        return Ok(());
    }
    let rows = Selection::Rows(rows.into_iter().map(|row| row..row + 1).collect());
    let schema = schema(Dataset::Bodies);
    let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    for batch in segment.read(&rows, &columns)? {
        let batch = batch?;
        let renderer = Renderer::new(&batch);
        for row in 0..batch.num_rows() {
            let mut line = Vec::new();
            renderer.render(row, &mut line);
            lines.push(line);
        }
    }
    Ok(())
}

fn hot(fs: &dyn Fs, snapshot: &Snapshot, records: &[RecordId], found: &mut Found) {
    let wanted: HashSet<RecordId> = records.iter().copied().collect();
    for (_, journal) in snapshot.hot.iter().flat_map(|part| &part.files) {
        let path = HotPart::bodies(journal);
        let lines = &mut found.lines;
        let read = read(fs, &path, &mut |_, line| {
            let body = serde_json::from_slice::<BodyLine>(line);
            if body.is_ok_and(|body| wanted.contains(&body.record_id)) {
                lines.push(line.to_vec());
            }
            match lines.len() {
                BODIES_FOUND_MAX.. => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        });
        let problem = match read {
            Ok(0) => continue,
            Ok(damaged) => format!("{damaged} bytes are damaged"),
            // Most journal files have none.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => error.to_string(),
        };
        found.problems.push(Problem { path, what: problem });
    }
}
