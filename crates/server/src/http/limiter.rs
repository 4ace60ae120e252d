//! Slows down whoever guesses management keys: a token bucket of failures for
//! each client network, in a bounded map.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use domain::time::Timestamp;
use parking_lot::Mutex;

/// Failures that a network may make at once.
const BURST: i64 = 30;
/// One more failure is allowed after this long.
const REFILL_US: i64 = 2_000_000;
/// Networks remembered; a full bucket needs no memory, so only current
/// offenders count.
const NETWORKS_MAX: usize = 16_384;

/// Failed logins by client network.
#[derive(Debug, Default)]
pub struct FailureLimiter {
    /// When the bucket of a network is full again.
    full_at: Mutex<HashMap<IpAddr, i64>>,
}

impl FailureLimiter {
    /// Whether an attempt from here may be looked at; `Err` says after how many
    /// seconds it may. Asked before the credential is, so that a guess during
    /// the wait learns nothing.
    pub fn admit(&self, client: IpAddr, now: Timestamp) -> Result<(), u32> {
        let Some(full_at) = self.full_at.lock().get(&network(client)).copied() else {
            return Ok(());
        };
        let over = full_at - now.as_micros() - (BURST - 1) * REFILL_US;
        if over <= 0 {
            return Ok(());
        }
        Err(u32::try_from(over.div_euclid(1_000_000) + 1).unwrap_or(u32::MAX))
    }

    /// Counts a failed attempt.
    pub fn failed(&self, client: IpAddr, now: Timestamp) {
        let now = now.as_micros();
        let mut full_at = self.full_at.lock();
        if full_at.len() >= NETWORKS_MAX {
            full_at.retain(|_, at| *at > now);
        }
        let mut key = network(client);
        if full_at.len() >= NETWORKS_MAX && !full_at.contains_key(&key) {
            // Sixteen thousand networks guess at once: the rest share a bucket.
            key = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        }
        let at = full_at.entry(key).or_insert(now);
        *at = (*at).max(now) + REFILL_US;
    }
}

/// The /24 or /64 that an address belongs to: what one party usually holds.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from(u32::from(v4) & 0xffff_ff00)),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

    #[test]
    fn a_network_waits_after_its_burst() {
        let limiter = FailureLimiter::default();
        let client: IpAddr = "192.0.2.7".parse().expect("an address");
        let neighbour: IpAddr = "192.0.2.99".parse().expect("an address");
        let other: IpAddr = "198.51.100.1".parse().expect("an address");
        for _ in 0..BURST {
            assert_eq!(limiter.admit(client, NOW), Ok(()));
            limiter.failed(client, NOW);
        }
        assert!(limiter.admit(client, NOW).is_err_and(|wait| (1..=3).contains(&wait)));
        assert!(limiter.admit(neighbour, NOW).is_err());
        assert_eq!(limiter.admit(other, NOW), Ok(()));
        assert_eq!(limiter.admit(client, NOW.plus_micros(2 * REFILL_US)), Ok(()));
    }

    #[test]
    fn memory_is_bounded() {
        let limiter = FailureLimiter::default();
        for host in 0..40_000u32 {
            limiter.failed(IpAddr::V4(Ipv4Addr::from(host << 8)), NOW);
        }
        assert!(limiter.full_at.lock().len() <= NETWORKS_MAX + 1);
        limiter
            .failed("10.1.1.1".parse().expect("an address"), NOW.plus_micros(REFILL_US * 30_000));
        assert!(limiter.full_at.lock().len() <= 2);
    }
}
