//! Finds the values of a few wanted keys in one line, without building a tree.
//!
//! One pass over the bytes, borrowed. It checks what could make a value be taken
//! for something else (brackets, quotes, colons, commas, words), so a torn line
//! is no JSON; inside of strings it checks nothing, so bytes that are not UTF-8
//! and raw controls are kept. As with most readers the last of equal keys wins.

use std::{borrow::Cow, ops::Range};

/// Objects and arrays inside each other; a line with more is no JSON for us.
const DEPTH_MAX: usize = 128;

/// Paths of more parts are looked for as one key and as one key a part only.
const VARIANT_PARTS_MAX: usize = 5;

/// The one name that stands for another, too: `level` is also `log.level`.
pub(super) const LEVEL: &str = "level";
const ECS_LEVEL: &str = "log.level";

/// Keys wanted of every line. A path of `a.b.c` is the value of the key `a.b.c`,
/// or of `c` in `a.b`, or of `b.c` in `a`, or of `c` in `b` in `a`: the first of
/// them that is there and not null.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    root: Node,
    slots: usize,
    /// The slots of each path in the order in which they win.
    paths: Vec<Vec<usize>>,
}

#[derive(Debug, Default)]
struct Node {
    keys: Vec<Key>,
}

#[derive(Debug)]
struct Key {
    name: Box<[u8]>,
    /// Where the value itself goes, if somebody wants it.
    slot: Option<usize>,
    /// What is wanted inside of it.
    inner: Node,
    /// Its own slot and all inside: a second key of the name empties them.
    slots: Range<usize>,
}

impl Wanted {
    pub(super) fn new(paths: &[String]) -> Self {
        let mut root = Node::default();
        let ways: Vec<Vec<Vec<&str>>> = paths.iter().map(|path| all_ways(path)).collect();
        for way in ways.iter().flatten() {
            root.add(way);
        }
        let mut slots = 0;
        root.number(&mut slots);
        let slot_of = |way: &Vec<&str>| root.slot(way);
        let paths = ways.iter().map(|ways| ways.iter().filter_map(slot_of).collect()).collect();
        Self { root, slots, paths }
    }

    /// Reads a line into `found`; false if it is not one JSON object.
    pub(super) fn read(&self, line: &[u8], found: &mut Found) -> bool {
        found.spans.clear();
        found.spans.resize(self.slots, None);
        let mut reader = Reader { bytes: line, at: 0 };
        reader.blanks();
        let is_object = reader.peek() == Some(b'{')
            && reader.object(Some(&self.root), &mut found.spans, DEPTH_MAX).is_some()
            && {
                reader.blanks();
                reader.at == line.len()
            };
        if !is_object {
            found.spans.fill(None);
        }
        is_object
    }

    /// The raw value of the n-th path; null is no value.
    pub(super) fn value<'l>(&self, path: usize, line: &'l [u8], found: &Found) -> Option<&'l [u8]> {
        let slots = self.paths.get(path)?.iter();
        let mut values = slots.filter_map(|slot| found.spans.get(*slot)?.as_ref());
        let values = &mut values;
        values.filter_map(|span| line.get(span.clone())).find(|value| *value != b"null")
    }
}

/// What one line has of what is wanted. Kept between lines for its memory.
#[derive(Debug, Default)]
pub(super) struct Found {
    spans: Vec<Option<Range<usize>>>,
}

/// A line that has no level of its own may have it where ECS puts it.
fn all_ways(path: &str) -> Vec<Vec<&str>> {
    let mut found = ways(path);
    if path == LEVEL {
        found.extend(ways(ECS_LEVEL));
    }
    found
}

/// Every way in which the dots of a path may cut it into keys, longest first.
fn ways(path: &str) -> Vec<Vec<&str>> {
    if path.matches('.').count() >= VARIANT_PARTS_MAX {
        return vec![vec![path], path.split('.').collect()];
    }
    let mut found = vec![vec![path]];
    for (dot, _) in path.rmatch_indices('.') {
        for mut rest in ways(&path[dot + 1..]) {
            rest.insert(0, &path[..dot]);
            found.push(rest);
        }
    }
    found
}

