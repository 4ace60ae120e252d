//! Rows become lines again: the way back of [`super::decode`], in the order of
//! the dataset's layout. A row of all columns gives exactly the line that was
//! decoded; a row of some gives what they say.

use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, DictionaryArray, Float64Array,
    Int64Array, MapArray, RecordBatch, StringArray, TimestampMicrosecondArray,
    cast::AsArray,
    types::{Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType},
};
use domain::{json::write_text, time::Timestamp, usage::UsdNanos};

use super::schema::{self, ATTRS, Column, ColumnKind, Dataset, LINE};

/// Renders rows of one batch.
#[derive(Debug)]
pub struct Renderer<'a> {
    columns: Vec<(Column, Option<Cells<'a>>)>,
    attrs_at: usize,
    attrs: Option<&'a MapArray>,
    lines: Option<&'a BinaryArray>,
}

/// A column's values by their type.
#[derive(Debug)]
enum Cells<'a> {
    Words(&'a DictionaryArray<Int32Type>, &'a StringArray),
    Texts(&'a StringArray),
    Times(&'a TimestampMicrosecondArray),
    Integers(&'a Int64Array),
    Millis(&'a Float64Array),
    Decimals(&'a Decimal128Array),
    Booleans(&'a BooleanArray),
    Maps(&'a MapArray),
}

impl<'a> Renderer<'a> {
    /// The batch's schema names its dataset (records without a name).
    pub fn new(batch: &'a RecordBatch) -> Self {
        let schema = batch.schema_ref();
        let dataset = schema.metadata().get(schema::DATASET_KEY);
        let dataset = dataset.and_then(|name| Dataset::parse(name)).unwrap_or(Dataset::Records);
        let layout = schema::layout(dataset);
        let columns = layout.columns.iter().map(|column| {
            let array = batch.column_by_name(column.name);
            (*column, array.and_then(|array| Cells::of(column.kind, array)))
        });
        let special = |name: &str| batch.column_by_name(name);
        Self {
            columns: columns.collect(),
            attrs_at: layout.attrs_at,
            attrs: special(ATTRS).and_then(|array| array.as_map_opt()),
            lines: special(LINE).and_then(|array| array.as_binary_opt()),
        }
    }

    /// Appends the line of a row, without a newline: exactly the one that was
    /// decoded if all columns are there.
    pub fn render(&self, row: usize, out: &mut Vec<u8>) {
        if let Some(lines) = self.lines.filter(|lines| lines.is_valid(row)) {
            return out.extend_from_slice(lines.value(row));
        }
        let attrs = self.attrs.filter(|attrs| attrs.is_valid(row)).map(|attrs| entries(attrs, row));
        let attrs = attrs.unwrap_or_default();
        let begin = out.len();
        for (at, (column, cells)) in self.columns.iter().enumerate() {
            if at == self.attrs_at {
                self.unknown(&attrs, out);
            }
            let key_at = out.len();
            write_key(column.key, out);
            let written = cells.as_ref().is_some_and(|cells| cells.write(row, out));
            if written {
                continue;
            }
            // What did not fit the column's type.
            match attrs.iter().find(|(name, _)| *name == column.key) {
                Some((_, json)) => out.extend_from_slice(json.as_bytes()),
                None => out.truncate(key_at),
            }
        }
        if self.attrs_at == self.columns.len() {
            self.unknown(&attrs, out);
        }
        match out.get_mut(begin) {
            Some(comma) => *comma = b'{',
            None => out.push(b'{'),
        }
        out.push(b'}');
    }

    /// The attributes that no column has.
    fn unknown(&self, attrs: &[(&str, &str)], out: &mut Vec<u8>) {
        for (name, json) in attrs {
            if self.columns.iter().all(|(column, _)| column.key != *name) {
                out.push(b',');
                write_text(out, name);
                out.push(b':');
                out.extend_from_slice(json.as_bytes());
            }
        }
    }
}

/// Renders one row; for many of a batch, keep a [`Renderer`].
pub fn render(batch: &RecordBatch, row: usize, out: &mut Vec<u8>) {
    Renderer::new(batch).render(row, out);
}

/// Names and values of a row of a map column.
pub fn entries(maps: &MapArray, row: usize) -> Vec<(&str, &str)> {
    let offsets = maps.value_offsets();
    let bound = |at: usize| usize::try_from(offsets[at]).unwrap_or(0);
    let (Some(names), Some(texts)) =
        (maps.keys().as_string_opt::<i32>(), maps.values().as_string_opt::<i32>())
    else {
        return Vec::new();
    };
    (bound(row)..bound(row + 1)).map(|at| (names.value(at), texts.value(at))).collect()
}

impl<'a> Cells<'a> {
    /// `None`: an array of another type (an engine made it), which is left out.
    fn of(kind: ColumnKind, array: &'a ArrayRef) -> Option<Self> {
        Some(match kind {
            ColumnKind::Text | ColumnKind::LongText | ColumnKind::Id => {
                match array.as_dictionary_opt::<Int32Type>() {
                    Some(words) => Self::Words(words, words.values().as_string_opt()?),
                    None => Self::Texts(array.as_string_opt()?),
                }
            }
            ColumnKind::Time => Self::Times(array.as_primitive_opt::<TimestampMicrosecondType>()?),
            ColumnKind::Integer => Self::Integers(array.as_primitive_opt::<Int64Type>()?),
            ColumnKind::Millis => Self::Millis(array.as_primitive_opt::<Float64Type>()?),
            ColumnKind::Decimal => Self::Decimals(array.as_primitive_opt::<Decimal128Type>()?),
            ColumnKind::Boolean => Self::Booleans(array.as_boolean_opt()?),
            ColumnKind::Map => Self::Maps(array.as_map_opt()?),
            ColumnKind::Bytes => return None,
        })
    }

    /// Appends the value; false if there is none.
    fn write(&self, row: usize, out: &mut Vec<u8>) -> bool {
        match self {
            Self::Words(words, texts) => {
                let Some(key) = words.key(row).filter(|key| texts.is_valid(*key)) else {
                    return false;
                };
                write_text(out, texts.value(key));
            }
            Self::Texts(texts) if texts.is_valid(row) => write_text(out, texts.value(row)),
            Self::Times(times) if times.is_valid(row) => {
                out.push(b'"');
                let time = Timestamp::from_micros(times.value(row)).to_rfc3339();
                out.extend_from_slice(time.as_str().as_bytes());
                out.push(b'"');
            }
            Self::Integers(integers) if integers.is_valid(row) => {
                write_integer(integers.value(row), out);
            }
            Self::Millis(numbers) if numbers.is_valid(row) => {
                write_millis(numbers.value(row), out);
            }
            Self::Decimals(numbers) if numbers.is_valid(row) => {
                let nanos = u64::try_from(numbers.value(row)).unwrap_or(0);
                out.push(b'"');
                out.extend_from_slice(UsdNanos(nanos).to_string().as_bytes());
                out.push(b'"');
            }
            Self::Booleans(booleans) if booleans.is_valid(row) => {
                out.extend_from_slice(if booleans.value(row) { b"true" } else { b"false" });
            }
            Self::Maps(maps) if maps.is_valid(row) => write_map(&entries(maps, row), out),
            _ => return false,
        }
        true
    }
}

/// Keys of ours need no escaping.
fn write_key(key: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}

fn write_map(entries: &[(&str, &str)], out: &mut Vec<u8>) {
    out.push(b'{');
    for (at, (name, text)) in entries.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_text(out, name);
        out.push(b':');
        write_text(out, text);
    }
    out.push(b'}');
}

fn write_integer(value: i64, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut left = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// As `Object::millis_if` writes what the decoder calls exact.
fn write_millis(millis: f64, out: &mut Vec<u8>) {
    let micros = (millis * 1000.0).round();
    write_integer((micros / 1000.0).trunc() as i64, out);
    let fraction = (micros % 1000.0).abs() as u64;
    if fraction != 0 {
        out.push(b'.');
        let digits = [fraction / 100, fraction / 10 % 10, fraction % 10];
        out.extend(digits.map(|digit| b'0' + digit as u8));
    }
}
