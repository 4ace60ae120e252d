#![no_main]
//! Lines of any bytes become rows and the same lines again, of whatever columns.

use logstore::segment::{Dataset, Decoder, Renderer};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((choice, text)) = input.split_first() else { return };
    let dataset = Dataset::ALL[usize::from(*choice) % Dataset::ALL.len()];
    let mut decoder = Decoder::new(dataset, None);
    let mut some = Decoder::new(dataset, Some(&["ts", "status_code", "attrs"]));
    let mut kept = Vec::new();
    for (seq, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        let whole = decoder.push(line, seq).is_ok();
        assert_eq!(some.push(line, seq).is_ok(), whole);
        if whole {
            kept.push(line);
        }
    }
    assert_eq!(some.finish().num_rows(), kept.len());
    let batch = decoder.finish();
    let renderer = Renderer::new(&batch);
    for (row, line) in kept.iter().enumerate() {
        let mut out = Vec::new();
        renderer.render(row, &mut out);
        assert_eq!(out, *line);
    }
});
