//! Whether two tools found the same.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

/// A table by name of column: as read from CSV, or from a statement.
pub type Rows = Vec<Vec<Option<String>>>;

/// Reads CSV as RFC 4180 has it; an empty cell is nothing.
pub fn read_csv(text: &str) -> Result<(Vec<String>, Rows)> {
    let mut rows: Rows = Vec::new();
    let mut row = Vec::new();
    let mut cell = String::new();
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.next_if_eq(&'"').is_some() => cell.push('"'),
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(filled(&mut cell)),
            '\r' if !quoted => {}
            '\n' if !quoted => {
                row.push(filled(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            other => cell.push(other),
        }
    }
    if quoted || !row.is_empty() || !cell.is_empty() {
        bail!("the last line of the CSV is cut");
    }
    let mut rows = rows.into_iter();
    let head = rows.next().context("CSV without a head")?;
    Ok((head.into_iter().map(Option::unwrap_or_default).collect(), rows.collect()))
}

fn filled(cell: &mut String) -> Option<String> {
    let cell = std::mem::take(cell);
    (!cell.is_empty()).then_some(cell)
}

/// Picks columns by name, in this order.
pub fn pick(head: &[String], rows: Rows, columns: &[&str]) -> Result<Rows> {
    let at: Vec<usize> = columns
        .iter()
        .map(|name| {
            let at = head.iter().position(|known| known == name);
            at.with_context(|| format!("no column {name} among {head:?}"))
        })
        .collect::<Result<_>>()?;
    Ok(rows.into_iter().map(|row| at.iter().map(|at| row[*at].clone()).collect()).collect())
}

/// Fails unless both hold the same rows, whatever their order; figures may
/// differ by `tolerance` of themselves.
pub fn tables(ours: Rows, theirs: Rows, tolerance: f64) -> Result<()> {
    if ours.len() != theirs.len() {
        bail!("{} rows, but DuckDB has {}", ours.len(), theirs.len());
    }
    let mut expected: BTreeMap<Vec<String>, Vec<Option<String>>> =
        theirs.into_iter().map(|row| (keys(&row), row)).collect();
    for row in ours {
        let Some(other) = expected.remove(&keys(&row)) else {
            bail!("DuckDB has no row for {:?}", keys(&row));
        };
        for (own, other) in row.iter().zip(&other) {
            if !cells(own.as_deref(), other.as_deref(), tolerance) {
                bail!("{:?}: {own:?}, but DuckDB says {other:?}", keys(&row));
            }
        }
    }
    Ok(())
}

/// What is no figure names a row.
fn keys(row: &[Option<String>]) -> Vec<String> {
    let texts = row.iter().map(|cell| cell.clone().unwrap_or_default());
    texts.filter(|text| text.parse::<f64>().is_err()).collect()
}

fn cells(own: Option<&str>, other: Option<&str>, tolerance: f64) -> bool {
    let number = |cell: Option<&str>| cell.and_then(|text| text.parse::<f64>().ok());
    match (number(own), number(other)) {
        (Some(own), Some(other)) => {
            (own - other).abs() <= tolerance.max(1e-9) * other.abs().max(1e-9)
        }
        _ => own == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Rows {
        read_csv(text).expect("CSV").1
    }

    #[test]
    fn csv_is_read_back() {
        let (head, rows) = read_csv("a,b\r\n\"x, \"\"y\"\"\",1\r\n,2\r\n").expect("CSV");
        assert_eq!(head, ["a", "b"]);
        let cell = |text: &str| Some(text.to_owned());
        assert_eq!(rows, [vec![cell("x, \"y\""), cell("1")], vec![None, cell("2")]]);
        assert!(read_csv("a,b\n1").is_err());
        let rows = pick(&head, rows, &["b"]).expect("a column");
        assert_eq!(rows, [[cell("1")], [cell("2")]]);
    }

    #[test]
    fn rows_are_compared_whatever_their_order() {
        let ours = table("m,n,p\na,1,10.0\nb,2,20\n,3,30\n");
        let check = |theirs: &str, tolerance, same: bool| {
            assert_eq!(tables(ours.clone(), table(theirs), tolerance).is_ok(), same, "{theirs}");
        };
        check("m,n,p\n,3,30\nb,2,20\na,1,10\n", 0.0, true);
        check("m,n,p\n,3,30\nb,2,20\na,1,10.1\n", 0.0, false);
        check("m,n,p\n,3,30\nb,2,20\na,1,10.1\n", 0.02, true);
        check("m,n,p\n,3,30\nb,2,20\nc,1,10\n", 0.0, false);
        check("m,n,p\n,3,30\nb,2,20\n", 0.0, false);
    }
}
