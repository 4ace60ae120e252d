//! Bodies that are kept only in case the provider does not report usage.
//!
//! Owns the frames of both sides of an exchange until its usage is known. Keeps
//! references to what passes anyway, at most [`TEXT_BYTES_MAX`] a side, and at
//! most a budget of memory over all requests together: past either, bytes are
//! counted but no longer kept. Must never look into them on the request's path:
//! they are decoded and read where the estimate is made.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;

use super::decode::{Coding, Decoder, Take};

/// Kept of one side of one exchange.
pub const TEXT_BYTES_MAX: usize = 256 * 1024;
/// Memory held for all exchanges at once.
pub const TEXT_BYTES_TOTAL_MAX: usize = 64 * 1024 * 1024;
/// A frame is a slice of a read buffer, which a reference keeps as a whole.
const BUFFER_BYTES: usize = 8 * 1024;
/// Below this a copy costs less than the buffer around the frame.
const SMALL_BYTES: usize = 4 * 1024;
/// A frame so large is not held for the sake of its beginning.
const PINNED_BYTES_MAX: usize = 4 * TEXT_BYTES_MAX;
/// Room that copies begin with.
const COPY_BYTES_MIN: usize = 512;

/// Memory that all requests together may hold for estimates.
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

    pub(crate) fn take(&self, bytes: usize) -> bool {
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes))
            .is_ok()
    }

    pub(crate) fn give(&self, bytes: usize) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The beginning of a body as it was sent, with its share of the budget, given
/// back on drop.
#[derive(Debug)]
pub struct Kept {
    pieces: Vec<Piece>,
    kept: usize,
    /// Of the whole body, kept or not.
    bytes: u64,
    reserved: usize,
    /// Held for long: then small frames are worth a copy.
    lasting: bool,
    codings: Vec<Coding>,
    budget: TextBudget,
}

#[derive(Debug)]
enum Piece {
    Frame(Bytes),
    Copy(Vec<u8>),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Frame(frame) => frame,
            Self::Copy(copy) => copy,
        }
    }
}

impl Kept {
    /// For a body under `codings`; `lasting` says that it is a stream, whose
    /// frames are small and are held until its end.
    pub(super) fn new(budget: &TextBudget, codings: Vec<Coding>, lasting: bool) -> Self {
        let budget = budget.clone();
        Self { pieces: Vec::new(), kept: 0, bytes: 0, reserved: 0, lasting, codings, budget }
    }

    pub fn push(&mut self, frame: &Bytes) {
        let was_cut = self.bytes > self.kept as u64;
        self.bytes += frame.len() as u64;
        let wanted = frame.len().min(TEXT_BYTES_MAX - self.kept);
        // After a gap nothing more is kept: the kept part stays a beginning.
        if wanted == 0 || was_cut {
            return;
        }
        let beside_others = self.lasting || !self.pieces.is_empty();
        let is_small = frame.len() < SMALL_BYTES && beside_others;
        let done = if is_small || frame.len() > PINNED_BYTES_MAX {
            self.copy(&frame[..wanted])
        } else {
            self.pin(frame, wanted)
        };
        if done {
            self.kept += wanted;
        }
    }

    fn pin(&mut self, frame: &Bytes, wanted: usize) -> bool {
        let pinned = frame.len().max(BUFFER_BYTES);
        if !self.budget.take(pinned) {
            return false;
        }
        self.reserved += pinned;
        self.pieces.push(Piece::Frame(frame.slice(..wanted)));
        true
    }

    fn copy(&mut self, bytes: &[u8]) -> bool {
        if !matches!(self.pieces.last(), Some(Piece::Copy(_))) {
            self.pieces.push(Piece::Copy(Vec::new()));
        }
        let Some(Piece::Copy(copy)) = self.pieces.last_mut() else { return false };
        let missing = (copy.len() + bytes.len()).saturating_sub(copy.capacity());
        if missing > 0 {
            let before = copy.capacity();
            let room = (before + missing.max(before)).max(COPY_BYTES_MIN);
            if !self.budget.take(room - before) {
                return false;
            }
            copy.reserve_exact(room - copy.len());
            self.reserved += room - before;
        }
        copy.extend_from_slice(bytes);
        true
    }

    /// The answer turned out to be a stream: the small frames of its request,
    /// held as long, let go of their buffers.
    pub(super) fn make_lasting(&mut self) {
        if std::mem::replace(&mut self.lasting, true) {
            return;
        }
        let small =
            |piece: &Piece| matches!(piece, Piece::Frame(frame) if frame.len() < SMALL_BYTES);
        for piece in self.pieces.iter_mut().filter(|piece| small(piece)) {
            let copy = piece.bytes().to_vec();
            let freed = BUFFER_BYTES - copy.capacity();
            *piece = Piece::Copy(copy);
            self.reserved -= freed;
            self.budget.give(freed);
        }
    }

    /// Hands the kept bytes, decoded, to `target`, and then that to `read`;
    /// `None` where nothing was kept or it cannot be decoded.
    pub(super) fn feed<T: Take + 'static, R>(
        &self,
        mut target: T,
        read: impl FnOnce(&mut T) -> R,
    ) -> Option<R> {
        if self.kept == 0 {
            return None;
        }
        if self.codings.is_empty() {
            self.pieces.iter().for_each(|piece| target.take(piece.bytes()));
            return Some(read(&mut target));
        }
        let mut decoder = Decoder::new(&self.codings, target)?;
        self.pieces.iter().for_each(|piece| decoder.push(piece.bytes()));
        (!decoder.is_broken()).then(|| read(decoder.target()))
    }

    /// Whether this is a stream's body.
    pub(super) fn is_stream(&self) -> bool {
        self.lasting
    }

    /// A figure that was found in the kept bytes, for the whole body.
    pub(super) fn scaled(&self, figure: u64) -> u64 {
        scaled(figure, self.kept as u64, self.bytes)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.budget.give(self.reserved);
    }
}

/// Prompt or generated text found in kept bytes, bounded like them: what is
/// coded may become longer.
#[derive(Debug, Default)]
pub(super) struct Text {
    kept: Vec<u8>,
    /// Of all the text, kept or not.
    bytes: u64,
}

impl Text {
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        let wanted = piece.len().min(TEXT_BYTES_MAX - self.kept.len());
        self.kept.extend_from_slice(&piece[..wanted]);
    }

    /// The tokens of the whole text, by a count of its kept part.
    pub(super) fn tokens(&self, count: impl FnOnce(&str) -> usize) -> u64 {
        let tokens = count(&String::from_utf8_lossy(&self.kept));
        scaled(tokens as u64, self.kept.len() as u64, self.bytes)
    }
}

/// The figure of a text of which only the beginning was kept.
fn scaled(figure: u64, kept_bytes: u64, bytes: u64) -> u64 {
    if kept_bytes == 0 || kept_bytes == bytes {
        return figure;
    }
    let scaled = u128::from(figure) * u128::from(bytes) / u128::from(kept_bytes);
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// What an estimate is made from.
#[derive(Debug)]
pub struct Texts {
    /// The request body as it was sent.
    pub(super) request: Option<Kept>,
    /// The answer as it was received.
    pub(super) answer: Option<Kept>,
}

impl Texts {
    /// `None` where nothing was kept.
    pub fn of(request: Option<Kept>, answer: Option<Kept>) -> Option<Self> {
        (request.is_some() || answer.is_some()).then_some(Self { request, answer })
    }
}
