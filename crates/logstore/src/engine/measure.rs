//! What is measured of the values of a field in each group: counted, added up,
//! the least and the most, quantiles, how many are different.

use arrow_array::{Array, ArrayRef, Decimal128Array, Float64Array};
use domain::{
    fields::Kind,
    query::{FieldRef, Function, Measure},
    time::Timestamp,
};

use super::{
    EngineError,
    evaluate::whole,
    groups::Place,
    sketch::{
        Distinct, Room, Samples, code_of_number, code_of_whole, hash_of, number_of_code,
        whole_of_code,
    },
    table::Cell,
};

/// What the numbers of a field are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unit {
    Whole,
    Number,
    /// Billionths of a dollar.
    Decimal,
    Time,
    /// No number: may be counted only.
    None,
}

impl Unit {
    pub(crate) fn of(field: &FieldRef) -> Self {
        match field {
            FieldRef::Known(known) => match known.kind {
                Kind::Integer => Self::Whole,
                Kind::Number => Self::Number,
                Kind::Decimal => Self::Decimal,
                Kind::Time => Self::Time,
                Kind::Text | Kind::Id | Kind::Boolean | Kind::Labels => Self::None,
            },
            // As numbers, where they are some.
            FieldRef::Label(_) | FieldRef::Attribute(_) => Self::Number,
        }
    }

    fn code(self, cell: &Cell) -> Option<u64> {
        let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
        match (self, cell) {
            (Self::Whole, Cell::Integer(n)) => i64::try_from(*n).ok().map(code_of_whole),
            (Self::Whole, Cell::Number(n)) if n.fract() == 0.0 => Some(code_of_whole(*n as i64)),
            (Self::Decimal, Cell::Decimal(n)) => i64::try_from(*n).ok().map(code_of_whole),
            (Self::Decimal, Cell::Integer(n)) => {
                i64::try_from(n.checked_mul(1_000_000_000)?).ok().map(code_of_whole)
            }
            (Self::Decimal, Cell::Number(n)) => Some(code_of_whole((n * 1e9).round() as i64)),
            (Self::Decimal, Cell::Text(text)) => {
                number(text).map(|n| code_of_whole((n * 1e9).round() as i64))
            }
            (Self::Time, Cell::Time(time)) => Some(code_of_whole(time.as_micros())),
            (Self::Time, Cell::Text(text)) => {
                Timestamp::parse(text).map(|time| code_of_whole(time.as_micros()))
            }
            (Self::Number, Cell::Number(n)) => Some(code_of_number(*n)),
            (Self::Number, Cell::Integer(n)) => Some(code_of_number(*n as f64)),
            (Self::Number, Cell::Decimal(n)) => Some(code_of_number(*n as f64 / 1e9)),
            (Self::Number, Cell::Text(text)) => number(text).map(code_of_number),
            _ => None,
        }
    }

    fn cell(self, code: u64) -> Cell {
        match self {
            Self::Whole => Cell::Integer(whole_of_code(code).into()),
            Self::Decimal => Cell::Decimal(whole_of_code(code).into()),
            Self::Time => Cell::Time(Timestamp::from_micros(whole_of_code(code))),
            Self::Number => Cell::Number(number_of_code(code)),
            Self::None => Cell::Absent,
        }
    }

    fn number(self) -> fn(u64) -> f64 {
        match self {
            Self::Number => number_of_code,
            _ => |code| whole_of_code(code) as f64,
        }
    }

    /// A number that is only about right.
    fn about(self, number: f64) -> Cell {
        match self {
            Self::Whole => Cell::Integer(number.round() as i128),
            Self::Decimal => Cell::Decimal(number.round() as i128),
            Self::Time => Cell::Time(Timestamp::from_micros(number.round() as i64)),
            Self::Number => Cell::Number(number),
            Self::None => Cell::Absent,
        }
    }
}

/// A sum: whole numbers exactly, fractions with what rounding took away.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    whole: i128,
    number: f64,
    rest: f64,
}

impl Sum {
    fn add_number(&mut self, value: f64) {
        // Neumaier: adding many small numbers to a large one loses nothing.
        let sum = self.number + value;
        self.rest += match self.number.abs() >= value.abs() {
            true => (self.number - sum) + value,
            false => (value - sum) + self.number,
        };
        self.number = sum;
    }
}

