//! Finds small form fields in `multipart/form-data` (RFC 7578) while it passes.
//! Files are skipped at the speed of finding the boundary.

use memchr::memmem;

const HEAD_BYTES_MAX: usize = 4096;
const FIELD_BYTES_MAX: usize = 1024;
/// RFC 2046 allows 70.
const BOUNDARY_BYTES_MAX: usize = 70;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    /// Before the first boundary.
    Preamble,
    /// Right after a boundary: its line may hold `--` or blanks.
    BoundaryEnd,
    Head,
    /// The value of a field, kept.
    Field,
    /// The value of a file, or of a field that is too long.
    Skipped,
    End,
}

/// The state between two pieces of a form.
pub(super) struct Form {
    /// `\r\n--boundary`.
    delimiter: Vec<u8>,
    part: Part,
    /// Bytes that may be the beginning of a delimiter or belong to a head.
    held: Vec<u8>,
    name: Box<str>,
    value: Vec<u8>,
    too_long: bool,
}

impl Form {
    /// `None` where the content type names no usable boundary.
    pub(super) fn new(content_type: &str) -> Option<Self> {
        let boundary = parameter(content_type, "boundary")?;
        if boundary.is_empty() || boundary.len() > BOUNDARY_BYTES_MAX {
            return None;
        }
        Some(Self {
            delimiter: format!("\r\n--{boundary}").into_bytes(),
            part: Part::Preamble,
            // The first delimiter needs no line end before it.
            held: b"\r\n".to_vec(),
            name: "".into(),
            value: Vec::new(),
            too_long: false,
        })
    }

    /// The closing boundary was read.
    pub(super) fn is_done(&self) -> bool {
        self.part == Part::End
    }

    /// Calls `field(name, value, is_whole)` for every field that is no file.
    pub(super) fn feed(&mut self, bytes: &[u8], field: &mut impl FnMut(&str, &[u8], bool)) {
        // Large pieces are read where they are; only an unfinished end is held.
        let mut held = std::mem::take(&mut self.held);
        if held.is_empty() {
            let read = self.read(bytes, field);
            held.extend_from_slice(&bytes[read..]);
        } else {
            // Enough of the new bytes to finish whatever is held.
            let joined = bytes.len().min(self.delimiter.len() + HEAD_BYTES_MAX);
            let before = held.len();
            held.extend_from_slice(&bytes[..joined]);
            let read = self.read(&held, field);
            if joined < bytes.len() && read >= before {
                let rest = &bytes[read - before..];
                held.clear();
                let read = self.read(rest, field);
                held.extend_from_slice(&rest[read..]);
            } else {
                held.drain(..read);
                held.extend_from_slice(&bytes[joined..]);
            }
        }
        self.held = held;
    }

    /// Reads what can be decided; returns how much that was.
    fn read(&mut self, bytes: &[u8], field: &mut impl FnMut(&str, &[u8], bool)) -> usize {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            let step = match self.part {
                Part::End => return bytes.len(),
                Part::BoundaryEnd => self.boundary_end(rest),
                Part::Head => self.head(rest),
                Part::Preamble | Part::Field | Part::Skipped => self.body(rest, field),
            };
            match step {
                Step::On(read) => at += read,
                Step::Wait(read) => return at + read,
            }
        }
    }

    fn boundary_end(&mut self, rest: &[u8]) -> Step {
        if rest.len() < 2 {
            return Step::Wait(0);
        }
        if rest.starts_with(b"--") {
            self.part = Part::End;
            return Step::On(2);
        }
        match memchr::memchr(b'\n', rest) {
            Some(end) => {
                self.part = Part::Head;
                Step::On(end + 1)
            }
            None if rest.len() > HEAD_BYTES_MAX => {
                self.part = Part::End;
                Step::Wait(rest.len())
            }
            None => Step::Wait(0),
        }
    }

    fn head(&mut self, rest: &[u8]) -> Step {
        let (head, read) = if rest.starts_with(b"\r\n") {
            (&rest[..0], 2)
        } else if let Some(end) = memmem::find(rest, b"\r\n\r\n") {
            (&rest[..end], end + 4)
        } else if rest.len() > HEAD_BYTES_MAX {
            self.part = Part::End;
            return Step::Wait(rest.len());
        } else {
            return Step::Wait(0);
        };
        self.value.clear();
        self.too_long = false;
        self.part = match field_name(head) {
            Some(name) => {
                self.name = name;
                Part::Field
            }
            None => Part::Skipped,
        };
        Step::On(read)
    }

    fn body(&mut self, rest: &[u8], field: &mut impl FnMut(&str, &[u8], bool)) -> Step {
        let found = memmem::find(rest, &self.delimiter);
        // What could still turn out to be a delimiter waits for more.
        let safe = found.unwrap_or_else(|| {
            let tail = rest.len().saturating_sub(self.delimiter.len() - 1);
            memchr::memchr(b'\r', &rest[tail..]).map_or(rest.len(), |at| tail + at)
        });
        if self.part == Part::Field {
            let room = FIELD_BYTES_MAX - self.value.len();
            self.too_long |= safe > room;
            self.value.extend_from_slice(&rest[..safe.min(room)]);
        }
        if found.is_none() {
            return Step::Wait(safe);
        }
        if self.part == Part::Field {
            field(&self.name, &self.value, !self.too_long);
        }
        self.part = Part::BoundaryEnd;
        Step::On(safe + self.delimiter.len())
    }
}

enum Step {
    On(usize),
    /// More bytes are needed after this many.
    Wait(usize),
}

/// The name in `Content-Disposition`, unless the part is a file.
fn field_name(head: &[u8]) -> Option<Box<str>> {
    let head = std::str::from_utf8(head).ok()?;
    let value = head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    if parameter(value, "filename").is_some() || parameter(value, "filename*").is_some() {
        return None;
    }
    parameter(value, "name").map(Into::into)
}

/// A parameter of a header value, with or without quotes.
pub(super) fn parameter(value: &str, wanted: &str) -> Option<String> {
    let mut rest = value.split_once(';')?.1;
    loop {
        let (name, after) = rest.split_once('=')?;
        // A parameter without a value is passed over.
        let name = name.rsplit(';').next().unwrap_or(name).trim();
        let after = after.trim_start();
        let (text, next) = match after.strip_prefix('"') {
            Some(quoted) => {
                let mut text = String::new();
                let mut chars = quoted.char_indices();
                let mut end = quoted.len();
                while let Some((at, char)) = chars.next() {
                    match char {
                        '"' => {
                            end = at + 1;
                            break;
                        }
                        '\\' => text.extend(chars.next().map(|(_, escaped)| escaped)),
                        plain => text.push(plain),
                    }
                }
                (text, &quoted[end..])
            }
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        if name.eq_ignore_ascii_case(wanted) {
            return Some(text);
        }
        rest = next.strip_prefix(';').unwrap_or(next);
    }
}
