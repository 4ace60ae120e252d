//! Frames of an answer that came one upon the other, on their way to become one
//! write to the client.

use bytes::{Bytes, BytesMut};

/// Room that a joined frame begins with.
const JOINED_BYTES: usize = 4096;

/// Data frames on their way to become one. A single one is not copied.
#[derive(Default)]
pub struct Joined {
    first: Bytes,
    all: BytesMut,
}

impl Joined {
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn len(&self) -> usize {
        self.first.len() + self.all.len()
    }

    pub fn push(&mut self, data: Bytes) {
        if self.is_empty() {
            self.first = data;
            return;
        }
        if self.all.is_empty() {
            self.all.reserve((self.first.len() + data.len()).max(JOINED_BYTES));
            self.all.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.all.extend_from_slice(&data);
    }

    pub fn take(&mut self) -> Bytes {
        if self.all.is_empty() {
            std::mem::take(&mut self.first)
        } else {
            self.all.split().freeze()
        }
    }
}
