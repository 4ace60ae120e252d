//! Lines as they are written, through the real macros.

use std::{
    sync::mpsc::{Receiver, sync_channel},
    time::Duration,
};

use dataplane::scope::{RequestScope, Verbosity as _};
use domain::{
    context::{RequestIds, TraceContext},
    ids::{ProjectId, RequestId, TokenId},
    rng::Fixed,
    time::{ManualClock, Timestamp},
};
use parking_lot::Mutex;

use super::*;

const NOW: Timestamp = Timestamp::from_micros(1_763_892_000_000_001);

/// Keeps lines; `room` is how many it still takes.
#[derive(Clone, Default)]
struct Kept {
    lines: Arc<Mutex<Vec<String>>>,
    room: Arc<AtomicU64>,
}

impl Sink for Kept {
    fn take(&self, line: Vec<u8>) -> Taken {
        tracing::error!("a sink that traces is not written to again");
        let room = self
            .room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(1));
        if room.is_err() {
            return Taken::Full;
        }
        self.lines.lock().push(String::from_utf8(line).expect("UTF-8"));
        Taken::Yes
    }
}

struct Bench {
    traces: Traces,
    levels: Arc<LevelControl>,
    kept: Kept,
    fallback: Receiver<Vec<u8>>,
}

/// Forwards what the fallback writes.
struct Wire(std::sync::mpsc::SyncSender<Vec<u8>>);

