//! What it costs to verify a chain of real entries: seconds and peak memory.
//! Run with `cargo bench -p tlog --bench verify`.

use std::{io::Write, sync::Arc, time::Instant};

use domain::{
    audit::{
        Action, Actor, Detail, EntryContext, EntryDraft, Origin, Word, tree::KeyName,
        verify::Verdict,
    },
    ids::InstanceId,
    rng::{Fixed, Rng},
    time::Timestamp,
};
use tlog::{
    Config, KeySource, Writer,
    fs::StdFs,
    verify::{Ask, Directory, verify},
};

const LEAVES: u64 = 1_000_000;
const BATCH: u64 = 4096;
const ORIGIN: &str = "example.com/audit";

struct Mixed(std::sync::atomic::AtomicU64);

impl Rng for Mixed {
    fn next_u64(&self) -> u64 {
        let next = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, std::sync::atomic::Ordering::Relaxed);
        (next ^ (next >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    fn fill_secure(&self, buffer: &mut [u8]) {
        buffer.chunks_mut(8).for_each(|chunk| {
            let bytes = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        });
    }
}

fn leaf(index: u64, rng: &Mixed) -> String {
    let origin = Origin {
        log: Word::lossy(ORIGIN),
        producer: Word::lossy("i1/db"),
        instance: InstanceId::parse("i1").expect("valid"),
        boot: Word::lossy("01980000-0000-7000-8000-0000000000b0"),
    };
    let draft = EntryDraft::new(Action::ProjectList).detail(Detail::Rows(index)).note("on request");
    let at = Timestamp::from_micros(1_795_428_000_000_000 + index as i64);
    let context = EntryContext {
        method: Word::parse("GET"),
        route: Word::parse("/manage/projects"),
        ..EntryContext::default()
    };
    draft.status(200).seal(&Actor::root(), &context, &origin, index + 1, at, rng).expect("a leaf").text
}

fn main() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = Config {
        data_dir: dir.path().to_owned(),
        origin: KeyName::parse(ORIGIN).expect("a name"),
        key: KeySource::File,
    };
    let (mut writer, _) = Writer::open(config, Arc::new(StdFs), &Fixed(1)).expect("a tree");
    let rng = Mixed(7.into());
    while writer.size() < LEAVES {
        let from = writer.size();
        let batch: Vec<_> = (from..LEAVES.min(from + BATCH)).map(|at| leaf(at, &rng)).collect();
        writer.append(from, &batch).expect("added");
    }
    let keys = [writer.verifier().clone()];
    drop(writer);

    let started = Instant::now();
    let source = Directory::new(dir.path().join("tlog"));
    let ask = Ask { keys: &keys, ..Ask::default() };
    let (report, _) = verify(&source, &ask, &mut |_, _| {});
    let seconds = started.elapsed().as_secs_f64();
    assert_eq!((report.verdict(), report.entries), (Verdict::Verified, LEAVES));
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM unknown");
    let rate = LEAVES as f64 / seconds;
    writeln!(std::io::stdout(), "verified {LEAVES} in {seconds:.2} s, {rate:.0}/s; {peak}").ok();
}
