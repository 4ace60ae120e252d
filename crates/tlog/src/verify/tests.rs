//! Attacks on trees in memory, and what the verifier calls them.

mod forge;

use std::collections::BTreeSet;

use domain::audit::{
    Action, Detail, EntryDraft,
    tree::VerifierKey,
    verify::{Class, Report, Verdict},
};

use self::forge::{Files, ORIGIN, key, key_of, leaves, list, note, rotation, tree};
use super::{Ask, Remembered, verify};

type Found = BTreeSet<(Class, Option<u64>)>;

fn ask(files: &Files, keys: &[VerifierKey], remembered: &[Remembered]) -> Report {
    let ask = Ask { keys, remembered, ..Ask::default() };
    verify(files, &ask, &mut |_, _| {}).0
}

/// With the right key, and nothing else.
fn report(files: &Files) -> Report {
    ask(files, &[key().verifier().clone()], &[])
}

fn found(report: &Report) -> Found {
    report.findings.iter().map(|finding| (finding.class, finding.index)).collect()
}

fn kept(files: &Files) -> Remembered {
    Remembered { place: "kept".into(), note: note(files), outside: true }
}

/// Whatever is done to a file, the tree does not verify.
fn check_damaged(
    good: &Files,
    path: &str,
    what: &str,
    change: impl FnOnce(&mut Vec<u8>),
) -> Report {
    let mut files = good.clone();
    change(files.0.get_mut(path).expect("the file"));
    let report = report(&files);
    assert_eq!(report.verdict(), Verdict::Tampered, "{path}: {what}");
    report
}

#[test]
fn a_good_tree_verifies() {
    for size in [1, 2, 255, 256, 257, 600] {
        let files = tree(&leaves(size));
        let report = report(&files);
        assert_eq!(found(&report), Found::new(), "{size}");
        assert_eq!((report.verdict(), report.entries), (Verdict::Verified, size), "{size}");
        assert_eq!(report.count(Class::UnanchoredTail), 1, "history is not anchored");
    }
}

#[test]
fn without_a_key_nothing_is_proven() {
    let files = tree(&leaves(20));
    assert_eq!(ask(&files, &[], &[]).verdict(), Verdict::SelfConsistent);
    let anchored = ask(&files, &[], &[kept(&tree(&leaves(10)))]);
    assert_eq!(anchored.verdict(), Verdict::SelfConsistent);
    assert_eq!(anchored.anchored_to, 10);
    // A key beside the tree finds damage, and proves nothing.
    let local = [key_of(ORIGIN, 9).verifier().clone()];
    let with_local = |files: &Files| {
        let ask = Ask { local_keys: &local, ..Ask::default() };
        verify(files, &ask, &mut |_, _| {}).0
    };
    assert_eq!(with_local(&files).verdict(), Verdict::SelfConsistent);
    assert_eq!(ask(&Files::default(), &[], &[]).verdict(), Verdict::Nothing);
    assert_eq!(report(&Files::default()).verdict().exit_status(), 2);
    assert_eq!(report(&tree(&[])).verdict(), Verdict::Nothing);
}

#[test]
fn every_flipped_byte_is_found() {
    let good = tree(&leaves(3));
    for (path, bytes) in &good.0 {
        for at in 0..bytes.len() {
            let change = |bytes: &mut Vec<u8>| bytes[at] ^= 1 << (at % 8);
            let report = check_damaged(&good, path, &format!("byte {at}"), change);
            let signed = ["checkpoint", "keys"].contains(&path.as_str());
            assert!(signed || report.findings.iter().any(|it| it.index.is_some()), "{path} {at}");
        }
    }
}

#[test]
fn every_cut_and_every_addition_is_found() {
    let good = tree(&leaves(3));
    for (path, bytes) in &good.0 {
        for length in 0..bytes.len() {
            check_damaged(&good, path, &format!("cut at {length}"), |bytes| bytes.truncate(length));
        }
        for more in [&b"\0"[..], b"\n", b"x", &[0; 34]] {
            check_damaged(&good, path, "longer", |bytes| bytes.extend_from_slice(more));
        }
    }
}

