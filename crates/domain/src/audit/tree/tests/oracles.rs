//! What others say of what we write, and we of what they write.

use proptest::prelude::*;
use signed_note::Verifier as _;
use tlog_tiles::{Hash, tlog};

use super::*;

/// The nodes of our tree in the order of the other's storage.
struct Stored<'a>(&'a Whole);

impl tlog_tiles::HashReader for Stored<'_> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog::Error> {
        let node = |index: &u64| {
            let (level, at) = tlog::split_stored_hash_index(*index);
            let from = (at << level) as usize;
            Hash(Whole::root(&self.0.0[from..from + (1 << level)]).0)
        };
        Ok(indexes.iter().map(node).collect())
    }
}

fn theirs(hashes: &[NodeHash]) -> Vec<Hash> {
    hashes.iter().map(|hash| Hash(hash.0)).collect()
}

fn ours(hashes: &[Hash]) -> Vec<NodeHash> {
    hashes.iter().map(|hash| NodeHash(hash.0)).collect()
}

fn frontier_of(tree: &Whole, size: u64) -> Frontier {
    let mut frontier = Frontier::default();
    tree.0[..size as usize].iter().for_each(|leaf| frontier.append(*leaf));
    frontier
}

#[test]
fn every_small_tree_is_theirs_too() {
    let mut tree = Whole::of(40);
    for new in 0..=40 {
        let root = tree.root_at(new);
        assert_eq!(frontier_of(&tree, new).root(), root);
        assert_eq!(root_of(&mut tree, new), Ok(root));
        for index in 0..new {
            let proof = inclusion_proof(&mut tree, index, new).expect("a proof");
            let leaf = tree.0[index as usize];
            assert_eq!(verify_inclusion(leaf, index, new, &proof, root), Ok(()));
            let stored = tlog::prove_record(new, index, &Stored(&tree)).expect("their proof");
            assert_eq!(proof, ours(&stored), "{index} of {new}");
        }
        for old in 1..=new {
            let proof = consistency_proof(&mut tree, old, new).expect("a proof");
            let was = tree.root_at(old);
            assert_eq!(verify_consistency((old, was), (new, root), &proof), Ok(()));
            let stored = tlog::prove_tree(new, old, &Stored(&tree)).expect("their proof");
            assert_eq!(proof, ours(&stored), "{old} to {new}");
        }
    }
}

/// They name the height, which C2SP fixes at eight.
fn their_path(tile: &tlog_tiles::Tile) -> String {
    tile.path().replacen("tile/8/", "tile/", 1).replacen("/data/", "/entries/", 1)
}

#[test]
fn paths_are_theirs() {
    let size = 70_000;
    let mut expected: Vec<String> =
        tlog_tiles::Tile::new_tiles(8, 0, size).iter().map(their_path).collect();
    let hashes = |path: &TilePath| path.kind() != TileKind::Entries;
    let mut found: Vec<String> =
        tiles_of(size).filter(hashes).map(|path| path.to_string()).collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    assert_eq!(found.len(), 273 + 4);
    let bundles = tiles_of(size).filter(|path| path.kind() == TileKind::Entries);
    assert_eq!(bundles.last().expect("bundles").to_string(), "tile/entries/273.p/112");
}

#[test]
fn their_note_verifies_ours_and_ours_theirs() {
    let mine = key("example.com/audit", KeyKind::Ed25519, 1);
    let verifier = signed_note::StandardVerifier::new(&mine.verifier().to_string());
    let verifier = verifier.expect("our vkey is theirs");
    assert_eq!(verifier.key_id(), mine.verifier().id());
    let secret = mine.to_secret();
    let signer = signed_note::StandardSigner::new(secret.expose()).expect("our skey is theirs");

    let tree = Whole::of(1000);
    let root = tree.root_at(1000);
    let checkpoint = Checkpoint { origin: name("example.com/audit"), size: 1000, root };
    let signed = SignedCheckpoint::sign(checkpoint, &[&mine]).expect("signed");
    let note = signed_note::Note::from_bytes(signed.to_string().as_bytes()).expect("their note");
    let list = signed_note::VerifierList::new(vec![Box::new(verifier)]);
    assert_eq!(note.verify(&list).expect("verified").0.len(), 1);
    let read = tlog_tiles::Checkpoint::from_bytes(note.text()).expect("their checkpoint");
    assert_eq!((read.origin(), read.size(), read.hash().0), ("example.com/audit", 1000, root.0));

    let mut again = signed_note::Note::new(note.text(), &[]).expect("a note");
    again.add_sigs(&[&signer]).expect("signed");
    assert_eq!(again.to_bytes(), signed.to_string().as_bytes());
}

