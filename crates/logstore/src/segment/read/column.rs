//! Rows of a column on their way into an array: pieces of pages, one behind the
//! other, spread out where rows have no value.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, DictionaryArray, Float64Array,
    Int32Array, Int64Array, StringArray, TimestampMicrosecondArray, types::Int32Type,
};
use arrow_buffer::{
    BooleanBuffer, BooleanBufferBuilder, Buffer, NullBuffer, NullBufferBuilder, OffsetBuffer,
    ScalarBuffer,
};
use arrow_schema::DataType;

use super::{chunk::Piece, source::ReadError};
use crate::segment::page::{Dictionary, Texts, Values, strings};

/// Values so far, in the form that their pages have.
pub(super) struct Column {
    rows: Rows,
    nulls: NullBufferBuilder,
}

enum Rows {
    Whole(Vec<i64>),
    Words(Words),
    Texts(Offsets),
    Bits(BooleanBufferBuilder),
}

/// Texts of few kinds: keys of the chunk's dictionary, and behind them texts of
/// pages that were written without it, each with a key of its own.
#[derive(Default)]
struct Words {
    keys: Vec<i32>,
    dictionary: Option<Arc<Dictionary>>,
    others: Offsets,
}

/// Texts as arrays keep them.
pub(super) struct Offsets {
    ends: Vec<i32>,
    bytes: Vec<u8>,
}

impl Default for Offsets {
    fn default() -> Self {
        Self { ends: vec![0], bytes: Vec::new() }
    }
}

impl Offsets {
    pub(super) fn push(&mut self, text: &[u8]) -> Result<(), ReadError> {
        self.bytes.extend_from_slice(text);
        self.ends.push(i32::try_from(self.bytes.len())?);
        Ok(())
    }

    fn push_none(&mut self, count: usize) {
        let last = self.ends.last().copied().unwrap_or_default();
        self.ends.resize(self.ends.len() + count, last);
    }

    fn len(&self) -> usize {
        self.ends.len() - 1
    }

    fn extend(&mut self, texts: &Texts, from: usize, to: usize) -> Result<(), ReadError> {
        self.ends.reserve(to - from);
        for at in from..to {
            self.push(texts.get(at).ok_or(MISSING)?)?;
        }
        Ok(())
    }

    pub(super) fn strings(self, nulls: Option<NullBuffer>) -> Result<StringArray, ReadError> {
        Ok(strings((self.ends, self.bytes), nulls)?)
    }
}

const MISSING: &str = "a page has too few values";

impl Column {
    /// Of a type that columns in memory have.
    pub(super) fn new(data_type: &DataType, rows: usize) -> Self {
        let values = match data_type {
            DataType::Dictionary(..) => {
                Rows::Words(Words { keys: Vec::with_capacity(rows), ..Words::default() })
            }
            DataType::Utf8 | DataType::Binary => Rows::Texts(Offsets::default()),
            DataType::Boolean => Rows::Bits(BooleanBufferBuilder::new(rows)),
            _ => Rows::Whole(Vec::with_capacity(rows)),
        };
        Self { rows: values, nulls: NullBufferBuilder::new(rows) }
    }

    /// Appends rows of a page.
    pub(super) fn append(&mut self, piece: &Piece<'_>) -> Result<(), ReadError> {
        let (from, to) = (piece.rows.start, piece.rows.end);
        let Some(valid) = &piece.page.valid else {
            self.nulls.append_n_non_nulls(to - from);
            return self.rows.extend(piece, from, to);
        };
        let first = valid.slice(0, from).count_set_bits();
        let own: BooleanBuffer = valid.slice(from, to - from);
        let end = first + own.count_set_bits();
        match self.rows.movable() {
            Some(before) => {
                self.rows.extend(piece, first, end)?;
                self.rows.spread(before, &own);
            }
            None => {
                let (mut at, mut done) = (first, 0);
                for (start, end) in own.set_slices() {
                    self.rows.extend_none(start - done);
                    self.rows.extend(piece, at, at + end - start)?;
                    at += end - start;
                    done = end;
                }
                self.rows.extend_none(own.len() - done);
            }
        }
        self.nulls.append_buffer(&NullBuffer::new(own));
        Ok(())
    }

    pub(super) fn finish(mut self, data_type: &DataType) -> Result<ArrayRef, ReadError> {
        let nulls = self.nulls.finish();
        Ok(match (self.rows, data_type) {
            (Rows::Whole(values), DataType::Timestamp(..)) => {
                let times = TimestampMicrosecondArray::try_new(values.into(), nulls)?;
                Arc::new(times.with_data_type(data_type.clone()))
            }
            (Rows::Whole(values), DataType::Float64) => {
                let millis = values.iter().map(|micros| *micros as f64 / 1000.0);
                Arc::new(Float64Array::try_new(millis.collect::<Vec<_>>().into(), nulls)?)
            }
            (Rows::Whole(values), DataType::Decimal128(..)) => {
                let wide: Vec<i128> = values.iter().map(|value| i128::from(*value)).collect();
                let decimals = Decimal128Array::try_new(wide.into(), nulls)?;
                Arc::new(decimals.with_data_type(data_type.clone()))
            }
            (Rows::Whole(values), DataType::Int64) => {
                Arc::new(Int64Array::try_new(values.into(), nulls)?)
            }
            (Rows::Words(words), _) => words.finish(nulls)?,
            (Rows::Texts(texts), DataType::Utf8) => Arc::new(texts.strings(nulls)?),
            (Rows::Texts(texts), DataType::Binary) => {
                let offsets = OffsetBuffer::new(ScalarBuffer::from(texts.ends));
                Arc::new(BinaryArray::try_new(offsets, Buffer::from_vec(texts.bytes), nulls)?)
            }
            (Rows::Bits(mut bits), DataType::Boolean) => {
                Arc::new(BooleanArray::new(bits.finish(), nulls))
            }
            _ => return Err("a column has a type that no file keeps".into()),
        })
    }
}