#[test]
fn whatever_is_missing_or_in_the_place_of_another_is_found() {
    let good = tree(&leaves(300));
    for path in good.0.keys() {
        let mut files = good.clone();
        files.0.remove(path);
        assert_ne!(report(&files).verdict().exit_status(), 0, "{path} is gone");
        for other in good.0.keys().filter(|other| good.0[*other] != good.0[path]) {
            let mut files = good.clone();
            let (one, two) = (good.0[path].clone(), good.0[other].clone());
            files.0.insert(path.clone(), two);
            files.0.insert(other.clone(), one);
            assert_eq!(report(&files).verdict(), Verdict::Tampered, "{path} and {other} swapped");
        }
    }
}

#[test]
fn a_changed_entry_and_a_changed_hash_are_told_apart() {
    let good = tree(&leaves(600));
    let entry_at = |bundle: &[u8], wanted: usize| {
        let at =
            super::entries(bundle)[..wanted].iter().map(|entry| entry.len() + 2).sum::<usize>();
        at + 2
    };
    for (bundle, tile, slot, index) in [
        ("tile/entries/001", "tile/0/001", 3, 259),
        ("tile/entries/002.p/88", "tile/0/002.p/88", 87, 599),
    ] {
        let at = entry_at(&good.0[bundle], slot) + 20;
        let report = check_damaged(&good, bundle, "an entry", |bytes| bytes[at] ^= 1);
        assert_eq!(found(&report), [(Class::Leaf, Some(index))].into(), "{bundle}");
        let report = check_damaged(&good, tile, "a hash", |bytes| bytes[32 * slot] ^= 1);
        assert_eq!(found(&report), [(Class::Tile, Some(index))].into(), "{tile}");
    }
    let report = check_damaged(&good, "tile/1/000.p/2", "a hash", |bytes| bytes[32] ^= 1);
    assert_eq!(found(&report), [(Class::Tile, Some(256))].into());
    // An entry that was changed with its hash is still not what was signed.
    let mut files = good;
    let changed = tree(&forge::renamed(leaves(600), 259));
    for path in ["tile/entries/001", "tile/0/001"] {
        files.0.insert(path.into(), changed.0[path].clone());
    }
    assert_eq!(found(&report_of(&files)), [(Class::Tile, Some(256))].into());
    let changed = tree(&forge::renamed(leaves(600), 599));
    for (path, bytes) in changed.0.iter().filter(|(path, _)| path.starts_with("tile/")) {
        files.0.insert(path.clone(), bytes.clone());
    }
    let forked: Vec<Class> = found(&report_of(&files)).iter().map(|it| it.0).collect();
    assert_eq!(forked, [Class::Fork]);
}

fn report_of(files: &Files) -> Report {
    report(files)
}

#[test]
fn superseded_tiles_must_agree() {
    let all = leaves(600);
    let mut good = tree(&all);
    for size in [40, 256 + 17, 599] {
        let older = tree(&all[..size]);
        good.0.extend(older.0.into_iter().filter(|(path, _)| path.contains(".p/")));
    }
    assert_eq!(report(&good).verdict(), Verdict::Verified);
    let superseded = list(&good, |path| path.contains(".p/"));
    assert!(superseded.len() >= 8);
    for path in superseded {
        let last = good.0[&path].len() - 1;
        let report = check_damaged(&good, &path, "its last byte", |bytes| bytes[last] ^= 1);
        assert!(report.findings.iter().any(|it| it.place == path), "{path}: {:?}", report.findings);
        check_damaged(&good, &path, "cut", |bytes| bytes.truncate(last));
        check_damaged(&good, &path, "longer", |bytes| bytes.push(0));
    }
    good.0.insert("tile/0/000.tmp".into(), b"x".to_vec());
    let report = report(&good);
    assert_eq!(report.verdict(), Verdict::Verified);
    assert!(report.unchecked.iter().any(|it| it.starts_with("tile/0/000.tmp")));
}

