//! JSON lines become rows: the one decoder behind the sealer, the search of the
//! hot journal and the tests that hold both together.
//!
//! Our own lines come in one order of keys, spelled in one way; the decoder
//! expects that and copies each value once. Whatever else comes is understood
//! too: keys without a column and values that do not fit theirs become
//! attributes, and a line that its columns would not give back byte for byte is
//! kept whole in the `line` column beside them. Never loses a byte of a line,
//! never panics on one.

mod build;
mod head;
mod parse;
pub(crate) mod token;

use std::{collections::HashMap, sync::Arc};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions};
use arrow_schema::{Schema, SchemaRef};

pub(crate) use self::head::{Head, head};
use self::{
    build::{Builder, Maps, Texts},
    parse::{Fit, MAP_ENTRIES_MAX, Scratch},
    token::{bad, blanks_end, byte},
};
use super::schema::{self, ATTRS, Dataset, LINE, Layout, SEQ, TS};

/// Bytes of lines in one batch: offsets are 31 bits wide.
pub const BATCH_BYTES_MAX: usize = 1 << 30;

/// A line that is no JSON object.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no JSON object: {what} at byte {at}")]
pub struct BadLine {
    pub what: &'static str,
    pub at: usize,
}

/// Turns lines of one dataset into rows.
#[derive(Debug)]
pub struct Decoder {
    layout: &'static Layout,
    schema: SchemaRef,
    keys: Keys,
    /// One for each column of the layout, if it is wanted.
    builders: Vec<Option<Builder>>,
    ts_at: usize,
    attrs: Option<Maps>,
    lines: Option<Texts>,
    seqs: Option<Vec<i64>>,
    rows: usize,
    bytes: usize,
    last_ts: i64,
    scratch: Scratch,
}

/// Finds the column of a key: in most lines the one that followed last time.
#[derive(Debug)]
struct Keys {
    /// `"key":` of each column.
    patterns: Vec<Box<[u8]>>,
    by_name: HashMap<&'static [u8], usize>,
    /// The column that followed each one, and the first, when last seen.
    after: Vec<usize>,
}

/// What a line's walk remembers.
struct Walk {
    at: usize,
    /// The place in the order of a rendered line of the last key, plus one.
    place: usize,
    exact: bool,
}

impl Decoder {
    /// `columns`: those that are wanted, all without it. Names that the dataset
    /// does not have are passed over.
    pub fn new(dataset: Dataset, columns: Option<&[&str]>) -> Self {
        let layout = schema::layout(dataset);
        let wanted = |name: &str| columns.is_none_or(|columns| columns.contains(&name));
        let full = schema::schema(dataset);
        let fields: Vec<_> =
            full.fields().iter().filter(|field| wanted(field.name())).cloned().collect();
        let builder =
            |column: &schema::Column| wanted(column.name).then(|| Builder::new(column.kind));
        let count = layout.columns.len();
        let position = layout.columns.iter().position(|column| column.name == TS);
        Self {
            layout,
            schema: Arc::new(Schema::new_with_metadata(fields, full.metadata().clone())),
            keys: Keys::new(layout),
            builders: layout.columns.iter().map(builder).collect(),
            ts_at: position.unwrap_or(count),
            attrs: wanted(ATTRS).then(Maps::new),
            lines: wanted(LINE).then(Texts::new),
            seqs: wanted(SEQ).then(Vec::new),
            rows: 0,
            bytes: 0,
            last_ts: 0,
            scratch: Scratch::default(),
        }
    }

    /// The columns of the batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows since the last [`Decoder::finish`].
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of lines since the last [`Decoder::finish`].
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a row, or nothing. `line` has no newline. A line without a time gets
    /// that of the line before.
    pub fn push(&mut self, line: &[u8], seq: u64) -> Result<(), BadLine> {
        self.push_at(line, seq, self.last_ts)
    }

