//! Which group a row belongs to. Values become small numbers, column by column,
//! and numbers become groups: a text is looked at once for each dictionary it
//! stands in, not for each row.

use std::collections::HashMap;

use arrow_array::{Array, ArrayRef, DictionaryArray, cast::AsArray, types::Int32Type};
use domain::{fields::Kind, query::GROUP_FIELDS_MAX, time::Timestamp};

use super::{
    EngineError,
    check::unquoted,
    evaluate::{cell, entries, is_same},
    sketch::Mixed,
    table::Cell,
};

/// Groups of one answer.
pub(crate) const GROUPS_MAX: usize = 100_000;
/// Codes up to this have a place of their own in a table; others are looked up.
const DENSE_MAX: u32 = 1024;

/// What a group is: the number of its time bucket, and a code a field (0: the
/// field is absent).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct GroupKey {
    pub(crate) bucket: i64,
    pub(crate) codes: [u32; GROUP_FIELDS_MAX],
}

/// The groups so far.
#[derive(Debug)]
pub(crate) struct Groups {
    fields: Vec<Codes>,
    /// One level for the bucket, one for each field: what stands before, and a
    /// code, give a number.
    levels: Vec<Level>,
    pub(crate) keys: Vec<GroupKey>,
    has_buckets: bool,
}