#[test]
fn an_older_copy_is_a_rollback() {
    let (all, keys) = (leaves(600), [key().verifier().clone()]);
    let (now, older) = (kept(&tree(&all)), tree(&all[..400]));
    assert_eq!(
        found(&ask(&older, &keys, std::slice::from_ref(&now))),
        [(Class::Rollback, Some(400))].into()
    );
    // The signer's own memory finds it too.
    let signed = |files: &Files, remembered: &[Remembered]| {
        let signer = Some(now.note.clone());
        let ask = Ask { keys: &keys, remembered, signer, ..Ask::default() };
        verify(files, &ask, &mut |_, _| {}).0
    };
    assert_eq!(found(&signed(&older, &[])), [(Class::Rollback, Some(400))].into());
    assert_eq!(found(&signed(&Files::default(), &[])), [(Class::Rollback, Some(0))].into());
    // A crash between signing and publishing is none.
    let mut crashed = tree(&all);
    crashed.0.insert("checkpoint".into(), older.0["checkpoint"].clone());
    let report = signed(&crashed, &[]);
    assert_eq!((report.verdict(), report.size), (Verdict::Verified, 600));
    crashed.0.remove("checkpoint");
    assert_eq!(found(&signed(&crashed, &[])), [(Class::Truncated, None)].into());
    // Entries beyond the checkpoint are told, not believed.
    crashed.0.insert("checkpoint".into(), older.0["checkpoint"].clone());
    let report = ask(&crashed, &keys, &[]);
    assert_eq!((report.verdict(), report.size), (Verdict::Verified, 400));
    assert!(report.notes.iter().any(|it| it.index == Some(400)), "{:?}", report.notes);
}

/// The acceptance of the whole: a history that was written anew with the real
/// key.
#[test]
fn a_forged_history_under_the_real_key_is_a_fork() {
    let (all, keys) = (leaves(600), [key().verifier().clone()]);
    let forged = tree(&forge::without(&all, 123));
    let old = kept(&tree(&all[..400]));
    let before = kept(&tree(&all[..100]));
    let with_old = ask(&forged, &keys, &[before, old.clone()]);
    assert_eq!(found(&with_old), [(Class::Fork, Some(100))].into());
    assert_eq!(ask(&forged, &[], std::slice::from_ref(&old)).verdict(), Verdict::Tampered);
    assert_eq!(ask(&forged, &[], &[]).verdict(), Verdict::SelfConsistent);
    let only_key = ask(&forged, &keys, &[]);
    assert_eq!(only_key.verdict(), Verdict::Verified);
    assert_eq!(
        (only_key.notes[0].class, only_key.notes[0].index),
        (Class::UnanchoredTail, Some(0))
    );
    // On the true one the older checkpoint anchors what it covers.
    let anchored = ask(&tree(&all), &keys, &[old]);
    assert_eq!((anchored.verdict(), anchored.anchored_to), (Verdict::Verified, 400));
    assert_eq!(anchored.notes[0].index, Some(400));
}