    /// Adds a row; `ts` is its time if the line does not tell one.
    pub fn push_at(&mut self, line: &[u8], seq: u64, ts: i64) -> Result<(), BadLine> {
        let text = match std::str::from_utf8(line) {
            Ok(text) => text,
            Err(error) => return Err(bad("no UTF-8", error.valid_up_to())),
        };
        if self.bytes + line.len() > BATCH_BYTES_MAX {
            return Err(bad("no room in this batch", 0));
        }
        match self.row(text) {
            Ok(exact) => self.complete(line, seq, ts, exact),
            Err(error) => {
                self.take_back();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Adds a row for whatever is no JSON object: its text and nothing else.
    pub fn push_opaque(&mut self, line: &[u8], seq: u64, ts: i64) {
        self.complete(line, seq, ts, false);
    }

    /// The rows, with the wanted columns in the order of the schema; the decoder
    /// begins anew.
    pub fn finish(&mut self) -> RecordBatch {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let columns: Vec<ArrayRef> = self
            .schema
            .fields()
            .iter()
            .map(|field| match field.name().as_str() {
                SEQ => {
                    let seqs = self.seqs.as_mut().map(std::mem::take).unwrap_or_default();
                    Arc::new(Int64Array::from(seqs)) as ArrayRef
                }
                ATTRS => Builder::Maps(std::mem::replace(
                    self.attrs.get_or_insert_with(Maps::new),
                    Maps::new(),
                ))
                .finish(rows, field),
                LINE => self.lines.get_or_insert_with(Texts::new).finish_bytes(rows),
                name => {
                    let at = self.layout.columns.iter().position(|column| column.name == name);
                    let builder = at.and_then(|at| self.builders[at].as_mut());
                    builder.expect("made for each wanted column").finish(rows, field)
                }
            })
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            .expect("builders give the schema's types and as many rows each")
    }

    fn complete(&mut self, line: &[u8], seq: u64, ts: i64, exact: bool) {
        let row = self.rows;
        if let Some(Some(Builder::Times(times))) = self.builders.get_mut(self.ts_at) {
            let told = times.last(row);
            if told.is_none() {
                times.put(row, ts);
            }
            self.last_ts = told.unwrap_or(ts);
        }
        // Without its time a line does not render from its columns.
        if let Some(lines) = self.lines.as_mut().filter(|_| !exact) {
            lines.put(row, line);
        }
        if let Some(seqs) = &mut self.seqs {
            seqs.push(i64::try_from(seq).unwrap_or(i64::MAX));
        }
        self.rows += 1;
        self.bytes += line.len();
    }

    fn take_back(&mut self) {
        let rows = self.rows;
        self.builders.iter_mut().flatten().for_each(|builder| builder.truncate(rows));
        if let Some(attrs) = &mut self.attrs {
            attrs.truncate(rows);
        }
    }

    /// Reads one line into the builders; whether it renders back as it is.
    fn row(&mut self, line: &str) -> Result<bool, BadLine> {
        let bytes = line.as_bytes();
        let mut walk = Walk { at: blanks_end(bytes, 0), place: 0, exact: true };
        walk.exact = walk.at == 0;
        if byte(bytes, walk.at) != b'{' {
            return Err(bad("no opening brace", walk.at));
        }
        walk.at += 1;
        let mut previous = self.layout.columns.len();
        let mut timed = false;
        if byte(bytes, blanks_end(bytes, walk.at)) == b'}' {
            walk.exact &= byte(bytes, walk.at) == b'}';
            walk.at = blanks_end(bytes, walk.at) + 1;
        } else {
            loop {
                match self.keys.expected(bytes, walk.at, previous) {
                    Some((column, value_at)) => {
                        timed |= column == self.ts_at;
                        walk.at = value_at;
                        self.column(column, line, &mut walk)?;
                        previous = column;
                    }
                    None => {
                        let known = self.any_key(line, &mut walk, previous)?;
                        timed |= known == Some(self.ts_at);
                        previous = known.unwrap_or(previous);
                    }
                }
                if !matches!(byte(bytes, walk.at), b',' | b'}') {
                    walk.at = blanks_end(bytes, walk.at);
                    walk.exact = false;
                }
                walk.at += 1;
                match byte(bytes, walk.at - 1) {
                    b',' => {}
                    b'}' => break,
                    _ => return Err(bad("a comma or an end is expected", walk.at - 1)),
                }
            }
        }
        let end = blanks_end(bytes, walk.at);
        if end != bytes.len() {
            return Err(bad("something behind the object", end));
        }
        Ok(walk.exact && timed && end == walk.at)
    }

    /// The value of a column at `walk.at`.
    fn column(&mut self, column: usize, line: &str, walk: &mut Walk) -> Result<(), BadLine> {
        let (row, at) = (self.rows, walk.at);
        let place = column + 1 + usize::from(column >= self.layout.attrs_at);
        let repeated = place <= walk.place;
        walk.exact &= !repeated;
        walk.place = walk.place.max(place);
        // A repeated key: the first value counts, the line keeps both.
        let wanted = self.builders[column].as_mut();
        let Some(builder) = wanted.filter(|builder| !(repeated && builder.has(row))) else {
            walk.at = token::value(line.as_bytes(), at)?;
            return Ok(());
        };
        let (end, fit) = parse::put(builder, row, line, at, &mut self.scratch)?;
        walk.at = end;
        walk.exact &= fit != Fit::Respelled;
        if fit == Fit::Foreign {
            let key = self.layout.columns[column].key;
            walk.exact &= column != self.ts_at;
            walk.exact &= self.attribute(key.as_bytes(), &line.as_bytes()[at..end]);
        }
        Ok(())
    }

    /// A pair that the keys' order does not foretell. Gives its column.
    fn any_key(
        &mut self,
        line: &str,
        walk: &mut Walk,
        previous: usize,
    ) -> Result<Option<usize>, BadLine> {
        let bytes = line.as_bytes();
        let key_at = blanks_end(bytes, walk.at);
        let (key_end, plain) = token::string(bytes, key_at)?;
        let colon = blanks_end(bytes, key_end + 1);
        if byte(bytes, colon) != b':' {
            return Err(bad("a colon is expected", colon));
        }
        let value_at = blanks_end(bytes, colon + 1);
        walk.exact &= key_at == walk.at && colon == key_end + 1 && value_at == colon + 1;
        walk.at = value_at;
        let range = (key_at + 1, key_end);
        let unescaped;
        let key = if plain {
            &bytes[range.0..range.1]
        } else if let Some((text, exact)) = self.scratch.unescaped(line, range) {
            walk.exact &= exact;
            unescaped = text.to_owned();
            unescaped.as_bytes()
        } else {
            // Half a surrogate pair has no text: the line keeps it.
            walk.exact = false;
            walk.at = token::value(bytes, value_at)?;
            return Ok(None);
        };
        if let Some(column) = self.keys.learn(key, previous) {
            self.column(column, line, walk)?;
            return Ok(Some(column));
        }
        let place = self.layout.attrs_at + 1;
        walk.exact &= walk.place <= place;
        walk.place = walk.place.max(place);
        walk.at = token::value(bytes, value_at)?;
        walk.exact &= self.attribute(key, &bytes[value_at..walk.at]);
        Ok(None)
    }

    /// False if the row's attributes cannot take it.
    fn attribute(&mut self, key: &[u8], json: &[u8]) -> bool {
        let Some(attrs) = &mut self.attrs else { return true };
        let mut count = 0;
        let known = attrs.names(self.rows).inspect(|_| count += 1).any(|known| known == key);
        if known || count >= MAP_ENTRIES_MAX {
            return false;
        }
        attrs.add(self.rows, key, json);
        true
    }
}

impl Keys {
    fn new(layout: &Layout) -> Self {
        let columns = &layout.columns;
        let pattern = |column: &schema::Column| format!("\"{}\":", column.key).into_bytes().into();
        let count = columns.len();
        let mut after: Vec<usize> = (1..=count).collect();
        after.push(0);
        Self {
            patterns: columns.iter().map(pattern).collect(),
            by_name: (0..count).map(|at| (columns[at].key.as_bytes(), at)).collect(),
            after,
        }
    }

    fn expected(&self, line: &[u8], at: usize, previous: usize) -> Option<(usize, usize)> {
        let column = self.after[previous];
        let pattern = self.patterns.get(column)?;
        line[at..].starts_with(pattern).then_some((column, at + pattern.len()))
    }

    /// The column of a key, remembered as what follows `previous`.
    fn learn(&mut self, key: &[u8], previous: usize) -> Option<usize> {
        let column = self.by_name.get(key).copied()?;
        self.after[previous] = column;
        Some(column)
    }
}

#[cfg(test)]
pub(crate) mod tests;
