use super::*;
use crate::fs::StdFs;

fn manifest(instance: &InstanceId) -> Manifest {
    let mut manifest = Manifest::empty(instance);
    manifest.sealed_to = 42;
    manifest.segments.push(SealedFile {
        dataset: Dataset::Traces,
        file: "traces/date=2026-11-23/a-000000000001-000000000042-L0.parquet".to_owned(),
        level: 0,
        rows: 7,
        bytes: 1000,
        ids_bytes: 100,
        sha256: "00".repeat(32),
        ids_sha256: String::new(),
        first_seq: 1,
        last_seq: 42,
        min_ts: Timestamp::from_micros(1_763_892_000_000_001),
        max_ts: Timestamp::from_micros(1_763_892_000_000_002),
    });
    manifest
}

#[test]
fn every_flipped_byte_is_noticed() {
    let instance = InstanceId::parse("a").expect("valid");
    let bytes = manifest(&instance).to_bytes();
    assert_eq!(Manifest::parse(&bytes), Ok(manifest(&instance)));
    for at in 0..bytes.len() {
        let mut bent = bytes.clone();
        bent[at] ^= 1;
        assert!(Manifest::parse(&bent).is_err(), "byte {at}");
        assert!(Manifest::parse(&bytes[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let instance = InstanceId::parse("a").expect("valid");
    let newer = Manifest { format: MANIFEST_FORMAT + 1, ..manifest(&instance) };
    let refused = Manifest::parse(&newer.to_bytes()).expect_err("newer");
    assert!(refused.contains("newer than this build"), "{refused}");
}

#[test]
fn a_damaged_one_gives_way_to_the_one_before_and_is_named() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let instance = InstanceId::parse("a").expect("valid");
    let mut kept = manifest(&instance);
    for sealed_to in 1..=6 {
        kept.sealed_to = sealed_to;
        save(&StdFs, dir.path(), &instance, &mut kept, Timestamp::EPOCH).expect("saved");
    }
    let at = manifest_dir(dir.path(), &instance);
    assert_eq!(numbers(&StdFs, &at).expect("listed"), [3, 4, 5, 6]);
    let loaded = load(&StdFs, dir.path(), &instance).expect("loaded");
    assert_eq!(loaded.manifest.map(|it| it.sealed_to), Some(6));
    std::fs::write(path_of(&at, 6), b"{}").expect("damaged");
    let loaded = load(&StdFs, dir.path(), &instance).expect("loaded");
    assert_eq!(loaded.manifest.map(|it| it.sealed_to), Some(5));
    assert_eq!(loaded.problems.len(), 1);
    assert!(loaded.problems[0].path.ends_with("6.json"));
    // The damaged one's number is not used again.
    save(&StdFs, dir.path(), &instance, &mut kept, Timestamp::EPOCH).expect("saved");
    assert_eq!(kept.number, 7);
}