/// Where the value of a field stands in a batch.
pub(crate) enum Place<'a> {
    Column(&'a ArrayRef),
    /// Under a key of a map of texts.
    Label(&'a ArrayRef, Box<str>),
    /// Under a key of the attributes, as JSON; of a kind where the key is a field
    /// of other streams.
    Attribute(&'a ArrayRef, Box<str>, Option<Kind>),
    Nowhere,
}

impl Place<'_> {
    pub(crate) fn cell(&self, row: usize) -> Cell {
        let text =
            |text: Option<&str>| text.map_or(Cell::Absent, |text| Cell::Text(text.to_owned()));
        match self {
            Self::Column(column) => cell(column, row),
            Self::Label(column, name) => text(entries(column, row).and_then(|e| e.get(name))),
            Self::Attribute(column, name, kind) => {
                let json = entries(column, row).and_then(|entries| entries.get(name));
                json.filter(|json| *json != "null")
                    .map_or(Cell::Absent, |json| cell_of(*kind, unquoted(json).into_owned()))
            }
            Self::Nowhere => Cell::Absent,
        }
    }
}

/// A text as the value of a kind, if it is one: groups are the same whatever
/// stream a value comes from.
fn cell_of(kind: Option<Kind>, text: String) -> Cell {
    let cell = match kind {
        Some(Kind::Integer) => text.parse().ok().map(Cell::Integer),
        Some(Kind::Number) => {
            text.parse().ok().filter(|number: &f64| number.is_finite()).map(Cell::Number)
        }
        Some(Kind::Boolean) => text.parse().ok().map(Cell::Boolean),
        Some(Kind::Time) => Timestamp::parse(&text).map(Cell::Time),
        _ => None,
    };
    cell.unwrap_or(Cell::Text(text))
}

impl Groups {
    pub(crate) fn new(fields: usize, has_buckets: bool) -> Self {
        let mut groups =
            Self { fields: Vec::new(), levels: Vec::new(), keys: Vec::new(), has_buckets };
        groups.fields.resize_with(fields, Codes::default);
        groups.levels.resize_with(fields + 1, Level::default);
        if fields == 0 && !has_buckets {
            // Nothing to group by is one group, even of no rows.
            groups.keys.push(GroupKey { bucket: 0, codes: [0; GROUP_FIELDS_MAX] });
        }
        groups
    }

    /// The group of each row of a batch.
    pub(crate) fn of_batch(
        &mut self,
        rows: usize,
        buckets: Option<&[i64]>,
        places: &[Place<'_>],
    ) -> Result<Vec<u32>, EngineError> {
        let mut columns = Vec::with_capacity(places.len());
        for (field, place) in self.fields.iter_mut().zip(places) {
            columns.push(field.of_column(rows, place)?);
        }
        let mut groups = vec![0u32; rows];
        if self.fields.is_empty() && !self.has_buckets {
            return Ok(groups);
        }
        // Rows come in the order of time: those of a bucket stand together.
        let mut from = 0;
        while from < rows {
            let bucket = buckets.map_or(0, |buckets| buckets[from]);
            let same = |buckets: &[i64]| {
                buckets[from..].iter().take_while(|other| **other == bucket).count()
            };
            let to = from + buckets.map_or(rows - from, same);
            self.of_bucket(bucket, &columns, from, &mut groups[from..to])?;
            from = to;
        }
        Ok(groups)
    }

    /// The groups of rows of one bucket, from a row on.
    fn of_bucket(
        &mut self,
        bucket: i64,
        columns: &[Vec<u32>],
        from: usize,
        groups: &mut [u32],
    ) -> Result<(), EngineError> {
        let mut key = GroupKey { bucket, codes: [0; GROUP_FIELDS_MAX] };
        if let [codes] = columns {
            // The groups of the codes met so far.
            let mut known: Vec<u32> = Vec::new();
            for (group, code) in groups.iter_mut().zip(&codes[from..]) {
                let at = *code as usize;
                if let Some(found) = known.get(at).filter(|found| **found != NONE) {
                    *group = *found;
                    continue;
                }
                key.codes[0] = *code;
                *group = self.of_key(&key)?;
                if *code < DENSE_MAX {
                    known.resize(known.len().max(at + 1), NONE);
                    known[at] = *group;
                }
            }
            return Ok(());
        }
        for (at, group) in groups.iter_mut().enumerate() {
            for (code, column) in key.codes.iter_mut().zip(columns) {
                *code = column[from + at];
            }
            *group = self.of_key(&key)?;
        }
        Ok(())
    }

    /// The group of one row by its values.
    pub(crate) fn of_row(&mut self, bucket: i64, values: &[Cell]) -> Result<u32, EngineError> {
        let mut key = GroupKey { bucket, codes: [0; GROUP_FIELDS_MAX] };
        for ((code, field), value) in key.codes.iter_mut().zip(&mut self.fields).zip(values) {
            *code = field.of(value)?;
        }
        self.of_key(&key)
    }

    fn of_key(&mut self, key: &GroupKey) -> Result<u32, EngineError> {
        if self.fields.is_empty() && !self.has_buckets {
            return Ok(0);
        }
        let fields = self.fields.len();
        let mut at = match self.has_buckets {
            true => self.levels[0].bucket(key.bucket),
            false => 0,
        };
        for (level, code) in self.levels[1..].iter_mut().zip(key.codes) {
            at = level.next(at, code);
        }
        let is_new = at as usize >= self.keys.len();
        if is_new {
            if self.keys.len() >= GROUPS_MAX {
                return Err(EngineError::TooManyGroups { max: GROUPS_MAX });
            }
            let mut key = *key;
            key.codes[fields..].fill(0);
            self.keys.push(key);
        }
        Ok(at)
    }

    /// The groups of another thread as groups of this one.
    pub(crate) fn adopt(&mut self, other: &Self) -> Result<Vec<u32>, EngineError> {
        let mut adopted = Vec::with_capacity(other.keys.len());
        for key in &other.keys {
            let mut own = GroupKey { bucket: key.bucket, codes: [0; GROUP_FIELDS_MAX] };
            for (at, field) in self.fields.iter_mut().enumerate() {
                own.codes[at] = field.of(&other.value(key, at))?;
            }
            adopted.push(self.of_key(&own)?);
        }
        Ok(adopted)
    }

    /// The value of a group in one of its fields.
    pub(crate) fn value(&self, key: &GroupKey, field: usize) -> Cell {
        match key.codes[field].checked_sub(1) {
            None => Cell::Absent,
            Some(at) => self.fields[field].values[at as usize].clone(),
        }
    }
}

/// One level of the way from values to a group: numbers are given in the order
/// in which they are first met.
#[derive(Debug, Default)]
struct Level {
    dense: Vec<Vec<u32>>,
    sparse: HashMap<u64, u32, Mixed>,
    buckets: HashMap<u64, u32, Mixed>,
    last: Option<(i64, u32)>,
    count: u32,
}

/// No number yet.
const NONE: u32 = u32::MAX;

impl Level {
    fn bucket(&mut self, bucket: i64) -> u32 {
        // Rows come in the order of time, so the last is mostly the one.
        if let Some((_, number)) = self.last.filter(|(last, _)| *last == bucket) {
            return number;
        }
        let next = self.count;
        let number = *self.buckets.entry(bucket.cast_unsigned()).or_insert(next);
        self.count += u32::from(number == next);
        self.last = Some((bucket, number));
        number
    }

    fn next(&mut self, before: u32, code: u32) -> u32 {
        let next = self.count;
        let number = if code < DENSE_MAX && (before as usize) < GROUPS_MAX / 16 {
            let (before, code) = (before as usize, code as usize);
            if before >= self.dense.len() {
                self.dense.resize_with(before + 1, Vec::new);
            }
            let codes = &mut self.dense[before];
            if code >= codes.len() {
                codes.resize(code + 1, NONE);
            }
            if codes[code] == NONE {
                codes[code] = next;
            }
            codes[code]
        } else {
            let key = (u64::from(before) << 32) | u64::from(code);
            *self.sparse.entry(key).or_insert(next)
        };
        self.count += u32::from(number == next);
        number
    }
}

/// The values of one field, numbered from 1.
#[derive(Debug, Default)]
struct Codes {
    texts: HashMap<Box<str>, u32>,
    others: HashMap<(u8, u64), u32, Mixed>,
    values: Vec<Cell>,
    /// The dictionary seen last, and the codes of its values.
    dictionary: Option<(ArrayRef, Vec<u32>)>,
}

impl Codes {
    fn of_column(&mut self, rows: usize, place: &Place<'_>) -> Result<Vec<u32>, EngineError> {
        if let Place::Column(column) = place
            && let Some(texts) = column.as_any().downcast_ref::<DictionaryArray<Int32Type>>()
        {
            return self.of_dictionary(texts);
        }
        if let Place::Column(column) = place
            && let Some(texts) = column.as_string_opt::<i32>()
        {
            return texts
                .iter()
                .map(|text| text.map_or(Ok(0), |text| self.of_text(text)))
                .collect();
        }
        (0..rows).map(|row| self.of(&place.cell(row))).collect()
    }

    /// Values get their codes when a row has them: a dictionary may hold many that
    /// no matching row has.
    fn of_dictionary(
        &mut self,
        texts: &DictionaryArray<Int32Type>,
    ) -> Result<Vec<u32>, EngineError> {
        let values = texts.values();
        let known = self.dictionary.take().filter(|(known, _)| is_same(known, values));
        let (values, mut codes) =
            known.unwrap_or_else(|| (values.clone(), vec![NONE; values.len()]));
        let Some(strings) = values.as_string_opt::<i32>() else { return Ok(vec![0; texts.len()]) };
        let keys = texts.keys();
        let nulls = keys.nulls();
        let mut rows = Vec::with_capacity(keys.len());
        for (row, key) in keys.values().iter().enumerate() {
            let key = *key as usize;
            let is_absent = nulls.is_some_and(|nulls| nulls.is_null(row));
            let code = match codes.get(key) {
                _ if is_absent => 0,
                None => 0,
                Some(&NONE) => {
                    codes[key] = self.of_text(strings.value(key))?;
                    codes[key]
                }
                Some(code) => *code,
            };
            rows.push(code);
        }
        self.dictionary = Some((values, codes));
        Ok(rows)
    }

    fn of_text(&mut self, text: &str) -> Result<u32, EngineError> {
        if let Some(code) = self.texts.get(text) {
            return Ok(*code);
        }
        let code = self.push(Cell::Text(text.to_owned()))?;
        self.texts.insert(text.into(), code);
        Ok(code)
    }

    fn of(&mut self, value: &Cell) -> Result<u32, EngineError> {
        let key = match value {
            Cell::Absent => return Ok(0),
            Cell::Text(text) => return self.of_text(text),
            Cell::Integer(number) => (0, *number as u64),
            Cell::Number(number) => (1, (number + 0.0).to_bits()),
            Cell::Decimal(nanos) => (2, *nanos as u64),
            Cell::Boolean(value) => (3, u64::from(*value)),
            Cell::Time(time) => (4, time.as_micros().cast_unsigned()),
        };
        if let Some(code) = self.others.get(&key) {
            return Ok(*code);
        }
        let code = self.push(value.clone())?;
        self.others.insert(key, code);
        Ok(code)
    }

    fn push(&mut self, value: Cell) -> Result<u32, EngineError> {
        if self.values.len() >= GROUPS_MAX {
            return Err(EngineError::TooManyGroups { max: GROUPS_MAX });
        }
        self.values.push(value);
        Ok(u32::try_from(self.values.len()).unwrap_or(u32::MAX))
    }
}