/// All that is asked about one field, for each group.
#[derive(Debug)]
pub(crate) struct Measured {
    /// `None`: the lines themselves.
    pub(crate) field: Option<FieldRef>,
    unit: Unit,
    /// Requests: a coalesced line stands for several.
    weights: Vec<u64>,
    /// Lines that have the field, as a number where that is asked for.
    counts: Vec<u64>,
    sums: Option<Vec<Sum>>,
    /// Codes of the least and the most.
    ranges: Option<Vec<(u64, u64)>>,
    samples: Option<Vec<Samples>>,
    distinct: Option<Vec<Distinct>>,
}

impl Measured {
    fn new(field: Option<FieldRef>) -> Self {
        let unit = field.as_ref().map_or(Unit::None, Unit::of);
        Self {
            field,
            unit,
            weights: Vec::new(),
            counts: Vec::new(),
            sums: None,
            ranges: None,
            samples: None,
            distinct: None,
        }
    }

    /// One for each field that is measured, and for each measure which it is.
    pub(crate) fn of(measures: &[Measure]) -> Result<(Vec<Self>, Vec<usize>), EngineError> {
        let mut all: Vec<Self> = Vec::new();
        let mut places = Vec::new();
        for measure in measures {
            let known = all.iter().position(|measured| measured.field == measure.field);
            let at = known.unwrap_or(all.len());
            if known.is_none() {
                all.push(Self::new(measure.field.clone()));
            }
            all[at].want(measure)?;
            places.push(at);
        }
        Ok((all, places))
    }

    fn want(&mut self, measure: &Measure) -> Result<(), EngineError> {
        let is_known = match (measure.function, self.unit) {
            (Function::Count, _) => true,
            (Function::Distinct, _) => self.field.is_some(),
            (Function::Sum | Function::Average, unit) => !matches!(unit, Unit::None | Unit::Time),
            (Function::Minimum | Function::Maximum | Function::Quantile(_), unit) => {
                unit != Unit::None
            }
        };
        if !is_known {
            let name = measure_name(measure);
            return Err(EngineError::Question(format!("{name}: the field has no numbers")));
        }
        match measure.function {
            Function::Count => {}
            Function::Sum | Function::Average => self.sums = Some(Vec::new()),
            Function::Minimum | Function::Maximum => self.ranges = Some(Vec::new()),
            Function::Quantile(_) => self.samples = Some(Vec::new()),
            Function::Distinct => self.distinct = Some(Vec::new()),
        }
        Ok(())
    }

    fn wants_numbers(&self) -> bool {
        self.sums.is_some() || self.ranges.is_some() || self.samples.is_some()
    }

    /// Makes room for so many groups.
    pub(crate) fn resize(&mut self, groups: usize) {
        self.weights.resize(groups, 0);
        self.counts.resize(groups, 0);
        if let Some(sums) = &mut self.sums {
            sums.resize(groups, Sum::default());
        }
        if let Some(ranges) = &mut self.ranges {
            ranges.resize(groups, (u64::MAX, u64::MIN));
        }
        if let Some(samples) = &mut self.samples {
            samples.resize_with(groups, Samples::default);
        }
        if let Some(distinct) = &mut self.distinct {
            distinct.resize_with(groups, Distinct::default);
        }
    }

    /// Adds a batch; `groups` has the group of each row.
    pub(crate) fn add_batch(
        &mut self,
        groups: &[u32],
        weights: Option<&[i64]>,
        place: &Place<'_>,
        room: &Room,
    ) {
        let weight = |row: usize| weights.map_or(1, |weights| weights[row].cast_unsigned());
        let Some(_) = &self.field else {
            for (row, group) in groups.iter().enumerate() {
                self.weights[*group as usize] += weight(row);
            }
            return;
        };
        let Place::Column(column) = place else {
            for (row, group) in groups.iter().enumerate() {
                self.add(*group, weight(row), &place.cell(row), room);
            }
            return;
        };
        let only_weights = !self.wants_numbers() && self.distinct.is_none();
        if only_weights {
            return each(groups, column, |row, group| self.weights[group] += weight(row));
        }
        if self.distinct.is_some() || !self.add_numbers(groups, weights, column, room) {
            for (row, group) in groups.iter().enumerate() {
                self.add(*group, weight(row), &place.cell(row), room);
            }
        }
    }

