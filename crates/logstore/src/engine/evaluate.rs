//! Runs the nodes of a plan over batches of rows. Texts that are kept as a
//! dictionary are tested once for each different text, not for each row.

use arrow_array::{
    Array, ArrayRef, BooleanArray, Decimal128Array, DictionaryArray, Float64Array, Int64Array,
    MapArray, RecordBatch, StringArray, TimestampMicrosecondArray, cast::AsArray, types::Int32Type,
};
use arrow_buffer::BooleanBuffer;
use arrow_schema::{DataType, TimeUnit};
use domain::time::Timestamp;

use super::{
    check::TextCheck,
    plan::{Check, Leaf, Node},
    table::Cell,
};

/// Billionths of a dollar.
pub(crate) const DECIMAL_UNIT: f64 = 1e9;

/// Evaluates one plan; remembers what it found out about dictionaries.
#[derive(Debug, Default)]
pub(crate) struct Evaluator {
    /// By the leaf's slot: the values of a dictionary and which of them hold.
    remembered: Vec<Option<(ArrayRef, Vec<bool>)>>,
}

impl Evaluator {
    pub(crate) fn new(leaves: usize) -> Self {
        // One more for the test of time that sources add.
        let mut remembered = Vec::new();
        remembered.resize_with(leaves + 1, || None);
        Self { remembered }
    }

    /// Which rows hold.
    pub(crate) fn mask(&mut self, node: &Node, batch: &RecordBatch) -> BooleanBuffer {
        let rows = batch.num_rows();
        match node {
            Node::Constant(true) => BooleanBuffer::new_set(rows),
            Node::Constant(false) => BooleanBuffer::new_unset(rows),
            Node::And(nodes) => {
                let mut all = BooleanBuffer::new_set(rows);
                for node in nodes {
                    if all.count_set_bits() == 0 {
                        break;
                    }
                    all = &all & &self.mask(node, batch);
                }
                all
            }
            Node::Or(nodes) => nodes
                .iter()
                .fold(BooleanBuffer::new_unset(rows), |any, node| &any | &self.mask(node, batch)),
            Node::Not(node) => !&self.mask(node, batch),
            Node::Leaf(leaf) => self.leaf(leaf, batch),
        }
    }

    /// Which rows pass one test. Rows of a batch without the column do not.
    pub(crate) fn leaf(&mut self, leaf: &Leaf, batch: &RecordBatch) -> BooleanBuffer {
        let Some(column) = batch.column_by_name(leaf.column) else {
            return BooleanBuffer::new_unset(batch.num_rows());
        };
        if column.null_count() == column.len() {
            return BooleanBuffer::new_unset(column.len());
        }
        let passed = match &leaf.check {
            Check::Present => present(column),
            Check::Text(check) => self.text(leaf.slot, check, column),
            Check::Whole(ranges) => match whole(column) {
                Some(values) => match ranges.0.as_slice() {
                    &[(from, to)] => collect(values, |value| from <= value && value <= to),
                    _ => collect(values, |value| ranges.holds(value)),
                },
                None => BooleanBuffer::new_unset(column.len()),
            },
            Check::Number(check) => match column.as_any().downcast_ref::<Float64Array>() {
                Some(values) => collect(values.values(), |value| check.holds(value)),
                None => BooleanBuffer::new_unset(column.len()),
            },
            Check::Decimal(check) => match column.as_any().downcast_ref::<Decimal128Array>() {
                Some(values) => {
                    collect(values.values(), |value| check.holds(value as f64 / DECIMAL_UNIT))
                }
                None => BooleanBuffer::new_unset(column.len()),
            },
            Check::Boolean { yes, no } => match column.as_any().downcast_ref::<BooleanArray>() {
                Some(values) => match (yes, no) {
                    (true, true) => BooleanBuffer::new_set(values.len()),
                    (true, false) => values.values().clone(),
                    (false, true) => !values.values(),
                    (false, false) => BooleanBuffer::new_unset(values.len()),
                },
                None => BooleanBuffer::new_unset(column.len()),
            },
            Check::Printed(check) => BooleanBuffer::collect_bool(column.len(), |row| {
                let cell = cell(column, row);
                cell != Cell::Absent && check.holds(&cell.to_string())
            }),
            Check::Label(name, check) => in_map(column, |entries| {
                let value = entries.get(name);
                value.is_some_and(|v| check.as_ref().is_none_or(|check| check.holds(v)))
            }),
            Check::Attribute(name, check) => {
                in_map(column, |entries| check.holds_in(name, |key| entries.get(key)))
            }
        };
        match column.nulls() {
            Some(nulls) if !matches!(leaf.check, Check::Present) => &passed & nulls.inner(),
            _ => passed,
        }
    }

