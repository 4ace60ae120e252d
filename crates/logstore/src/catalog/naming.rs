//! Where segments and manifests lie, and what their names say.
//!
//! ```text
//! DATA_DIR/logs/v1/<dataset>/date=2026-11-23/<instance>-<first>-<last>-L<level>.parquet (+ .ids)
//! DATA_DIR/logs/v1/_manifest/<instance>/<n>.json
//! ```
//!
//! `<first>` and `<last>` are numbers of journal lines, `<level>` counts how
//! often rows were written again: 0 by sealing, one more by each compaction or
//! erasure. Within one instance, dataset and date the ranges of two listed
//! segments never overlap, so a name is given once.

use std::path::{Path, PathBuf};

use domain::{ids::InstanceId, time::Timestamp};

use crate::segment::Dataset;

pub(crate) const UNFINISHED: &str = ".tmp";
/// How many microseconds a UTC day has.
pub(crate) const DAY_MICROS: i64 = 86_400 * 1_000_000;

/// Where everything sealed lies inside a data directory.
pub fn sealed_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("logs").join("v1")
}

pub(crate) fn manifests_dir(data_dir: &Path) -> PathBuf {
    sealed_dir(data_dir).join("_manifest")
}

pub(crate) fn manifest_dir(data_dir: &Path, instance: &InstanceId) -> PathBuf {
    manifests_dir(data_dir).join(instance.as_str())
}

pub(crate) fn dataset_dir(data_dir: &Path, dataset: Dataset) -> PathBuf {
    sealed_dir(data_dir).join(dataset.as_str())
}

/// The first moment of `date=2026-11-23`.
pub(crate) fn date_of_dir(name: &str) -> Option<Timestamp> {
    let date = name.strip_prefix("date=")?;
    (date.len() == 10).then(|| Timestamp::parse(&format!("{date}T00:00:00Z")))?
}

/// What the name of a segment says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SegmentName {
    pub(crate) instance: InstanceId,
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    pub(crate) level: u32,
}

impl SegmentName {
    pub(crate) fn file(&self) -> String {
        let Self { instance, first_seq, last_seq, level } = self;
        format!("{instance}-{first_seq:012}-{last_seq:012}-L{level}.parquet")
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(".parquet")?;
        let (rest, level) = stem.rsplit_once("-L")?;
        let (rest, last) = rest.rsplit_once('-')?;
        let (instance, first) = rest.rsplit_once('-')?;
        let parsed = Self {
            instance: InstanceId::parse(instance)?,
            first_seq: first.parse().ok()?,
            last_seq: last.parse().ok()?,
            level: level.parse().ok()?,
        };
        // Only the one spelling is ours.
        (parsed.first_seq <= parsed.last_seq && parsed.file() == name).then_some(parsed)
    }
}

/// The side index beside a segment.
pub(crate) fn ids_path(segment: &Path) -> PathBuf {
    segment.with_extension("ids")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_exactly() {
        let name = SegmentName {
            instance: InstanceId::parse("eu-1").expect("valid"),
            first_seq: 1,
            last_seq: 4321,
            level: 2,
        };
        assert_eq!(name.file(), "eu-1-000000000001-000000004321-L2.parquet");
        assert_eq!(SegmentName::parse(&name.file()), Some(name));
        for other in [
            "eu-1-1-4321-L2.parquet",
            "eu-1-000000000002-000000000001-L0.parquet",
            "eu-1-000000000001-000000000002-L0.parquet.tmp",
            "eu-1-000000000001-000000000002-L01.parquet",
            "x.parquet",
        ] {
            assert_eq!(SegmentName::parse(other), None, "{other}");
        }
    }

    #[test]
    fn dates_are_utc_days() {
        assert_eq!(date_of_dir("date=2026-11-23"), Timestamp::parse("2026-11-23T00:00:00Z"));
        assert_eq!(date_of_dir("date=2026-13-23"), None);
        assert_eq!(date_of_dir("2026-11-23"), None);
    }
}
