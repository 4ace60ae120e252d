//! Rows of a map column: its keys and its values are two leaves of their own,
//! whose levels must agree.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, MapArray, StructArray};
use arrow_buffer::{NullBuffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field};

use super::{
    chunk::Piece,
    column::{Offsets, text_of},
    source::ReadError,
};
use crate::segment::page::{Dictionary, Page, Values};

/// Definition levels of the keys: a row without a map, an empty map, an entry.
const NO_MAP: u32 = 0;
const NO_ENTRY: u32 = 1;

/// Where rows end among the entries of one leaf, and the texts of these.
pub(super) struct Side {
    ends: Vec<i32>,
    nulls: NullBufferBuilder,
    texts: Offsets,
    present: NullBufferBuilder,
    /// The level of an entry that has a text.
    full: u32,
}

impl Side {
    /// `definition_max`: of its leaf.
    pub(super) fn new(definition_max: u8) -> Self {
        Self {
            ends: vec![0],
            nulls: NullBufferBuilder::new(0),
            texts: Offsets::default(),
            present: NullBufferBuilder::new(0),
            full: u32::from(definition_max),
        }
    }

    /// Appends rows of a page.
    pub(super) fn append(&mut self, piece: &Piece<'_>) -> Result<(), ReadError> {
        let levels = &piece.page.levels;
        let bounds = levels.rows.get(piece.rows.start..=piece.rows.end);
        let bounds = bounds.ok_or("a page has too few rows")?;
        let before = levels.definitions.get(..bounds[0]).unwrap_or_default();
        let mut at = before.iter().filter(|level| **level == self.full).count();
        for row in bounds.windows(2) {
            let entries = levels.definitions.get(row[0]..row[1]).unwrap_or_default();
            self.nulls.append(entries != [NO_MAP]);
            for level in entries.iter().filter(|level| **level > NO_ENTRY) {
                let has_text = *level == self.full;
                self.present.append(has_text);
                match has_text {
                    true => self.texts.push(text(piece, at)?)?,
                    false => self.texts.push(&[])?,
                }
                at += usize::from(has_text);
            }
            self.ends.push(i32::try_from(self.present.len())?);
        }
        Ok(())
    }
}

fn text<'p>(piece: &Piece<'p>, at: usize) -> Result<&'p [u8], ReadError> {
    let page: &'p Page = piece.page;
    let found = match &page.values {
        Values::Texts(texts) => texts.get(at),
        Values::Keys(keys) => match (keys.get(at), piece.dictionary.map(|it| &**it)) {
            (Some(key), Some(Dictionary::Texts(known))) => Some(text_of(known, *key)?),
            _ => None,
        },
        Values::Whole(_) | Values::Bits(_) => None,
    };
    Ok(found.ok_or("a page has too few values")?)
}

/// Puts keys and values together.
pub(super) fn finish(
    mut keys: Side,
    mut values: Side,
    data_type: &DataType,
) -> Result<ArrayRef, ReadError> {
    let DataType::Map(entries, is_sorted) = data_type else {
        return Err("a column has a type that no file keeps".into());
    };
    let DataType::Struct(fields) = entries.data_type() else {
        return Err("a column has a type that no file keeps".into());
    };
    let nulls: Option<NullBuffer> = keys.nulls.finish();
    if keys.ends != values.ends || nulls != values.nulls.finish() {
        return Err("a map has other keys than values".into());
    }
    if keys.present.finish().is_some() {
        return Err("a map has an entry without a key".into());
    }
    let key_texts = Arc::new(keys.texts.strings(None)?) as ArrayRef;
    let value_texts = values.texts.strings(values.present.finish())?;
    let columns = vec![key_texts, Arc::new(value_texts) as ArrayRef];
    let pairs = StructArray::try_new(fields.clone(), columns, None)?;
    let offsets = OffsetBuffer::new(ScalarBuffer::from(keys.ends));
    let field: Arc<Field> = Arc::clone(entries);
    let map = MapArray::try_new(field, offsets, pairs, nulls, *is_sorted)?;
    Ok(Arc::new(map) as Arc<dyn Array>)
}
