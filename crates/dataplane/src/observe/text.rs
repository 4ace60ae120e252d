//! Text that is kept only because the provider may not report usage.
//!
//! At most [`TEXT_BYTES_MAX`] a side, and at most a budget over all requests
//! together: past either, text is counted but no longer kept.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Kept of one side of one exchange.
pub const TEXT_BYTES_MAX: usize = 256 * 1024;
/// Kept of all exchanges at once.
pub const TEXT_BYTES_TOTAL_MAX: usize = 64 * 1024 * 1024;
/// Taken from the budget at a time, so that streams do not contend for it.
const RESERVE_BYTES: usize = 4096;

/// Bytes of text that all requests together may hold.
#[derive(Clone, Debug)]
pub struct TextBudget {
    left: Arc<AtomicUsize>,
}

impl Default for TextBudget {
    fn default() -> Self {
        Self::new(TEXT_BYTES_TOTAL_MAX)
    }
}

impl TextBudget {
    pub fn new(bytes: usize) -> Self {
        Self { left: Arc::new(AtomicUsize::new(bytes)) }
    }

    /// Bytes not taken by anyone.
    pub fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes))
            .is_ok()
    }
}

/// Bounded text with its share of the budget, given back on drop.
#[derive(Debug)]
pub struct Collector {
    kept: Vec<u8>,
    /// Of all text, kept or not.
    bytes: u64,
    reserved: usize,
    budget: TextBudget,
}

impl Collector {
    pub fn new(budget: &TextBudget) -> Self {
        Self { kept: Vec::new(), bytes: 0, reserved: 0, budget: budget.clone() }
    }

    pub fn push(&mut self, piece: &[u8]) {
        let was_cut = self.bytes > self.kept.len() as u64;
        self.bytes += piece.len() as u64;
        let wanted = piece.len().min(TEXT_BYTES_MAX - self.kept.len());
        // After a gap nothing more is kept: the kept part stays a prefix.
        if wanted == 0 || was_cut {
            return;
        }
        let missing = (self.kept.len() + wanted).saturating_sub(self.reserved);
        if missing > 0 {
            let reserve = missing.next_multiple_of(RESERVE_BYTES);
            if !self.budget.take(reserve) {
                return;
            }
            self.reserved += reserve;
            self.kept.reserve_exact(self.reserved - self.kept.len());
        }
        self.kept.extend_from_slice(&piece[..wanted]);
    }

    pub fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// The budget that the text is kept under.
    pub fn budget(&self) -> &TextBudget {
        &self.budget
    }

    /// Length of all the text, of which [`Self::kept`] is the beginning.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.reserved, Ordering::Relaxed);
    }
}

/// What an estimate is made from.
#[derive(Debug)]
pub struct Texts {
    /// The request body as it was sent, decoded.
    pub(super) request: Option<Collector>,
    /// The generated text.
    pub(super) answer: Option<Collector>,
}

impl Texts {
    /// `None` where nothing was kept.
    pub fn of(request: Option<Collector>, answer: Option<Collector>) -> Option<Self> {
        (request.is_some() || answer.is_some()).then_some(Self { request, answer })
    }
}