impl std::io::Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(std::io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn bench(level: TraceLevel) -> Bench {
    let (sender, fallback) = sync_channel(64);
    let levels = LevelControl::new(level);
    let clock = Arc::new(ManualClock::at(NOW));
    let writer = Fallback::begin(Wire(sender), None).expect("a thread");
    let traces = Traces::new(Arc::clone(&levels), clock, "1.2.3", writer);
    traces.identify(InstanceId::parse("i-1").expect("valid"));
    let kept = Kept { room: Arc::new(u64::MAX.into()), ..Kept::default() };
    traces.attach(Box::new(kept.clone()));
    Bench { traces, levels, kept, fallback }
}

impl Bench {
    fn lines(&self, act: impl FnOnce()) -> Vec<String> {
        tracing::subscriber::with_default(self.traces.clone(), act);
        std::mem::take(&mut self.kept.lines.lock())
    }
}

fn project() -> ProjectId {
    "00000000-0000-7000-8000-000000000001".parse().expect("a UUID")
}

fn token() -> TokenId {
    "00000000-0000-7000-8000-000000000002".parse().expect("a UUID")
}

fn scope() -> Arc<RequestScope> {
    let request_id = RequestId::parse(b"req-1").expect("valid");
    RequestScope::new(RequestIds {
        correlation_id: request_id.clone().into(),
        request_id,
        trace: TraceContext::from_traceparent(None, &Fixed(0xabc)),
    })
}

#[test]
fn a_line_has_its_envelope_and_flat_fields() {
    let lines = bench(TraceLevel::Info).lines(|| {
        tracing::info!(
            target: "dataplane::relay",
            ok = true, http.status = 200, ratio = 0.5, level = "x", "answered \"well\"\n"
        );
    });
    assert_eq!(
        lines,
        [concat!(
            r#"{"ts":"2025-11-23T10:00:00.000001Z","level":"info","msg":"answered \"well\"\n","#,
            r#""stream":"trace","component":"proxy","target":"dataplane::relay","#,
            r#""instance":"i-1","version":"1.2.3","ok":true,"http_status":200,"ratio":0.5,"#,
            r#""field_level":"x"}"#
        )]
    );
}

#[test]
fn the_ids_of_the_request_stand_on_every_line() {
    let lines = bench(TraceLevel::Info).lines(|| {
        let scope = scope();
        let _entered = dataplane::scope::enter(&scope);
        tracing::warn!(target: "hyper::proto", "before");
        scope.identify(project(), token(), 0);
        tracing::warn!(request_id = "other", "after");
    });
    assert!(lines[0].contains(concat!(
        r#""component":"hyper","target":"hyper::proto","instance":"i-1","version":"1.2.3","#,
        r#""request_id":"req-1","correlation_id":"req-1","#,
        r#""trace_id":"0000000000000abc0000000000000abc"}"#
    )));
    assert!(lines[1].contains(r#""project_id":"00000000-0000-7000-8000-000000000001""#));
    assert!(lines[1].contains(r#""token_id":"00000000-0000-7000-8000-000000000002""#));
    assert_eq!(lines[1].matches("request_id").count(), 1);
    assert!(lines.iter().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
}

#[test]
fn credentials_reach_no_line() {
    let lines = bench(TraceLevel::Trace).lines(|| {
        tracing::error!(
            authorization = "canary", api_key = ?"canary", db.password = "canary", token_id = "t",
            detail = "Bearer canary-canary-canary", "said sk-canary-canary-canary",
        );
        tracing::info!(headers = ?[("x", "canary")], "all of them");
        tracing::trace!(target: "h2::codec", frame = "canary", "a library's dump");
    });
    assert_eq!(lines.len(), 2);
    let text = lines.join("\n");
    assert!(!text.contains("canary"), "{text}");
    assert!(text.contains(r#""token_id":"t""#));
}

#[test]
fn levels_are_scoped_and_end_by_themselves() {
    let bench = bench(TraceLevel::Warn);
    let until = NOW.plus_micros(1_000_000);
    let set = |subject, level| {
        bench.levels.set(level::Override { subject, level, until }).expect("room");
    };
    let speak = || {
        tracing::info!("outside");
        let scope = scope();
        scope.identify(project(), token(), bench.levels.verbosity(project(), token()));
        let _entered = dataplane::scope::enter(&scope);
        tracing::info!("inside");
        tracing::debug!("deep inside");
    };
    let spoken = || {
        let lines = bench.lines(speak);
        ["outside", "inside", "deep inside"]
            .iter()
            .map(|said| lines.iter().any(|line| line.contains(&format!("\"msg\":\"{said}\""))))
            .collect::<Vec<_>>()
    };
    assert_eq!(spoken(), [false, false, false]);
    set(Subject::Project(project()), TraceLevel::Info);
    assert_eq!(spoken(), [false, true, false]);
    set(Subject::Token(token()), TraceLevel::Debug);
    assert_eq!(spoken(), [false, true, true]);
    assert_eq!(bench.levels.highest(), LevelFilter::DEBUG);
    set(Subject::Everything, TraceLevel::Info);
    assert_eq!(spoken(), [true, true, true]);
    assert_eq!(bench.levels.expire(NOW), 0);
    assert_eq!(bench.levels.overrides(NOW).len(), 3);
    assert_eq!(bench.levels.overrides(until).len(), 0);
    assert_eq!(bench.levels.expire(until), 3);
    assert_eq!(spoken(), [false, false, false]);
    assert_eq!(bench.levels.highest(), LevelFilter::WARN);
}

#[test]
fn dropped_lines_are_counted_and_said() {
    let bench = bench(TraceLevel::Info);
    bench.kept.room.store(1, Ordering::Relaxed);
    let lines = bench.lines(|| (0..4).for_each(|n| tracing::info!(n, "said")));
    assert_eq!((lines.len(), bench.traces.dropped()), (1, 3));
    bench.kept.room.store(9, Ordering::Relaxed);
    let lines = bench.lines(|| tracing::info!("again"));
    assert!(lines[0].contains("3 trace lines were dropped"), "{lines:?}");
    assert!(lines[1].contains("again"));
}

#[test]
fn lines_go_to_the_fallback_while_there_is_no_journal() {
    let bench = bench(TraceLevel::Info);
    bench.traces.detach();
    assert!(bench.lines(|| tracing::info!("starting")).is_empty());
    let line = bench.fallback.recv_timeout(Duration::from_secs(10)).expect("a line");
    assert!(line.ends_with(b"}\n"));
    assert!(bench.traces.flush(Duration::from_secs(10)));
}
