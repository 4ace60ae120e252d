use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::segment::{
    BLOCK_ROWS, PAGE_ROWS, Renderer, decode, schema,
    testing::{BASE, fs, record, record_id, request_id, write_segment},
};

fn all_columns(dataset: Dataset) -> Vec<String> {
    schema::schema(dataset).fields().iter().map(|field| field.name().clone()).collect()
}

/// Rows rendered back, or the first error.
fn lines(segment: &Segment, rows: &Selection) -> Result<Vec<String>, SegmentError> {
    let columns = all_columns(segment.dataset());
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut lines = Vec::new();
    for batch in segment.read(rows, &columns)? {
        let batch = batch?;
        let renderer = Renderer::new(&batch);
        for row in 0..batch.num_rows() {
            let mut out = Vec::new();
            renderer.render(row, &mut out);
            lines.push(String::from_utf8_lossy(&out).into_owned());
        }
    }
    Ok(lines)
}

struct Kept {
    _dir: tempfile::TempDir,
    path: PathBuf,
    lines: Vec<String>,
}

impl Kept {
    fn records(count: u64) -> Self {
        Self::of(Dataset::Records, (0..count).map(record).collect())
    }

    fn of(dataset: Dataset, lines: Vec<String>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, info) = write_segment(dir.path(), "s", dataset, &lines);
        assert_eq!(info.rows, lines.len() as u64);
        assert_eq!(info.bytes, std::fs::metadata(&path).expect("there").len());
        let ids = path.with_extension("ids");
        assert_eq!(info.ids_bytes, std::fs::metadata(ids).expect("there").len());
        Self { _dir: dir, path, lines }
    }

    fn open(&self) -> Segment {
        let segment = Segment::open(&fs(), &self.path).expect("opened");
        assert!(segment.ids_problem().is_none(), "{:?}", segment.ids_problem());
        segment
    }

    /// The same segment without its side index.
    fn open_alone(&self) -> Segment {
        let path = self.path.with_file_name("alone.parquet");
        if !path.exists() {
            std::fs::copy(&self.path, &path).expect("copied");
        }
        let segment = Segment::open(&fs(), &path).expect("opened");
        assert!(segment.ids_problem().is_some_and(|p| p.file().ends_with("alone.ids")));
        segment
    }
}

#[test]
fn rows_come_back_as_lines() {
    let kept = Kept::records(20_000);
    for segment in [kept.open(), kept.open_alone()] {
        assert_eq!(segment.rows(), 20_000);
        assert_eq!(segment.seqs(), (1, 20_000));
        assert_eq!(segment.times().0.as_micros(), BASE);
        assert_eq!(segment.times().1.as_micros(), BASE + 19_999 * 10_000);
        assert_eq!(segment.instance().map(InstanceId::as_str), Some("test-1"));
        assert_eq!(lines(&segment, &Selection::All).expect("read"), kept.lines);
        let ranges = vec![0..1, 5..5, 8190..8195, 8195..8196, 16_000..16_001, 19_999..20_000];
        let wanted =
            ranges.iter().flat_map(|r| kept.lines[r.start as usize..r.end as usize].to_vec());
        let wanted: Vec<_> = wanted.collect();
        assert_eq!(lines(&segment, &Selection::Rows(ranges)).expect("read"), wanted);
        assert!(lines(&segment, &Selection::Rows(vec![5..6, 4..5])).is_err());
    }
}

#[test]
fn row_groups_follow_each_other() {
    let line = |n: i64| {
        let ts = Timestamp::from_micros(BASE + n * 1000);
        format!("{{\"ts\":\"{ts}\",\"status_code\":{}}}", n % 7)
    };
    let kept = Kept::of(Dataset::Records, (0..140_000).map(line).collect());
    let segment = kept.open();
    assert_eq!(segment.groups(), [0..131_072, 131_072..140_000]);
    let rows = Selection::Rows(vec![131_000..131_200, 139_990..150_000]);
    let mut wanted = kept.lines[131_000..131_200].to_vec();
    wanted.extend_from_slice(&kept.lines[139_990..]);
    assert_eq!(lines(&segment, &rows).expect("read"), wanted);
    let time = |n: i64| Some(Timestamp::from_micros(BASE + n * 1000));
    let check = |since: Option<i64>, until: Option<i64>| {
        for segment in [kept.open(), kept.open_alone()] {
            let rows =
                segment.rows_between(since.and_then(time), until.and_then(time)).expect("known");
            let (from, to) = (since.unwrap_or(0), until.unwrap_or(140_000));
            let (from, to) = (from.clamp(0, 140_000) as u64, to.clamp(0, 140_000) as u64);
            assert!(rows.start <= from && rows.end >= to || from >= to, "{since:?} {until:?}");
            let slack = rows.end - rows.start - to.saturating_sub(from).min(rows.end - rows.start);
            assert!(slack <= 2 * 8192, "{since:?} {until:?} {rows:?}");
        }
    };
    for since in [None, Some(-5), Some(0), Some(8192), Some(131_071), Some(131_072), Some(200_000)]
    {
        for until in
            [None, Some(-5), Some(1), Some(8193), Some(131_073), Some(139_999), Some(200_000)]
        {
            check(since, until);
        }
    }
}

