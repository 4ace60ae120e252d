use domain::{ids::InstanceId, time::Timestamp};

use super::*;
use crate::{
    fs::StdFs,
    segment::{Decoder, SealOptions, SegmentWriter},
};

/// 2026-11-23T10:00:00Z.
const BASE: i64 = 1_795_428_000_000_000;

fn segment(dir: &std::path::Path, rows: &mut [Key]) -> (PathBuf, SealedFile) {
    rows.sort_unstable();
    let mut decoder = Decoder::new(Dataset::Traces, None);
    for (ts, seq) in rows.iter() {
        let ts = Timestamp::from_micros(*ts);
        let line = format!(
            "{{\"ts\":\"{ts}\",\"level\":\"info\",\"msg\":\"note {seq}\",\"stream\":\"trace\"}}"
        );
        let seq = u64::try_from(*seq).expect("not negative");
        decoder.push(line.as_bytes(), seq).expect("a line");
    }
    let path = dir.join(format!("{}.parquet", rows[0].1));
    let instance = InstanceId::parse("a").expect("valid");
    let options = SealOptions { instance, version: "0".to_owned(), zstd_level: 1 };
    let ids = path.with_extension("ids");
    let mut writer =
        SegmentWriter::create(&StdFs, &path, &ids, Dataset::Traces, &options).expect("created");
    writer.write(&decoder.finish()).expect("written");
    (path, super::super::seal::sealed_file(writer.finish().expect("finished")))
}

fn merged(inputs: Vec<(PathBuf, SealedFile)>) -> Vec<Key> {
    let fs: Arc<dyn Fs> = Arc::new(StdFs);
    let mut merge = Merge::new(&fs, inputs);
    let mut found = Vec::new();
    while let Some(batch) = merge.next().expect("merged") {
        let keys = Keys::of(&batch).expect("keys");
        found.extend((0..batch.num_rows()).map(|row| keys.at(row)));
    }
    found
}

#[test]
fn rows_come_in_order_whatever_overlaps() {
    // Disjoint, interleaved, equal times, one within a gap of another, and more
    // rows than are read at once.
    let shapes: [&[(i64, i64, i64)]; 5] = [
        &[(0, 10, 1), (10, 10, 1), (20, 5, 1)],
        &[(0, 50, 3), (1, 50, 3), (2, 50, 3)],
        &[(5, 20, 0), (5, 20, 0), (5, 1, 0)],
        &[(0, 10, 100), (55, 3, 1), (0, 2, 900)],
        &[(0, 9000, 1), (4000, 9000, 2), (8000, 10, 1)],
    ];
    for shape in shapes {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut expected = Vec::new();
        let mut inputs = Vec::new();
        let mut seq = 1;
        for (from, count, step) in shape {
            let mut rows: Vec<Key> =
                (0..*count).map(|n| (BASE + from + n * step, seq + (count - n))).collect();
            seq += count + 1;
            expected.extend(rows.iter().copied());
            inputs.push(segment(dir.path(), &mut rows));
        }
        expected.sort_unstable();
        assert!(merged(inputs) == expected, "{shape:?}");
    }
}
