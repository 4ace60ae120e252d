//! Opens a segment: by its side index, or by its own footer.

use std::{path::Path, sync::Arc};

use domain::{ids::InstanceId, time::Timestamp};
use parquet::file::{
    metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader},
    statistics::Statistics,
};

use super::{
    GroupPlace, Inner,
    source::{ReadError, Source, guard},
};
use crate::{
    fs::Fs,
    segment::{
        Dataset, FORMAT, SegmentError,
        ids::{GroupSummary, Ids, Summary},
        map::Group,
        schema::{FileSchema, TS},
    },
};

/// Row groups of one file.
const GROUPS_MAX: usize = 1 << 20;

/// Who knows where pages lie.
#[derive(Debug)]
pub(super) enum Places {
    Ids(Ids, Vec<GroupSummary>),
    Footer(Vec<Arc<Group>>),
}

pub(super) fn open(fs: &dyn Fs, path: &Path) -> Result<Inner, SegmentError> {
    let io = |source| SegmentError::io(path, "open", source);
    let file = fs.open_read(path).map_err(io)?;
    let bytes = file.identity().map_err(io)?.bytes;
    let source = Source::new(file, bytes);
    let ids_path = path.with_extension("ids");
    let problem = match by_ids(fs, &ids_path, bytes) {
        Ok((ids, summary)) => {
            let inner = inner(path, source, &summary, None, |groups| Places::Ids(ids, groups));
            // The side index is as it was written, so it cannot be that.
            return inner.ok_or_else(|| SegmentError::damaged(&ids_path, "it names no dataset"));
        }
        Err(newer @ SegmentError::Newer { .. }) => return Err(newer),
        Err(problem) => problem,
    };
    let name = path.display().to_string();
    let (summary, groups) = guard(&name, || by_footer(&source))?;
    if summary.format > FORMAT {
        let (found, known) = (summary.format, FORMAT);
        return Err(SegmentError::Newer { file: name, found, known });
    }
    inner(path, source, &summary, Some(problem), |_| Places::Footer(groups))
        .ok_or_else(|| SegmentError::damaged(path, "its footer names no dataset"))
}

/// The side index, if it is whole and of this file.
fn by_ids(fs: &dyn Fs, path: &Path, bytes: u64) -> Result<(Ids, Summary), SegmentError> {
    let ids = Ids::open(fs, path)?;
    let summary = ids.summary()?;
    if summary.parquet_bytes != bytes {
        return Err(SegmentError::damaged(
            path,
            format!("the segment beside it has {bytes} bytes, not {}", summary.parquet_bytes),
        ));
    }
    Ok((ids, summary))
}

fn inner(
    path: &Path,
    source: Source,
    summary: &Summary,
    ids_problem: Option<SegmentError>,
    places: impl FnOnce(Vec<GroupSummary>) -> Places,
) -> Option<Inner> {
    let mut first = 0u64;
    let groups = summary.groups.iter().map(|group| {
        let rows = first..first.checked_add(group.rows)?;
        first = rows.end;
        Some(GroupPlace { rows, min_ts: group.min_ts, max_ts: group.max_ts })
    });
    let groups = groups.collect::<Option<Vec<_>>>()?;
    let time = Timestamp::from_micros;
    let dataset = Dataset::parse(&summary.dataset)?;
    (first == summary.rows).then_some(())?;
    Some(Inner {
        name: path.display().to_string(),
        dataset,
        instance: InstanceId::parse(&summary.instance),
        rows: summary.rows,
        seqs: (summary.first_seq, summary.last_seq),
        times: (time(summary.min_ts), time(summary.max_ts)),
        groups,
        schema: FileSchema::of(dataset, &summary.columns)?,
        source: Arc::new(source),
        places: places(summary.groups.clone()),
        ids_problem,
        opened: Default::default(),
        dictionaries: Default::default(),
    })
}

/// What the file says of itself. Nothing in it is trusted to be consistent.
fn by_footer(source: &Source) -> Result<(Summary, Vec<Arc<Group>>), ReadError> {
    let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Required);
    let metadata = reader.parse_and_finish(source)?;
    let pairs = metadata.file_metadata().key_value_metadata();
    let said = |key: &str| {
        let pair = pairs?.iter().find(|pair| pair.key.strip_prefix("llm_proxy.") == Some(key));
        pair?.value.clone()
    };
    let number = |key: &str| said(key).and_then(|text| text.parse().ok()).unwrap_or(0u64);
    let columns = said("columns").unwrap_or_default();
    let columns: Vec<(String, String)> = serde_json::from_str(&columns)?;
    let dataset = said("dataset").and_then(|name| Dataset::parse(&name));
    let dataset = dataset.ok_or("it names no dataset")?;
    let schema = FileSchema::of(dataset, &columns).ok_or("its columns are of unknown kinds")?;
    let leaves = schema.leaves()?;
    let found = metadata.file_metadata().schema_descr();
    let same = found.num_columns() == leaves.num_columns()
        && found.columns().iter().zip(leaves.columns()).all(|(found, known)| {
            found.path() == known.path() && found.physical_type() == known.physical_type()
        });
    if !same || metadata.num_row_groups() > GROUPS_MAX {
        return Err("its columns are not those that it names".into());
    }
    let ts = leaves.columns().iter().position(|leaf| leaf.path().parts() == [TS]).unwrap_or(0);
    let (mut groups, mut summaries) = (Vec::new(), Vec::new());
    for at in 0..metadata.num_row_groups() {
        let group = Group::of_metadata(&metadata, at, ts);
        let group = group.filter(|group| group.fits(source.bytes()));
        let group = group.ok_or("its pages are not where they should be")?;
        let (min_ts, max_ts) = group_times(&metadata, at, ts).unwrap_or((i64::MIN, i64::MAX));
        summaries.push(GroupSummary { rows: group.rows, min_ts, max_ts, at: 0, bytes: 0 });
        groups.push(Arc::new(group));
    }
    let summary = Summary {
        format: number("format"),
        dataset: dataset.as_str().to_owned(),
        instance: said("instance").unwrap_or_default(),
        version: said("version").unwrap_or_default(),
        parquet_bytes: source.bytes(),
        rows: summaries.iter().map(|group| group.rows).sum(),
        first_seq: number("first_seq"),
        last_seq: number("last_seq"),
        min_ts: summaries.first().map_or(0, |group| group.min_ts),
        max_ts: summaries.last().map_or(0, |group| group.max_ts),
        columns,
        groups: summaries,
    };
    Ok((summary, groups))
}

fn group_times(metadata: &ParquetMetaData, group: usize, ts: usize) -> Option<(i64, i64)> {
    match metadata.row_group(group).columns().get(ts)?.statistics()? {
        Statistics::Int64(bounds) => Some((*bounds.min_opt()?, *bounds.max_opt()?)),
        _ => None,
    }
}