/// Moves the values behind the first `before` to the rows that have one, from the
/// last on, so that none is overwritten before it was moved; others get the default.
fn spread<T: Copy + Default>(values: &mut Vec<T>, before: usize, rows: &BooleanBuffer) {
    let mut from = values.len();
    values.resize(before + rows.len(), T::default());
    for row in (0..rows.len()).rev() {
        let to = before + row;
        if from > to {
            // All that are left stand where they belong.
            break;
        }
        values[to] = match rows.value(row) && from > before {
            true => {
                from -= 1;
                values[from]
            }
            false => T::default(),
        };
    }
}

impl Rows {
    /// Values from one place to another.
    fn extend(&mut self, piece: &Piece<'_>, from: usize, to: usize) -> Result<(), ReadError> {
        match (self, &piece.page.values) {
            (Self::Whole(out), Values::Whole(values)) => {
                out.extend_from_slice(values.get(from..to).ok_or(MISSING)?);
            }
            (Self::Whole(out), Values::Keys(keys)) => {
                let Some(Dictionary::Wholes(known)) = piece.dictionary.map(|it| &**it) else {
                    return Err("it has another dictionary".into());
                };
                for key in keys.get(from..to).ok_or(MISSING)? {
                    out.push(*known.get(*key as usize).ok_or(OUTSIDE)?);
                }
            }
            (Self::Words(words), Values::Keys(keys)) => {
                words.keys(keys.get(from..to).ok_or(MISSING)?, piece.dictionary)?;
            }
            (Self::Words(words), Values::Texts(texts)) => words.others(texts, from, to)?,
            (Self::Texts(out), Values::Texts(texts)) => out.extend(texts, from, to)?,
            (Self::Texts(out), Values::Keys(keys)) => {
                let Some(Dictionary::Texts(known)) = piece.dictionary.map(|it| &**it) else {
                    return Err("it has another dictionary".into());
                };
                for key in keys.get(from..to).ok_or(MISSING)? {
                    out.push(text_of(known, *key)?)?;
                }
            }
            (Self::Bits(out), Values::Bits(bits)) => {
                if to > bits.len() {
                    return Err(MISSING.into());
                }
                out.append_buffer(&bits.slice(from, to - from));
            }
            _ => return Err("a page has values of another type".into()),
        }
        Ok(())
    }

    /// How many values there are, where moving them apart afterwards is quicker
    /// than putting each in its place.
    fn movable(&self) -> Option<usize> {
        match self {
            Self::Whole(values) => Some(values.len()),
            Self::Words(words) => Some(words.keys.len()),
            Self::Texts(_) | Self::Bits(_) => None,
        }
    }

    fn spread(&mut self, before: usize, rows: &BooleanBuffer) {
        match self {
            Self::Whole(values) => spread(values, before, rows),
            Self::Words(words) => spread(&mut words.keys, before, rows),
            Self::Texts(_) | Self::Bits(_) => {}
        }
    }

    /// Rows without a value, of those that are not moved.
    fn extend_none(&mut self, count: usize) {
        match self {
            Self::Whole(_) | Self::Words(_) => {}
            Self::Texts(texts) => texts.push_none(count),
            Self::Bits(bits) => bits.append_n(count, false),
        }
    }
}

const OUTSIDE: &str = "a key is outside of its dictionary";

/// A text of a dictionary.
pub(super) fn text_of(known: &StringArray, key: u32) -> Result<&[u8], ReadError> {
    let key = key as usize;
    if key >= known.len() {
        return Err(OUTSIDE.into());
    }
    Ok(known.value(key).as_bytes())
}

impl Words {
    fn keys(
        &mut self,
        keys: &[u32],
        dictionary: Option<&Arc<Dictionary>>,
    ) -> Result<(), ReadError> {
        let known = dictionary.ok_or("it has no dictionary")?;
        if self.dictionary.is_none() {
            // Keys behind other texts would mean something else than before.
            if self.others.len() > 0 {
                return Err("a dictionary follows texts without one".into());
            }
            self.dictionary = Some(Arc::clone(known));
        }
        self.keys.extend(keys.iter().map(|key| key.cast_signed()));
        Ok(())
    }

    fn others(&mut self, texts: &Texts, from: usize, to: usize) -> Result<(), ReadError> {
        let known = match self.dictionary.as_deref() {
            Some(Dictionary::Texts(known)) => known.len(),
            _ => 0,
        };
        let first = i32::try_from(known + self.others.len())?;
        let count = i32::try_from(to - from)?;
        let end = first.checked_add(count).ok_or("a page has too many values")?;
        self.keys.extend(first..end);
        self.others.extend(texts, from, to)
    }

    fn finish(self, nulls: Option<NullBuffer>) -> Result<ArrayRef, ReadError> {
        let known = match self.dictionary.as_deref() {
            None => None,
            Some(Dictionary::Texts(known)) => Some(known.clone()),
            Some(Dictionary::Wholes(_)) => return Err("it has another dictionary".into()),
        };
        let values: ArrayRef = match (known, self.others.len()) {
            (Some(known), 0) => Arc::new(known),
            (None, _) => Arc::new(self.others.strings(None)?),
            (Some(known), _) => {
                let others = self.others.strings(None)?;
                arrow_select::concat::concat(&[&known, &others])?
            }
        };
        // Nothing but rows without a value: their keys name no text.
        let keys = Int32Array::try_new(self.keys.into(), nulls)?;
        Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(keys, values)?))
    }
}
