#![no_main]
//! Rules: what is decided about a body must be what a strict parser reads.

use dataplane::observe::inspect_whole;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Ok(inspected) = inspect_whole(input, Some("application/json"), None) {
        assert!(!inspected.model.is_empty());
        assert!(std::str::from_utf8(input).is_ok());
        assert_eq!(inspected.param("model").and_then(|model| model.as_str()), Some(&*inspected.model));
    }
    drop(inspect_whole(input, Some("multipart/form-data; boundary=b0"), None));
    if let Ok(text) = std::str::from_utf8(input) {
        drop(inspect_whole(b"{}", Some(text), Some(text)));
    }
});
