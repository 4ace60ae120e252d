//! A push parser for JSON that looks only where it is told to.
//!
//! Bytes arrive cut anywhere. A [`Sink`] names the containers to look into and
//! the values it wants; all else is skipped at the speed of finding quotes and
//! brackets. Memory is one small stack and one bounded buffer, whatever the
//! length or depth of the text. It reads, it does not validate: broken text
//! ends the reading, never the process.

mod scan;

use scan::{is_bare, special, whole_number};

/// Longest string value that is handed over, in decoded bytes; the rest is cut.
pub(super) const VALUE_BYTES_MAX: usize = 1024;
/// No wanted key is as long, so a cut key never matches by accident.
const KEY_BYTES_MAX: usize = 64;
const NUMBER_BYTES_MAX: usize = 32;
/// Containers looked into at once; anything deeper is skipped.
const DEPTH_MAX: usize = 16;

/// What to do with a string, number or literal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scalar {
    Skip,
    /// Hand it over when it is complete, cut at [`VALUE_BYTES_MAX`].
    Whole,
    /// Hand over its decoded pieces as they come (strings only).
    Pieces,
    /// Only say that a string is not empty.
    Peek,
}

/// Who knows what is wanted, and takes it.
pub(super) trait Sink {
    type Node: Copy;

    fn child(&self, parent: Self::Node, key: &[u8]) -> Self::Node;
    fn element(&self, parent: Self::Node) -> Self::Node;
    fn scalar(&self, node: Self::Node) -> Scalar;
    /// Whether to look into an object or array at `node`.
    fn inside(&self, node: Self::Node) -> bool;

    /// Decoded, perhaps cut in the middle of a character.
    fn string(&mut self, node: Self::Node, value: &[u8]);
    fn piece(&mut self, node: Self::Node, piece: &[u8]);
    /// A string that is not empty begins.
    fn peeked(&mut self, node: Self::Node);
    /// Only numbers that are whole and not negative arrive.
    fn number(&mut self, node: Self::Node, value: u64);
    fn boolean(&mut self, node: Self::Node, value: bool);
    /// A container that is looked into begins.
    fn entered(&mut self, node: Self::Node);
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Value,
    FirstElement,
    FirstKey,
    NextKey,
    Key,
    Colon,
    AfterValue,
    /// In a string whose value is collected in the buffer.
    WholeString,
    PiecesString,
    PeekString,
    SkipString,
    /// In a number or literal.
    Bare,
    /// Between the brackets of a container nobody asked for.
    Skip,
    /// In a string of such a container.
    SkipNestedString,
    Done,
    Broken,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Escape {
    None,
    Begun,
    /// Hexadecimal digits still to come, and those read.
    Hex(u8, u16),
}

/// The state between two pieces of one JSON text.
pub(super) struct Scanner<N> {
    state: State,
    escape: Escape,
    /// First half of a UTF-16 pair, waiting for its second.
    high_surrogate: Option<u16>,
    stack: [N; DEPTH_MAX],
    /// Bit i: the container at `stack[i]` is an array.
    arrays: u16,
    depth: u8,
    node: N,
    skip_depth: u64,
    buffer: Vec<u8>,
}

impl<N: Copy> Scanner<N> {
    pub(super) fn new(root: N) -> Self {
        Self {
            state: State::Value,
            escape: Escape::None,
            high_surrogate: None,
            stack: [root; DEPTH_MAX],
            arrays: 0,
            depth: 0,
            node: root,
            skip_depth: 0,
            buffer: Vec::new(),
        }
    }

    /// Makes ready for the next text; keeps the buffer's memory.
    pub(super) fn restart(&mut self, root: N) {
        self.state = State::Value;
        self.escape = Escape::None;
        self.high_surrogate = None;
        self.depth = 0;
        self.node = root;
        self.buffer.clear();
    }

