//! Holds the generator back to what the journal takes, so that nothing of what
//! it makes is refused.

use std::sync::Arc;

use logstore::Stored;
use parking_lot::{Condvar, Mutex};

/// Bursts that may wait in the journal's queue: a quarter of its room.
const BURSTS_MAX: usize = 16;

#[derive(Default)]
struct State {
    waiting: usize,
    lost: u64,
}

/// Counts bursts from hand-over until they are appended.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<State>, Condvar)>);

impl Gate {
    /// Waits for room for one burst; what the last record of it tells the gate.
    pub fn enter(&self) -> Stored {
        let (state, changed) = &*self.0;
        let mut guard = state.lock();
        while guard.waiting >= BURSTS_MAX {
            changed.wait(&mut guard);
        }
        guard.waiting += 1;
        drop(guard);
        let gate = self.clone();
        Box::new(move |stored| {
            let (state, changed) = &*gate.0;
            let mut guard = state.lock();
            guard.waiting -= 1;
            guard.lost += u64::from(!stored);
            drop(guard);
            changed.notify_one();
        })
    }

    /// Bursts that the journal could not append.
    pub fn lost(&self) -> u64 {
        self.0.0.lock().lost
    }
}
