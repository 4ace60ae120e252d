//! What must be refused, each with its own error.

use std::error::Error;

use super::*;
use crate::secret::Secret;

fn own() -> SigningKey {
    key("example.com/audit", KeyKind::Ed25519, 1)
}

fn checkpoint() -> Checkpoint {
    Checkpoint { origin: name("example.com/audit"), size: 7, root: Whole::of(7).root_at(7) }
}

fn signed() -> SignedCheckpoint {
    SignedCheckpoint::sign(checkpoint(), &[&own()]).expect("signed")
}

/// All that an error says, so that a case is data.
fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn check_note(change: impl Fn(String) -> String, expected: &str) {
    let note = change(signed().to_string());
    match SignedCheckpoint::parse(note.as_bytes()) {
        Err(error) => assert!(told(&error).contains(expected), "{note:?}: {}", told(&error)),
        Ok(_) => panic!("{note:?} was read, not refused with {expected}"),
    }
}

#[test]
fn notes_have_one_spelling() {
    check_note(|note| note.replace('\n', "\r\n"), "carriage returns");
    check_note(|note| format!("\u{feff}{note}"), "byte order mark");
    check_note(|note| note.replace("example", "exa\tmple"), "control characters");
    check_note(|note| note.replace("example", "exa\0mple"), "control characters");
    check_note(|note| note.trim_end().to_owned(), "does not end with a line end");
    check_note(|note| note.replace("\n\n", "\n"), "no empty line");
    check_note(|note| note[..note.find('—').expect("a dash")].to_owned(), "no empty line");
    check_note(|note| note + "\n", "no empty line");
    check_note(|note| note + "junk\n", "signature line 2");
    check_note(|note| note + "— example.com/audit\n", "signature line 2");
    check_note(|note| note + "— example.com/audit AAAA\n", "signature line 2");
    check_note(|note| note + "— a+b AAAAAAAAAAA=\n", "signature line 2");
    check_note(|note| note + "-- example.com/audit AAAAAAAAAAA=\n", "signature line 2");
    check_note(|note| note.trim_end().to_owned() + " \n", "signature line 1");
    check_note(|note| note.clone() + note.lines().last().expect("a line") + "\n", "signed twice");
    let padded = |note: String| note.replacen("=\n\n", "\n\n", 1);
    check_note(padded, "root is malformed: a hash is not base64");
    let many = |note: String| {
        (0..=NOTE_SIGNATURES_MAX).fold(note, |note, at| note + &format!("— w{at} AAAAAAAAAAA=\n"))
    };
    check_note(many, "more than 64 signatures");
    check_note(|note| "x".repeat(NOTE_BYTES_MAX) + &note, "more than 262144");
    assert_eq!(Note::parse(b"\xff\n\n"), Err(NoteError::NotUtf8));
    assert_eq!(Note::new("a".to_owned()), Err(NoteError::Unfinished));
}

#[test]
fn checkpoints_have_one_spelling() {
    for (size, expected) in [
        ("", "a number is missing"),
        ("07", "leading zeros"),
        ("00", "leading zeros"),
        ("+7", "something else than digits"),
        ("-7", "something else than digits"),
        (" 7", "something else than digits"),
        ("7 ", "something else than digits"),
        ("7.0", "something else than digits"),
        ("0x7", "something else than digits"),
        ("７", "something else than digits"),
        ("9007199254740992", "larger than"),
        ("18446744073709551615", "larger than"),
        ("18446744073709551616", "larger than"),
        ("0", "size 0 with a root"),
    ] {
        check_note(|note| note.replace("\n7\n", &format!("\n{size}\n")), expected);
    }
    check_note(|note| note.replace("\n7\n", "\n"), "fewer than three lines");
    check_note(|note| note.replace("\n\n", "\nextension\n\n"), "lines behind its root");
    check_note(|note| note.replacen("\n\n", "\n\n\n", 1), "lines behind its root");
    check_note(|note| note.replacen("example.com", "exa mple.com", 1), "origin is malformed");
    check_note(|note| format!("\n{note}"), "lines behind its root");
    let short = |note: String| note.replace(&checkpoint().root.to_base64(), "AAAA");
    check_note(short, "root is malformed: a hash has 3 bytes");
    let empty = Checkpoint { size: 0, root: NodeHash::EMPTY, ..checkpoint() };
    assert_eq!(Checkpoint::parse(&empty.to_string()), Ok(empty));
    let largest = Checkpoint { size: TREE_SIZE_MAX, ..checkpoint() };
    assert_eq!(Checkpoint::parse(&largest.to_string()), Ok(largest));
}

