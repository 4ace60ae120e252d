//! What a million leaves cost: adding them with every sync and every reading
//! back, hashing alone, and hashing a whole tree again as a verifier does. Run
//! with `cargo bench -p tlog`.

use std::{io::Write, sync::Arc, time::Instant};

use domain::{
    audit::tree::{Frontier, KeyName, NodeHash, TileKind, parse_bundle, tile_root},
    rng::Fixed,
};
use tlog::{Config, KeySource, Writer, fs::StdFs};

const LEAVES: u64 = 1_000_000;
const BATCH: u64 = 50_000;
/// About the length of an entry.
const LEAF_BYTES: usize = 600;

fn leaf(index: u64) -> Vec<u8> {
    let mut leaf = format!("{{\"index\":{index},\"text\":\"").into_bytes();
    leaf.resize(LEAF_BYTES, b'x');
    leaf
}

fn say(what: &str, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    let rate = LEAVES as f64 / seconds;
    writeln!(std::io::stdout(), "{what:<40} {seconds:>7.2} s {rate:>11.0} leaves/s").ok();
}

fn main() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = Config {
        data_dir: dir.path().to_owned(),
        origin: KeyName::parse("example.com/audit").expect("a name"),
        key: KeySource::File,
    };
    let (mut writer, _) = Writer::open(config, Arc::new(StdFs), &Fixed(1)).expect("a tree");

    let started = Instant::now();
    while writer.size() < LEAVES {
        let from = writer.size();
        let batch: Vec<_> = (from..LEAVES.min(from + BATCH)).map(leaf).collect();
        writer.append(from, &batch).expect("added");
    }
    say("add, sync, read back, sign", started);

    let mut frontier = Frontier::default();
    let started = Instant::now();
    (0..LEAVES).for_each(|index| frontier.append(NodeHash::of_leaf(&leaf(index))));
    say("make leaves, hash them and the tree", started);
    assert_eq!(frontier.root(), writer.root());

    let reader = writer.reader();
    let started = Instant::now();
    let mut tiles = Frontier::default();
    for path in (0..).map_while(|at| TileKind::Entries.tile(at, LEAVES)) {
        let bytes = reader.bytes(path).expect("readable").expect("a bundle");
        let leaves = parse_bundle(&bytes, path.width()).expect("a bundle");
        let hashes: Vec<_> = leaves.into_iter().map(NodeHash::of_leaf).collect();
        let tile = TileKind::Hashes { level: 0 }.tile(path.index(), LEAVES).expect("a tile");
        assert_eq!(reader.tile(tile).expect("readable"), hashes);
        if !path.is_partial() {
            tiles.append(tile_root(&hashes));
        }
    }
    say("read, hash leaves, compare tiles", started);
    assert_eq!(tiles.size(), LEAVES / 256);

    let (from, count) = (writer.size(), 200);
    let started = Instant::now();
    for index in from..from + count {
        writer.append(index, &[leaf(index)]).expect("added");
    }
    let each = started.elapsed().as_secs_f64() * 1000.0 / count as f64;
    writeln!(std::io::stdout(), "one leaf alone: {each:.1} ms").ok();
}
