//! One page of a column as it lies in the file, decoded: its header, which rows
//! have a value, and the values.
//!
//! Knows the encodings that [`super::write`] chooses and that a Parquet writer of
//! version 1 falls back to, and no others: files that nobody else wrote. Promises
//! that whatever the bytes are, decoding ends with values or with what is wrong,
//! without a panic and without room for more than a page may have. Must never
//! read a file: places and checksums are its caller's.

mod delta;
mod header;
mod hybrid;
mod levels;
mod text;
mod thrift;

use std::cell::RefCell;

use arrow_array::StringArray;
use arrow_buffer::BooleanBuffer;

use self::header::{Encoding, Header, PageKind};
pub(crate) use self::{
    header::ColumnIndex,
    levels::Levels,
    text::{Texts, strings},
};
use super::codec::Bytes;

/// No page is larger once it is decompressed: a line of the journal is not.
const PAGE_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Nor has one more rows, or entries of maps: they were lines of one batch. Runs
/// need few bytes for many of them, so this is what bounds damage.
const ENTRIES_MAX: usize = 1 << 24;
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Why a page cannot be decoded.
pub(crate) type Wrong = &'static str;

/// How a leaf column keeps its values in a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Physical {
    Whole,
    Bits,
    Bytes,
}

/// A leaf column: what its values are, and how many levels say where they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shape {
    pub(crate) physical: Physical,
    /// 0: every row has a value.
    pub(crate) definition_max: u8,
    /// 0: no row has more than one.
    pub(crate) repetition_max: u8,
}

/// What the keys of a column chunk's pages stand for.
#[derive(Debug)]
pub(crate) enum Dictionary {
    Texts(StringArray),
    Wholes(Vec<i64>),
}

/// The values that are there, one behind the other, without the rows that have
/// none.
#[derive(Debug)]
pub(crate) enum Values {
    Whole(Vec<i64>),
    /// Places in the chunk's dictionary.
    Keys(Vec<u32>),
    Texts(Texts),
    Bits(BooleanBuffer),
}

/// A decoded page; keeps its memory for the next one.
#[derive(Debug)]
pub(crate) struct Page {
    /// Which rows have a value; `None`: all.
    pub(crate) valid: Option<BooleanBuffer>,
    /// Of a column that is nested.
    pub(crate) levels: Levels,
    pub(crate) values: Values,
}

impl Default for Page {
    fn default() -> Self {
        Self { valid: None, levels: Levels::default(), values: Values::Whole(Vec::new()) }
    }
}

thread_local! {
    /// A decompressor is larger than most pages and costs more to make than they
    /// cost to decompress: each thread has one, and one buffer.
    static SCRATCH: RefCell<Scratch> =
        const { RefCell::new(Scratch { zstd: None, plain: Vec::new() }) };
}

struct Scratch {
    zstd: Option<zstd::bulk::Decompressor<'static>>,
    plain: Vec<u8>,
}

impl Scratch {
    /// The bytes of a page behind its header. Columns that do not get smaller are
    /// written as they are: such a page begins with the length of its levels, or
    /// with the head of packed differences, neither of which can be this mark.
    fn plain<'s>(&'s mut self, packed: &'s [u8], bytes: usize) -> Result<&'s [u8], Wrong> {
        if bytes > PAGE_BYTES_MAX {
            return Err("it would be too large");
        }
        if !packed.starts_with(&ZSTD_MAGIC) {
            return match packed.len() == bytes {
                true => Ok(packed),
                false => Err("it has another length"),
            };
        }
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            none => none.insert(
                zstd::bulk::Decompressor::new()
                    .map_err(|_| "there is no memory to decompress it")?,
            ),
        };
        self.plain.clear();
        self.plain.reserve(bytes);
        let got = zstd.decompress_to_buffer(packed, &mut self.plain);
        match got {
            Ok(got) if got == bytes => Ok(&self.plain),
            Ok(_) => Err("it has another length"),
            Err(_) => Err("it cannot be decompressed"),
        }
    }
}

/// Runs `decode` on the bytes of a page.
fn unpacked<T>(
    packed: &[u8],
    header: &Header,
    decode: impl FnOnce(&[u8]) -> Result<T, Wrong>,
) -> Result<T, Wrong> {
    if packed.len() != header.packed_bytes {
        return Err("its header names another length");
    }
    SCRATCH.with_borrow_mut(|scratch| decode(scratch.plain(packed, header.bytes)?))
}

/// The dictionary of a column chunk from its page.
pub(crate) fn dictionary(page: &[u8], physical: Physical) -> Result<Dictionary, Wrong> {
    let mut bytes = Bytes(page);
    let header = Header::take(&mut bytes).ok_or("its header is none")?;
    let known = matches!(header.encoding, Encoding::Plain | Encoding::Dictionary);
    if header.kind != PageKind::Dictionary || !known {
        return Err("it is no dictionary");
    }
    unpacked(bytes.0, &header, |plain| match physical {
        Physical::Bytes => {
            let mut texts = Texts::default();
            texts.plain(plain, header.values)?;
            let array = strings(texts.offsets_and_bytes()?, None)?;
            Ok(Dictionary::Texts(array))
        }
        Physical::Whole => {
            let mut values = Vec::new();
            wholes(plain, header.values, &mut values)?;
            Ok(Dictionary::Wholes(values))
        }
        Physical::Bits => Err("it is a dictionary of truth values"),
    })
}

