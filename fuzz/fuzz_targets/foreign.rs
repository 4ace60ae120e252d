#![no_main]
//! A query and lines of any bytes: what is found in all of them at once is what
//! is found in each alone, and packed inputs of any bytes are survived.

use std::{ops::ControlFlow, path::PathBuf, sync::Arc};

use domain::{query::parse_for_foreign, time::Timestamp};
use logstore::{
    foreign::{Input, Search, search},
    fs::{Fs, StdFs},
};

const NOW: Timestamp = Timestamp::from_micros(1_790_000_000_000_000);
/// More lines would only make each run slow.
const LINES_MAX: usize = 64;

fn found(question: &Search, bytes: &[u8]) -> Vec<Vec<u8>> {
    let fs: Arc<dyn Fs> = Arc::new(StdFs);
    let read = std::io::Cursor::new(bytes.to_vec());
    let input = Input::Stream(PathBuf::from("fuzz"), Box::new(read));
    let mut lines = Vec::new();
    let answer = search(&fs, vec![input], question, &mut |hit| {
        lines.push(hit.line.to_vec());
        ControlFlow::Continue(())
    });
    if let Ok(report) = &answer {
        assert_eq!(report.matched, lines.len() as u64);
        assert!(report.matched <= report.lines && report.not_json <= report.lines);
    }
    lines
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let end = memchr(input).unwrap_or(input.len());
    let (query, rest) = (&input[..end], input.get(end + 1..).unwrap_or_default());
    let Ok(expr) = parse_for_foreign(&String::from_utf8_lossy(query), NOW) else { return };
    let question = Search::new(expr);
    // Whatever it is packed in.
    found(&question, rest);
    // Behind a plain line it is not packed.
    let lines: Vec<&[u8]> = rest.split(|byte| *byte == b'\n').take(LINES_MAX).collect();
    let mut all = b"first\n".to_vec();
    all.extend(lines.join(&b'\n'));
    let mut each = found(&question, b"first\n");
    for line in lines {
        let mut alone = b"\n\n\n\n".to_vec();
        alone.extend(line);
        each.extend(found(&question, &alone));
    }
    assert_eq!(found(&question, &all), each);
});

fn memchr(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n')
}