proptest! {
    // Each case builds a tree by definition, which is slow.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn proofs_from_tiles_hold_and_theirs_agree(new in 1u64..1200, a: u64, b: u64) {
        let tree = Whole::of(new);
        let (index, old) = (a % new, b % new + 1);
        let mut tiles = TileHashes::new(&tree, new);
        let root = root_of(&mut tiles, new).expect("a root");
        prop_assert_eq!(root, tree.root_at(new));
        let inclusion = inclusion_proof(&mut tiles, index, new).expect("a proof");
        let leaf = tree.0[index as usize];
        let their_root = Hash(root.0);
        let checked = tlog::check_record(
            &theirs(&inclusion), new, their_root, index, Hash(leaf.0));
        prop_assert!(checked.is_ok());
        prop_assert_eq!(verify_inclusion(leaf, index, new, &inclusion, root), Ok(()));
        let consistency = consistency_proof(&mut tiles, old, new).expect("a proof");
        let was = root_of(&mut tiles, old).expect("a root");
        let checked = tlog::check_tree(
            &theirs(&consistency), new, their_root, old, Hash(was.0));
        prop_assert!(checked.is_ok());
        prop_assert_eq!(verify_consistency((old, was), (new, root), &consistency), Ok(()));
    }

    #[test]
    fn a_changed_proof_is_refused(
        new in 2u64..300, a: u64, b: u64, at: prop::sample::Index, change in 0..4u8,
    ) {
        let mut tree = Whole::of(new);
        let (index, old) = (a % new, b % (new - 1) + 1);
        let (root, was) = (tree.root_at(new), tree.root_at(old));
        let leaf = tree.0[index as usize];
        let damage = |proof: &mut Vec<NodeHash>| {
            let at = at.index(proof.len());
            match change {
                0 => drop(proof.remove(at)),
                1 => proof.insert(at, leaf),
                2 => proof[at].0[at % 32] ^= 1,
                _ if proof.len() > 1 => proof.reverse(),
                _ => proof.push(was),
            }
        };
        let mut proof = inclusion_proof(&mut tree, index, new).expect("a proof");
        damage(&mut proof);
        let verified = verify_inclusion(leaf, index, new, &proof, root);
        let expected = match change {
            0 => ProofError::Missing,
            1 => ProofError::Extra,
            2 => ProofError::Root,
            _ => verified.expect_err("refused"),
        };
        prop_assert_eq!(verified, Err(expected));
        let mut proof = consistency_proof(&mut tree, old, new).expect("a proof");
        if !proof.is_empty() {
            damage(&mut proof);
            let verified = verify_consistency((old, was), (new, root), &proof);
            match change {
                0 => prop_assert_eq!(verified, Err(ProofError::Missing)),
                1 => prop_assert_eq!(verified, Err(ProofError::Extra)),
                _ => prop_assert!(verified.is_err()),
            }
        }
    }

    #[test]
    fn paths_read_back(level in 0..=LEVEL_MAX, index: u64, width in 1..=TILE_WIDTH, entries: bool) {
        let kind = if entries { TileKind::Entries } else { TileKind::Hashes { level } };
        let level = if entries { 0 } else { level };
        let index = index % ((TREE_SIZE_MAX >> (8 * (u32::from(level) + 1))) + 1);
        let path = TilePath::new(kind, index, width).expect("legal");
        let text = path.to_string();
        prop_assert_eq!(TilePath::parse(&text), Ok(path));
        let tile = tlog_tiles::Tile::new(8, level, index, width as u32, entries);
        prop_assert_eq!(text, their_path(&tile));
    }

    #[test]
    fn bundles_read_back(
        entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..40),
    ) {
        let mut bundle = Vec::new();
        for entry in &entries {
            push_to_bundle(&mut bundle, entry).expect("it fits");
        }
        let width = entries.len() as u64;
        prop_assert_eq!(parse_bundle(&bundle, width).expect("a bundle"), entries);
        for cut in 0..bundle.len() {
            prop_assert!(parse_bundle(&bundle[..cut], width).is_err());
        }
        prop_assert!(matches!(parse_bundle(&bundle, width - 1), Err(BundleError::Trailing(_))));
        let missing = BundleError::Missing { width: width + 1, found: width };
        prop_assert_eq!(parse_bundle(&bundle, width + 1), Err(missing));
    }
}
