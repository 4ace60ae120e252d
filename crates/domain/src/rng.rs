//! Where randomness comes from. Two needs, two methods: ids want speed, keys
//! want the operating system's generator.

/// A source of random numbers, passed in wherever one is needed.
pub trait Rng: Send + Sync {
    /// Fast and well spread; not for secrets.
    fn next_u64(&self) -> u64;

    /// Cryptographically secure; for tokens, keys, salts and nonces.
    fn fill_secure(&self, buffer: &mut [u8]);
}

/// The same number for ever: exact ids in tests.
#[derive(Debug, Clone, Copy)]
pub struct Fixed(pub u64);

impl Rng for Fixed {
    fn next_u64(&self) -> u64 {
        self.0
    }

    fn fill_secure(&self, buffer: &mut [u8]) {
        for (slot, byte) in buffer.iter_mut().zip(self.0.to_le_bytes().iter().cycle()) {
            *slot = *byte;
        }
    }
}
