use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{build::Hashes, *};
use crate::segment::{
    map::{Chunk, Extent, Page},
    testing::{fs, mix},
};

fn summary() -> Summary {
    Summary {
        format: FORMAT,
        dataset: "records".to_owned(),
        instance: "test-1".to_owned(),
        version: "0.0.0".to_owned(),
        parquet_bytes: 0,
        rows: 0,
        first_seq: 0,
        last_seq: 0,
        min_ts: 0,
        max_ts: 0,
        columns: Vec::new(),
        groups: Vec::new(),
    }
}

/// Every row has one id of its own and one that it shares with many.
fn check(rows: u64, shared: u64) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("s.ids");
    let mut hashes = Hashes::default();
    for row in 0..rows {
        hashes.add(format!("own-{}", mix(row)).as_bytes());
        hashes.add(format!("shared-{}", row % shared).as_bytes());
        hashes.end_row();
    }
    let bytes = build::write(&*fs(), &path, hashes, summary(), &[]).expect("written");
    let ids = Ids::open(&*fs(), &path).expect("opened");
    assert_eq!(ids.bytes(), bytes);
    assert_eq!(ids.summary().expect("read"), summary());
    let has = |ranges: &[Range<u64>], row: u64| ranges.iter().any(|range| range.contains(&row));
    for row in (0..rows).step_by(1 + usize::try_from(rows / 500).expect("small")) {
        let ranges = ids.candidates(&format!("own-{}", mix(row))).expect("read");
        assert!(has(&ranges, row), "{row}");
    }
    let wanted: BTreeSet<u64> = (0..rows).filter(|row| row % shared == 0).collect();
    let ranges = ids.candidates("shared-0").expect("read");
    assert!(wanted.iter().all(|row| has(&ranges, *row)));
    assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
    if rows > 100_000 {
        // Two ids a row, of which one is shared within its block.
        assert!(bytes / rows < 7, "{bytes}");
    }
}

#[test]
fn ids_are_among_their_candidates() {
    check(0, 1);
    check(1, 1);
    check(1024, 3);
    check(1025, 1000);
    check(50_000, 7);
    check(200_000, 100);
}

fn extent() -> impl Strategy<Value = Extent> {
    (0u64..1 << 40, 1u32..1 << 30, any::<u32>()).prop_map(|(offset, bytes, crc)| Extent {
        offset,
        bytes,
        crc: Some(crc),
    })
}

fn chunk() -> impl Strategy<Value = Chunk> {
    let some = || proptest::option::of(extent());
    let pages = proptest::collection::vec((1u32..1 << 20, any::<u32>()), 1..5);
    (some(), some(), some(), 0u64..1 << 40, pages).prop_map(|parts| {
        let (dictionary, index, bloom, start, sizes) = parts;
        let mut offset = dictionary.map_or(start, |page| page.end());
        let count = sizes.len() as u64;
        let pages = (0u64..).zip(sizes).map(|(at, (bytes, crc))| {
            let extent = Extent { offset, bytes, crc: Some(crc) };
            offset += u64::from(bytes);
            let rows = if at + 1 == count { 100 - at * 7 } else { 7 };
            Page { extent, first_row: at * 7, rows }
        });
        let pages = pages.collect();
        Chunk { values: start, uncompressed: start / 3, dictionary, index, bloom, pages }
    })
}

/// What a reader does with bytes whose checksum somebody made right.
fn survive(bytes: &[u8]) {
    let mut sealed = bytes.to_vec();
    sealed.extend_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
    if let Some(group) = Group::decode(&sealed) {
        assert_eq!(Group::decode(&group.encode()), Some(group));
    }
    let _known = Tail::decode(&sealed, bytes.len() as u64);
}

proptest! {
    #[test]
    fn maps_come_back(
        chunks in proptest::collection::vec(chunk(), 0..6),
        page_times in proptest::collection::vec(any::<i64>(), 0..6),
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
    ) {
        let group = Group { rows: 100, chunks, page_times };
        let bytes = group.encode();
        prop_assert_eq!(Group::decode(&bytes), Some(group.clone()));
        let mut body = bytes[..bytes.len() - 4].to_vec();
        let at = at.index(body.len());
        body[at] ^= flip;
        survive(&body);
        survive(&body[..at]);
    }

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        survive(&bytes);
    }

    #[test]
    fn any_bucket_is_survived(
        bytes in proptest::collection::vec(any::<u8>(), 0..60),
        wanted in any::<u32>(),
        bits in (0u32..=BUCKET_BITS_MAX, 0u32..32, 0u32..=32),
    ) {
        let (bucket_bits, rice, block_bits) = bits;
        let tail = Tail {
            buckets_at: 0,
            directory_at: 0,
            summary_at: 0,
            summary_bytes: 0,
            entries: 9,
            blocks: 1 << 20,
            bucket_bits,
            rice,
            block_bits,
        };
        let bucket = if bucket_bits == 0 { 0 } else { wanted >> (32 - bucket_bits) };
        let _found = tail.find(&bytes, bucket, wanted);
    }
}
