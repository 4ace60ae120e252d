use proptest::prelude::*;

use super::*;
use crate::segment::{
    Renderer, Segment, Selection, schema,
    testing::{fs, journal, options, record},
};

/// Seals a journal file and gives every line back, by number.
fn check(
    first_seq: u64,
    range: RangeInclusive<u64>,
    bytes: &[u8],
) -> (Sealed, BTreeMap<(Dataset, u64), Vec<u8>>) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("test-1-000000000001.jsonl");
    std::fs::write(&path, bytes).expect("written");
    let file = ClosedFile { path: &path, first_seq, range };
    let at = |dataset: Dataset, date: &str| dir.path().join(format!("{}-{date}", dataset.as_str()));
    let mut place = |dataset: Dataset, date: &str| {
        (at(dataset, date).with_extension("parquet"), at(dataset, date).with_extension("ids"))
    };
    let sealed = seal(&*fs(), &file, &options(), &mut place).expect("sealed");
    let mut lines = BTreeMap::new();
    for info in &sealed.segments {
        let path = at(info.dataset, &info.date).with_extension("parquet");
        let segment = Segment::open(&fs(), &path).expect("opened");
        assert!(segment.ids_problem().is_none());
        assert_eq!((segment.rows(), segment.seqs()), (info.rows, (info.first_seq, info.last_seq)));
        let full = schema::schema(info.dataset);
        let columns: Vec<&str> = full.fields().iter().map(|field| field.name().as_str()).collect();
        for batch in segment.read(&Selection::All, &columns).expect("opened") {
            let batch = batch.expect("read");
            let renderer = Renderer::new(&batch);
            for row in 0..batch.num_rows() {
                let mut out = Vec::new();
                renderer.render(row, &mut out);
                use arrow_array::cast::AsArray;
                let seqs = batch.column(0).as_primitive::<arrow_array::types::Int64Type>();
                let seq = u64::try_from(seqs.value(row)).expect("positive");
                assert!(lines.insert((info.dataset, seq), out).is_none());
            }
        }
    }
    (sealed, lines)
}

#[test]
fn every_line_is_in_one_segment() {
    let text = |line: &str| line.as_bytes().to_vec();
    let batches = vec![
        vec![text("{\"_h\":{}}"), text(&record(5)), text(&record(1))],
        vec![
            text("{\"_o\":{}}"),
            text("{\"ts\":\"2026-11-24T00:00:00.000001Z\",\"stream\":\"record\"}"),
        ],
        vec![
            text("{\"ts\":\"2026-11-23T09:59:59Z\",\"msg\":\"m\",\"stream\":\"trace\"}"),
            text("{\"stream\":\"entry\",\"ts\":\"2026-11-23T10:00:00.000000Z\",\"seq\":9}"),
            text("{\"stream\":\"what\",\"ts\":\"2026-11-23T10:00:00.000000Z\"}"),
            b"no json \xff\x00".to_vec(),
            text("{\"stream\":\"trace\"}"),
            text(&record(0)),
        ],
    ];
    let bytes = journal(40, &batches);
    let (sealed, lines) = check(40, 0..=u64::MAX, &bytes);
    assert_eq!((sealed.last_seq, sealed.opaque, sealed.damage.len()), (50, 1, 0));
    let all: Vec<(u64, &Vec<u8>)> = (40..).zip(batches.iter().flatten()).collect();
    let shown = all.iter().filter(|(_, line)| !line.starts_with(INTERNAL_PREFIX));
    let by_seq: BTreeMap<u64, &Vec<u8>> =
        lines.iter().map(|((_, seq), line)| (*seq, line)).collect();
    assert_eq!(by_seq, shown.copied().collect());
    let of = |dataset| sealed.segments.iter().filter(|s| s.dataset == dataset).count();
    assert_eq!((of(Dataset::Records), of(Dataset::Traces), of(Dataset::Entries)), (2, 1, 1));

    let (sealed, lines) = check(40, 42..=44, &bytes);
    assert_eq!(sealed.last_seq, 44);
    assert_eq!(lines.keys().map(|(_, seq)| *seq).collect::<Vec<_>>(), [42, 44]);
}

#[test]
fn what_no_commit_covers_is_not_sealed() {
    let line = |n: u64| record(n).into_bytes();
    let mut bytes = journal(1, &[vec![line(1)], vec![line(2)], vec![line(3)]]);
    let middle = bytes.windows(9).position(|w| w == b"upstream ").unwrap_or(bytes.len() / 2);
    bytes[middle] ^= 1;
    bytes.extend_from_slice(&line(4));
    let (sealed, lines) = check(1, 1..=u64::MAX, &bytes);
    assert_eq!((sealed.damage.len(), lines.len(), sealed.last_seq), (1, 2, 3));
    let (sealed, lines) = check(1, 1..=u64::MAX, b"");
    assert_eq!((sealed.segments.len(), lines.len(), sealed.last_seq), (0, 0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_lines_are_sealed_once(
        batches in proptest::collection::vec(
            proptest::collection::vec(
                prop_oneof![
                    3 => (0u64..2000).prop_map(|n| record(n).into_bytes()),
                    2 => crate::segment::decode::tests::line(Dataset::Traces)
                        .prop_map(String::into_bytes),
                    1 => "\\PC{1,20}".prop_map(String::into_bytes),
                ],
                1..12,
            ),
            0..8,
        ),
    ) {
        let clean: Vec<Vec<Vec<u8>>> = batches
            .into_iter()
            .map(|lines| lines.into_iter().filter(|l| !l.contains(&b'\n')).collect::<Vec<_>>())
            .filter(|lines: &Vec<Vec<u8>>| !lines.is_empty())
            .collect();
        let (_, lines) = check(1, 1..=u64::MAX, &journal(1, &clean));
        let wanted: BTreeMap<u64, Vec<u8>> = (1..)
            .zip(clean.concat())
            .filter(|(_, line)| !line.starts_with(INTERNAL_PREFIX))
            .collect();
        let found: BTreeMap<u64, Vec<u8>> =
            lines.into_iter().map(|((_, seq), line)| (seq, line)).collect();
        prop_assert_eq!(found, wanted);
    }
}
