//! Files changed behind the writer's back: it signs nothing over them.

use std::{path::Path, sync::Arc};

use tlog::{Error, Kind, fs::StdFs};

use crate::support::{append, check_tree, leaves, open, open_on};

fn tree(dir: &Path) {
    let mut writer = open(dir);
    append(&mut writer, 256);
    append(&mut writer, 300);
}

fn refused(dir: &Path) -> Error {
    open_on(Arc::new(StdFs), dir).err().expect("refused")
}

fn check(what: &str, damage: impl Fn(&Path)) {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    damage(dir.path());
    let error = refused(dir.path());
    assert_ne!(error.kind(), Kind::Unavailable, "{what}: {error}");
    // Nothing was repaired meanwhile.
    assert_eq!(refused(dir.path()).to_string(), error.to_string(), "{what}");
}

/// Flips a bit in the middle of a file.
fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn damaged_evidence_is_not_signed_over() {
    // What is left of the edge only: the rest is for the verifier.
    for file in [
        "tlog/checkpoint",
        "tlog/keys",
        "tlog/tile/0/001.p/44",
        "tlog/tile/1/000.p/1",
        "tlog/tile/entries/001.p/44",
        "audit/signer.json",
        "audit/signing.key",
    ] {
        check(file, |dir| flip(&dir.join(file)));
        if file != "tlog/checkpoint" {
            check(file, |dir| std::fs::remove_file(dir.join(file)).unwrap());
        }
        check(file, |dir| std::fs::write(dir.join(file), b"").unwrap());
    }
    check("the whole tree", |dir| std::fs::remove_dir_all(dir.join("tlog")).unwrap());
    check("the signer", |dir| std::fs::remove_dir_all(dir.join("audit")).unwrap());
}

#[test]
fn copies_from_earlier_are_noticed() {
    let copy = |from: &Path, to: &Path| {
        let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
        assert!(status.unwrap().success());
    };
    let dir = tempfile::tempdir().unwrap();
    let kept = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path());
    append(&mut writer, 300);
    for name in ["tlog", "audit"] {
        copy(&dir.path().join(name), kept.path());
    }
    let newest = append(&mut writer, 301);
    drop(writer);
    let restore = |name: &str| {
        std::fs::remove_dir_all(dir.path().join(name)).unwrap();
        copy(&kept.path().join(name), dir.path());
    };
    // Only the older checkpoint: the signer knows better.
    std::fs::copy(kept.path().join("tlog/checkpoint"), dir.path().join("tlog/checkpoint")).unwrap();
    let (writer, opened) = open_on(Arc::new(StdFs), dir.path()).unwrap();
    assert!(opened.was_published_late);
    assert_eq!(check_tree(&writer.reader(), &leaves(0, 301)), newest);
    drop(writer);
    // Only the signer's state.
    let state = std::fs::read(dir.path().join("audit/signer.json")).unwrap();
    std::fs::copy(kept.path().join("audit/signer.json"), dir.path().join("audit/signer.json"))
        .unwrap();
    assert!(matches!(refused(dir.path()), Error::Behind { found: 300, signed: 301, .. }));
    std::fs::write(dir.path().join("audit/signer.json"), state).unwrap();
    // The whole tree.
    restore("tlog");
    assert_eq!(refused(dir.path()).kind(), Kind::Corrupt);
    // Both together cannot be noticed from here: this is what checkpoints that
    // left the machine are for.
    restore("audit");
    assert_eq!(open(dir.path()).size(), 300);
}

#[test]
fn files_that_are_not_of_the_tree_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    let strange = ["tlog/tile/0/notes.txt", "tlog/tile/9", "tlog/README"];
    for name in strange {
        std::fs::write(dir.path().join(name), b"mine").unwrap();
    }
    append(&mut open(dir.path()), 800);
    assert!(strange.iter().all(|name| dir.path().join(name).exists()));
}

#[test]
fn a_fork_under_the_real_key_is_refused() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    tree(one.path());
    let mut writer = open(other.path());
    let mut forged = leaves(0, 300);
    forged.remove(10);
    writer.append(0, &forged).unwrap();
    writer.append(299, &leaves(0, 1)).unwrap();
    drop(writer);
    // The keys are from one seed: the forged checkpoint is well signed.
    std::fs::copy(other.path().join("tlog/checkpoint"), one.path().join("tlog/checkpoint"))
        .unwrap();
    assert_eq!(refused(one.path()).kind(), Kind::Refused);
    std::fs::remove_dir_all(one.path().join("tlog")).unwrap();
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(other.path().join("tlog"))
        .arg(one.path())
        .status();
    assert!(copied.unwrap().success());
    assert_eq!(refused(one.path()).kind(), Kind::Refused);
}
