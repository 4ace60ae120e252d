//! What a growing tree looks like, and who may make it grow.

use std::{path::PathBuf, sync::Arc};

use domain::audit::tree::{Receipt, TileKind, TilePath, tiles_of, verify_consistency};
use tlog::{APPEND_LEAVES_MAX, Error, Kind, Reader, adopt_checkpoint, fs::StdFs, rebuild};

use crate::support::{
    Seeded, append, check_tree, config, leaf, leaves, open, open_on, origin, root,
};

fn path(text: &str) -> TilePath {
    TilePath::parse(text).unwrap()
}

fn all_files(dir: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(at) = dirs.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            match path.is_dir() {
                true => dirs.push(path),
                false => found.push(path.strip_prefix(dir).unwrap().display().to_string()),
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_tree_grows_batch_by_batch_and_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = leaves(0, 2000);
    let mut checkpoints = Vec::new();
    let mut writer = open(dir.path());
    assert_eq!((writer.size(), writer.checkpoint()), (0, None));
    for (at, to) in [1, 2, 3, 40, 255, 256, 257, 512, 700, 1800, 2000].into_iter().enumerate() {
        let signed = append(&mut writer, to);
        assert_eq!((signed.size(), signed.root()), (to, root(&ledger[..to as usize])));
        checkpoints.push(signed);
        if at % 2 == 0 {
            drop(writer);
            writer = open(dir.path());
        }
        check_tree(&writer.reader(), &ledger);
    }
    let reader = writer.reader();
    for old in &checkpoints {
        for new in checkpoints.iter().filter(|new| new.size() >= old.size()) {
            let mut hashes = reader.hashes(new.size());
            let proof = domain::audit::tree::consistency_proof(&mut hashes, old.size(), new.size());
            let sides = ((old.size(), old.root()), (new.size(), new.root()));
            assert_eq!(verify_consistency(sides.0, sides.1, &proof.unwrap()), Ok(()));
        }
    }
    // Whole tiles have no partial ones beside them, partial ones few.
    let expected: Vec<String> = tiles_of(2000).map(|path| path.to_string()).collect();
    let found = all_files(&dir.path().join("tlog"));
    let tiles: Vec<_> = found.iter().filter(|path| path.starts_with("tile/")).collect();
    assert!(expected.iter().all(|path| tiles.contains(&path)), "{tiles:?}");
    assert!(tiles.len() <= expected.len() + 12, "{tiles:?}");
    assert!(!found.iter().any(|path| path.ends_with(".tmp")), "{found:?}");
}

#[test]
fn what_is_not_a_next_batch_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path());
    append(&mut writer, 5);
    let before = all_files(dir.path());
    let large = vec![0; 16 * 1024 + 1];
    for (first, batch) in [
        (4, leaves(4, 6)),
        (6, leaves(6, 8)),
        (5, Vec::new()),
        (5, vec![large.clone()]),
        (5, vec![leaf(5), large]),
        (5, vec![Vec::new(); APPEND_LEAVES_MAX + 1]),
        (5, vec![vec![0; 16_000]; 5000]),
    ] {
        let error = writer.append(first, &batch).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{error}");
    }
    assert_eq!(all_files(dir.path()), before);
    append(&mut writer, 6);
    check_tree(&writer.reader(), &leaves(0, 6));
}

#[test]
fn one_process_writes_and_any_reads() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = open(dir.path());
    append(&mut first, 300);
    let Err(error) = open_on(Arc::new(StdFs), dir.path()) else { panic!("two writers") };
    assert!(matches!(error, Error::Taken { .. }), "{error}");
    check_tree(&Reader::of_dir(dir.path()), &leaves(0, 300));
    drop(first);
    open(dir.path());
}

#[test]
fn keys_and_files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path());
    append(&mut writer, 3);
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let reader = writer.reader();
    assert_eq!(mode(reader.layout().signing_key()), 0o600);
    assert_eq!(mode(reader.layout().signer_dir()), 0o700);
    assert_eq!(mode(reader.layout().tree()), 0o700);
    let vkey = std::fs::read_to_string(reader.layout().public_key()).unwrap();
    assert_eq!(vkey, format!("{}\n", writer.verifier()));
    // No file that auditors get has the private part.
    let secret = std::fs::read_to_string(reader.layout().signing_key()).unwrap();
    let hidden = secret.trim_end().splitn(5, '+').last().unwrap().to_owned();
    for file in all_files(&reader.layout().tree()) {
        let bytes = std::fs::read(reader.layout().tree().join(&file)).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains(&hidden), "{file}");
    }
}

#[test]
fn narrower_tiles_are_read_from_wider_ones() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path());
    for to in [10, 20, 30, 40, 50, 60, 300, 310] {
        append(&mut writer, to);
    }
    let reader = writer.reader();
    for (name, width) in [("tile/entries/000.p/10", 10), ("tile/entries/001.p/44", 44)] {
        let first = path(name).index() * 256;
        assert_eq!(reader.bundle(path(name)).unwrap(), leaves(first, first + width));
    }
    for name in ["tile/0/000.p/20", "tile/0/001.p/7"] {
        assert_eq!(reader.tile(path(name)).unwrap().len() as u64, path(name).width());
    }
    for name in ["tile/0/002", "tile/0/001", "tile/0/001.p/99", "tile/2/000.p/1"] {
        assert_eq!(reader.bytes(path(name)).unwrap(), None, "{name}");
    }
    assert_eq!(reader.leaf(299, 300).unwrap(), leaf(299));
    assert!(reader.leaf(300, 300).is_err());
    let some: Vec<_> = reader.leaves_from(250, 300).map(Result::unwrap).collect();
    assert_eq!(some, [(250, leaves(250, 256)), (256, leaves(256, 300))]);
}

