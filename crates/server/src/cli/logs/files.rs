//! `logs files`: which Parquet files count, for engines that are not ours.

use std::{io, path::Path};

use clap::{Args, ValueEnum};
use domain::time::Timestamp;
use logstore::{
    catalog::{SegmentRef, snapshot},
    fs::StdFs,
    segment::Dataset,
};
use serde_json::json;

use super::{FOUND, NOTHING, Surroundings, TROUBLE, Trouble, args::span};
use crate::render::harmless;

#[derive(Debug, Args)]
pub(super) struct FilesArgs {
    /// Files that reach beyond this time: 7d, 2026-11-23, 2026-11-23T10:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Files that begin before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Of which stream
    #[arg(long, value_enum, default_value = "record")]
    stream: FileStream,
    /// One path a line, or one object a line
    #[arg(short, long, value_enum, default_value = "lines")]
    output: FilesFormat,
}

/// Bodies lie in files of their own, though no search names them as a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FileStream {
    Record,
    Entry,
    Trace,
    Body,
    All,
}

impl FileStream {
    fn has(self, dataset: Dataset) -> bool {
        match self {
            Self::All => true,
            Self::Record => dataset == Dataset::Records,
            Self::Entry => dataset == Dataset::Entries,
            Self::Trace => dataset == Dataset::Traces,
            Self::Body => dataset == Dataset::Bodies,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FilesFormat {
    Lines,
    Json,
}

/// Prints the files, oldest first.
pub(super) fn run(
    data_dir: &Path,
    args: &FilesArgs,
    around: &mut Surroundings<'_>,
) -> Result<u8, Trouble> {
    let now = around.clock.now();
    let (since, until) = span(args.since.as_ref(), args.until.as_ref(), now)?;
    // Whoever reads the list may stand somewhere else.
    let data_dir = std::path::absolute(data_dir)?;
    let snapshot = snapshot(&StdFs, &data_dir).map_err(io::Error::other)?;
    let mut files = snapshot.segments;
    files.retain(|file| args.stream.has(file.info.dataset) && touches(file, since, until));
    files.sort_by(|a, b| {
        let key = |file: &SegmentRef| (file.info.min_ts, file.info.first_seq);
        key(a).cmp(&key(b)).then_with(|| a.path.cmp(&b.path))
    });
    for file in &files {
        match args.output {
            FilesFormat::Lines => writeln!(around.out, "{}", file.path.display())?,
            FilesFormat::Json => writeln!(around.out, "{}", described(file))?,
        }
    }
    around.out.flush()?;
    for problem in &snapshot.problems {
        writeln!(around.err, "incomplete: {}", harmless(&problem.to_string()))?;
    }
    Ok(match (snapshot.problems.is_empty(), files.is_empty()) {
        (false, _) => TROUBLE,
        (true, true) => NOTHING,
        (true, false) => FOUND,
    })
}

/// Whether any of its rows can lie in `since..until`.
fn touches(file: &SegmentRef, since: Option<Timestamp>, until: Option<Timestamp>) -> bool {
    since.is_none_or(|since| file.info.max_ts >= since)
        && until.is_none_or(|until| file.info.min_ts < until)
}

fn described(file: &SegmentRef) -> serde_json::Value {
    let info = &file.info;
    json!({
        "path": file.path,
        "dataset": info.dataset.as_str(),
        "instance": file.instance.as_str(),
        "date": info.date().trim_start_matches("date="),
        "level": info.level,
        "rows": info.rows,
        "bytes": info.bytes,
        "min_ts": info.min_ts,
        "max_ts": info.max_ts,
        "first_seq": info.first_seq,
        "last_seq": info.last_seq,
        "sha256": info.sha256,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_has_its_dataset_and_all_have_every_one() {
        for (stream, dataset) in [
            (FileStream::Record, Dataset::Records),
            (FileStream::Trace, Dataset::Traces),
            (FileStream::Entry, Dataset::Entries),
            (FileStream::Body, Dataset::Bodies),
        ] {
            let has: Vec<Dataset> =
                Dataset::ALL.iter().copied().filter(|dataset| stream.has(*dataset)).collect();
            assert_eq!(has, [dataset]);
        }
        assert!(Dataset::ALL.iter().all(|dataset| FileStream::All.has(*dataset)));
    }
}
