//! CSV after RFC 4180, with cells that a spreadsheet must not run.

/// A cell. Text that a spreadsheet would take for a formula begins with an
/// apostrophe, which it shows as text; figures stay figures.
pub fn quoted(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let guard = if is_formula && text.parse::<f64>().is_err() { "'" } else { "" };
    match text.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{guard}{}\"", text.replace('"', "\"\"")),
        false => format!("{guard}{text}"),
    }
}

pub(super) fn row<'c>(cells: impl IntoIterator<Item = &'c str>) -> String {
    let cells: Vec<String> = cells.into_iter().map(quoted).collect();
    format!("{}\r\n", cells.join(","))
}
