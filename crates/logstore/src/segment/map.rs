//! Where the pages of one row group lie: what the side index keeps so that a
//! reader neither reads nor decodes the Parquet footer, which grows with every
//! row group and column, and so that it can tell damaged pages.
//!
//! One block for each row group, all numbers varints unless said otherwise:
//!
//! ```text
//! rows, columns, then for each leaf column:
//!   start, values, uncompressed bytes,
//!   dictionary page: bytes (0: none) [crc u32],
//!   column index:    bytes (0: none) [offset, crc u32],
//!   bloom filter:    bytes (0: none) [offset, crc u32],
//!   pages, then for each: bytes, rows, crc u32
//! pages of `ts`, then the first time of each: zigzag of the difference
//! crc u32 of everything before it
//! ```
//! Checksums are CRC-32C. Pages of a column lie one behind the other, its
//! dictionary page first.

use std::sync::Arc;

use parquet::{
    file::{
        metadata::{
            ColumnChunkMetaData, FileMetaData, ParquetMetaData, ParquetMetaDataBuilder,
            RowGroupMetaData,
        },
        page_index::{column_index::ColumnIndexMetaData, offset_index::PageLocation},
    },
    schema::types::SchemaDescPtr,
};

use super::codec::{Bytes, put_varint, unzigzag, zigzag};

/// Leaf columns that a block may have.
const COLUMNS_MAX: usize = 4096;
/// Pages of one column in a row group.
const PAGES_MAX: usize = 1 << 20;

/// A piece of the Parquet file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Extent {
    pub offset: u64,
    pub bytes: u32,
    /// `None`: nothing is known to check it by.
    pub crc: Option<u32>,
}

impl Extent {
    pub(crate) fn end(&self) -> u64 {
        self.offset.saturating_add(u64::from(self.bytes))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Page {
    pub extent: Extent,
    /// Within the row group.
    pub first_row: u64,
    pub rows: u64,
}

/// One leaf column of a row group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Chunk {
    pub values: u64,
    pub uncompressed: u64,
    pub dictionary: Option<Extent>,
    pub index: Option<Extent>,
    pub bloom: Option<Extent>,
    pub pages: Vec<Page>,
}

impl Chunk {
    fn start(&self) -> u64 {
        let first = self.dictionary.or(self.pages.first().map(|page| page.extent));
        first.map_or(0, |extent| extent.offset)
    }

    fn end(&self) -> u64 {
        let last = self.pages.last().map(|page| page.extent).or(self.dictionary);
        last.map_or(0, |extent| extent.end())
    }

    /// Everything of it in the file.
    pub(crate) fn extents(&mut self) -> impl Iterator<Item = &mut Extent> {
        let pages = self.pages.iter_mut().map(|page| &mut page.extent);
        self.dictionary.iter_mut().chain(pages).chain(&mut self.index).chain(&mut self.bloom)
    }
}

/// One row group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Group {
    pub rows: u64,
    pub chunks: Vec<Chunk>,
    /// The time of the first row of each page of `ts`.
    pub page_times: Vec<i64>,
}