    /// The fast way for columns of numbers; false if the column is none.
    fn add_numbers(
        &mut self,
        groups: &[u32],
        weights: Option<&[i64]>,
        column: &ArrayRef,
        room: &Room,
    ) -> bool {
        if let Some(numbers) = column.as_any().downcast_ref::<Float64Array>() {
            let values = numbers.values();
            if let Some(sums) = &mut self.sums {
                each(groups, column, |row, group| sums[group].add_number(values[row]));
            }
            self.add_codes(groups, column, room, |row| code_of_number(values[row]));
        } else if let Some(decimals) = column.as_any().downcast_ref::<Decimal128Array>() {
            let values = decimals.values();
            if let Some(sums) = &mut self.sums {
                each(groups, column, |row, group| sums[group].whole += values[row]);
            }
            self.add_codes(groups, column, room, |row| code_of_whole(values[row] as i64));
        } else if let Some(values) = whole(column) {
            if let Some(sums) = &mut self.sums {
                each(groups, column, |row, group| sums[group].whole += i128::from(values[row]));
            }
            self.add_codes(groups, column, room, |row| code_of_whole(values[row]));
        } else {
            return false;
        }
        match weights {
            None => each(groups, column, |_, group| self.weights[group] += 1),
            Some(weights) => each(groups, column, |row, group| {
                self.weights[group] += weights[row].cast_unsigned();
            }),
        }
        true
    }

    /// Everything of numbers but their sums.
    fn add_codes(
        &mut self,
        groups: &[u32],
        column: &ArrayRef,
        room: &Room,
        code: impl Fn(usize) -> u64,
    ) {
        each(groups, column, |_, group| self.counts[group] += 1);
        if let Some(ranges) = &mut self.ranges {
            each(groups, column, |row, group| {
                let (least, most) = &mut ranges[group];
                let code = code(row);
                *least = code.min(*least);
                *most = code.max(*most);
            });
        }
        if let Some(samples) = &mut self.samples {
            let number = self.unit.number();
            each(groups, column, |row, group| samples[group].add(code(row), room, number));
        }
    }

    fn add_whole(&mut self, group: usize, value: i64, room: &Room) {
        if let Some(sums) = &mut self.sums {
            sums[group].whole += i128::from(value);
        }
        self.add_code(group, code_of_whole(value), room);
    }

    fn add_code(&mut self, group: usize, code: u64, room: &Room) {
        self.counts[group] += 1;
        if let Some(ranges) = &mut self.ranges {
            let (least, most) = ranges[group];
            ranges[group] = (least.min(code), most.max(code));
        }
        if let Some(samples) = &mut self.samples {
            samples[group].add(code, room, self.unit.number());
        }
    }

    /// Adds one value.
    pub(crate) fn add(&mut self, group: u32, weight: u64, value: &Cell, room: &Room) {
        let group = group as usize;
        if self.field.is_none() {
            self.weights[group] += weight;
            return;
        }
        if *value == Cell::Absent {
            return;
        }
        self.weights[group] += weight;
        if let Some(distinct) = &mut self.distinct {
            let hash = match value {
                Cell::Text(text) => hash_of(text.as_bytes()),
                other => hash_of(other.to_string().as_bytes()),
            };
            distinct[group].add(hash, room);
        }
        if !self.wants_numbers() {
            return;
        }
        match self.unit.code(value) {
            Some(code) if self.unit == Unit::Number => {
                if let Some(sums) = &mut self.sums {
                    sums[group].add_number(number_of_code(code));
                }
                self.add_code(group, code, room);
            }
            Some(code) => self.add_whole(group, whole_of_code(code), room),
            None => {}
        }
    }

    /// Lets go of exactness.
    pub(crate) fn shrink(&mut self, room: &Room) {
        let number = self.unit.number();
        self.samples.iter_mut().flatten().for_each(|samples| samples.shrink(room, number));
        // A set that is smaller than its sketch stays.
        let large = |distinct: &&mut Distinct| distinct.count() > 512;
        self.distinct.iter_mut().flatten().filter(large).for_each(|d| d.shrink(room));
    }