    /// Reads on. Cutting the text elsewhere never changes what the sink is told,
    /// only where pieces begin.
    pub(super) fn feed<S: Sink<Node = N>>(&mut self, bytes: &[u8], sink: &mut S) {
        let mut at = 0;
        while at < bytes.len() {
            at = match self.state {
                State::Value | State::FirstElement => self.value(bytes, at, sink),
                State::FirstKey | State::NextKey => self.key_start(bytes, at, sink),
                State::Colon => self.colon(bytes, at),
                State::AfterValue => self.after_value(bytes, at, sink),
                State::Skip => self.skip(bytes, at),
                State::SkipString => self.skip_string(bytes, at, State::AfterValue),
                State::SkipNestedString => self.skip_string(bytes, at, State::Skip),
                State::PeekString => {
                    if bytes[at] != b'"' {
                        sink.peeked(self.node);
                    }
                    self.state = State::SkipString;
                    at
                }
                State::Key | State::WholeString | State::PiecesString => {
                    self.string(bytes, at, sink)
                }
                State::Bare => self.bare(bytes, at, sink),
                State::Done | State::Broken => return,
            };
        }
    }

    /// Tells of a number at the very end of a text, which nothing ends.
    pub(super) fn finish<S: Sink<Node = N>>(&mut self, sink: &mut S) {
        if self.state == State::Bare && self.depth == 0 {
            let buffer = std::mem::take(&mut self.buffer);
            self.bare_value(&buffer, sink);
        }
    }

    fn value<S: Sink<Node = N>>(&mut self, bytes: &[u8], at: usize, sink: &mut S) -> usize {
        match bytes[at] {
            b' ' | b'\t' | b'\n' | b'\r' => at + 1,
            b'"' => self.string_start(bytes, at + 1, sink),
            b'{' => {
                self.open(false, sink);
                at + 1
            }
            b'[' => {
                self.open(true, sink);
                at + 1
            }
            b']' if self.state == State::FirstElement => {
                self.close();
                at + 1
            }
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
                self.buffer.clear();
                self.state = State::Bare;
                self.bare(bytes, at, sink)
            }
            _ => {
                self.state = State::Broken;
                at
            }
        }
    }

    fn string_start<S: Sink<Node = N>>(&mut self, bytes: &[u8], at: usize, sink: &mut S) -> usize {
        match sink.scalar(self.node) {
            Scalar::Skip => {
                self.state = State::SkipString;
                self.skip_string(bytes, at, State::AfterValue)
            }
            Scalar::Peek => {
                self.state = State::PeekString;
                at
            }
            Scalar::Pieces => {
                self.state = State::PiecesString;
                at
            }
            Scalar::Whole => {
                let rest = &bytes[at..];
                let end = special(rest);
                if rest.get(end) == Some(&b'"') {
                    sink.string(self.node, &rest[..end.min(VALUE_BYTES_MAX)]);
                    self.value_done();
                    return at + end + 1;
                }
                self.buffer.clear();
                self.state = State::WholeString;
                at
            }
        }
    }

    fn key_start<S: Sink<Node = N>>(&mut self, bytes: &[u8], at: usize, sink: &mut S) -> usize {
        match bytes[at] {
            b' ' | b'\t' | b'\n' | b'\r' => at + 1,
            b'"' => {
                let rest = &bytes[at + 1..];
                let end = special(rest);
                if rest.get(end) == Some(&b'"') {
                    self.node = sink.child(self.top(), &rest[..end]);
                    self.state = State::Colon;
                    return at + 1 + end + 1;
                }
                self.buffer.clear();
                self.state = State::Key;
                at + 1
            }
            b'}' if self.state == State::FirstKey => {
                self.close();
                at + 1
            }
            _ => {
                self.state = State::Broken;
                at
            }
        }
    }

    fn colon(&mut self, bytes: &[u8], at: usize) -> usize {
        match bytes[at] {
            b':' => self.state = State::Value,
            b' ' | b'\t' | b'\n' | b'\r' => {}
            _ => self.state = State::Broken,
        }
        at + 1
    }

