//! A journal of format 1 as the first build wrote it: every later build reads
//! it. The file is kept for ever.

use std::{path::Path, sync::Arc};

use logstore::{
    check::check,
    fs::{Fs, StdFs},
};

use crate::{
    fake::FakeFs,
    support::{config, open, records},
};

const NAME: &str = "test-1-000000000001.jsonl";

#[test]
fn format_1_is_read_recovered_and_consistent() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/v1");
    let fs: Arc<dyn Fs> = Arc::new(StdFs);
    let expected = [(1, "ok".to_owned()), (3, "ok".to_owned())];
    assert_eq!(records(&fs, &kept), expected);
    let report = check(&fs, &kept).unwrap();
    assert_eq!((report.findings.len(), report.records, report.open), (0, 2, 1));

    let fake = FakeFs::new(1);
    fake.put(&Path::new("/journal").join(NAME), &std::fs::read(kept.join(NAME)).unwrap());
    let (journal, report) = open(config(Path::new("/journal")), Arc::new(fake.clone()));
    journal.close();
    assert_eq!((report.interrupted, report.torn_bytes, report.damaged_bytes), (1, 0, 0));
    let fs: Arc<dyn Fs> = Arc::new(fake);
    let expected = expected.into_iter().chain([(2, "interrupted".to_owned())]);
    assert_eq!(records(&fs, Path::new("/journal")), expected.collect::<Vec<_>>());
}
