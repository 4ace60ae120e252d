//! One sealed file: the columns it has, how lines become rows and rows become
//! lines again, how it is written once and read in parts.
//!
//! Owns the Parquet file and the `.ids` file beside it; where they lie, which
//! of them count and when they go is the catalog's business. Promises that a
//! row renders back to exactly the line that was decoded, that bytes which are
//! not what was written are an error that names the file, and that memory is
//! bounded whatever the size of a file. Must never change a file that exists.

mod codec;
pub mod decode;
mod error;
pub mod ids;
mod map;
mod page;
pub mod read;
pub mod render;
pub mod schema;
pub mod seal;
#[cfg(test)]
mod testing;
pub mod write;

pub use decode::{BadLine, Decoder};
pub use error::SegmentError;
pub use ids::Ids;
pub use read::{Batches, Bounds, PageBounds, ReadCounts, Segment, Selection};
pub use render::{Renderer, render};
pub use schema::{Column, ColumnKind, Dataset, column_of, schema};
pub use seal::{ClosedFile, JournalLine, Sealed, seal};
pub use write::{SealOptions, SegmentInfo, SegmentWriter, date_of};

/// The version of the format that this build writes and the newest it reads.
pub const FORMAT: u64 = 1;
/// Rows of a row group.
pub const GROUP_ROWS: usize = 131_072;
/// Rows of a data page: what is decoded where one row is wanted.
pub const PAGE_ROWS: usize = 2048;
/// Rows of a batch that is decoded or read.
pub const BATCH_ROWS: usize = 8192;
/// Rows that one entry of the side index stands for: a page of an id column.
pub const BLOCK_ROWS: usize = 1024;