    fn after_value<S: Sink<Node = N>>(&mut self, bytes: &[u8], at: usize, sink: &mut S) -> usize {
        match bytes[at] {
            b',' if self.in_array() => {
                self.node = sink.element(self.top());
                self.state = State::Value;
            }
            b',' => self.state = State::NextKey,
            b'}' | b']' if (bytes[at] == b']') == self.in_array() => self.close(),
            b' ' | b'\t' | b'\n' | b'\r' => {}
            _ => self.state = State::Broken,
        }
        at + 1
    }

    fn open<S: Sink<Node = N>>(&mut self, array: bool, sink: &mut S) {
        let depth = usize::from(self.depth);
        if depth == DEPTH_MAX || !sink.inside(self.node) {
            self.skip_depth = 1;
            self.state = State::Skip;
            return;
        }
        sink.entered(self.node);
        self.stack[depth] = self.node;
        self.arrays = self.arrays & !(1 << depth) | u16::from(array) << depth;
        self.depth += 1;
        if array {
            self.node = sink.element(self.node);
            self.state = State::FirstElement;
        } else {
            self.state = State::FirstKey;
        }
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.value_done();
    }

    fn value_done(&mut self) {
        self.state = if self.depth == 0 { State::Done } else { State::AfterValue };
    }

    fn top(&self) -> N {
        self.stack[usize::from(self.depth) - 1]
    }

    fn in_array(&self) -> bool {
        self.arrays >> (self.depth - 1) & 1 == 1
    }

    fn skip(&mut self, bytes: &[u8], mut at: usize) -> usize {
        while at < bytes.len() {
            match bytes[at] {
                b'"' => {
                    self.state = State::SkipNestedString;
                    return self.skip_string(bytes, at + 1, State::Skip);
                }
                b'{' | b'[' => self.skip_depth += 1,
                b'}' | b']' => {
                    self.skip_depth -= 1;
                    if self.skip_depth == 0 {
                        self.value_done();
                        return at + 1;
                    }
                }
                _ => {}
            }
            at += 1;
        }
        at
    }

    fn skip_string(&mut self, bytes: &[u8], mut at: usize, then: State) -> usize {
        if self.escape != Escape::None && at < bytes.len() {
            self.escape = Escape::None;
            at += 1;
        }
        while at < bytes.len() {
            at += special(&bytes[at..]);
            match bytes.get(at) {
                Some(b'"') => {
                    if then == State::AfterValue {
                        self.value_done();
                    } else {
                        self.state = then;
                    }
                    return at + 1;
                }
                Some(_) if at + 1 == bytes.len() => {
                    self.escape = Escape::Begun;
                    return at + 1;
                }
                Some(_) => at += 2,
                None => return at,
            }
        }
        at
    }

    /// Reads on in a string that is decoded: a key, a value or text.
    fn string<S: Sink<Node = N>>(&mut self, bytes: &[u8], at: usize, sink: &mut S) -> usize {
        if self.escape != Escape::None {
            return self.escaped(bytes, at, sink);
        }
        let rest = &bytes[at..];
        let end = special(rest);
        if end > 0 {
            self.flush_surrogate(sink);
            self.take(&rest[..end], sink);
        }
        match rest.get(end) {
            Some(b'"') => {
                self.flush_surrogate(sink);
                self.string_end(sink);
                at + end + 1
            }
            Some(_) => {
                self.escape = Escape::Begun;
                at + end + 1
            }
            None => bytes.len(),
        }
    }

    fn string_end<S: Sink<Node = N>>(&mut self, sink: &mut S) {
        match self.state {
            State::Key => {
                self.node = sink.child(self.top(), &self.buffer);
                self.state = State::Colon;
            }
            State::WholeString => {
                sink.string(self.node, &self.buffer);
                self.value_done();
            }
            _ => self.value_done(),
        }
    }

