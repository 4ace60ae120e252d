//! The payloads of a stream of server-sent events, each a text of its own.

use std::ops::Range;

use super::sheet::{Sheet, Write};
use crate::capture::Omission;

/// Notes every payload, and every other line as plain text.
pub(super) fn read(text: &str, sheet: &mut Sheet<'_, '_>) -> Result<(), Omission> {
    let mut data: Vec<Range<usize>> = Vec::new();
    for line in lines(text) {
        let said = &text[line.clone()];
        if said.is_empty() {
            payload(&mut data, sheet)?;
        } else if let Some(rest) = said.strip_prefix("data:") {
            let rest = rest.strip_prefix(' ').unwrap_or(rest);
            data.push(line.end - rest.len()..line.end);
        } else {
            sheet.text(line, Write::Raw, None);
        }
    }
    payload(&mut data, sheet)
}

fn payload(data: &mut Vec<Range<usize>>, sheet: &mut Sheet<'_, '_>) -> Result<(), Omission> {
    match data.as_slice() {
        [] => {}
        [line] => sheet.json(line.clone())?,
        lines => sheet.json_in_lines(lines)?,
    }
    data.clear();
    Ok(())
}

/// Lines without their ends: LF, CRLF or CR.
fn lines(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let rest = text.get(from..).filter(|rest| !rest.is_empty())?;
        let end = rest.find(['\n', '\r']).unwrap_or(rest.len());
        let line = from..from + end;
        let ending = if rest[end..].starts_with("\r\n") { 2 } else { 1 };
        from += end + ending;
        Some(line)
    })
}
