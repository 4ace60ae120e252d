//! A tree of 300 leaves that others made.

use super::*;

const VKEY: &str = include_str!("../vectors/vkey");
const CHECKPOINT: &[u8] = include_bytes!("../vectors/checkpoint");
const CHECKPOINT_OLD: &[u8] = include_bytes!("../vectors/checkpoint.old");
const CONSISTENCY_OLD: &str = include_str!("../vectors/consistency.old");
const RECEIPT: &[u8] = include_bytes!("../vectors/example.tlog-proof");
const LEAF: &[u8] = include_bytes!("../vectors/example.leaf.json");
const LEAF_0: &[u8] = include_bytes!("../vectors/leaf0.json");
const BUNDLE_0: &[u8] = include_bytes!("../vectors/tile/entries/000");
const BUNDLE_1: &[u8] = include_bytes!("../vectors/tile/entries/001.p/44");
const TILE_0: &[u8] = include_bytes!("../vectors/tile/0/000");
const TILE_1: &[u8] = include_bytes!("../vectors/tile/0/001.p/44");
const TILE_UP: &[u8] = include_bytes!("../vectors/tile/1/000.p/1");

fn vkey() -> VerifierKey {
    VerifierKey::parse(VKEY.trim_end()).expect("the key")
}

#[test]
fn notes_and_keys_of_others_are_read_and_written_the_same() {
    let key = vkey();
    assert_eq!(key.to_string(), VKEY.trim_end());
    for (bytes, size) in [(CHECKPOINT, 300), (CHECKPOINT_OLD, 100)] {
        let signed = SignedCheckpoint::parse(bytes).expect("a checkpoint");
        assert_eq!(signed.to_string().as_bytes(), bytes);
        assert_eq!(signed.size(), size);
        assert_eq!(signed.verify([&key], &[]), Ok(vec![]));
    }
    let receipt = Receipt::parse(RECEIPT).expect("a receipt");
    assert_eq!(receipt.to_string().as_bytes(), RECEIPT);
    assert_eq!(receipt.index, 257);
    assert_eq!(receipt.verify(NodeHash::of_leaf(LEAF), [&key], &[]), Ok(vec![]));
    let other = receipt.verify(NodeHash::of_leaf(LEAF_0), [&key], &[]);
    assert_eq!(other, Err(ReceiptError::Proof(ProofError::Root)));
}

#[test]
fn tiles_of_others_are_read_and_written_the_same() {
    let mut frontier = Frontier::default();
    let mut roots = Vec::new();
    let (mut tiles, mut bundles) = (Vec::new(), Vec::new());
    for (bundle, tile, width) in [(BUNDLE_0, TILE_0, 256), (BUNDLE_1, TILE_1, 44)] {
        let hashes = parse_tile(tile, width).expect("a tile");
        assert_eq!(write_tile(&hashes), tile);
        let mut again = Vec::new();
        for (entry, hash) in parse_bundle(bundle, width).expect("a bundle").iter().zip(&hashes) {
            assert_eq!(NodeHash::of_leaf(entry), *hash);
            push_to_bundle(&mut again, entry).expect("it fits");
            frontier.append(*hash);
            roots.push(frontier.root().to_string());
        }
        assert_eq!(again, bundle);
        tiles.push(hashes);
        bundles.push(again);
    }
    assert_eq!(parse_bundle(BUNDLE_0, 256).expect("a bundle")[0], LEAF_0);
    assert!(NodeHash::of_leaf(LEAF_0).to_string().starts_with("25e48c20"));
    for (size, root) in [(2, "c451fb0f"), (3, "b08f4c55"), (256, "c0d9a833"), (300, "cf476ca9")] {
        assert!(roots[size - 1].starts_with(root), "root at {size}");
    }
    assert_eq!(parse_tile(TILE_UP, 1).expect("a tile"), [tile_root(&tiles[0])]);
}

#[test]
fn proofs_of_others_hold_and_ours_are_the_same() {
    let hashes = parse_tile(TILE_0, 256).expect("a tile");
    let rest = parse_tile(TILE_1, 44).expect("a tile");
    let mut tree = Whole([hashes, rest].concat());
    let proof: Vec<_> = CONSISTENCY_OLD.lines().map(hash).collect();
    let signed = |bytes| SignedCheckpoint::parse(bytes).expect("a checkpoint");
    let (old, new) = (signed(CHECKPOINT_OLD), signed(CHECKPOINT));
    let between = ((old.size(), old.root()), (new.size(), new.root()));
    assert_eq!(verify_consistency(between.0, between.1, &proof), Ok(()));
    assert_eq!(consistency_proof(&mut tree, 100, 300), Ok(proof));
    assert_eq!(root_of(&mut tree, 300), Ok(new.root()));
    let receipt = Receipt::parse(RECEIPT).expect("a receipt");
    assert_eq!(inclusion_proof(&mut tree, 257, 300), Ok(receipt.proof));
}

fn hash(text: &str) -> NodeHash {
    NodeHash::from_base64(text).expect("a hash")
}
