//! Records out of nowhere at a fixed rate, into the journal of a server that
//! runs: what `cargo xtask bench search` measures searches and requests beside.
//! Not in the product.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use domain::{record::Envelope, time::Clock};
use generator::{lines, record::Records, timeline::Timeline};
use logstore::{Intake, NoRoom, Stream};

const SEED: u64 = 7;
/// Records are handed over in bursts so many times a second.
const BURSTS_A_SECOND: u32 = 200;

/// Begins; ends when the journal closes.
pub fn begin(
    intake: Intake,
    envelope: Envelope,
    clock: &Arc<dyn Clock>,
    per_second: u32,
) -> io::Result<()> {
    let records = Records::new(SEED, Timeline::even(clock.now(), per_second));
    let work = move || {
        let start = Instant::now();
        let burst = u64::from(per_second.div_ceil(BURSTS_A_SECOND));
        for number in 0.. {
            if number % burst == 0 {
                let due = Duration::from_secs_f64(number as f64 / f64::from(per_second));
                wait(due.saturating_sub(start.elapsed()));
            }
            if !hand_over(&intake, &envelope, &records, number) {
                return;
            }
        }
    };
    std::thread::Builder::new().name("ingest".to_owned()).spawn(work).map(drop)
}

/// False once the journal takes nothing any more.
fn hand_over(intake: &Intake, envelope: &Envelope, records: &Records, number: u64) -> bool {
    let record = records.get(number);
    let mut trace = Vec::new();
    if lines::trace(SEED, number, &record, envelope, &mut trace) {
        // Traces are dropped, and counted, where there is no room.
        intake.line(Stream::Trace, trace).unwrap_or_default();
    }
    loop {
        match intake.reserve() {
            Ok(()) => break,
            Err(NoRoom::Failed) => return false,
            Err(NoRoom::Full) => wait(Duration::from_millis(1)),
        }
    }
    intake.finish(Box::new(record), None);
    true
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own that keeps to a rate")]
fn wait(time: Duration) {
    if !time.is_zero() {
        std::thread::sleep(time);
    }
}
