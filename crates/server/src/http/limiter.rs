//! Slows down whoever guesses management keys: a token bucket of failures for
//! each client network, in a bounded map.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use domain::{time::Timestamp, token::TokenHash};
use parking_lot::Mutex;

/// Failures that a network may make at once.
const BURST: i64 = 30;
/// One more failure is allowed after this long.
const REFILL_US: i64 = 2_000_000;
/// Buckets remembered; a full one needs no memory, so only current offenders
/// count.
const BUCKETS_MAX: usize = 16_384;

/// Failed logins, by client network and by what was presented.
///
/// A guesser presents something else each time and fills the bucket of its
/// network. A script that goes on with a key of yesterday presents the same
/// again and again: that fills a bucket of its own, so that it cannot keep
/// everybody behind its address out.
#[derive(Debug, Default)]
pub struct FailureLimiter {
    networks: Buckets<IpAddr>,
    repeated: Buckets<TokenHash>,
}

impl FailureLimiter {
    /// Whether an attempt from here may be looked at; `Err` says after how many
    /// seconds it may. Asked before the credential is, so that a guess during
    /// the wait learns nothing.
    pub fn admit(
        &self,
        client: IpAddr,
        presented: Option<&TokenHash>,
        now: Timestamp,
    ) -> Result<(), u32> {
        match presented.and_then(|presented| self.repeated.full_at(presented, now)) {
            Some(full_at) => wait(full_at, now),
            None => match self.networks.full_at(&network(client), now) {
                Some(full_at) => wait(full_at, now),
                None => Ok(()),
            },
        }
    }

    /// Counts a failed attempt; a credential that is too long to be one has no
    /// hash.
    pub fn failed(&self, client: IpAddr, presented: Option<&TokenHash>, now: Timestamp) {
        if presented.is_some_and(|presented| self.repeated.add_again(presented, now)) {
            return;
        }
        if let Some(presented) = presented {
            self.repeated.add(*presented, now);
        }
        // Sixteen thousand networks guess at once: the rest share a bucket.
        if !self.networks.add(network(client), now) {
            self.networks.add(IpAddr::V4(Ipv4Addr::UNSPECIFIED), now);
        }
    }
}

fn wait(full_at: i64, now: Timestamp) -> Result<(), u32> {
    let over = full_at - now.as_micros() - (BURST - 1) * REFILL_US;
    if over <= 0 {
        return Ok(());
    }
    Err(u32::try_from(over.div_euclid(1_000_000) + 1).unwrap_or(u32::MAX))
}

/// When the bucket of each is full again; a full one needs no memory.
#[derive(Debug)]
struct Buckets<K>(Mutex<HashMap<K, i64>>);

impl<K> Default for Buckets<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> Buckets<K> {
    fn full_at(&self, key: &K, now: Timestamp) -> Option<i64> {
        self.0.lock().get(key).copied().filter(|at| *at > now.as_micros())
    }

    /// Counts for a bucket that is there and not full; says whether it is.
    fn add_again(&self, key: &K, now: Timestamp) -> bool {
        let now = now.as_micros();
        let mut buckets = self.0.lock();
        let bucket = buckets.get_mut(key).filter(|at| **at > now);
        bucket.map(|at| *at += REFILL_US).is_some()
    }

    /// Counts; false where there is no room for another.
    fn add(&self, key: K, now: Timestamp) -> bool {
        let now = now.as_micros();
        let mut buckets = self.0.lock();
        if buckets.len() >= BUCKETS_MAX {
            buckets.retain(|_, at| *at > now);
        }
        // One more than the bound: the bucket that the rest share.
        if buckets.len() > BUCKETS_MAX && !buckets.contains_key(&key) {
            return false;
        }
        let at = buckets.entry(key).or_insert(now);
        *at = (*at).max(now) + REFILL_US;
        true
    }
}

/// Lines about failures that may be written at once.
const LINES_BURST: i64 = 20;
/// One more line is allowed after this long.
const LINES_REFILL_US: i64 = 200_000;

/// Bounds what a flood of failures can write: whoever has no key must not be
/// able to fill the disk.
#[derive(Debug, Default)]
pub struct LineLimiter(Mutex<(i64, u64)>);

impl LineLimiter {
    /// `Some` allows a line and says how many were left out before it.
    pub fn pass(&self, now: Timestamp) -> Option<u64> {
        let now = now.as_micros();
        let mut state = self.0.lock();
        let (full_at, left_out) = &mut *state;
        if *full_at - now > (LINES_BURST - 1) * LINES_REFILL_US {
            *left_out += 1;
            return None;
        }
        *full_at = (*full_at).max(now) + LINES_REFILL_US;
        Some(std::mem::take(left_out))
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
        for guess in 0..BURST as u8 {
            assert_eq!(limiter.admit(client, Some(&hash(guess)), NOW), Ok(()));
            limiter.failed(client, Some(&hash(guess)), NOW);
        }
        let next = hash(200);
        let waiting = limiter.admit(client, Some(&next), NOW);
        assert!(waiting.is_err_and(|wait| (1..=3).contains(&wait)));
        assert!(limiter.admit(neighbour, Some(&next), NOW).is_err());
        assert!(limiter.admit(client, None, NOW).is_err());
        assert_eq!(limiter.admit(other, Some(&next), NOW), Ok(()));
        assert_eq!(limiter.admit(client, Some(&next), NOW.plus_micros(2 * REFILL_US)), Ok(()));
    }

    #[test]
    fn who_repeats_one_credential_waits_alone() {
        let limiter = FailureLimiter::default();
        let client: IpAddr = "192.0.2.7".parse().expect("an address");
        for _ in 0..BURST {
            assert_eq!(limiter.admit(client, Some(&hash(1)), NOW), Ok(()));
            limiter.failed(client, Some(&hash(1)), NOW);
        }
        assert!(limiter.admit(client, Some(&hash(1)), NOW).is_err());
        assert_eq!(limiter.admit(client, Some(&hash(2)), NOW), Ok(()));
        assert_eq!(limiter.admit(client, None, NOW), Ok(()));
    }

    #[test]
    fn memory_is_bounded() {
        let limiter = FailureLimiter::default();
        for host in 0..40_000u32 {
            limiter.failed(IpAddr::V4(Ipv4Addr::from(host << 8)), None, NOW);
        }
        assert!(limiter.networks.0.lock().len() <= BUCKETS_MAX + 1);
        let later = NOW.plus_micros(REFILL_US * 30_000);
        limiter.failed("10.1.1.1".parse().expect("an address"), None, later);
        assert!(limiter.networks.0.lock().len() <= 2);
    }

    #[test]
    fn lines_of_a_flood_are_counted_instead() {
        let limiter = LineLimiter::default();
        let written = (0..1000).filter(|_| limiter.pass(NOW).is_some()).count();
        assert_eq!(written as i64, LINES_BURST);
        assert_eq!(limiter.pass(NOW.plus_micros(LINES_REFILL_US)), Some(1000 - 20));
    }

    fn hash(byte: u8) -> TokenHash {
        TokenHash::from_bytes([byte; 32])
    }
}
