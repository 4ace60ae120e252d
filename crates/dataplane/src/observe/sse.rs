//! Reads `text/event-stream` without assembling events: a single one may be
//! 100 MB. Line ends are LF, CRLF or CR; a byte order mark, comments, unknown
//! fields and data over several lines are as the standard says.

/// Longest event name that is kept.
const NAME_BYTES_MAX: usize = 32;
/// Long enough for the longest field name that matters, and a colon.
const FIELD_BYTES_MAX: usize = 6;
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Who takes the payload of events.
pub(super) trait Events {
    /// A piece of the data of the current event; lines are joined by `\n`.
    fn data(&mut self, piece: &[u8]);
    /// The event that had data is complete.
    fn end(&mut self, name: &[u8]);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    /// Reading the field's name into `field`.
    Field,
    /// After the colon: one space may be dropped.
    DataSpace,
    Data,
    NameSpace,
    Name,
    Ignored,
}

/// The state between two pieces of a stream.
pub(super) struct Sse {
    line: Line,
    field: [u8; FIELD_BYTES_MAX],
    field_bytes: usize,
    name: [u8; NAME_BYTES_MAX],
    name_bytes: usize,
    has_data: bool,
    after_cr: bool,
    /// Bytes of the byte order mark seen so far; past it once the stream began.
    bom_bytes: usize,
}

impl Sse {
    pub(super) fn new() -> Self {
        Self {
            line: Line::Field,
            field: [0; FIELD_BYTES_MAX],
            field_bytes: 0,
            name: [0; NAME_BYTES_MAX],
            name_bytes: 0,
            has_data: false,
            after_cr: false,
            bom_bytes: 0,
        }
    }

    pub(super) fn feed(&mut self, mut bytes: &[u8], events: &mut impl Events) {
        while self.bom_bytes < BOM.len() {
            let Some((first, rest)) = bytes.split_first() else { return };
            if *first != BOM[self.bom_bytes] {
                self.bom_bytes = BOM.len();
                break;
            }
            self.bom_bytes += 1;
            bytes = rest;
        }
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            bytes = self.step(bytes, events);
        }
    }

    /// The stream came to its proper end: a last event still counts, because some
    /// servers leave out the blank line after it.
    pub(super) fn finish(&mut self, events: &mut impl Events) {
        if self.has_data {
            self.dispatch(events);
        }
    }

    fn step<'b>(&mut self, bytes: &'b [u8], events: &mut impl Events) -> &'b [u8] {
        match self.line {
            Line::Field => self.field(bytes, events),
            Line::DataSpace | Line::NameSpace => {
                self.line = if self.line == Line::DataSpace { Line::Data } else { Line::Name };
                bytes.strip_prefix(b" ").unwrap_or(bytes)
            }
            Line::Data | Line::Name | Line::Ignored => {
                let end = memchr::memchr2(b'\n', b'\r', bytes);
                let piece = &bytes[..end.unwrap_or(bytes.len())];
                if self.line == Line::Data {
                    events.data(piece);
                } else if self.line == Line::Name {
                    self.take_name(piece);
                }
                let Some(end) = end else { return &[] };
                self.line_end(bytes[end], events);
                &bytes[end + 1..]
            }
        }
    }

    fn field<'b>(&mut self, bytes: &'b [u8], events: &mut impl Events) -> &'b [u8] {
        if self.field_bytes == 0
            && let Some(rest) = bytes.strip_prefix(b"data:")
        {
            self.begin_data(events);
            return rest;
        }
        let (byte, rest) = (bytes[0], &bytes[1..]);
        match byte {
            b'\n' | b'\r' => self.line_end(byte, events),
            b':' => match &self.field[..self.field_bytes] {
                b"data" => self.begin_data(events),
                b"event" => {
                    self.name_bytes = 0;
                    self.line = Line::NameSpace;
                }
                _ => self.line = Line::Ignored,
            },
            _ if self.field_bytes == FIELD_BYTES_MAX => self.line = Line::Ignored,
            _ => {
                self.field[self.field_bytes] = byte;
                self.field_bytes += 1;
            }
        }
        rest
    }

    fn begin_data(&mut self, events: &mut impl Events) {
        if self.has_data {
            events.data(b"\n");
        }
        self.has_data = true;
        self.line = Line::DataSpace;
    }

    fn take_name(&mut self, piece: &[u8]) {
        let kept = piece.len().min(NAME_BYTES_MAX - self.name_bytes);
        self.name[self.name_bytes..self.name_bytes + kept].copy_from_slice(&piece[..kept]);
        self.name_bytes += kept;
    }

    fn line_end(&mut self, byte: u8, events: &mut impl Events) {
        self.after_cr = byte == b'\r';
        let blank = self.line == Line::Field && self.field_bytes == 0;
        // A line that is only a field's name is that field, empty.
        if self.line == Line::Field && &self.field[..self.field_bytes] == b"data" {
            self.begin_data(events);
        }
        self.line = Line::Field;
        self.field_bytes = 0;
        if blank {
            if self.has_data {
                self.dispatch(events);
            }
            self.name_bytes = 0;
        }
    }

    fn dispatch(&mut self, events: &mut impl Events) {
        events.end(&self.name[..self.name_bytes]);
        self.has_data = false;
        self.name_bytes = 0;
    }
}