    fn text(&mut self, slot: usize, check: &TextCheck, column: &ArrayRef) -> BooleanBuffer {
        if let Some(texts) = column.as_any().downcast_ref::<StringArray>() {
            return BooleanBuffer::collect_bool(texts.len(), |row| check.holds(texts.value(row)));
        }
        let Some(texts) = column.as_any().downcast_ref::<DictionaryArray<Int32Type>>() else {
            return BooleanBuffer::new_unset(column.len());
        };
        let values = texts.values();
        let remembered = self.remembered[slot].as_ref().is_some_and(|(of, _)| is_same(of, values));
        if !remembered {
            let holds = match values.as_any().downcast_ref::<StringArray>() {
                Some(values) => values.iter().map(|v| v.is_some_and(|v| check.holds(v))).collect(),
                None => vec![false; values.len()],
            };
            self.remembered[slot] = Some((values.clone(), holds));
        }
        let Some((_, holds)) = &self.remembered[slot] else {
            return BooleanBuffer::new_unset(column.len());
        };
        let mut held = holds.iter().filter(|holds| **holds).count();
        if held == holds.len() {
            return BooleanBuffer::new_set(column.len());
        }
        let keys = texts.keys().values();
        if held == 1 {
            // A comparison of whole numbers, which is one instruction for many.
            held = holds.iter().position(|holds| *holds).unwrap_or_default();
            let key = i32::try_from(held).unwrap_or(i32::MAX);
            return collect(keys, |k| k == key);
        }
        match held {
            0 => BooleanBuffer::new_unset(column.len()),
            // A null's key may be any number.
            _ => collect(keys, |key| holds.get(key as usize).copied().unwrap_or_default()),
        }
    }
}

/// Whether two dictionaries are one: pages of a row group share theirs.
pub(crate) fn is_same(a: &ArrayRef, b: &ArrayRef) -> bool {
    if std::sync::Arc::ptr_eq(a, b) {
        return true;
    }
    match (a.as_string_opt::<i32>(), b.as_string_opt::<i32>()) {
        (Some(a), Some(b)) => {
            // The first keeps its memory alive, so an address names one content.
            a.len() == b.len()
                && a.offsets().inner().as_ptr() == b.offsets().inner().as_ptr()
                && a.values().as_ptr() == b.values().as_ptr()
        }
        _ => false,
    }
}

fn present(column: &ArrayRef) -> BooleanBuffer {
    // A map without entries says as much as none.
    let filled = column.as_any().downcast_ref::<MapArray>().map(|map| {
        let ends = map.value_offsets();
        BooleanBuffer::collect_bool(map.len(), |row| ends[row + 1] > ends[row])
    });
    match (column.nulls(), filled) {
        (Some(nulls), Some(filled)) => nulls.inner() & &filled,
        (Some(nulls), None) => nulls.inner().clone(),
        (None, Some(filled)) => filled,
        (None, None) => BooleanBuffer::new_set(column.len()),
    }
}

fn collect<T: Copy>(values: &[T], holds: impl Fn(T) -> bool) -> BooleanBuffer {
    BooleanBuffer::collect_bool(values.len(), |row| holds(values[row]))
}

/// The values of a column of whole numbers or times.
pub(crate) fn whole(column: &ArrayRef) -> Option<&[i64]> {
    match column.data_type() {
        DataType::Int64 => {
            column.as_any().downcast_ref::<Int64Array>().map(|values| &values.values()[..])
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => column
            .as_any()
            .downcast_ref::<TimestampMicrosecondArray>()
            .map(|values| &values.values()[..]),
        _ => None,
    }
}

/// The entries of a map column's row.
pub(crate) struct Entries<'a> {
    keys: &'a StringArray,
    values: &'a StringArray,
    range: std::ops::Range<usize>,
}

impl<'a> Entries<'a> {
    /// The value under a key; of several, the last.
    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        let at = self.range.clone().rev().find(|at| self.keys.value(*at) == name)?;
        (!self.values.is_null(at)).then(|| self.values.value(at))
    }
}

/// A column that is a map of texts, row by row.
pub(crate) fn entries(column: &ArrayRef, row: usize) -> Option<Entries<'_>> {
    let map = column.as_any().downcast_ref::<MapArray>()?;
    let ends = map.value_offsets();
    let range = ends[row] as usize..ends[row + 1] as usize;
    let keys = map.keys().as_string_opt::<i32>()?;
    let values = map.values().as_string_opt::<i32>()?;
    Some(Entries { keys, values, range })
}

fn in_map(column: &ArrayRef, holds: impl Fn(&Entries<'_>) -> bool) -> BooleanBuffer {
    BooleanBuffer::collect_bool(column.len(), |row| {
        entries(column, row).is_some_and(|entries| holds(&entries))
    })
}

/// The value of a row; a map has none of its own.
pub(crate) fn cell(column: &ArrayRef, row: usize) -> Cell {
    if column.is_null(row) {
        return Cell::Absent;
    }
    match column.data_type() {
        DataType::Utf8 => Cell::Text(column.as_string::<i32>().value(row).to_owned()),
        DataType::Dictionary(..) => {
            let Some(texts) = column.as_any().downcast_ref::<DictionaryArray<Int32Type>>() else {
                return Cell::Absent;
            };
            let (Some(key), Some(values)) = (texts.key(row), texts.values().as_string_opt::<i32>())
            else {
                return Cell::Absent;
            };
            Cell::Text(values.value(key).to_owned())
        }
        DataType::Int64 => whole(column).map_or(Cell::Absent, |v| Cell::Integer(v[row].into())),
        DataType::Timestamp(..) => {
            whole(column).map_or(Cell::Absent, |v| Cell::Time(Timestamp::from_micros(v[row])))
        }
        DataType::Float64 => {
            Cell::Number(column.as_primitive::<arrow_array::types::Float64Type>().value(row))
        }
        DataType::Decimal128(..) => {
            Cell::Decimal(column.as_primitive::<arrow_array::types::Decimal128Type>().value(row))
        }
        DataType::Boolean => Cell::Boolean(column.as_boolean().value(row)),
        _ => Cell::Absent,
    }
}
