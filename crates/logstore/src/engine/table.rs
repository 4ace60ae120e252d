//! What statistics answer with: a small table of typed cells.

use domain::time::Timestamp;

/// Groups in rows: by time first where there are buckets, then by the first
/// measure, largest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Cell>>,
    /// Groups before a limit cut them.
    pub groups: usize,
    /// What is not exact in this table, and by how much.
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// `bucket`, a field's name, or a measure as it was asked for: `p95(duration_ms)`.
    pub name: String,
    /// Names a group, as opposed to measuring it.
    pub is_key: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// No line of the group has the field.
    Absent,
    Text(String),
    Integer(i128),
    Number(f64),
    /// Billionths.
    Decimal(i128),
    Boolean(bool),
    Time(Timestamp),
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => Ok(()),
            Self::Text(text) => f.write_str(text),
            Self::Integer(number) => number.fmt(f),
            // Twelve digits hide the last bits of sums of binary fractions.
            Self::Number(number) => format_number(*number, f),
            Self::Decimal(nanos) => format_decimal(*nanos, f),
            Self::Boolean(value) => value.fmt(f),
            Self::Time(time) => time.fmt(f),
        }
    }
}

fn format_number(number: f64, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
    let magnitude = if number == 0.0 { 0.0 } else { number.abs().log10().floor() };
    let digits = (11.0 - magnitude).clamp(0.0, 12.0) as usize;
    let text = format!("{number:.digits$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    f.write_str(text)
}

fn format_decimal(nanos: i128, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
    const UNIT: u128 = 1_000_000_000;
    let (whole, fraction) = (nanos.unsigned_abs() / UNIT, nanos.unsigned_abs() % UNIT);
    let sign = if nanos < 0 { "-" } else { "" };
    if fraction == 0 {
        return write!(f, "{sign}{whole}");
    }
    let fraction = format!("{fraction:09}");
    write!(f, "{sign}{whole}.{}", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_read_well() {
        let check = |cell: Cell, expected: &str| assert_eq!(cell.to_string(), expected);
        check(Cell::Number(0.1 + 0.2), "0.3");
        check(Cell::Number(1234.5), "1234.5");
        check(Cell::Number(1e15), "1000000000000000");
        check(Cell::Number(0.0), "0");
        check(Cell::Decimal(1_500_000_000), "1.5");
        check(Cell::Decimal(-1), "-0.000000001");
        check(Cell::Decimal(2_000_000_000), "2");
        check(Cell::Absent, "");
    }
}
