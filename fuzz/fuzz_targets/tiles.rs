#![no_main]
//! Tiles, bundles, their paths, and proofs: any bytes, one spelling, no panic.
//! The first byte is a width, the next two are sizes of trees.

use domain::audit::tree::{
    HASH_BYTES, NodeHash, TilePath, parse_bundle, parse_tile, push_to_bundle, verify_consistency,
    verify_inclusion, write_tile,
};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Ok(text) = std::str::from_utf8(input)
        && let Ok(path) = TilePath::parse(text)
    {
        assert_eq!(path.to_string(), text);
        assert_eq!(path.whole().index(), path.index());
    }
    let [width, old, new, rest @ ..] = input else { return };
    let (width, old, new) = (u64::from(*width), u64::from(*old), u64::from(*new));
    if let Ok(entries) = parse_bundle(rest, width) {
        let mut again = Vec::new();
        for entry in entries {
            push_to_bundle(&mut again, entry).expect("it was one");
        }
        assert_eq!(again, rest);
    }
    let whole = &rest[..rest.len() / HASH_BYTES * HASH_BYTES];
    let Ok(hashes) = parse_tile(whole, (whole.len() / HASH_BYTES) as u64) else {
        panic!("whole hashes are a tile");
    };
    assert_eq!(write_tile(&hashes), whole);
    let [leaf, root, proof @ ..] = &hashes[..] else { return };
    // The hashes are the fuzzer's: nothing but a tree of one proves anything.
    if verify_inclusion(*leaf, old, new, proof, *root).is_ok() {
        assert!(new == 1 && leaf == root && proof.is_empty());
    }
    if verify_consistency((old, *leaf), (new, *root), proof).is_ok() {
        let grew_from_nothing = old == 0 && *leaf == NodeHash::EMPTY;
        assert!(grew_from_nothing || (old == new && leaf == root));
    }
});
