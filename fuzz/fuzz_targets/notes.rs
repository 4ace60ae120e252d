#![no_main]
//! Notes, checkpoints, receipts, keys and keyrings: what is read is the only
//! text for what it says, and believing it without a signature is impossible.

use domain::{
    audit::tree::{
        Checkpoint, Cosignature, KeyKind, KeyName, Keyring, NodeHash, Note, Receipt,
        SignedCheckpoint, SigningKey, VerifierKey,
    },
    rng::Fixed,
    secret::Secret,
};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let name = KeyName::parse("example.com/audit").expect("a name");
    let stranger = SigningKey::generate(name, KeyKind::Ed25519, &Fixed(7)).expect("a key");
    if let Ok(note) = Note::parse(input) {
        assert_eq!(note.to_string().as_bytes(), input);
        assert!(note.verify([stranger.verifier()]).is_err());
        for signature in note.signatures() {
            drop(Cosignature::parse(&signature.bytes));
        }
    }
    if let Ok(signed) = SignedCheckpoint::parse(input) {
        assert_eq!(signed.to_string().as_bytes(), input);
        assert!(signed.verify([stranger.verifier()], &[]).is_err());
    }
    if let Ok(receipt) = Receipt::parse(input) {
        assert_eq!(receipt.to_string().as_bytes(), input);
        assert!(receipt.verify(NodeHash::EMPTY, [stranger.verifier()], &[]).is_err());
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(checkpoint) = Checkpoint::parse(text) {
        assert_eq!(checkpoint.to_string(), text);
    }
    if let Ok(key) = VerifierKey::parse(text) {
        assert_eq!(key.to_string(), text);
    }
    if let Ok(keyring) = Keyring::parse(text) {
        assert_eq!(keyring.to_string(), text);
        assert!((0..9).all(|size| keyring.at(size).count() > 0));
    }
    if let Ok(key) = SigningKey::parse(&Secret::new(text)) {
        assert_eq!(key.to_secret().expose(), text);
        assert!(!format!("{key:?}").contains(text));
    }
});
