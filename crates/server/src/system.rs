//! What the operating system gives: time, randomness, limits and the directory
//! that everything lives in.
//!
//! Owns the one clock and the one generator of production, which reach every
//! other part as parameters. Must never be replaced by ambient calls elsewhere.

pub mod data_dir;
pub mod random;

use domain::time::{Clock, Timestamp};

pub use data_dir::{DataDir, DataDirError, KeySource};
pub use random::SystemRng;

/// The wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that others are handed")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            // Before 1970 there is no time worth telling apart.
            .unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

/// Asks the kernel for small pages, before memory is touched: where every
/// mapping may become huge pages, a process that needs 18 MB holds 40. A kernel
/// that does not know the request changes nothing, which is reported.
pub fn use_small_pages() -> bool {
    rustix::thread::disable_transparent_huge_pages(true).is_ok()
}

/// Raises the soft limit of open files to the hard one and returns it; a
/// connection through us needs two. `None`: there is no limit, or it could not
/// be raised and stands as it was.
pub fn raise_open_files() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum });
    match raised {
        Ok(()) => now.maximum,
        Err(_) => now.current,
    }
}

/// Names this run of the process; two runs of one instance differ.
pub fn boot_id(clock: &dyn Clock, rng: &dyn domain::rng::Rng) -> uuid::Uuid {
    domain::ids::uuid_v7(clock.now(), rng)
}

#[cfg(test)]
mod tests;
