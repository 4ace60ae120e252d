#![no_main]
//! The JSON and form scanners: any bytes, cut anywhere, give the same facts.

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    fuzz::check_answer("application/json", 200, input);
    fuzz::check_answer("text/plain", 500, input);
    fuzz::check_request("application/json", input);
    fuzz::check_request("multipart/form-data; boundary=b0", input);
});