impl Page {
    /// Takes a data page of `rows` rows, of which the first `wanted` are decoded.
    pub(crate) fn decode(
        &mut self,
        page: &[u8],
        shape: Shape,
        rows: usize,
        wanted: usize,
    ) -> Result<(), Wrong> {
        let mut bytes = Bytes(page);
        let header = Header::take(&mut bytes).ok_or("its header is none")?;
        if header.kind != PageKind::Data {
            return Err("it is of another kind");
        }
        if header.values > ENTRIES_MAX {
            return Err("it would have too many values");
        }
        unpacked(bytes.0, &header, |plain| {
            let mut plain = Bytes(plain);
            let values = match shape.repetition_max {
                0 => self.flat_levels(&mut plain, &header, shape, rows, wanted)?,
                _ => self.levels.decode(&mut plain, header.values, shape, rows, wanted)?,
            };
            self.decode_values(plain.0, &header, shape.physical, values)
        })
    }

    /// Where the values are; gives how many of them the rows have that are wanted.
    fn flat_levels(
        &mut self,
        plain: &mut Bytes<'_>,
        header: &Header,
        shape: Shape,
        rows: usize,
        wanted: usize,
    ) -> Result<usize, Wrong> {
        if header.values != rows {
            return Err("it has another number of rows");
        }
        self.valid = None;
        let wanted = wanted.min(rows);
        if shape.definition_max == 0 {
            return Ok(wanted);
        }
        let valid = levels::block(plain).and_then(|block| hybrid::bits(block, rows));
        let valid = valid.ok_or("what says which rows have a value is damaged")?;
        let values = valid.slice(0, wanted).count_set_bits();
        if valid.count_set_bits() < rows {
            self.valid = Some(valid);
        }
        Ok(values)
    }

    fn decode_values(
        &mut self,
        plain: &[u8],
        header: &Header,
        physical: Physical,
        count: usize,
    ) -> Result<(), Wrong> {
        let old = std::mem::replace(&mut self.values, Values::Whole(Vec::new()));
        self.values = match (physical, header.encoding) {
            (Physical::Whole | Physical::Bytes, Encoding::Dictionary) => {
                let mut keys = match old {
                    Values::Keys(keys) => keys,
                    _ => Vec::new(),
                };
                keys.clear();
                if count > 0 {
                    let (width, runs) = plain.split_first().ok_or("it has no keys")?;
                    hybrid::decode(runs, u32::from(*width), count, &mut keys)
                        .ok_or("its keys are damaged")?;
                }
                Values::Keys(keys)
            }
            (Physical::Whole, encoding) => {
                let mut values = match old {
                    Values::Whole(values) => values,
                    _ => Vec::new(),
                };
                values.clear();
                match encoding {
                    Encoding::Plain => wholes(plain, count, &mut values)?,
                    Encoding::DeltaPacked => {
                        delta::decode(&mut Bytes(plain), count, &mut values)
                            .ok_or("its numbers are damaged")?;
                    }
                    _ => return Err("its encoding is not known for numbers"),
                }
                Values::Whole(values)
            }
            (Physical::Bytes, encoding) => {
                let mut texts = match old {
                    Values::Texts(texts) => texts,
                    _ => Texts::default(),
                };
                match encoding {
                    Encoding::Plain => texts.plain(plain, count)?,
                    Encoding::DeltaLength => texts.lengths_apart(plain, count)?,
                    Encoding::DeltaBytes => texts.prefixes(plain, count)?,
                    _ => return Err("its encoding is not known for texts"),
                }
                Values::Texts(texts)
            }
            (Physical::Bits, Encoding::Plain) => {
                let bytes = plain.get(..count.div_ceil(8)).ok_or("values are missing")?;
                let bits = arrow_buffer::Buffer::from(bytes);
                Values::Bits(BooleanBuffer::new(bits, 0, count))
            }
            (Physical::Bits, _) => return Err("its encoding is not known for truth values"),
        };
        Ok(())
    }
}

/// Numbers of eight bytes.
fn wholes(plain: &[u8], count: usize, out: &mut Vec<i64>) -> Result<(), Wrong> {
    let bytes = count.checked_mul(8).and_then(|bytes| plain.get(..bytes));
    let bytes = bytes.ok_or("numbers are missing")?;
    out.extend(bytes.as_chunks::<8>().0.iter().map(|number| i64::from_le_bytes(*number)));
    Ok(())
}

#[cfg(test)]
mod tests;
