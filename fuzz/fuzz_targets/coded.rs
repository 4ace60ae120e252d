#![no_main]
//! Decoders of observed copies: any bytes are survived in bounded memory.

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    for coding in ["gzip", "deflate", "br", "zstd", "gzip, br"] {
        fuzz::check_coded(coding, input);
    }
});
