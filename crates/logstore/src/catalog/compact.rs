//! Small segments become larger ones: those of an hour when it is over, those
//! of a day when that is, until files have a size that is read well.
//!
//! Merged are neighbours by journal range only, so the ranges of one dataset
//! and date never overlap. Each merge is one new file, one manifest, and the
//! old files stay for a while for readers that have an older list.

use std::{collections::BTreeMap, time::Instant};

use domain::{ids::InstanceId, time::Timestamp};

use super::{
    CatalogError, Manifest, SealedFile,
    event::EventKind,
    files,
    manifest::listed_path,
    merge::Merge,
    naming::{DAY_MICROS, SegmentName, date_of_dir},
    seal::{event, sealed_file, unfinished},
    store::{Catalog, Lists},
};
use crate::segment::{Dataset, SegmentWriter};

/// Written once and read often: smaller.
const ZSTD_LEVEL: i32 = 3;
/// Files merged at once; more are merged in the next round.
const INPUTS_MAX: usize = 32;
const HOUR_MICROS: i64 = 3600 * 1_000_000;
/// How long after its hour or day a line may still come.
const LATE_MICROS: i64 = 5 * 60 * 1_000_000;

/// What compaction did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CompactReport {
    /// Files merged, and files made of them.
    pub merged: u64,
    pub made: u64,
    pub rows: u64,
    pub bytes_before: u64,
    pub bytes_after: u64,
    pub seconds: f64,
}

impl Catalog {
    /// Merges one group of files, if any is worth it.
    pub fn compact_one(&self) -> Result<Option<CompactReport>, CatalogError> {
        self.step(|lists| {
            let report = self.compact_next(lists, Some(self.clock.now()))?;
            if report.is_some() {
                self.tell(lists)?;
            }
            Ok(report)
        })
    }

    /// Merges all that can be, hours and days that are not over included.
    pub fn compact_all(&self) -> Result<CompactReport, CatalogError> {
        let mut sum = CompactReport::default();
        while let Some(report) = self.step(|lists| self.compact_next(lists, None))? {
            sum.merged += report.merged;
            sum.made += report.made;
            sum.rows += report.rows;
            sum.bytes_before += report.bytes_before;
            sum.bytes_after += report.bytes_after;
            sum.seconds += report.seconds;
        }
        self.tell_pending()?;
        Ok(sum)
    }

    fn compact_next(
        &self,
        lists: &mut Lists,
        now: Option<Timestamp>,
    ) -> Result<Option<CompactReport>, CatalogError> {
        for (instance, manifest) in lists.by_instance.values_mut() {
            if let Some(group) = plan(&manifest.segments, now, self.config.target_bytes) {
                return self.merge_group(instance, manifest, &group).map(Some);
            }
        }
        Ok(None)
    }

    fn merge_group(
        &self,
        instance: &InstanceId,
        manifest: &mut Manifest,
        group: &[SealedFile],
    ) -> Result<CompactReport, CatalogError> {
        let begun = Instant::now();
        let data_dir = &self.config.data_dir;
        let inputs = group.iter().map(|it| (listed_path(data_dir, &it.file), it.clone()));
        let mut merge = Merge::new(&self.fs, inputs.collect());
        let Some(made) = self.rewrite(instance, group, &mut || merge.next())? else {
            return Err(CatalogError::Contradiction {
                path: listed_path(data_dir, &group[0].file),
                what: "no row of it and its neighbours came back".to_owned(),
            });
        };
        let rows: u64 = group.iter().map(|it| it.rows).sum();
        if made.rows != rows {
            return Err(CatalogError::Contradiction {
                path: listed_path(data_dir, &made.file),
                what: format!("{rows} rows became {}", made.rows),
            });
        }
        self.put_in_place(std::slice::from_ref(&made))?;
        let now = self.clock.now();
        let old: Vec<String> = group.iter().map(|it| it.file.clone()).collect();
        old.iter().for_each(|file| manifest.retire(file, now));
        manifest.note(event(EventKind::Compacted, instance, &made, old));
        let report = CompactReport {
            merged: group.len() as u64,
            made: 1,
            rows,
            bytes_before: group.iter().map(SealedFile::bytes_all).sum(),
            bytes_after: made.bytes_all(),
            seconds: begun.elapsed().as_secs_f64(),
        };
        manifest.segments.push(made);
        self.save(instance, manifest)?;
        let mut figures = self.figures.lock();
        figures.compactions += 1;
        figures.files_compacted += report.merged;
        Ok(report)
    }

    /// Writes rows that take the place of a group of segments, under temporary
    /// names; `None` when there are none.
    pub(crate) fn rewrite(
        &self,
        instance: &InstanceId,
        group: &[SealedFile],
        next: &mut dyn FnMut() -> Result<Option<arrow_array::RecordBatch>, CatalogError>,
    ) -> Result<Option<SealedFile>, CatalogError> {
        let (fs, data_dir) = (&*self.fs, &self.config.data_dir);
        let name = SegmentName {
            instance: instance.clone(),
            first_seq: group.iter().map(|it| it.first_seq).min().unwrap_or(1),
            last_seq: group.iter().map(|it| it.last_seq).max().unwrap_or(1),
            level: group.iter().map(|it| it.level).max().unwrap_or(0) + 1,
        };
        let dataset = group.first().map_or(Dataset::Records, |it| it.dataset);
        let date = group.first().map(SealedFile::date).unwrap_or_default();
        let file = format!("{}/{date}/{}", dataset.as_str(), name.file());
        let path = listed_path(data_dir, &file);
        let (parquet, ids) = unfinished(&path);
        for path in [&parquet, &ids] {
            files::remove(fs, path).map_err(CatalogError::io("remove", path))?;
        }
        let options = self.seal_options(instance, ZSTD_LEVEL);
        let mut writer: Option<SegmentWriter> = None;
        while let Some(batch) = next()? {
            self.check_hurry()?;
            if batch.num_rows() == 0 {
                continue;
            }
            let writer = match &mut writer {
                Some(writer) => writer,
                none => none.insert(SegmentWriter::create(fs, &parquet, &ids, dataset, &options)?),
            };
            writer.write(&batch)?;
        }
        let Some(writer) = writer else { return Ok(None) };
        let SegmentName { first_seq, last_seq, level, .. } = name;
        let made = sealed_file(writer.finish()?);
        let ids_sha256 = files::sha256(fs, &ids).map_err(CatalogError::io("read", &ids))?;
        Ok(Some(SealedFile { file, level, first_seq, last_seq, ids_sha256, ..made }))
    }
}