#[test]
fn signatures_by_others_do_not_count() {
    let all = leaves(30);
    let good = tree(&all);
    let signature = vec![(Class::Signature, None)].into_iter().collect::<Found>();
    let with = |checkpoint: String| {
        let mut files = good.clone();
        files.0.insert("checkpoint".into(), checkpoint.into_bytes());
        found(&report(&files))
    };
    let text = String::from_utf8(good.0["checkpoint"].clone()).expect("text");
    let (body, line) = text.split_once("\n\n").expect("a note");
    let other = note(&forge::signed_by(&all, &key_of(ORIGIN, 77))).to_string();
    let (_, other_line) = other.split_once("\n\n").expect("a note");
    assert_eq!(with(other.clone()), signature, "another key");
    assert_eq!(with(format!("{body}\n\n{other_line}{line}")), Found::new(), "beside ours");
    assert_eq!(with(format!("{body}\n\n{line}{line}")), signature, "twice");
    assert_eq!(with(format!("{body}\n\n{line}junk\n")), signature, "a line of junk");
    assert_eq!(with(text.replace('\n', "\r\n")), signature, "CRLF");
    assert_eq!(with(format!("\u{feff}{text}")), signature, "BOM");
    assert_eq!(with(text.replacen("\n30\n", "\n030\n", 1)), signature, "a leading zero");
    assert_eq!(with(text.replacen("\n30\n", "\n18446744073709551616\n", 1)), signature, "2^64");
    // A whole tree under a key of another's, with a keyring that fits.
    let replaced = forge::signed_by(&all, &key_of(ORIGIN, 77));
    assert!(found(&report(&replaced)).contains(&(Class::Signature, None)));
    // A whole tree of another chain under our key.
    let foreign = forge::signed_by(&all, &key_of("example.com/other", 1));
    assert!(found(&report(&foreign)).contains(&(Class::Signature, None)));
    assert!(found(&report(&foreign)).contains(&(Class::Leaf, Some(0))));
    let remembered = [kept(&foreign)];
    let keys = [key().verifier().clone()];
    assert_eq!(found(&ask(&good, &keys, &remembered)), signature, "remembered of another chain");
    let remembered = [kept(&replaced)];
    assert_eq!(found(&ask(&good, &keys, &remembered)), signature, "remembered under another key");
}

#[test]
fn other_bytes_for_an_entry_are_not_canonical() {
    let all = leaves(30);
    let text = String::from_utf8(all[7].clone()).expect("text");
    let (first, rest) = text[1..].split_once(',').expect("members");
    for other in [
        text.replacen(':', ": ", 1),
        format!("{{{},{first}}}", &rest[..rest.len() - 1]),
        text.replacen("\"action\"", "\"\\u0061ction\"", 1),
        format!("{{{first},{first},{rest}"),
        text.replacen("\"v\":1", "\"v\":1.0", 1),
        format!("{text}\n"),
    ] {
        let mut changed = all.clone();
        changed[7] = other.clone().into_bytes();
        let found = found(&report(&tree(&changed)));
        assert_eq!(found, [(Class::NotCanonical, Some(7))].into(), "{other}");
    }
    let mut changed = all.clone();
    changed[7] = text.replacen("\"v\":1", "\"v\":2", 1).into_bytes();
    assert_eq!(found(&report(&tree(&changed))), [(Class::Leaf, Some(7))].into());
}

#[test]
fn gaps_and_repetitions_are_found_under_any_signature() {
    let all = leaves(30);
    let mut dropped = all.clone();
    dropped.remove(11);
    assert_eq!(found(&report(&tree(&dropped))), [(Class::Gap, Some(12))].into());
    let mut repeated = all.clone();
    repeated.insert(12, all[11].clone());
    let twice = found(&report(&tree(&repeated)));
    assert_eq!(twice, [(Class::Duplicate, Some(12))].into());
    let mut swapped = all;
    swapped.swap(10, 12);
    let classes: BTreeSet<Class> = found(&report(&tree(&swapped))).iter().map(|it| it.0).collect();
    assert_eq!(classes, [Class::Gap, Class::Duplicate].into());
}

#[test]
fn a_rotation_leads_from_the_old_key_to_the_new_one() {
    let (old, new) = (key(), key_of(ORIGIN, 2));
    let files = rotation(&old, &new, 10, 16);
    for given in [&old, &new] {
        let report = ask(&files, &[given.verifier().clone()], &[]);
        assert_eq!((found(&report), report.verdict()), (Found::new(), Verdict::Verified));
    }
    let stranger = [key_of(ORIGIN, 3).verifier().clone()];
    assert!(found(&ask(&files, &stranger, &[])).contains(&(Class::Signature, None)));
    for path in ["keys", "rotations/10"] {
        for at in (0..files.0[path].len()).step_by(3) {
            let mut files = files.clone();
            files.0.get_mut(path).expect("the file")[at] ^= 1;
            let report = ask(&files, &[old.verifier().clone()], &[]);
            assert_eq!(report.verdict(), Verdict::Tampered, "{path} byte {at}");
        }
        let mut files = files.clone();
        files.0.remove(path);
        assert_eq!(ask(&files, &[old.verifier().clone()], &[]).verdict(), Verdict::Tampered);
    }
    // A key that the chain left behind signs nothing any more.
    let mut stolen = tree(&leaves(16));
    stolen.0.insert("keys".into(), files.0["keys"].clone());
    stolen.0.insert("rotations/10".into(), files.0["rotations/10"].clone());
    let found = found(&ask(&stolen, &[old.verifier().clone()], &[]));
    assert!(found.contains(&(Class::Signature, None)), "{found:?}");
}

