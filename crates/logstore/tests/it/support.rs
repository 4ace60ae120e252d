//! What every test of the journal needs.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use domain::{
    context::{SpanId, TraceId},
    ids::{CorrelationId, InstanceId, ProjectId, RecordId, RequestId, TokenId},
    provider::Operation,
    record::{Envelope, Opening, Outcome, Record},
    time::{Clock, Timestamp},
};
use logstore::{CommitObserver, Journal, JournalConfig, RecoveryReport, fs::Fs};
use uuid::Uuid;

pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "what these tests hand on as the clock")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap())
    }
}

pub(crate) fn instance() -> InstanceId {
    InstanceId::parse("test-1").unwrap()
}

pub(crate) fn envelope() -> Envelope {
    Envelope { instance: instance(), version: "0.0.0" }
}

pub(crate) fn config(dir: &Path) -> JournalConfig {
    JournalConfig {
        counters_interval: Duration::ZERO,
        check_interval: Duration::from_millis(5),
        reserve_bytes: 4096,
        ..JournalConfig::new(dir)
    }
}

pub(crate) fn open(config: JournalConfig, fs: Arc<dyn Fs>) -> (Journal, RecoveryReport) {
    open_observed(config, fs, Box::new(()))
}

pub(crate) fn open_observed(
    config: JournalConfig,
    fs: Arc<dyn Fs>,
    observer: Box<dyn CommitObserver>,
) -> (Journal, RecoveryReport) {
    Journal::open(config, envelope(), fs, Arc::new(SystemClock), observer).unwrap()
}

pub(crate) fn opening(number: u128) -> Opening {
    Opening {
        record_id: RecordId(Uuid::from_u128(number)),
        ts: Timestamp::from_micros(1_763_892_000_000_000),
        request_id: RequestId::parse(format!("req-{number}").as_bytes()).unwrap(),
        correlation_id: CorrelationId::parse(format!("cor-{number}").as_bytes()).unwrap(),
        trace_id: TraceId::parse(format!("{:032x}", number + 1).as_bytes()).unwrap(),
        span_id: SpanId::parse(b"00f067aa0ba902b7").unwrap(),
        parent_span_id: None,
        project_id: ProjectId(Uuid::from_u128(7)),
        project: "blue \"quoted\"".into(),
        token_id: TokenId(Uuid::from_u128(8)),
        labels: Some("{\"team\":\"a\\\"b\"}".into()),
        client_ip: Some([127, 0, 0, 1].into()),
        provider: "openai".into(),
        operation: Operation::Chat,
        method: "POST".into(),
        path: "/v1/chat/completions".into(),
        http_version: "1.1",
    }
}

pub(crate) fn record(number: u128) -> Box<Record> {
    let mut record =
        Record::interrupted(opening(number), Timestamp::from_micros(1_763_892_001_000_000));
    record.outcome = Outcome::Ok;
    record.status_code = Some(200);
    record.partial = false;
    record.error = None;
    record.model = Some("gpt-4o-mini".into());
    Box::new(record)
}

/// Waits for a condition; a test that never sees it fails.
#[expect(clippy::disallowed_methods, reason = "between two looks at the condition")]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Every committed line behind `after`, read as a follower does.
pub(crate) fn committed(fs: &Arc<dyn Fs>, dir: &Path, after: u64) -> Vec<String> {
    let cursor = logstore::cursor::Cursor { instance: instance(), seq: after };
    let mut follower = logstore::follow::Follower::new(Arc::clone(fs), dir, cursor);
    let mut lines = Vec::new();
    follower
        .poll(&mut |run| {
            let run = std::str::from_utf8(run).unwrap();
            assert!(run.ends_with('\n'));
            lines.extend(run.lines().map(str::to_owned));
            Ok(())
        })
        .unwrap();
    lines
}

/// Record ids and outcomes of committed records, in order.
pub(crate) fn records(fs: &Arc<dyn Fs>, dir: &Path) -> Vec<(u128, String)> {
    let lines = committed(fs, dir, 0);
    let parsed = lines.iter().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    parsed
        .filter(|line| line["stream"] == "record")
        .map(|line| {
            let id: Uuid = line["record_id"].as_str().unwrap().parse().unwrap();
            (id.as_u128(), line["outcome"].as_str().unwrap().to_owned())
        })
        .collect()
}