#[test]
fn ids_are_found_with_few_reads() {
    let kept = Kept::records(20_000);
    let segment = kept.open();
    let alone = kept.open_alone();
    for number in [0, 1, 1023, 1024, 8191, 8192, 19_998, 19_999] {
        let found = segment.find(&record_id(number), &[]).expect("found");
        assert_eq!(found, [number]);
        assert_eq!(segment.find(&request_id(number), &["request_id"]).expect("found"), [number]);
        let others = segment.find(&record_id(number), &["request_id"]).expect("looked");
        assert!(others.is_empty());
        assert_eq!(alone.find(&record_id(number), &[]).expect("found"), [number]);
    }
    let group: Vec<u64> = (0..20_000).filter(|n| n / 3 == 341).collect();
    assert_eq!(segment.find("cor-341", &[]).expect("found"), group);
    assert!(segment.find("cor-nothing", &[]).expect("looked").is_empty());
    let of_user = |line: &String| line.contains("\"end_user\":\"user 7\"");
    let users: Vec<u64> =
        (0..20_000).filter(|n| of_user(&kept.lines[usize::try_from(*n).expect("small")])).collect();
    assert!(!users.is_empty());
    assert_eq!(segment.find("user 7", &["end_user"]).expect("looked"), users);
    let mut alarms = 0;
    for number in 0..2000 {
        let ranges = segment.candidates(&format!("absent {number}")).expect("known");
        alarms += ranges.expect("there is a side index").len();
    }
    assert!(alarms <= 5, "{alarms}");

    let fresh = kept.open();
    let rows = fresh.find(&record_id(12_345), &[]).expect("found");
    let row = Selection::Rows(rows.iter().map(|row| *row..row + 1).collect());
    assert_eq!(lines(&fresh, &row).expect("read"), [kept.lines[12_345].clone()]);
    let counts = fresh.counts();
    assert!(counts.bytes < 200_000 && counts.pages < 200, "{counts:?}");
    let blocks = fresh.candidates(&record_id(12_345)).expect("known").expect("indexed");
    assert_eq!(blocks[0].end - blocks[0].start, BLOCK_ROWS as u64);
}

#[test]
fn bounds_and_filters_hold() {
    let kept = Kept::records(20_000);
    for segment in [kept.open(), kept.open_alone()] {
        let pages = segment.pages(0, "status_code").expect("read");
        assert_eq!(pages.len(), 20_000usize.div_ceil(PAGE_ROWS));
        assert_eq!(pages[1].rows, 2048..4096);
        assert_eq!(pages[0].bounds, Some(Bounds::Integer(200, 500)));
        let times = segment.pages(0, "ts").expect("read");
        let last = BASE + 4095 * 10_000;
        assert_eq!(times[1].bounds, Some(Bounds::Integer(BASE + 2048 * 10_000, last)));
        let within = segment.times_of(&(2049..4000)).expect("read");
        assert_eq!(within, (BASE + 2048 * 10_000, BASE + 4096 * 10_000));
        let durations = segment.pages(0, "duration_ms").expect("read");
        assert!(
            matches!(durations[0].bounds, Some(Bounds::Number(a, b)) if a < 10.0 && b > 2990.0)
        );
        let models = segment.pages(0, "model").expect("read");
        assert_eq!(models[0].bounds, Some(Bounds::Text(b"gpt-0".into(), b"gpt-5".into())));
        let absent = segment.pages(0, "ttft_ms").expect("read");
        assert!(absent.iter().all(|page| page.bounds.is_none() && page.nulls.is_some()));
        assert!(segment.pages(0, "no such").expect("read").is_empty());
        assert!(segment.pages(9, "model").expect("read").is_empty());
        for number in 0..50 {
            assert!(segment.may_contain(0, "record_id", &record_id(number)).expect("read"));
        }
        let absent = (0..500)
            .filter(|n| segment.may_contain(0, "record_id", &format!("absent {n}")).expect("read"));
        assert!(absent.count() < 100);
        assert!(segment.may_contain(0, "end_user", "anybody").expect("read"));
    }
}