#[test]
fn signatures_are_by_whom_they_say() {
    let (mine, text) = (own(), signed().to_string());
    let other = key("example.com/audit", KeyKind::Ed25519, 2);
    let witness = key("witness.example/w", KeyKind::Cosignature, 3);
    let parsed = SignedCheckpoint::parse(text.as_bytes()).expect("a checkpoint");
    let none = CheckpointError::Note(NoteError::NoKnownSignature);
    assert_eq!(parsed.verify([other.verifier()], &[]), Err(none.clone()));
    assert_eq!(parsed.verify([mine.verifier(), other.verifier()], &[]), Ok(vec![]));
    let strange = key("example.com/other", KeyKind::Ed25519, 1);
    let found = parsed.verify([strange.verifier()], &[]);
    assert!(matches!(found, Err(CheckpointError::OtherOrigin { .. })), "{found:?}");

    // Another text under the same signature.
    let forged = text.replace("\n7\n", "\n8\n");
    let forged = SignedCheckpoint::parse(forged.as_bytes()).expect("well formed");
    let bad = CheckpointError::Note(NoteError::BadSignature(name("example.com/audit")));
    assert_eq!(forged.verify([mine.verifier()], &[]), Err(bad));

    // A witness alone is not the tree; a wrong one condemns; a stranger does not.
    let mut seen = parsed.clone();
    seen.add(cosign(&witness, seen.note().text(), 1_700_000_000).expect("cosigned")).expect("room");
    let witnesses = [witness.verifier().clone()];
    let expected = vec![(&witnesses[0], 1_700_000_000)];
    assert_eq!(seen.verify([mine.verifier()], &witnesses), Ok(expected));
    let again = SignedCheckpoint::parse(seen.to_string().as_bytes()).expect("a checkpoint");
    assert_eq!(again, seen);
    assert_eq!(seen.verify([other.verifier()], &witnesses), Err(none));
    let mut wrong = parsed.clone();
    wrong.add(cosign(&witness, "another\n", 7).expect("cosigned")).expect("room");
    let bad = CheckpointError::Note(NoteError::BadSignature(name("witness.example/w")));
    assert_eq!(wrong.verify([mine.verifier()], &witnesses), Err(bad));
    assert_eq!(wrong.verify([mine.verifier()], &[]), Ok(vec![]));

    // Kinds do not mix.
    assert_eq!(cosign(&mine, "x\n", 0).err(), Some(KeyError::OtherKind));
    assert_eq!(parsed.note().sign(&witness).err(), Some(KeyError::OtherKind));
    let kind = CheckpointError::OtherKind(name("example.com/audit"));
    let cosigner = key("example.com/audit", KeyKind::Cosignature, 1);
    assert_eq!(parsed.verify([cosigner.verifier()], &[]), Err(kind));
    let before_1970 = [&u64::MAX.to_be_bytes()[..], &[0; 64]].concat();
    assert_eq!(Cosignature::parse(&before_1970), None);
}