#[test]
fn receipts_verify_alone_and_survive_pruning() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path());
    let old = append(&mut writer, 700);
    let key = writer.verifier().clone();
    let text = writer.reader().receipt(3, &old).unwrap().to_string();
    append(&mut writer, 1500);
    assert_eq!(writer.prune_bundles(600).unwrap(), 2, "only whole bundles go");
    assert_eq!(writer.prune_bundles(600).unwrap(), 0);
    let kept = TileKind::Entries.tile(2, 1500).unwrap();
    assert_eq!(writer.reader().bundle(kept).unwrap(), leaves(512, 768));
    assert!(writer.reader().leaf(3, 1500).is_err());

    let receipt = Receipt::parse(text.as_bytes()).unwrap();
    let leaf = domain::audit::tree::NodeHash::of_leaf(receipt.extra.as_deref().unwrap());
    assert_eq!(receipt.verify(leaf, [&key], &[]), Ok(vec![]));
    let proof =
        domain::audit::tree::consistency_proof(&mut writer.reader().hashes(1500), 700, 1500);
    let new = (1500, writer.root());
    assert_eq!(verify_consistency((700, old.root()), new, &proof.unwrap()), Ok(()));

    // It grows on, whatever was asked to go.
    drop(writer);
    let mut writer = open(dir.path());
    assert_eq!(writer.prune_bundles(u64::MAX).unwrap(), 3);
    append(&mut writer, 1501);
    drop(writer);
    assert_eq!(open(dir.path()).root(), root(&leaves(0, 1501)));
}

#[test]
fn lost_tiles_are_built_again_from_leaves_with_the_signed_root_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path());
    append(&mut writer, 1300);
    let signed = append(&mut writer, 1313);
    drop(writer);
    std::fs::remove_dir_all(dir.path().join("tlog/tile")).unwrap();
    std::fs::remove_file(dir.path().join("tlog/checkpoint")).unwrap();
    assert_eq!(kind(open_on(Arc::new(StdFs), dir.path())), Kind::Corrupt);

    let fs = || Arc::new(StdFs);
    let build = |ledger: Vec<Vec<u8>>| {
        rebuild(dir.path(), fs(), || Ok::<_, Error>(ledger.clone().into_iter().map(Ok)))
    };
    let mut forged = leaves(0, 1313);
    forged[700].push(b'x');
    assert!(matches!(build(forged), Err(Error::OtherRoot { .. })));
    assert!(matches!(build(leaves(0, 1312)), Err(Error::Behind { .. })));
    assert!(!dir.path().join("tlog/tile").exists(), "nothing was written");
    assert_eq!(build(leaves(0, 1400)).unwrap(), 1313);
    let mut writer = open(dir.path());
    assert_eq!(check_tree(&writer.reader(), &leaves(0, 1313)), signed);
    append(&mut writer, 1400);
    check_tree(&writer.reader(), &leaves(0, 1400));
}

#[test]
fn a_lost_signer_state_is_made_again_by_order_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path());
    append(&mut writer, 20);
    let old = std::fs::read(dir.path().join("audit/signer.json")).unwrap();
    let published = append(&mut writer, 30);
    drop(writer);
    let state = dir.path().join("audit/signer.json");
    let adopt = || adopt_checkpoint(dir.path(), Arc::new(StdFs), &origin());

    std::fs::remove_file(&state).unwrap();
    assert_eq!(kind(open_on(Arc::new(StdFs), dir.path())), Kind::Corrupt);
    assert_eq!(adopt().unwrap(), published);
    assert_eq!(open(dir.path()).size(), 30);

    std::fs::write(&state, old).unwrap();
    let Err(error) = open_on(Arc::new(StdFs), dir.path()) else { panic!("a rollback") };
    assert!(matches!(error, Error::Behind { found: 20, signed: 30, .. }), "{error}");
    assert_eq!(adopt().unwrap(), published);

    // A signer who remembers more is never made to forget it.
    let older = std::fs::read(dir.path().join("tlog/checkpoint")).unwrap();
    append(&mut open(dir.path()), 40);
    std::fs::write(dir.path().join("tlog/checkpoint"), older).unwrap();
    assert!(matches!(adopt(), Err(Error::Behind { .. })));
    assert_eq!(open(dir.path()).size(), 40);
}

fn kind<T>(result: Result<T, Error>) -> Kind {
    result.err().expect("refused").kind()
}

#[test]
fn configured_keys_are_used_and_not_written() {
    use domain::audit::tree::{KeyKind, SigningKey};
    let dir = tempfile::tempdir().unwrap();
    let key = |seed| SigningKey::generate(origin(), KeyKind::Ed25519, &Seeded(seed)).unwrap();
    let open_with = |keys: Vec<SigningKey>| {
        let config = tlog::Config { key: tlog::KeySource::Given(keys), ..config(dir.path()) };
        tlog::Writer::open(config, Arc::new(StdFs), &Seeded(9)).map(|(writer, _)| writer)
    };
    let mut writer = open_with(vec![key(5)]).unwrap();
    append(&mut writer, 3);
    assert_eq!(writer.verifier(), key(5).verifier());
    assert!(writer.prepare_rotation(&Seeded(7)).is_err());
    drop(writer);
    assert!(!dir.path().join("audit/signing.key").exists());
    assert!(matches!(open_with(vec![key(6)]), Err(Error::OtherKey { .. })));
    assert!(matches!(open_with(Vec::new()), Err(Error::Key(_))));
    let writer = open_with(vec![key(6), key(5)]).unwrap();
    assert_eq!(writer.verifier(), key(5).verifier());
    assert_eq!(writer.prepared(), Some(key(6).verifier()));
}
