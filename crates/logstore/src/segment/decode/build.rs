//! Columns under construction. A column that a row says nothing of costs that
//! row nothing: nulls are filled in when the next value comes, or at the end.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, DictionaryArray, Float64Array,
    Int32Array, Int64Array, MapArray, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow_buffer::{
    BooleanBufferBuilder, Buffer, NullBuffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer,
};
use arrow_schema::{DataType, Field};

use crate::segment::schema::{ColumnKind, DECIMAL_DIGITS, DECIMAL_SCALE};

const VALID: &str = "only whole texts of valid lines are added, in step";

/// Which rows of a column have a value.
#[derive(Debug)]
struct Presence(NullBufferBuilder);

impl Presence {
    fn new() -> Self {
        Self(NullBufferBuilder::new(0))
    }

    /// Rows that are missing before `row`.
    fn missing(&mut self, row: usize) -> usize {
        let missing = row - self.0.len();
        if missing > 0 {
            self.0.append_n_nulls(missing);
        }
        missing
    }

    fn finish(&mut self) -> Option<NullBuffer> {
        self.0.finish()
    }
}

#[derive(Debug)]
pub(super) struct Numbers<T> {
    values: Vec<T>,
    presence: Presence,
}

impl<T: Copy + Default> Numbers<T> {
    fn new() -> Self {
        Self { values: Vec::new(), presence: Presence::new() }
    }

    fn pad(&mut self, row: usize) {
        let missing = self.presence.missing(row);
        if missing > 0 {
            self.values.resize(row, T::default());
        }
    }

    pub(super) fn put(&mut self, row: usize, value: T) {
        self.pad(row);
        self.values.push(value);
        self.presence.0.append_non_null();
    }

    /// The value of the row that is under construction.
    pub(super) fn last(&self, row: usize) -> Option<T> {
        self.values.get(row).copied()
    }

    fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
        self.presence.0.truncate(rows);
    }

    fn finish(&mut self, rows: usize) -> (Vec<T>, Option<NullBuffer>) {
        self.pad(rows);
        (std::mem::take(&mut self.values), self.presence.finish())
    }
}

/// Texts one behind the other, without presence.
#[derive(Debug)]
struct Pieces {
    ends: Vec<i32>,
    bytes: Vec<u8>,
}

impl Pieces {
    fn new() -> Self {
        Self { ends: vec![0], bytes: Vec::new() }
    }

    fn len(&self) -> usize {
        self.ends.len() - 1
    }

    /// The decoder keeps a batch below what 31 bits count.
    fn end(&self) -> i32 {
        i32::try_from(self.bytes.len()).unwrap_or(i32::MAX)
    }

    fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.ends.push(self.end());
    }

    fn get(&self, at: usize) -> &[u8] {
        let at_byte = |end: i32| usize::try_from(end).unwrap_or(0);
        &self.bytes[at_byte(self.ends[at])..at_byte(self.ends[at + 1])]
    }

    fn truncate(&mut self, len: usize) {
        if len < self.len() {
            self.ends.truncate(len + 1);
            self.bytes.truncate(usize::try_from(self.ends[len]).unwrap_or(0));
        }
    }

    fn take(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        let ends = std::mem::replace(&mut self.ends, vec![0]);
        let bytes = std::mem::take(&mut self.bytes);
        (OffsetBuffer::new(ScalarBuffer::from(ends)), Buffer::from_vec(bytes))
    }

    fn take_texts(&mut self, nulls: Option<NullBuffer>) -> StringArray {
        let (ends, bytes) = self.take();
        StringArray::try_new(ends, bytes, nulls).expect(VALID)
    }
}

#[derive(Debug)]
pub(super) struct Texts {
    pieces: Pieces,
    presence: Presence,
}

impl Texts {
    pub(super) fn new() -> Self {
        Self { pieces: Pieces::new(), presence: Presence::new() }
    }

    fn pad(&mut self, row: usize) {
        let missing = self.presence.missing(row);
        if missing > 0 {
            let end = self.pieces.end();
            self.pieces.ends.resize(row + 1, end);
        }
    }

    pub(super) fn put(&mut self, row: usize, text: &[u8]) {
        self.pad(row);
        self.pieces.push(text);
        self.presence.0.append_non_null();
    }

    fn finish(&mut self, rows: usize) -> ArrayRef {
        self.pad(rows);
        let nulls = self.presence.finish();
        Arc::new(self.pieces.take_texts(nulls))
    }

    pub(super) fn finish_bytes(&mut self, rows: usize) -> ArrayRef {
        self.pad(rows);
        let nulls = self.presence.finish();
        let (ends, bytes) = self.pieces.take();
        Arc::new(BinaryArray::try_new(ends, bytes, nulls).expect(VALID))
    }
}

/// Text by dictionary: most often the value of the row before.
#[derive(Debug)]
pub(super) struct Words {
    keys: Numbers<i32>,
    words: Pieces,
    /// Open addressing; a word's number plus one, 0 is free.
    table: Vec<u32>,
    last: usize,
}

