//! Random numbers: fast ones for ids, the operating system's for secrets.

use std::cell::Cell;

use domain::rng::Rng;

thread_local! {
    /// State of xoshiro256++, one for each thread; all zeros until first use.
    static STATE: Cell<[u64; 4]> = const { Cell::new([0; 4]) };
}

/// The generator of production.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRng;

impl Rng for SystemRng {
    fn next_u64(&self) -> u64 {
        STATE.with(|state| {
            let mut now = state.get();
            if now == [0; 4] {
                now = seed();
            }
            let result = step(&mut now);
            state.set(now);
            result
        })
    }

    #[expect(clippy::disallowed_methods, reason = "this is the generator that others are handed")]
    fn fill_secure(&self, buffer: &mut [u8]) {
        // Without it no secret could be made at all; there is no way on.
        getrandom::fill(buffer).expect("the operating system has a random generator");
    }
}

fn seed() -> [u64; 4] {
    let mut bytes = [0u8; 32];
    SystemRng.fill_secure(&mut bytes);
    let mut seed = [0u64; 4];
    for (word, chunk) in seed.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = chunk.iter().fold(0, |word, byte| (word << 8) | u64::from(*byte));
    }
    // All zeros would stay so for ever; the odds do not matter, the rule does.
    seed[0] |= 1;
    seed
}

/// xoshiro256++ 1.0 after Blackman and Vigna.
fn step(state: &mut [u64; 4]) -> u64 {
    let result = state[0].wrapping_add(state[3]).rotate_left(23).wrapping_add(state[0]);
    let shifted = state[1] << 17;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= shifted;
    state[3] = state[3].rotate_left(45);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_that_of_the_reference() {
        let mut state = [1, 2, 3, 4];
        let first: Vec<u64> = (0..3).map(|_| step(&mut state)).collect();
        assert_eq!(first, [41_943_041, 58_720_359, 3_588_806_011_781_223]);
    }

    #[test]
    fn threads_draw_different_numbers() {
        let other = std::thread::spawn(|| SystemRng.next_u64()).join().expect("a number");
        assert_ne!(SystemRng.next_u64(), other);
        assert_ne!(SystemRng.next_u64(), SystemRng.next_u64());
    }
}
