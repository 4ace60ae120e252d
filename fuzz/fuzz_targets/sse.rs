#![no_main]
//! The SSE scanner: any bytes, cut anywhere, give the same facts.

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    fuzz::check_answer("text/event-stream", 200, input);
});
