//! What a column index says of the values of each page.

use std::ops::Range;

use arrow_schema::DataType;

use super::source::{ReadError, Source};
use crate::segment::{
    map::{Group, Page},
    page::ColumnIndex,
};

/// The lowest and the highest value of a page. Texts may be cut: still bounds.
#[derive(Clone, Debug, PartialEq)]
pub enum Bounds {
    /// Integers, and times in microseconds.
    Integer(i64, i64),
    Number(f64, f64),
    /// In units of 10⁻⁹ dollars.
    Decimal(i64, i64),
    Text(Vec<u8>, Vec<u8>),
    Boolean(bool, bool),
    /// Nothing is known.
    Unknown,
}

/// What the file says of the values of one page.
#[derive(Clone, Debug, PartialEq)]
pub struct PageBounds {
    /// Row numbers within the segment.
    pub rows: Range<u64>,
    /// `None`: there are only nulls.
    pub bounds: Option<Bounds>,
    pub nulls: Option<u64>,
}

/// The pages of one leaf column, rows within the row group.
pub(super) fn of(
    map: &Group,
    leaf: usize,
    data_type: &DataType,
    source: &Source,
) -> Result<Vec<PageBounds>, ReadError> {
    let Some(chunk) = map.chunks.get(leaf) else { return Ok(Vec::new()) };
    let unknown = |page: &Page| PageBounds {
        rows: page.first_row..page.first_row + page.rows,
        bounds: Some(Bounds::Unknown),
        nulls: None,
    };
    let mut pages: Vec<PageBounds> = chunk.pages.iter().map(unknown).collect();
    let Some(extent) = &chunk.index else { return Ok(pages) };
    let mut bytes = vec![0; extent.bytes as usize];
    source.read(extent.offset, &mut bytes, 1)?;
    extent.check(&bytes)?;
    let Some(index) = ColumnIndex::decode(&bytes, pages.len()) else {
        return Err(format!("the column index at {} is damaged", extent.offset).into());
    };
    for (at, page) in pages.iter_mut().enumerate() {
        let nulls = index.nulls.as_ref().map(|nulls| nulls[at]);
        page.nulls = nulls.and_then(|nulls| u64::try_from(nulls).ok());
        page.bounds = match index.only_nulls[at] {
            true => None,
            false => Some(bounds(index.least[at], index.most[at], data_type)),
        };
    }
    Ok(pages)
}

fn bounds(least: &[u8], most: &[u8], data_type: &DataType) -> Bounds {
    let whole = |bytes: &[u8]| bytes.try_into().ok().map(i64::from_le_bytes);
    let wholes = || whole(least).zip(whole(most));
    let bit = |bytes: &[u8]| bytes.first().map(|bit| *bit != 0);
    let both = match data_type {
        DataType::Decimal128(..) => wholes().map(|(a, b)| Bounds::Decimal(a, b)),
        // Milliseconds in thousandths.
        DataType::Decimal64(..) => {
            wholes().map(|(a, b)| Bounds::Number(a as f64 / 1000.0, b as f64 / 1000.0))
        }
        DataType::Int64 | DataType::Timestamp(..) => wholes().map(|(a, b)| Bounds::Integer(a, b)),
        DataType::Boolean => bit(least).zip(bit(most)).map(|(a, b)| Bounds::Boolean(a, b)),
        DataType::Utf8 | DataType::Dictionary(..) => {
            Some(Bounds::Text(least.to_vec(), most.to_vec()))
        }
        _ => None,
    };
    both.unwrap_or(Bounds::Unknown)
}
