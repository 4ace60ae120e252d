//! One circuit for each provider: after several failures in a row to reach it,
//! requests are refused at once, and a single probe at a time tries again.
//!
//! Counts failures to connect, of TLS and of a response head that never came;
//! never an answer, whatever its status.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use domain::time::Timestamp;

/// Failures in a row that open the circuit.
const FAILURES_MAX: u32 = 5;
/// How long an open circuit refuses before it lets one probe through.
const OPEN_US: i64 = 5_000_000;

#[derive(Debug, Default)]
pub struct Circuit {
    failures: AtomicU32,
    /// While open: the moment from which a probe may pass.
    probe_at_us: AtomicI64,
}

impl Circuit {
    /// Whether a request may pass. An open circuit grants one probe each time
    /// its waiting time is over; `Err` holds the microseconds until then.
    pub fn admit(&self, now: Timestamp) -> Result<(), i64> {
        if self.failures.load(Ordering::Relaxed) < FAILURES_MAX {
            return Ok(());
        }
        let now = now.as_micros();
        let probe_at = self.probe_at_us.load(Ordering::Relaxed);
        if now < probe_at {
            return Err(probe_at - now);
        }
        self.probe_at_us
            .compare_exchange(probe_at, now + OPEN_US, Ordering::Relaxed, Ordering::Relaxed)
            .map(|_| ())
            .map_err(|later| (later - now).max(1))
    }

    /// The provider answered.
    pub fn succeeded(&self) -> bool {
        if self.failures.load(Ordering::Relaxed) == 0 {
            return false;
        }
        self.failures.swap(0, Ordering::Relaxed) >= FAILURES_MAX
    }

    /// The provider could not be reached. True when this opened the circuit.
    pub fn failed(&self, now: Timestamp) -> bool {
        let before = self.failures.fetch_add(1, Ordering::Relaxed);
        if before + 1 >= FAILURES_MAX {
            self.probe_at_us.store(now.as_micros() + OPEN_US, Ordering::Relaxed);
        }
        before + 1 == FAILURES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_probes_and_closes() {
        let circuit = Circuit::default();
        let now = Timestamp::from_micros(1_000_000);
        for _ in 0..FAILURES_MAX - 1 {
            assert!(!circuit.failed(now));
            assert!(circuit.admit(now).is_ok());
        }
        assert!(circuit.failed(now));
        assert_eq!(circuit.admit(now), Err(OPEN_US));
        let later = now.plus_micros(OPEN_US);
        assert!(circuit.admit(later).is_ok(), "one probe");
        assert!(circuit.admit(later).is_err(), "and only one");
        assert!(circuit.succeeded());
        assert!(circuit.admit(later).is_ok());
    }
}