const TABLE_LEN: usize = 64;

impl Words {
    fn new() -> Self {
        Self { keys: Numbers::new(), words: Pieces::new(), table: vec![0; TABLE_LEN], last: 0 }
    }

    pub(super) fn put(&mut self, row: usize, text: &[u8]) {
        if self.last >= self.words.len() || self.words.get(self.last) != text {
            self.last = self.find(text);
        }
        self.keys.put(row, i32::try_from(self.last).unwrap_or(i32::MAX));
    }

    fn find(&mut self, text: &[u8]) -> usize {
        if self.words.len() * 2 >= self.table.len() {
            self.grow();
        }
        let mask = self.table.len() - 1;
        let mut at = hash(text) as usize & mask;
        while let Some(word) = (self.table[at] as usize).checked_sub(1) {
            if self.words.get(word) == text {
                return word;
            }
            at = (at + 1) & mask;
        }
        self.words.push(text);
        self.table[at] = u32::try_from(self.words.len()).unwrap_or(u32::MAX);
        self.words.len() - 1
    }

    fn grow(&mut self) {
        let len = self.table.len() * 4;
        let mask = len - 1;
        self.table.clear();
        self.table.resize(len, 0);
        for word in 0..self.words.len() {
            let mut at = hash(self.words.get(word)) as usize & mask;
            while self.table[at] != 0 {
                at = (at + 1) & mask;
            }
            self.table[at] = u32::try_from(word + 1).unwrap_or(u32::MAX);
        }
    }

    fn finish(&mut self, rows: usize) -> ArrayRef {
        let (keys, nulls) = self.keys.finish(rows);
        let words = Arc::new(self.words.take_texts(None));
        self.table.clear();
        self.table.resize(TABLE_LEN, 0);
        self.last = 0;
        let keys = Int32Array::new(keys.into(), nulls);
        Arc::new(DictionaryArray::try_new(keys, words).expect(VALID))
    }
}

/// Good enough for a table that lives for one batch.
fn hash(text: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut state = text.len() as u64;
    let mut chunks = text.chunks_exact(8);
    for chunk in &mut chunks {
        let word = chunk.try_into().map_or(0, u64::from_le_bytes);
        state = (state.rotate_left(23) ^ word).wrapping_mul(FACTOR);
    }
    for byte in chunks.remainder() {
        state = (state.rotate_left(9) ^ u64::from(*byte)).wrapping_mul(FACTOR);
    }
    state ^ (state >> 32)
}

#[derive(Debug)]
pub(super) struct Booleans {
    values: BooleanBufferBuilder,
    presence: Presence,
}

impl Booleans {
    fn new() -> Self {
        Self { values: BooleanBufferBuilder::new(0), presence: Presence::new() }
    }

    pub(super) fn put(&mut self, row: usize, value: bool) {
        self.pad(row);
        self.values.append(value);
        self.presence.0.append_non_null();
    }

    fn pad(&mut self, row: usize) {
        let missing = self.presence.missing(row);
        self.values.append_n(missing, false);
    }

    fn finish(&mut self, rows: usize) -> ArrayRef {
        self.pad(rows);
        let values = self.values.finish();
        Arc::new(BooleanArray::new(values, self.presence.finish()))
    }
}

/// Names and texts of each row.
#[derive(Debug)]
pub(super) struct Maps {
    names: Pieces,
    texts: Pieces,
    /// Where the entries of each row end.
    ends: Vec<i32>,
    presence: Presence,
}

impl Maps {
    pub(super) fn new() -> Self {
        let pieces = Pieces::new;
        Self { names: pieces(), texts: pieces(), ends: vec![0], presence: Presence::new() }
    }

    fn entries(&self) -> i32 {
        i32::try_from(self.names.len()).unwrap_or(i32::MAX)
    }

    fn begun(&self) -> usize {
        self.ends.len() - 1
    }

    /// Makes the row's map present, with what was added to it so far.
    pub(super) fn begin(&mut self, row: usize) {
        if self.begun() > row {
            return;
        }
        let end = self.ends.last().copied().unwrap_or(0);
        self.presence.missing(row);
        self.ends.resize(row + 1, end);
        self.ends.push(self.entries());
        self.presence.0.append_non_null();
    }

    pub(super) fn add(&mut self, row: usize, name: &[u8], text: &[u8]) {
        self.begin(row);
        self.names.push(name);
        self.texts.push(text);
        let entries = self.entries();
        if let Some(end) = self.ends.last_mut() {
            *end = entries;
        }
    }

    /// The names that the row has so far.
    pub(super) fn names(&self, row: usize) -> impl Iterator<Item = &[u8]> {
        let begin = self.ends.get(row).copied().unwrap_or(0);
        let begin =
            if self.begun() > row { usize::try_from(begin).unwrap_or(0) } else { usize::MAX };
        (begin..self.names.len()).map(|at| self.names.get(at))
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        if self.begun() > rows {
            self.ends.truncate(rows + 1);
            self.presence.0.truncate(rows);
        }
        let entries = usize::try_from(self.ends.last().copied().unwrap_or(0)).unwrap_or(0);
        self.names.truncate(entries);
        self.texts.truncate(entries);
    }