impl Group {
    /// Takes the places from the file's own metadata, checksums unknown.
    /// `None`: it contradicts itself or has no offset index.
    pub(crate) fn of_metadata(metadata: &ParquetMetaData, at: usize, ts: usize) -> Option<Self> {
        let group = metadata.row_groups().get(at)?;
        let rows = u64::try_from(group.num_rows()).ok()?;
        let offsets = metadata.offset_index()?.get(at)?;
        let chunk = |(column, index): (&ColumnChunkMetaData, &Vec<PageLocation>)| {
            chunk(column, index, rows)
        };
        let places = offsets.iter().map(|index| index.page_locations());
        let chunks = group.columns().iter().zip(places).map(chunk).collect::<Option<Vec<_>>>()?;
        let times = match metadata.column_index().and_then(|all| all.get(at)?.get(ts)) {
            Some(ColumnIndexMetaData::INT64(index)) => index.min_values().to_vec(),
            _ => Vec::new(),
        };
        (chunks.len() == group.num_columns()).then_some(Self { rows, chunks, page_times: times })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.rows);
        put_varint(&mut out, self.chunks.len() as u64);
        for chunk in &self.chunks {
            put_varint(&mut out, chunk.start());
            put_varint(&mut out, chunk.values);
            put_varint(&mut out, chunk.uncompressed);
            put_extent(&mut out, chunk.dictionary.as_ref(), false);
            put_extent(&mut out, chunk.index.as_ref(), true);
            put_extent(&mut out, chunk.bloom.as_ref(), true);
            put_varint(&mut out, chunk.pages.len() as u64);
            for page in &chunk.pages {
                put_varint(&mut out, u64::from(page.extent.bytes));
                put_varint(&mut out, page.rows);
                out.extend_from_slice(&page.extent.crc.unwrap_or(0).to_le_bytes());
            }
        }
        put_varint(&mut out, self.page_times.len() as u64);
        let mut last = 0i64;
        for time in &self.page_times {
            put_varint(&mut out, zigzag(time.wrapping_sub(last)));
            last = *time;
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(block: &[u8]) -> Option<Self> {
        let (body, crc) = block.split_at_checked(block.len().checked_sub(4)?)?;
        if crc != crc32c::crc32c(body).to_le_bytes() {
            return None;
        }
        let mut bytes = Bytes(body);
        let rows = bytes.varint()?;
        let count = bytes.count(COLUMNS_MAX)?;
        let chunks =
            (0..count).map(|_| take_chunk(&mut bytes, rows)).collect::<Option<Vec<_>>>()?;
        let times = bytes.count(PAGES_MAX)?;
        let mut last = 0i64;
        let page_times = (0..times).map(|_| {
            last = last.wrapping_add(unzigzag(bytes.varint()?));
            Some(last)
        });
        let page_times = page_times.collect::<Option<Vec<_>>>()?;
        bytes.0.is_empty().then_some(Self { rows, chunks, page_times })
    }

    /// Whether all of it lies in a file of so many bytes.
    pub(crate) fn fits(&self, file_bytes: u64) -> bool {
        self.chunks.iter().all(|chunk| {
            let inside = |extent: &Option<Extent>| extent.is_none_or(|e| e.end() <= file_bytes);
            chunk.end() <= file_bytes && inside(&chunk.index) && inside(&chunk.bloom)
        })
    }

    /// Metadata of this row group alone, as far as Parquet's own reader needs them
    /// to find a bloom filter.
    pub(crate) fn metadata(
        &self,
        schema: &SchemaDescPtr,
    ) -> parquet::errors::Result<ParquetMetaData> {
        let mut builder = RowGroupMetaData::builder(Arc::clone(schema))
            .set_num_rows(signed(self.rows))
            .set_total_byte_size(0);
        for (at, chunk) in self.chunks.iter().enumerate() {
            let mut column = ColumnChunkMetaData::builder(schema.column(at));
            if let Some(bloom) = chunk.bloom {
                column = column
                    .set_bloom_filter_offset(Some(signed(bloom.offset)))
                    .set_bloom_filter_length(i32::try_from(bloom.bytes).ok());
            }
            builder = builder.add_column_metadata(column.build()?);
        }
        let schema = Arc::clone(schema);
        let file = FileMetaData::new(2, signed(self.rows), None, None, schema, None);
        Ok(ParquetMetaDataBuilder::new(file).add_row_group(builder.build()?).build())
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn extent(offset: Option<i64>, bytes: Option<i32>) -> Option<Extent> {
    let bytes = u32::try_from(bytes?).ok().filter(|bytes| *bytes > 0)?;
    Some(Extent { offset: u64::try_from(offset?).ok()?, bytes, crc: None })
}

fn chunk(column: &ColumnChunkMetaData, places: &[PageLocation], rows: u64) -> Option<Chunk> {
    let mut pages = Vec::with_capacity(places.len());
    let mut end = None;
    for (at, place) in places.iter().enumerate() {
        let offset = u64::try_from(place.offset).ok()?;
        let bytes = u32::try_from(place.compressed_page_size).ok()?;
        let next = places.get(at + 1).map(|next| u64::try_from(next.first_row_index));
        let next = next.transpose().ok()?.unwrap_or(rows);
        let first_row = u64::try_from(place.first_row_index).ok()?;
        let page_rows = next.checked_sub(first_row)?;
        if end.is_some_and(|end| end != offset) {
            return None;
        }
        let extent = Extent { offset, bytes, crc: None };
        end = Some(extent.end());
        pages.push(Page { extent, first_row, rows: page_rows });
    }
    // Not `byte_range`, which panics where a footer lies.
    let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
    let (start, first) = (u64::try_from(start).ok()?, pages.first()?.extent.offset);
    let bytes = u32::try_from(first.checked_sub(start)?).ok()?;
    let dictionary = (bytes > 0).then_some(Extent { offset: start, bytes, crc: None });
    Some(Chunk {
        values: u64::try_from(column.num_values()).ok()?,
        uncompressed: u64::try_from(column.uncompressed_size()).ok()?,
        dictionary,
        index: extent(column.column_index_offset(), column.column_index_length()),
        bloom: extent(column.bloom_filter_offset(), column.bloom_filter_length()),
        pages,
    })
}

fn put_extent(out: &mut Vec<u8>, extent: Option<&Extent>, placed: bool) {
    let Some(extent) = extent else { return put_varint(out, 0) };
    put_varint(out, u64::from(extent.bytes));
    if placed {
        put_varint(out, extent.offset);
    }
    out.extend_from_slice(&extent.crc.unwrap_or(0).to_le_bytes());
}

/// `None`: not there at all; `Some(None)`: there is none.
fn take_extent(bytes: &mut Bytes<'_>, place: Option<u64>) -> Option<Option<Extent>> {
    let length = u32::try_from(bytes.varint()?).ok()?;
    if length == 0 {
        return Some(None);
    }
    let offset = match place {
        Some(place) => place,
        None => bytes.varint()?,
    };
    let crc = Some(bytes.u32()?);
    let extent = Extent { offset, bytes: length, crc };
    offset.checked_add(u64::from(length))?;
    Some(Some(extent))
}

fn take_chunk(bytes: &mut Bytes<'_>, rows: u64) -> Option<Chunk> {
    let start = bytes.varint()?;
    let (values, uncompressed) = (bytes.varint()?, bytes.varint()?);
    let dictionary = take_extent(bytes, Some(start))?;
    let index = take_extent(bytes, None)?;
    let bloom = take_extent(bytes, None)?;
    let count = bytes.count(PAGES_MAX)?;
    let (mut offset, mut first_row) = (dictionary.map_or(start, |page| page.end()), 0u64);
    let mut pages = Vec::with_capacity(count.min(1024));
    for _ in 0..count {
        let length = u32::try_from(bytes.varint()?).ok()?;
        let page_rows = bytes.varint()?;
        let extent = Extent { offset, bytes: length, crc: Some(bytes.u32()?) };
        pages.push(Page { extent, first_row, rows: page_rows });
        offset = offset.checked_add(u64::from(length))?;
        first_row = first_row.checked_add(page_rows)?;
    }
    let chunk = Chunk { values, uncompressed, dictionary, index, bloom, pages };
    (first_row == rows).then_some(chunk)
}