    /// Joins what another thread measured; `adopted` has its groups here.
    pub(crate) fn join(&mut self, other: Self, adopted: &[u32], room: &Room) {
        let number = self.unit.number();
        let to = |at: usize| adopted[at] as usize;
        for (at, weight) in other.weights.into_iter().enumerate() {
            self.weights[to(at)] += weight;
        }
        for (at, count) in other.counts.into_iter().enumerate() {
            self.counts[to(at)] += count;
        }
        if let (Some(sums), Some(others)) = (&mut self.sums, other.sums) {
            for (at, other) in others.into_iter().enumerate() {
                let sum = &mut sums[to(at)];
                sum.whole += other.whole;
                sum.add_number(other.number);
                sum.add_number(other.rest);
            }
        }
        if let (Some(ranges), Some(others)) = (&mut self.ranges, other.ranges) {
            for (at, (least, most)) in others.into_iter().enumerate() {
                let range = &mut ranges[to(at)];
                *range = (range.0.min(least), range.1.max(most));
            }
        }
        if let (Some(samples), Some(others)) = (&mut self.samples, other.samples) {
            for (at, other) in others.into_iter().enumerate() {
                samples[to(at)].join(other, room, number);
            }
        }
        if let (Some(distinct), Some(others)) = (&mut self.distinct, other.distinct) {
            for (at, other) in others.into_iter().enumerate() {
                distinct[to(at)].join(other, room);
            }
        }
    }

    /// What a measure comes to in a group, and whether that is exact.
    pub(crate) fn value(&mut self, function: Function, group: usize) -> (Cell, bool) {
        let (unit, count) = (self.unit, self.counts[group]);
        let sum = self.sums.as_ref().map(|sums| sums[group]).filter(|_| count > 0);
        let range = self.ranges.as_ref().map(|ranges| ranges[group]).filter(|_| count > 0);
        let cell = match function {
            Function::Count => Cell::Integer(self.weights[group].into()),
            Function::Sum => sum.map_or(Cell::Absent, |sum| match unit {
                Unit::Whole => Cell::Integer(sum.whole),
                Unit::Decimal => Cell::Decimal(sum.whole),
                _ => Cell::Number(sum.number + sum.rest),
            }),
            Function::Average => sum.map_or(Cell::Absent, |sum| {
                let total = match unit {
                    Unit::Whole => sum.whole as f64,
                    Unit::Decimal => sum.whole as f64 / 1e9,
                    _ => sum.number + sum.rest,
                };
                Cell::Number(total / count as f64)
            }),
            Function::Minimum => range.map_or(Cell::Absent, |(least, _)| unit.cell(least)),
            Function::Maximum => range.map_or(Cell::Absent, |(_, most)| unit.cell(most)),
            Function::Quantile(part) => {
                let samples = self.samples.as_mut().map(|samples| &mut samples[group]);
                match samples.and_then(|samples| samples.quantile(part)) {
                    None => Cell::Absent,
                    Some(Ok(code)) => unit.cell(code),
                    Some(Err(number)) => return (unit.about(number), false),
                }
            }
            Function::Distinct => {
                let distinct = self.distinct.as_ref().map(|distinct| &distinct[group]);
                let count = distinct.map_or(0, Distinct::count);
                return (Cell::Integer(count.into()), distinct.is_none_or(Distinct::is_exact));
            }
        };
        (cell, true)
    }
}

/// Every row of a column that has a value, with its group.
fn each(groups: &[u32], column: &ArrayRef, mut visit: impl FnMut(usize, usize)) {
    match column.nulls() {
        None => {
            for (row, group) in groups.iter().enumerate() {
                visit(row, *group as usize);
            }
        }
        Some(nulls) => {
            for row in nulls.valid_indices() {
                visit(row, groups[row] as usize);
            }
        }
    }
}

/// A measure as it is asked for.
pub(crate) fn measure_name(measure: &Measure) -> String {
    let function = match measure.function {
        Function::Count => "count".to_owned(),
        Function::Sum => "sum".to_owned(),
        Function::Average => "avg".to_owned(),
        Function::Minimum => "min".to_owned(),
        Function::Maximum => "max".to_owned(),
        Function::Quantile(part) => format!("p{}", Cell::Number(part * 100.0)),
        Function::Distinct => "distinct".to_owned(),
    };
    match &measure.field {
        Some(field) => format!("{function}({})", field_name(field)),
        None => function,
    }
}

pub(crate) fn field_name(field: &FieldRef) -> String {
    match field {
        FieldRef::Known(known) => known.name.to_owned(),
        FieldRef::Label(name) => format!("labels.{name}"),
        FieldRef::Attribute(name) => name.clone(),
    }
}