#[test]
fn keys_have_one_spelling_and_are_not_shown() {
    let mine = own();
    let public = mine.verifier().to_string();
    assert_eq!(VerifierKey::parse(&public).as_ref(), Ok(mine.verifier()));
    let secret = mine.to_secret();
    let again = SigningKey::parse(&secret).expect("the key");
    assert_eq!(again.verifier(), mine.verifier());
    assert!(!format!("{again:?} {secret:?}").contains("PRIVATE"));
    let hidden = secret.expose().splitn(5, '+').last().expect("a part").to_owned();
    assert!(!format!("{again:?}").contains(&hidden));

    let seed = Secret::new("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    let of = |name: &KeyName, text: &Secret| SigningKey::parse_for(name, KeyKind::Ed25519, text);
    assert!(of(&name("example.com/audit"), &seed).is_ok());
    assert_eq!(of(&name("example.com/other"), &secret).err(), Some(KeyError::OtherName));
    let short = Secret::new("AAECAw==");
    assert_eq!(of(&name("a"), &short).err(), Some(KeyError::Length(4)));
    assert_eq!(of(&name("a"), &Secret::new("!")).err(), Some(KeyError::NotBase64));

    let id = format!("{:08x}", mine.verifier().id());
    for (changed, error) in [
        (public.replace(&id, "00000000"), KeyError::OtherId),
        (
            public.replace(&id, &id.to_uppercase().replace(|c: char| c.is_ascii_digit(), "A")),
            KeyError::Id,
        ),
        (public.replace(&id, &id[1..]), KeyError::Id),
        (public.replace("audit+", "audit+ "), KeyError::Id),
        (public.replace('+', "-"), KeyError::Shape),
        (public.replace("example", "exa mple"), KeyError::Name),
        (public.replace("example.com/audit", ""), KeyError::Name),
        (format!("{public}="), KeyError::NotBase64),
        (format!("a+00000000+{}", "AgAA"), KeyError::UnknownKind(2)),
        (format!("a+00000000+{}", "AQAA"), KeyError::Length(2)),
        (format!("a+00000000+{}", ""), KeyError::Length(0)),
        // The neutral element signs for everybody.
        ("a+00000000+AQEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned(), KeyError::Weak),
    ] {
        assert_eq!(VerifierKey::parse(&changed).err(), Some(error), "{changed}");
    }
}

#[test]
fn receipts_have_one_spelling() {
    let mut tree = Whole::of(7);
    let proof = inclusion_proof(&mut tree, 3, 7).expect("a proof");
    let whole = Receipt { extra: Some(b"{}".to_vec()), index: 3, proof, checkpoint: signed() };
    let text = whole.to_string();
    assert_eq!(Receipt::parse(text.as_bytes()).as_ref(), Ok(&whole));
    let mine = own();
    assert_eq!(whole.verify(tree.0[3], [mine.verifier()], &[]), Ok(vec![]));
    assert!(whole.verify(tree.0[4], [mine.verifier()], &[]).is_err());
    for (from, to, expected) in [
        ("@v1", "@v2", "does not begin"),
        ("extra e30=", "extra e30", "extra data is not base64"),
        ("index 3", "index 03", "leading zeros"),
        ("index 3", "index 9007199254740993", "larger than"),
        ("index 3\n", "", "no line with an index"),
        ("index 3", "index  3", "something else than digits"),
        ("\n\nexample", "\nexample", "malformed hash"),
        ("\nindex 3", "\nindex 3\nAAAA", "malformed hash"),
        ("\n\nexample", "\n\n\nexample", "lines behind its root"),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        let error = Receipt::parse(changed.as_bytes()).expect_err(from);
        assert!(told(&error).contains(expected), "{from}: {}", told(&error));
    }
    let line = whole.proof[0].to_base64() + "\n";
    for (changed, error) in [
        (text.replacen(&line, "", 1), ProofError::Missing),
        (text.replacen(&line, &line.repeat(2), 1), ProofError::Extra),
        (text.replacen("index 3", "index 2", 1), ProofError::Root),
        (text.replacen("index 3", "index 7", 1), ProofError::Index { index: 7, size: 7 }),
    ] {
        let receipt = Receipt::parse(changed.as_bytes()).expect("well formed");
        let found = receipt.verify(tree.0[3], [mine.verifier()], &[]);
        assert_eq!(found, Err(ReceiptError::Proof(error)));
    }
    let long = text.replacen(&line, &line.repeat(54), 1);
    assert_eq!(Receipt::parse(long.as_bytes()), Err(ReceiptError::TooManyHashes));
    for cut in 0..text.len() {
        if let Some(cut) = text.get(..cut) {
            assert!(Receipt::parse(cut.as_bytes()).is_err(), "{cut:?}");
        }
    }
}

#[test]
fn paths_have_one_spelling() {
    for (path, error) in [
        ("tiles/0/000", PathError::NotATile),
        ("/tile/0/000", PathError::NotATile),
        ("tile/0", PathError::Index),
        ("tile/7/000", PathError::Level),
        ("tile/00/000", PathError::Level),
        ("tile/-1/000", PathError::Level),
        ("tile/data/000", PathError::Level),
        ("tile/0/0", PathError::Index),
        ("tile/0/0000", PathError::Index),
        ("tile/0/x001", PathError::Index),
        ("tile/0/001/002", PathError::Index),
        ("tile/0/x000/002", PathError::Index),
        ("tile/0/../000", PathError::Index),
        ("tile/0/000/", PathError::Index),
        ("tile/0/000.p", PathError::Index),
        ("tile/0/000.p/0", PathError::Width),
        ("tile/0/000.p/256", PathError::Width),
        ("tile/0/000.p/01", PathError::Width),
        ("tile/0/000.p/1/", PathError::Width),
        ("tile/6/x001/000", PathError::IndexTooLarge),
        ("tile/0/x999/x999/x999/x999/x999/x999/x999/x999/999", PathError::IndexTooLarge),
    ] {
        assert_eq!(TilePath::parse(path), Err(error), "{path}");
    }
    let path = TilePath::parse("tile/entries/x001/x234/067.p/8").expect("a path");
    assert_eq!((path.index(), path.width(), path.is_partial()), (1_234_067, 8, true));
    assert_eq!(path.whole().to_string(), "tile/entries/x001/x234/067");
    assert_eq!(tiles_of(0).count(), 0);
    let of_256: Vec<String> = tiles_of(256).map(|path| path.to_string()).collect();
    assert_eq!(of_256, ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]);
    // Huge sizes cost nothing until they are walked.
    assert_eq!(tiles_of(TREE_SIZE_MAX).take(3).count(), 3);
}

#[test]
fn tiles_have_exact_lengths() {
    for (bytes, width) in [(0, 1), (31, 1), (33, 1), (64, 1), (32, 2)] {
        let error = TileError { width, found: bytes };
        assert_eq!(parse_tile(&vec![0; bytes], width), Err(error));
    }
    assert_eq!(push_to_bundle(&mut Vec::new(), &[0; 16_385]), Err(BundleError::TooLarge(16_385)));
    assert_eq!(parse_bundle(&[0xff, 0xff], 1), Err(BundleError::TooLarge(65_535)));
    assert_eq!(parse_bundle(&[0], 1), Err(BundleError::Truncated(0)));
}

#[test]
fn proofs_of_impossible_trees_are_refused() {
    let mut tree = Whole::of(5);
    let root = tree.root_at(5);
    let outside = ProofError::Index { index: 5, size: 5 };
    assert_eq!(inclusion_proof(&mut tree, 5, 5), Err(Failed(outside)));
    assert_eq!(verify_inclusion(root, 5, 5, &[], root), Err(outside));
    let index = ProofError::Index { index: 0, size: 0 };
    assert_eq!(verify_inclusion(root, 0, 0, &[], NodeHash::EMPTY), Err(index));
    let sizes = ProofError::Sizes { old: 6, new: 5 };
    assert_eq!(consistency_proof(&mut tree, 6, 5), Err(Failed(sizes)));
    assert_eq!(verify_consistency((6, root), (5, root), &[]), Err(sizes));
    assert_eq!(verify_consistency((0, NodeHash::EMPTY), (5, root), &[]), Ok(()));
    let older = verify_consistency((0, root), (5, root), &[]);
    assert_eq!(older, Err(ProofError::OldRoot));
    assert_eq!(verify_consistency((5, root), (5, root), &[]), Ok(()));
    assert_eq!(verify_consistency((5, root), (5, root), &[root]), Err(ProofError::Extra));
    for size in [TREE_SIZE_MAX + 1, u64::MAX] {
        assert!(verify_inclusion(root, 0, size, &[], root).is_err());
        assert!(verify_consistency((5, root), (size, root), &[]).is_err());
        assert!(root_of(&mut TileHashes::new(&tree, size), size).is_err());
    }
    assert_eq!(Frontier::new(5, vec![root]), None);
    assert_eq!(Frontier::new(3, vec![root; 2]).map(|frontier| frontier.size()), Some(3));
}

#[test]
fn keyrings_follow_without_gaps() {
    let keys: Vec<_> = (1..4).map(|seed| key("a", KeyKind::Ed25519, seed)).collect();
    let public = |at: usize| keys[at].verifier().clone();
    let ring = Keyring::new(public(0)).rotate(public(1), 10).expect("follows");
    let ring = ring.rotate(public(2), 12).expect("follows");
    assert_eq!(Keyring::parse(&ring.to_string()), Ok(ring.clone()));
    assert_eq!(ring.current(), keys[2].verifier());
    let at = |size| ring.at(size).cloned().collect::<Vec<_>>();
    assert_eq!(at(0), [public(0)]);
    assert_eq!(at(10), [public(0), public(1)]);
    assert_eq!(at(11), [public(1)]);
    assert_eq!(at(99), [public(2)]);
    assert_eq!(ring.rotate(public(0), 20), Err(KeyringError::Duplicate));
    assert_eq!(Keyring::new(public(0)).rotate(public(1), 0), Err(KeyringError::Order));
    let other = key("b", KeyKind::Ed25519, 9).verifier().clone();
    assert_eq!(ring.rotate(other, 20), Err(KeyringError::OtherName));
    let text = ring.to_string();
    for (changed, expected) in [
        (text.replace("v1", "v2"), "does not begin"),
        (text.replace("10 12", "11 12"), "without gaps"),
        (text.replace("12 -", "12 13"), "without gaps"),
        (text.replace("0 10", "1 10"), "without gaps"),
        (text.replace("0 10", "0 010"), "line 2 of the keyring has a malformed size"),
        (text.replace(" - ", " "), "line 4"),
        (text.trim_end().to_owned(), "without gaps"),
        (text.replace('\n', "\r\n"), "does not begin"),
        (text.lines().next().expect("a line").to_owned() + "\n", "no key"),
    ] {
        let error = Keyring::parse(&changed);
        // Cutting the last line end leaves a whole last line: refused as well.
        let error = error.expect_err(&changed);
        let told = told(&error);
        assert!(told.contains(expected) || changed == text.trim_end(), "{changed}: {told}");
    }
}
