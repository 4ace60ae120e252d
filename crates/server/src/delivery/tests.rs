//! Real pipes and real files.

use std::{io::Read as _, path::Path};

use parking_lot::{Condvar, Mutex};

use super::{target::Appended, target::Stream, *};

/// A journal in memory: lines, and how far they were taken.
#[derive(Clone, Default)]
struct Tape(Arc<(Mutex<Vec<u8>>, Condvar)>);

struct Player {
    tape: Tape,
    at: usize,
}

impl Tape {
    fn add(&self, lines: &[u8]) {
        self.0.0.lock().extend_from_slice(lines);
        self.0.1.notify_all();
    }

    fn player(&self) -> Box<dyn Lines> {
        Box::new(Player { tape: self.clone(), at: 0 })
    }
}

impl Lines for Player {
    fn poll(&mut self, deliver: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<bool> {
        let lines = self.tape.0.0.lock()[self.at..].to_vec();
        if lines.is_empty() {
            return Ok(false);
        }
        deliver(&lines)?;
        self.at += lines.len();
        Ok(true)
    }

    fn wait(&self, timeout: Duration) {
        let mut lines = self.tape.0.0.lock();
        if lines.len() == self.at {
            self.tape.0.1.wait_for(&mut lines, timeout);
        }
    }

    fn keep(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const ALL: Look = Look { style: None, records: true };
const PATIENCE: Duration = Duration::from_secs(20);

fn until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "waited for {what}");
        std::thread::yield_now();
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn a_blocked_pipe_delays_nobody_and_loses_nothing() {
    let (mut reader, writer) = io::pipe().expect("a pipe");
    let tape = Tape::default();
    let target = Stream::of(&writer).expect("a descriptor");
    drop(writer);
    let delivery = Delivery::begin(tape.player(), Box::new(target), ALL).expect("a thread");
    // Far more than a pipe holds, while nobody reads.
    let line = format!("{{\"msg\":\"{}\"}}\n", "x".repeat(1000));
    let expected = line.repeat(2000);
    tape.add(expected.as_bytes());
    let mut seen = vec![0; 1000];
    reader.read_exact(&mut seen).expect("the first bytes");
    let counts = delivery.counts();
    assert!(!delivery.stop(Duration::from_millis(50)), "the pipe is still blocked");
    reader.read_to_end(&mut seen).expect("the rest");
    assert_eq!(seen.len(), expected.len());
    assert!(seen == expected.as_bytes());
    until("the counts", || counts.lines.load(Ordering::Relaxed) == 2000);
}

#[test]
fn a_reader_that_has_gone_ends_delivery_quietly() {
    let (reader, writer) = io::pipe().expect("a pipe");
    let tape = Tape::default();
    let target = Stream::of(&writer).expect("a descriptor");
    let delivery = Delivery::begin(tape.player(), Box::new(target), ALL).expect("a thread");
    drop(reader);
    tape.add(b"{}\n");
    delivery.ended.recv_timeout(PATIENCE).expect("the thread ends by itself");
    assert_eq!(delivery.counts.failures.load(Ordering::Relaxed), 0);
}

#[test]
fn a_moved_file_is_opened_anew() {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, moved) = (directory.path().join("lines"), directory.path().join("lines.1"));
    let tape = Tape::default();
    let target = Appended::open(&path).expect("a file");
    let delivery = Delivery::begin(tape.player(), Box::new(target), ALL).expect("a thread");
    tape.add(b"{\"n\":1}\n");
    until("the first line", || read(&path) == "{\"n\":1}\n");
    std::fs::rename(&path, &moved).expect("moved");
    delivery.reopener()();
    // The signal is seen before the next piece at the latest after one wait.
    until("the signal", || !delivery.signals.reopen.load(Ordering::Relaxed));
    tape.add(b"{\"n\":2}\n");
    until("the second line", || read(&path) == "{\"n\":2}\n");
    std::fs::rename(&path, &moved).expect("moved");
    // Without a signal it is noticed by looking; lines until then go along.
    until("the third line", || {
        tape.add(b"{\"n\":3}\n");
        std::thread::park_timeout(Duration::from_millis(20));
        path.exists() && !read(&path).is_empty()
    });
    tape.add(b"{\"n\":4}\n");
    assert!(delivery.stop(PATIENCE));
    assert!(read(&path).ends_with("{\"n\":4}\n"));
}

#[test]
fn records_are_left_out_where_only_the_journal_wants_them() {
    let lines = concat!(
        "{\"schema\":1,\"stream\":\"record\",\"msg\":\"request completed\"}\n",
        "{\"ts\":\"2025-11-23T10:00:00.000001Z\",\"level\":\"info\",\"msg\":\"m\"}\n",
    );
    let look = Look { style: None, records: false };
    let mut out = Vec::new();
    let shown = rendered(lines.as_bytes(), &look, &mut out);
    assert_eq!(shown, lines.split_inclusive('\n').nth(1).expect("two lines").as_bytes());
}

#[test]
fn people_read_aligned_lines_that_cannot_steer_their_terminal() {
    let check = |line: &str, expected: &str| {
        let mut out = Vec::new();
        pretty::write(&mut out, line.as_bytes(), pretty::Style { colour: false });
        assert_eq!(String::from_utf8(out).expect("UTF-8"), format!("{expected}\n"));
    };
    check(
        r#"{"ts":"2025-11-23T10:00:00.000001Z","level":"warn","msg":"a\u001b[31m","component":"store","n":1,"stream":"trace"}"#,
        "10:00:00.000 WARN  store     a\\u{1b}[31m n=1",
    );
    check(
        r#"{"schema":1,"stream":"record","ts":"2025-11-23T10:00:00.000001Z","level":"info","component":"proxy","request_id":"r","method":"POST","path":"/v1/chat/completions","status_code":200,"outcome":"ok","duration_ms":12.3,"model":"gpt-4o","input_tokens":3,"output_tokens":4,"cost_usd":"0.001"}"#,
        "10:00:00.000 INFO  proxy     POST /v1/chat/completions 200 ok 12.3ms gpt-4o 3→4 tokens $0.001 request_id=r",
    );
    check("not json", "not json");
}