    fn escaped<S: Sink<Node = N>>(&mut self, bytes: &[u8], at: usize, sink: &mut S) -> usize {
        let byte = bytes[at];
        let plain = match (self.escape, byte) {
            (Escape::Begun, b'u') => {
                self.escape = Escape::Hex(4, 0);
                return at + 1;
            }
            (Escape::Hex(left, read), digit) => {
                let Some(digit) = char::from(digit).to_digit(16) else {
                    self.state = State::Broken;
                    return at;
                };
                let read = read << 4 | digit as u16;
                self.escape = if left == 1 { Escape::None } else { Escape::Hex(left - 1, read) };
                if left == 1 {
                    self.utf16(read, sink);
                }
                return at + 1;
            }
            (_, b'n') => b'\n',
            (_, b't') => b'\t',
            (_, b'r') => b'\r',
            (_, b'b') => 8,
            (_, b'f') => 12,
            (_, other) => other,
        };
        self.escape = Escape::None;
        self.flush_surrogate(sink);
        self.take(&[plain], sink);
        at + 1
    }

    fn utf16<S: Sink<Node = N>>(&mut self, unit: u16, sink: &mut S) {
        if let Some(high) = self.high_surrogate
            && (0xdc00..0xe000).contains(&unit)
        {
            self.high_surrogate = None;
            let code = 0x10000 + ((u32::from(high) - 0xd800) << 10) + (u32::from(unit) - 0xdc00);
            return self.take_char(char::from_u32(code), sink);
        }
        self.flush_surrogate(sink);
        if (0xd800..0xdc00).contains(&unit) {
            self.high_surrogate = Some(unit);
        } else {
            self.take_char(char::from_u32(u32::from(unit)), sink);
        }
    }

    /// Half a pair alone is no character.
    fn flush_surrogate<S: Sink<Node = N>>(&mut self, sink: &mut S) {
        if self.high_surrogate.take().is_some() {
            self.take_char(None, sink);
        }
    }

    fn take_char<S: Sink<Node = N>>(&mut self, char: Option<char>, sink: &mut S) {
        let char = char.unwrap_or(char::REPLACEMENT_CHARACTER);
        self.take(char.encode_utf8(&mut [0; 4]).as_bytes(), sink);
    }

    fn take<S: Sink<Node = N>>(&mut self, decoded: &[u8], sink: &mut S) {
        let max = match self.state {
            State::PiecesString => return sink.piece(self.node, decoded),
            State::Key => KEY_BYTES_MAX,
            _ => VALUE_BYTES_MAX,
        };
        let room = max - self.buffer.len();
        self.buffer.extend_from_slice(&decoded[..decoded.len().min(room)]);
    }

    fn bare<S: Sink<Node = N>>(&mut self, bytes: &[u8], at: usize, sink: &mut S) -> usize {
        let rest = &bytes[at..];
        let end = rest.iter().position(|byte| !is_bare(*byte)).unwrap_or(rest.len());
        if end < rest.len() && self.buffer.is_empty() {
            self.bare_value(&rest[..end], sink);
            return at + end;
        }
        let room = NUMBER_BYTES_MAX - self.buffer.len();
        self.buffer.extend_from_slice(&rest[..end.min(room)]);
        if end < rest.len() {
            let buffer = std::mem::take(&mut self.buffer);
            self.bare_value(&buffer, sink);
            self.buffer = buffer;
        }
        at + end
    }

    fn bare_value<S: Sink<Node = N>>(&mut self, text: &[u8], sink: &mut S) {
        if sink.scalar(self.node) == Scalar::Whole {
            match text {
                b"true" => sink.boolean(self.node, true),
                b"false" => sink.boolean(self.node, false),
                _ => {
                    if let Some(number) = whole_number(text) {
                        sink.number(self.node, number);
                    }
                }
            }
        }
        self.value_done();
    }
}
