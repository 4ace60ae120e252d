#![no_main]
//! Manifests of any bytes are read or refused, with and without a checksum that
//! fits; what is read says the same again.

use logstore::catalog::Manifest;
use sha2::{Digest as _, Sha256};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    drop(Manifest::parse(input));
    // An object without its last brace, as it stands before the checksum.
    let sum: String = Sha256::digest(input).iter().map(|byte| format!("{byte:02x}")).collect();
    let whole = [input, b",\"sha256\":\"", sum.as_bytes(), b"\"}\n"].concat();
    if let Ok(manifest) = Manifest::parse(&whole) {
        let again = serde_json::to_vec(&manifest).expect("plain fields");
        let again: Manifest = serde_json::from_slice(&again).expect("what was read can be read");
        assert_eq!(again, manifest);
    }
});