/// The first group of files that should become one. Without a time, every hour
/// and day counts as over.
fn plan(
    segments: &[SealedFile],
    now: Option<Timestamp>,
    target_bytes: u64,
) -> Option<Vec<SealedFile>> {
    let mut dates: BTreeMap<(Dataset, &str), Vec<&SealedFile>> = BTreeMap::new();
    for segment in segments {
        dates.entry((segment.dataset, segment.date())).or_default().push(segment);
    }
    for ((_, date), mut files) in dates {
        files.sort_by_key(|it| it.first_seq);
        let day_end = date_of_dir(date).map_or(i64::MAX, |day| day.as_micros() + DAY_MICROS);
        let over =
            |end: i64| now.is_none_or(|now| end.saturating_add(LATE_MICROS) <= now.as_micros());
        // Within a day that is not over, only hours come together.
        let hour = |it: &SealedFile| match over(day_end) {
            true => day_end,
            false => (it.max_ts.as_micros().div_euclid(HOUR_MICROS) + 1) * HOUR_MICROS,
        };
        let mut group: Vec<&SealedFile> = Vec::new();
        for file in files {
            let bytes: u64 = group.iter().map(|it| it.bytes).sum();
            let fits = group.len() < INPUTS_MAX
                && bytes.saturating_add(file.bytes) <= target_bytes.saturating_mul(2)
                && group.last().is_none_or(|last| hour(last) == hour(file));
            let small = file.bytes < target_bytes && over(hour(file));
            if small && fits {
                group.push(file);
                continue;
            }
            if group.len() > 1 {
                break;
            }
            group.clear();
            if small {
                group.push(file);
            }
        }
        if group.len() > 1 {
            return Some(group.into_iter().cloned().collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: [u64; 0] = [];

    fn file(first_seq: u64, date: &str, at: &str, bytes: u64) -> SealedFile {
        let ts = Timestamp::parse(&format!("{date}T{at}Z")).expect("a time");
        SealedFile {
            dataset: Dataset::Records,
            file: format!("records/date={date}/a-{first_seq:012}-{first_seq:012}-L0.parquet"),
            level: 0,
            rows: 1,
            bytes,
            ids_bytes: 0,
            sha256: String::new(),
            ids_sha256: String::new(),
            first_seq,
            last_seq: first_seq,
            min_ts: ts,
            max_ts: ts,
        }
    }

    fn planned(files: &[SealedFile], now: Option<&str>) -> Vec<u64> {
        let now = now.map(|now| Timestamp::parse(now).expect("a time"));
        let group = plan(files, now, 100).unwrap_or_default();
        group.iter().map(|it| it.first_seq).collect()
    }

    #[test]
    fn hours_come_together_when_they_are_over_and_days_later() {
        let day = "2026-11-23";
        let files = [
            file(1, day, "10:10:00", 10),
            file(2, day, "10:50:00", 10),
            file(3, day, "11:10:00", 10),
            file(4, day, "11:20:00", 10),
        ];
        assert_eq!(planned(&files, Some("2026-11-23T11:01:00Z")), NOTHING);
        assert_eq!(planned(&files, Some("2026-11-23T11:06:00Z")), [1, 2]);
        assert_eq!(planned(&files[2..], Some("2026-11-23T11:59:00Z")), NOTHING);
        assert_eq!(planned(&files, Some("2026-11-24T00:06:00Z")), [1, 2, 3, 4]);
        assert_eq!(planned(&files, None), [1, 2, 3, 4]);
        // A clock that was set back merges nothing of the future.
        assert_eq!(planned(&files, Some("2025-11-24T00:06:00Z")), NOTHING);
    }

    #[test]
    fn large_files_stay_and_none_grows_beyond_twice_the_target() {
        let day = "2026-11-23";
        let sizes = [60, 60, 60, 60, 150, 10];
        let files: Vec<SealedFile> =
            (1..).zip(sizes).map(|(seq, bytes)| file(seq, day, "10:10:00", bytes)).collect();
        assert_eq!(planned(&files, None), [1, 2, 3]);
        assert_eq!(planned(&files[3..], None), NOTHING);
        assert_eq!(planned(&files[4..], None), NOTHING);
    }

    #[test]
    fn only_neighbours_of_one_date_and_dataset_come_together() {
        let mut files =
            vec![file(1, "2026-11-22", "10:00:00", 1), file(2, "2026-11-23", "10:00:00", 1)];
        assert_eq!(planned(&files, None), NOTHING);
        files.push(file(3, "2026-11-22", "10:00:00", 1));
        files[2].dataset = Dataset::Traces;
        assert_eq!(planned(&files, None), NOTHING);
        files.push(file(9, "2026-11-22", "11:00:00", 1));
        assert_eq!(planned(&files, None), [1, 9]);
    }
}