#[test]
fn a_flipped_or_missing_byte_of_the_side_index_is_noticed() {
    let kept = Kept::records(10);
    let ids = kept.path.with_extension("ids");
    let bytes = std::fs::read(&ids).expect("there");
    let check = |changed: &[u8], what: &str| {
        std::fs::write(&ids, changed).expect("written");
        let segment = Segment::open(&fs(), &kept.path).expect("the footer is whole");
        match segment.find(&record_id(7), &[]) {
            Ok(rows) => assert_eq!(rows, [7], "{what}"),
            Err(error) => assert!(error.file().ends_with("s.ids"), "{what}: {error}"),
        }
        // Of a few columns: what is wrong is wrong for each.
        let seqs = segment.read(&Selection::All, &["seq", "model"]);
        match seqs.and_then(|batches| batches.collect::<Result<Vec<_>, _>>()) {
            Ok(batches) => assert_eq!(batches[0].num_rows(), kept.lines.len(), "{what}"),
            Err(error) => assert!(error.to_string().contains("s.ids"), "{what}: {error}"),
        }
    };
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        check(&changed, &format!("byte {at}"));
    }
    for length in (0..bytes.len()).step_by(137) {
        check(&bytes[..length], &format!("cut to {length}"));
    }
}

#[test]
fn changed_segments_are_errors_that_name_them() {
    let kept = Kept::records(700);
    let bytes = std::fs::read(&kept.path).expect("there");
    let alone = kept.path.with_file_name("alone.parquet");
    let check = |changed: &[u8], path: &PathBuf, checked: bool, what: &str| {
        std::fs::write(path, changed).expect("written");
        let read = Segment::open(&fs(), path).and_then(|s| lines(&s, &Selection::All));
        match read {
            Ok(lines) if checked => assert_eq!(lines, kept.lines, "{what}"),
            // Nothing can be known of values without the side index.
            Ok(_) => {}
            Err(error) => {
                assert!(error.to_string().contains(&*path.to_string_lossy()), "{what}: {error}");
            }
        }
    };
    for at in (0..bytes.len()).step_by(bytes.len() / 150) {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        check(&changed, &kept.path, true, &format!("byte {at}"));
        check(&changed, &alone, false, &format!("byte {at} alone"));
    }
    // The footer is what is read without a side index.
    for at in (bytes.len().saturating_sub(24_000)..bytes.len()).step_by(101) {
        let mut changed = bytes.clone();
        changed[at] = changed[at].wrapping_add(129);
        check(&changed, &alone, false, &format!("byte {at} alone"));
    }
    for length in (0..bytes.len()).step_by(bytes.len() / 20) {
        check(&bytes[..length], &kept.path, true, &format!("cut to {length}"));
        check(&bytes[..length], &alone, false, &format!("cut to {length} alone"));
    }
}

/// Of any lines, those of one time: their order is that of their numbers.
fn of_one_time(dataset: Dataset, lines: Vec<String>) -> Vec<String> {
    let mut decoder = decode::Decoder::new(dataset, Some(&[TS]));
    let at_base = |line: &String| {
        decoder.push_at(line.as_bytes(), 0, BASE).expect("an object");
        let batch = decoder.finish();
        let times = batch.column(0);
        times.as_primitive::<arrow_array::types::TimestampMicrosecondType>().value(0) == BASE
    };
    let mut kept: Vec<String> = lines.into_iter().filter(at_base).collect();
    // The first tells the time that a line without one takes.
    kept.insert(0, format!("{{\"ts\":\"{}\"}}", Timestamp::from_micros(BASE)));
    kept
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_rows_come_back(
        records in proptest::collection::vec(decode::tests::line(Dataset::Records), 1..30),
        traces in proptest::collection::vec(decode::tests::line(Dataset::Traces), 1..30),
    ) {
        for (dataset, lines_of) in [(Dataset::Records, records), (Dataset::Traces, traces)] {
            let kept = Kept::of(dataset, of_one_time(dataset, lines_of));
            for segment in [kept.open(), kept.open_alone()] {
                prop_assert_eq!(&lines(&segment, &Selection::All).expect("read"), &kept.lines);
            }
        }
    }
}
