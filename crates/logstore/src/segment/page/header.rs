//! The head of a page, and the column index that has the bounds of all pages of a
//! column: Thrift structures of the Parquet format.

use super::thrift::{self, binary, boolean, integer, list, structure};
use crate::segment::codec::Bytes;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PageKind {
    Data,
    Dictionary,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Encoding {
    Plain,
    Dictionary,
    DeltaPacked,
    DeltaLength,
    DeltaBytes,
    /// None that we ever write.
    Other,
}

impl Encoding {
    fn of(number: i64) -> Self {
        match number {
            0 => Self::Plain,
            2 | 8 => Self::Dictionary,
            5 => Self::DeltaPacked,
            6 => Self::DeltaLength,
            7 => Self::DeltaBytes,
            _ => Self::Other,
        }
    }
}

/// What stands before the bytes of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) kind: PageKind,
    pub(super) bytes: usize,
    pub(super) packed_bytes: usize,
    /// Values, or levels where rows may have none or several.
    pub(super) values: usize,
    pub(super) encoding: Encoding,
}

impl Header {
    pub(super) fn take(bytes: &mut Bytes<'_>) -> Option<Self> {
        let (mut number, mut sizes) = (None, (None, None));
        let (mut values, mut encoding) = (None, Encoding::Other);
        let size = |value: i64| usize::try_from(value).ok();
        thrift::fields(bytes, &mut |id, kind, bytes| {
            match id {
                1 => number = Some(integer(bytes, kind)?),
                2 => sizes.0 = Some(size(integer(bytes, kind)?)?),
                3 => sizes.1 = Some(size(integer(bytes, kind)?)?),
                // Of data and of dictionaries: these two fields are alike.
                5 | 7 => structure(bytes, kind, &mut |id, kind, bytes| {
                    match id {
                        1 => values = Some(size(integer(bytes, kind)?)?),
                        2 => encoding = Encoding::of(integer(bytes, kind)?),
                        _ => return Some(false),
                    }
                    Some(true)
                })?,
                _ => return Some(false),
            }
            Some(true)
        })?;
        let kind = match number? {
            0 => PageKind::Data,
            2 => PageKind::Dictionary,
            _ => return None,
        };
        let (bytes, packed_bytes) = (sizes.0?, sizes.1?);
        Some(Self { kind, bytes, packed_bytes, values: values?, encoding })
    }
}

/// The lowest and the highest value of each page, as their plain encoding, and
/// how many rows have none.
#[derive(Debug)]
pub(crate) struct ColumnIndex<'a> {
    pub(crate) only_nulls: Vec<bool>,
    pub(crate) least: Vec<&'a [u8]>,
    pub(crate) most: Vec<&'a [u8]>,
    pub(crate) nulls: Option<Vec<i64>>,
}

impl<'a> ColumnIndex<'a> {
    /// `None`: it is damaged, or of another number of pages.
    pub(crate) fn decode(bytes: &'a [u8], pages: usize) -> Option<Self> {
        let mut index =
            Self { only_nulls: Vec::new(), least: Vec::new(), most: Vec::new(), nulls: None };
        thrift::fields(&mut Bytes(bytes), &mut |id, kind, bytes| {
            match id {
                1 => index.only_nulls = list(bytes, kind, boolean)?,
                2 => index.least = list(bytes, kind, binary)?,
                3 => index.most = list(bytes, kind, binary)?,
                5 => index.nulls = Some(list(bytes, kind, integer)?),
                _ => return Some(false),
            }
            Some(true)
        })?;
        let lengths = [index.only_nulls.len(), index.least.len(), index.most.len()];
        let nulls = index.nulls.as_ref().is_none_or(|nulls| nulls.len() == pages);
        (lengths.iter().all(|length| *length == pages) && nulls).then_some(index)
    }
}
