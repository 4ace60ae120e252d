//! What a record costs: the caller's nanoseconds for reserve, open and finish,
//! and the writer thread's microseconds of CPU. Run with
//! `cargo bench -p logstore`.

use std::{io::Write, sync::Arc, time::Instant};

use domain::{
    context::{SpanId, TraceId},
    ids::{CorrelationId, InstanceId, ProjectId, RecordId, RequestId, TokenId},
    provider::Operation,
    record::{Envelope, Opening, Outcome, Record},
    time::{Clock, Timestamp},
};
use logstore::{Journal, JournalConfig, fs::StdFs};

const RECORDS: u64 = 200_000;
/// Handed over at once, as a few busy connections do.
const BURST: u64 = 64;

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_763_892_000_000_000)
    }
}

fn opening(number: u64) -> Option<Opening> {
    let id = RecordId::new(Still.now(), &domain::rng::Fixed(number.wrapping_mul(0x9e37_79b9)));
    Some(Opening {
        record_id: id,
        ts: Still.now(),
        request_id: RequestId::parse(b"0199c1f0-1111-7000-8000-000000000001")?,
        correlation_id: CorrelationId::parse(b"0199c1f0-1111-7000-8000-000000000001")?,
        trace_id: TraceId::parse(b"0af7651916cd43dd8448eb211c80319c")?,
        span_id: SpanId::parse(b"b7ad6b7169203331")?,
        parent_span_id: None,
        project_id: ProjectId(id.0),
        project: "bench".into(),
        token_id: TokenId(id.0),
        labels: None,
        client_ip: Some([127, 0, 0, 1].into()),
        provider: "openai".into(),
        operation: Operation::Chat,
        method: "POST".into(),
        path: "/v1/chat/completions".into(),
        http_version: "1.1",
    })
}

/// CPU microseconds of the journal's thread (the kernel counts in ticks of ten
/// milliseconds).
fn writer_cpu_micros() -> u64 {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return 0 };
    let stats =
        threads.flatten().filter_map(|t| std::fs::read_to_string(t.path().join("stat")).ok());
    let Some(stat) = stats.into_iter().find(|stat| stat.contains("(journal)")) else { return 0 };
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10_000
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("journal-bench-{}", std::process::id()));
    let instance = InstanceId::parse("bench").ok_or("an instance id")?;
    let envelope = Envelope { instance, version: "0.0.0" };
    let (journal, _) = Journal::open(
        JournalConfig::new(&dir),
        envelope,
        Arc::new(StdFs),
        Arc::new(Still),
        Box::new(()),
    )?;
    let intake = journal.intake();
    let mut nanos = 0u128;
    let mut number = 0;
    while number < RECORDS {
        let mut burst = Vec::new();
        for _ in 0..BURST {
            number += 1;
            let opening = opening(number).ok_or("an opening")?;
            let mut record = Record::interrupted(opening.clone(), Still.now());
            record.outcome = Outcome::Ok;
            burst.push((opening, Box::new(record)));
        }
        let handed = Instant::now();
        for (opening, record) in burst {
            intake.reserve()?;
            intake.open(opening);
            intake.finish(record, None);
        }
        nanos += handed.elapsed().as_nanos();
        // The cost of a hand-over is wanted, not that of a full queue.
        while intake.accounts().in_flight > 4 * BURST {
            std::thread::yield_now();
        }
    }
    while intake.accounts().in_flight > 0 {
        std::thread::yield_now();
    }
    let writer = writer_cpu_micros() as f64 / RECORDS as f64;
    let closed = journal.close();
    let mut out = std::io::stdout();
    writeln!(out, "records             {}", closed.accounts.stored)?;
    writeln!(out, "batches             {}", closed.accounts.batches)?;
    writeln!(out, "caller ns/record    {}", nanos / u128::from(RECORDS))?;
    writeln!(out, "writer µs/record    {writer:.2}")?;
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