#[test]
fn bundles_go_only_where_the_chain_says_so() {
    let pruned = |below: u64| {
        let draft = EntryDraft::new(Action::SegmentPruned)
            .detail(Detail::Dataset(forge::word("audit")))
            .detail(Detail::TreeSize(below));
        let mut all = leaves(600);
        all.push(forge::entry("i1/journal", 1, 9_000_000, draft));
        all.extend(forge::more(600, 3));
        tree(&all)
    };
    let mut files = pruned(512);
    files.0.remove("tile/entries/000");
    files.0.remove("tile/entries/001");
    let report = report(&files);
    assert_eq!((found(&report), report.verdict()), (Found::new(), Verdict::Verified));
    assert_eq!(report.count(Class::Pruned), 1);
    // Old checkpoints still verify.
    let old = [kept(&tree(&leaves(300)))];
    let anchored = ask(&files, &[key().verifier().clone()], &old);
    assert_eq!((anchored.verdict(), anchored.anchored_to), (Verdict::Verified, 300));
    let mut more = pruned(256);
    more.0.remove("tile/entries/000");
    more.0.remove("tile/entries/001");
    assert!(found(&report_of(&more)).contains(&(Class::Truncated, Some(256))));
}

/// Tall enough for a whole tile of level 1. Its entries are no leaves, which
/// costs nothing to find.
#[test]
fn tiles_of_every_level_are_compared() {
    let entries: Vec<Vec<u8>> =
        (0..65_537 + 300).map(|at: u32| at.to_be_bytes().to_vec()).collect();
    let good = tree(&entries);
    let classes_of = |report: &Report| -> BTreeSet<&str> {
        report.counts.keys().copied().filter(|it| *it != "NOT_CANONICAL").collect()
    };
    let mut files = good.clone();
    files.0.get_mut("tile/1/000").expect("the file")[32 * 200] ^= 4;
    files.0.get_mut("tile/1/001.p/1").expect("the file")[0] ^= 4;
    let report = report(&files);
    assert_eq!(report.count(Class::Tile), 2);
    assert_eq!(classes_of(&report), ["TILE", "UNANCHORED_TAIL"].into());
    let mut files = good;
    files.0.get_mut("tile/2/000.p/1").expect("the file")[5] ^= 4;
    assert_eq!(classes_of(&self::report(&files)), ["TILE", "UNANCHORED_TAIL"].into());
}

#[test]
fn the_published_vectors_are_read() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../domain/src/audit/tree/vectors");
    let source = super::Directory::new(dir.into());
    let text = std::fs::read_to_string(format!("{dir}/vkey")).expect("the key");
    let keys = [VerifierKey::parse(text.trim()).expect("a key")];
    let old = std::fs::read(format!("{dir}/checkpoint.old")).expect("a checkpoint");
    let note = domain::audit::tree::SignedCheckpoint::parse(&old).expect("a checkpoint");
    let remembered = [Remembered { place: "old".into(), note, outside: true }];
    let ask = Ask { keys: &keys, remembered: &remembered, ..Ask::default() };
    let (report, _) = verify(&source, &ask, &mut |_, _| {});
    // Their leaves are not ours, and there is no keyring; all the rest holds.
    let classes: BTreeSet<Class> = found(&report).iter().map(|it| it.0).collect();
    assert_eq!(classes, [Class::Leaf, Class::Truncated].into(), "{:?}", report.findings);
    assert_eq!(report.count(Class::Truncated), 1, "the keyring");
    assert_eq!((report.size, report.anchored_to), (300, 100));
}
