//! What every door promises: the answer that parsing each line would give.

mod inputs;
mod model;
mod values;

use std::{io::Write as _, ops::ControlFlow, path::PathBuf, sync::Arc};

use domain::query::Expr;

use super::{Hit, Input, Report, Search, Take, search_in, source::Sizes};
use crate::fs::{Fs, StdFs};

/// What a hit said: the line, whether it is context, whether a gap is before it.
type Shown = (String, bool, bool);

const SMALL: Sizes = Sizes { block_bytes: 64, line_bytes_max: 100_000 };

fn fs() -> Arc<dyn Fs> {
    Arc::new(StdFs)
}

/// Searches with small blocks.
fn find(inputs: Vec<Input<'_>>, search: &Search, sizes: Sizes) -> (Vec<Shown>, Report) {
    let mut shown = Vec::new();
    let mut visit = |hit: Hit<'_>| {
        shown.push((String::from_utf8_lossy(hit.line).into_owned(), hit.context, hit.gap));
        ControlFlow::Continue(())
    };
    let report = search_in(&fs(), inputs, search, &mut visit, sizes).expect("a report");
    (shown, report)
}

/// The ways in which the same bytes can come.
#[derive(Clone, Copy, Debug)]
enum Way {
    Plain,
    Gzip,
    Zstd,
    Stream,
    PackedStream,
}

const WAYS: [Way; 5] = [Way::Plain, Way::Gzip, Way::Zstd, Way::Stream, Way::PackedStream];

/// Two members, the second of which begins anywhere.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let (one, other) = bytes.split_at(bytes.len() / 3);
    let mut packed = Vec::new();
    for part in [one, other] {
        let mut encoder = flate2::write::GzEncoder::new(&mut packed, flate2::Compression::fast());
        encoder.write_all(part).expect("a vector takes every write");
        encoder.finish().expect("a vector takes every write");
    }
    packed
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let (one, other) = bytes.split_at(bytes.len() / 3);
    let pack = |part| zstd::stream::encode_all(part, 1).expect("a vector takes every write");
    [pack(one), pack(other)].concat()
}

/// An input of the bytes; a file is written into `dir`.
fn input(way: Way, bytes: &[u8], dir: &std::path::Path) -> Input<'static> {
    let file = |bytes: &[u8]| {
        let path = dir.join("lines");
        std::fs::write(&path, bytes).expect("a file");
        Input::File(path)
    };
    let stream =
        |bytes: Vec<u8>| Input::Stream(PathBuf::from("-"), Box::new(std::io::Cursor::new(bytes)));
    match way {
        Way::Plain => file(bytes),
        Way::Gzip => file(&gzip(bytes)),
        Way::Zstd => file(&zstd(bytes)),
        Way::Stream => stream(bytes.to_vec()),
        Way::PackedStream => stream(gzip(bytes)),
    }
}

fn text(text: &str) -> Expr {
    Expr::Text(text.to_owned())
}

fn last(count: usize, expr: Expr) -> Search {
    Search { take: Take::Last(count), ..Search::new(expr) }
}