    fn finish(&mut self, rows: usize, data_type: &DataType) -> ArrayRef {
        let DataType::Map(entries, sorted) = data_type else { unreachable!("a map's type") };
        let DataType::Struct(fields) = entries.data_type() else { unreachable!("a map's type") };
        self.presence.missing(rows);
        let end = self.ends.last().copied().unwrap_or(0);
        self.ends.resize(rows + 1, end);
        let columns: Vec<ArrayRef> =
            vec![Arc::new(self.names.take_texts(None)), Arc::new(self.texts.take_texts(None))];
        let ends = std::mem::replace(&mut self.ends, vec![0]);
        let ends = OffsetBuffer::new(ScalarBuffer::from(ends));
        let inner = StructArray::try_new(fields.clone(), columns, None).expect(VALID);
        let nulls = self.presence.finish();
        let entries = Arc::clone(entries);
        Arc::new(MapArray::try_new(entries, ends, inner, nulls, *sorted).expect(VALID))
    }
}

/// A column of any kind.
#[derive(Debug)]
pub(super) enum Builder {
    Words(Words),
    Texts(Texts),
    Times(Numbers<i64>),
    Integers(Numbers<i64>),
    Millis(Numbers<f64>),
    Decimals(Numbers<i128>),
    Booleans(Booleans),
    Maps(Maps),
}

impl Builder {
    pub(super) fn new(kind: ColumnKind) -> Self {
        match kind {
            ColumnKind::Text => Self::Words(Words::new()),
            ColumnKind::LongText | ColumnKind::Id | ColumnKind::Bytes => Self::Texts(Texts::new()),
            ColumnKind::Time => Self::Times(Numbers::new()),
            ColumnKind::Integer => Self::Integers(Numbers::new()),
            ColumnKind::Millis => Self::Millis(Numbers::new()),
            ColumnKind::Decimal => Self::Decimals(Numbers::new()),
            ColumnKind::Boolean => Self::Booleans(Booleans::new()),
            ColumnKind::Map => Self::Maps(Maps::new()),
        }
    }

    fn presence(&self) -> &Presence {
        match self {
            Self::Words(words) => &words.keys.presence,
            Self::Texts(texts) => &texts.presence,
            Self::Times(numbers) | Self::Integers(numbers) => &numbers.presence,
            Self::Millis(numbers) => &numbers.presence,
            Self::Decimals(numbers) => &numbers.presence,
            Self::Booleans(booleans) => &booleans.presence,
            Self::Maps(maps) => &maps.presence,
        }
    }

    /// Whether the row has its value already.
    pub(super) fn has(&self, row: usize) -> bool {
        self.presence().0.len() > row
    }

    /// Takes back what was put for rows from `rows` on.
    pub(super) fn truncate(&mut self, rows: usize) {
        if let Self::Maps(maps) = self {
            return maps.truncate(rows);
        }
        if self.presence().0.len() <= rows {
            return;
        }
        match self {
            Self::Words(words) => words.keys.truncate(rows),
            Self::Texts(texts) => {
                texts.pieces.truncate(rows);
                texts.presence.0.truncate(rows);
            }
            Self::Times(numbers) | Self::Integers(numbers) => numbers.truncate(rows),
            Self::Millis(numbers) => numbers.truncate(rows),
            Self::Decimals(numbers) => numbers.truncate(rows),
            Self::Booleans(booleans) => {
                booleans.values.truncate(rows);
                booleans.presence.0.truncate(rows);
            }
            Self::Maps(_) => {}
        }
    }

    pub(super) fn finish(&mut self, rows: usize, field: &Field) -> ArrayRef {
        match self {
            Self::Words(words) => words.finish(rows),
            Self::Texts(texts) => texts.finish(rows),
            Self::Times(numbers) => {
                let (values, nulls) = numbers.finish(rows);
                let array = TimestampMicrosecondArray::new(values.into(), nulls);
                Arc::new(array.with_timezone("UTC"))
            }
            Self::Integers(numbers) => {
                let (values, nulls) = numbers.finish(rows);
                Arc::new(Int64Array::new(values.into(), nulls))
            }
            Self::Millis(numbers) => {
                let (values, nulls) = numbers.finish(rows);
                Arc::new(Float64Array::new(values.into(), nulls))
            }
            Self::Decimals(numbers) => {
                let (values, nulls) = numbers.finish(rows);
                let array = Decimal128Array::new(values.into(), nulls);
                let array = array.with_precision_and_scale(DECIMAL_DIGITS, DECIMAL_SCALE);
                Arc::new(array.expect("within the type's bounds"))
            }
            Self::Booleans(booleans) => booleans.finish(rows),
            Self::Maps(maps) => maps.finish(rows, field.data_type()),
        }
    }
}
