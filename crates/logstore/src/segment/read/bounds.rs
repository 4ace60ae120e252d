//! What a column index says of the values of each page.

use std::{ops::Range, sync::Arc};

use arrow_schema::DataType;
use parquet::{
    file::{
        metadata::{PageIndexPolicy, ParquetMetaDataReader},
        page_index::column_index::ColumnIndexMetaData,
    },
    schema::types::SchemaDescPtr,
};

use super::source::{ReadError, Source};
use crate::segment::map::Group;

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
    leaves: &SchemaDescPtr,
    source: &Arc<Source>,
) -> Result<Vec<PageBounds>, ReadError> {
    let Some(chunk) = map.chunks.get(leaf) else { return Ok(Vec::new()) };
    let mut pages: Vec<PageBounds> = chunk
        .pages
        .iter()
        .map(|page| PageBounds {
            rows: page.first_row..page.first_row + page.rows,
            bounds: Some(Bounds::Unknown),
            nulls: None,
        })
        .collect();
    if chunk.index.is_none() {
        return Ok(pages);
    }
    let metadata = map.metadata(leaves, Some(leaf))?;
    let mut reader = ParquetMetaDataReader::new_with_metadata(metadata)
        .with_column_index_policy(PageIndexPolicy::Required)
        .with_offset_index_policy(PageIndexPolicy::Skip);
    reader.read_page_indexes(&**source)?;
    let metadata = reader.finish()?;
    let index = metadata.column_index().and_then(|all| all.first()?.get(leaf));
    let Some(index) = index else { return Ok(pages) };
    if matches!(index, ColumnIndexMetaData::NONE) || index.num_pages() != pages.len() as u64 {
        return Ok(pages);
    }
    for (at, page) in pages.iter_mut().enumerate() {
        page.nulls = index.null_count(at).and_then(|nulls| u64::try_from(nulls).ok());
        page.bounds = match index.is_null_page(at) {
            true => None,
            false => Some(bounds(index, at, data_type)),
        };
    }
    Ok(pages)
}

fn bounds(index: &ColumnIndexMetaData, at: usize, data_type: &DataType) -> Bounds {
    let both = match index {
        ColumnIndexMetaData::BOOLEAN(index) => {
            index.min_value(at).zip(index.max_value(at)).map(|(a, b)| Bounds::Boolean(*a, *b))
        }
        ColumnIndexMetaData::INT64(index) => {
            let both = index.min_value(at).zip(index.max_value(at));
            both.map(|(a, b)| match data_type {
                DataType::Decimal128(..) => Bounds::Decimal(*a, *b),
                // Milliseconds in thousandths.
                DataType::Decimal64(..) => Bounds::Number(*a as f64 / 1000.0, *b as f64 / 1000.0),
                _ => Bounds::Integer(*a, *b),
            })
        }
        ColumnIndexMetaData::DOUBLE(index) => {
            index.min_value(at).zip(index.max_value(at)).map(|(a, b)| Bounds::Number(*a, *b))
        }
        ColumnIndexMetaData::BYTE_ARRAY(index) => {
            let both = index.min_value(at).zip(index.max_value(at));
            both.map(|(a, b)| Bounds::Text(a.to_vec(), b.to_vec()))
        }
        _ => None,
    };
    both.unwrap_or(Bounds::Unknown)
}