impl Node {
    fn add(&mut self, way: &[&str]) {
        let Some((first, rest)) = way.split_first() else { return };
        let at = self.keys.iter().position(|key| *key.name == *first.as_bytes());
        let at = at.unwrap_or_else(|| {
            let name = first.as_bytes().into();
            self.keys.push(Key { name, slot: None, inner: Self::default(), slots: 0..0 });
            self.keys.len() - 1
        });
        match rest {
            [] => self.keys[at].slot = Some(0),
            rest => self.keys[at].inner.add(rest),
        }
    }

    fn number(&mut self, next: &mut usize) {
        for key in &mut self.keys {
            let first = *next;
            if let Some(slot) = &mut key.slot {
                *slot = *next;
                *next += 1;
            }
            key.inner.number(next);
            key.slots = first..*next;
        }
    }

    fn slot(&self, way: &[&str]) -> Option<usize> {
        let (first, rest) = way.split_first()?;
        let key = self.keys.iter().find(|key| *key.name == *first.as_bytes())?;
        if rest.is_empty() { key.slot } else { key.inner.slot(rest) }
    }

    fn find(&self, raw: &[u8], escaped: bool) -> Option<&Key> {
        if escaped {
            let name = unescape(raw);
            return self.keys.iter().find(|key| *key.name == *name);
        }
        self.keys.iter().find(|key| *key.name == *raw)
    }
}

type Spans = [Option<Range<usize>>];

struct Reader<'l> {
    bytes: &'l [u8],
    at: usize,
}

impl Reader<'_> {
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    fn blanks(&mut self) {
        while self.peek().is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Option<()> {
        self.blanks();
        (self.peek() == Some(byte)).then(|| self.at += 1)
    }

    /// Stands at the brace.
    fn object(&mut self, node: Option<&Node>, spans: &mut Spans, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        self.at += 1;
        self.blanks();
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(());
        }
        loop {
            self.blanks();
            let (key, escaped) = self.string()?;
            self.expect(b':')?;
            self.blanks();
            match node.and_then(|node| node.find(&self.bytes[key], escaped)) {
                None => self.value(depth)?,
                Some(key) => self.wanted(key, spans, depth)?,
            }
            self.blanks();
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    fn wanted(&mut self, key: &Key, spans: &mut Spans, depth: usize) -> Option<()> {
        spans[key.slots.clone()].fill(None);
        let start = self.at;
        if self.peek()? == b'{' && !key.inner.keys.is_empty() {
            self.object(Some(&key.inner), spans, depth)?;
        } else {
            self.value(depth)?;
        }
        if let Some(slot) = key.slot {
            spans[slot] = Some(start..self.at);
        }
        Some(())
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        match self.peek()? {
            b'"' => self.string().map(|_| ()),
            b'{' => self.object(None, &mut [], depth),
            b'[' => self.array(depth),
            _ => self.word(),
        }
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        self.at += 1;
        self.blanks();
        if self.peek()? == b']' {
            self.at += 1;
            return Some(());
        }
        loop {
            self.blanks();
            self.value(depth)?;
            self.blanks();
            match self.peek()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    /// A number or a word. `NaN` and the infinities are what Python writes.
    fn word(&mut self) -> Option<()> {
        let rest = &self.bytes[self.at..];
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        let length = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        let word = &rest[..length];
        self.at += length;
        let is_word = match word.first()? {
            b'0'..=b'9' => is_number(word),
            b'-' => is_number(&word[1..]) || word == b"-Infinity",
            _ => matches!(word, b"true" | b"false" | b"null" | b"NaN" | b"Infinity"),
        };
        is_word.then_some(())
    }

    /// The bytes between the quotes, and whether there are escapes among them.
    #[inline]
    fn string(&mut self) -> Option<(Range<usize>, bool)> {
        if self.peek()? != b'"' {
            return None;
        }
        let start = self.at + 1;
        let (end, escaped) = scan_string(self.bytes, start)?;
        self.at = end + 1;
        Some((start..end, escaped))
    }
}

/// Digits, at most one point between digits, at most one exponent.
fn is_number(word: &[u8]) -> bool {
    let digits = |rest: &[u8]| rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let whole = digits(word);
    let mut rest = &word[whole..];
    if whole == 0 || (whole > 1 && word[0] == b'0') {
        return false;
    }
    if let Some(fraction) = rest.strip_prefix(b".") {
        let count = digits(fraction);
        if count == 0 {
            return false;
        }
        rest = &fraction[count..];
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = match exponent {
            [b'+' | b'-', digits @ ..] => digits,
            digits => digits,
        };
        let count = digits(exponent);
        return count > 0 && count == exponent.len();
    }
    rest.is_empty()
}

/// Where the quote stands that ends the string whose first byte is at `from`.
pub(super) fn string_end(bytes: &[u8], from: usize) -> Option<usize> {
    scan_string(bytes, from).map(|(end, _)| end)
}

/// The same, and whether there are escapes on the way. Eight bytes at a time:
/// most strings of a line are short.
#[inline]
fn scan_string(bytes: &[u8], from: usize) -> Option<(usize, bool)> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    const QUOTES: u64 = u64::from_ne_bytes([b'"'; 8]);
    const SLASHES: u64 = u64::from_ne_bytes([b'\\'; 8]);
    // Exact for the lowest zero byte, which is the only one asked for.
    let zero_bytes = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let mut at = from;
    let mut escaped = false;
    loop {
        match bytes.get(at..at + 8).and_then(|eight| <[u8; 8]>::try_from(eight).ok()) {
            Some(eight) => {
                let word = u64::from_le_bytes(eight);
                let hits = zero_bytes(word ^ QUOTES) | zero_bytes(word ^ SLASHES);
                if hits == 0 {
                    at += 8;
                    continue;
                }
                at += (hits.trailing_zeros() / 8) as usize;
            }
            None => {
                let rest = bytes.get(at..)?;
                at += rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
            }
        }
        if bytes[at] == b'"' {
            return Some((at, escaped));
        }
        escaped = true;
        at += 2;
    }
}

/// Where the value that begins at `at` ends, if it is whole.
pub(super) fn value_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut reader = Reader { bytes, at };
    reader.value(DEPTH_MAX)?;
    Some(reader.at)
}

/// The elements of a whole array.
pub(super) fn elements(array: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut reader = Reader { bytes: array, at: 1 };
    std::iter::from_fn(move || {
        reader.blanks();
        if reader.peek()? == b',' {
            reader.at += 1;
            reader.blanks();
        }
        let start = reader.at;
        reader.value(DEPTH_MAX)?;
        Some(&array[start..reader.at])
    })
}

/// Resolves the escapes of a string. Halves of a pair that stand alone become
/// U+FFFD; an escape that JSON does not know stands for itself.
pub(super) fn unescape(raw: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr::memchr(b'\\', raw) else { return Cow::Borrowed(raw) };
    let mut out = Vec::with_capacity(raw.len());
    out.extend_from_slice(&raw[..first]);
    let mut rest = &raw[first..];
    while let Some(&byte) = rest.first() {
        if byte != b'\\' {
            let run = memchr::memchr(b'\\', rest).unwrap_or(rest.len());
            out.extend_from_slice(&rest[..run]);
            rest = &rest[run..];
            continue;
        }
        let plain = match rest.get(1) {
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                if let Some((character, used)) = unicode(rest) {
                    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                    rest = &rest[used..];
                    continue;
                }
                out.push(b'\\');
                b'u'
            }
            Some(&itself @ (b'"' | b'\\' | b'/')) => itself,
            Some(&other) => {
                out.push(b'\\');
                other
            }
            None => b'\\',
        };
        out.push(plain);
        rest = rest.get(2..).unwrap_or_default();
    }
    Cow::Owned(out)
}

/// The character of `\u....` at the start, and how many bytes it took.
fn unicode(raw: &[u8]) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let digits = raw.get(at..at + 6)?.strip_prefix(b"\\u")?;
        digits
            .iter()
            .try_fold(0, |value, digit| Some(value * 16 + char::from(*digit).to_digit(16)?))
    };
    let first = unit(0)?;
    if let Some(character) = char::from_u32(first) {
        return Some((character, 6));
    }
    let pair = unit(6).filter(|low| first < 0xdc00 && (0xdc00..0xe000).contains(low));
    let pair =
        pair.and_then(|low| char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (low - 0xdc00)));
    Some(pair.map_or((char::REPLACEMENT_CHARACTER, 6), |character| (character, 12)))
}
