//! Finds the texts in a JSON document, where they stand and what they are
//! called, without building a tree.
//!
//! Takes what bodies are: several documents behind one another, and one that
//! was cut anywhere. Must never recurse or keep more than the texts themselves.

use std::{
    borrow::Cow,
    hash::{DefaultHasher, Hash, Hasher},
    ops::Range,
};

use super::path::Path;

/// Deeper documents are not read.
const DEPTH_MAX: usize = 128;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// The inside of a string that is a member's name.
    Name,
    /// The inside of a string.
    Text,
    Number,
    /// A whole value that the operator's paths name.
    Named,
}

/// A text in a document.
#[derive(Debug)]
pub(super) struct Found<'t> {
    /// Where it stands; quotes are outside.
    pub(super) at: Range<usize>,
    pub(super) text: Cow<'t, str>,
    pub(super) kind: Kind,
    /// The value of a member whose name says that it is a secret.
    pub(super) secret: bool,
    /// The value of `id` or `…_id`: digits in it are no telephone number.
    pub(super) is_id: bool,
    /// Hash of its place, elements of the outermost array taken as one.
    pub(super) place: u64,
    /// The object around it, in [`Document::objects`].
    pub(super) object: usize,
}

/// An object and what tells it from others at the same place of other events:
/// `index` and the like.
#[derive(Clone, Copy, Debug)]
struct ObjectIn {
    parent: usize,
    told_by: u64,
}

/// What was found in one text.
#[derive(Debug, Default)]
pub(super) struct Document<'t> {
    pub(super) found: Vec<Found<'t>>,
    objects: Vec<ObjectIn>,
}

impl Document<'_> {
    /// Equal for texts that continue each other in the events of a stream.
    pub(super) fn channel(&self, found: &Found<'_>) -> u64 {
        let mut hasher = DefaultHasher::new();
        found.place.hash(&mut hasher);
        let mut object = found.object;
        while let Some(around) = self.objects.get(object) {
            around.told_by.hash(&mut hasher);
            object = around.parent;
        }
        hasher.finish()
    }
}

/// The text is not JSON; where it stops being so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Broken;

const NO_OBJECT: usize = usize::MAX;

enum Around {
    Object { object: usize, state: Member },
    Array { next: usize },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Member {
    Name,
    Colon,
    Value,
    Comma,
}

struct Walk<'t, 'p> {
    text: &'t str,
    at: usize,
    paths: &'p [Path],
    around: Vec<Around>,
    /// The names that lead to the value at hand, and their hashes.
    names: Vec<Box<str>>,
    hashes: Vec<u64>,
    document: Document<'t>,
    /// A container that a path names: its depth, its start, and what was found
    /// before it.
    named: Option<(usize, usize, usize)>,
}

/// Reads all of `text`: one document, or several, or the beginning of one.
pub(super) fn read<'t>(text: &'t str, paths: &[Path]) -> Result<Document<'t>, Broken> {
    let mut walk = Walk {
        text,
        at: 0,
        paths,
        around: Vec::new(),
        names: Vec::new(),
        hashes: vec![0],
        document: Document::default(),
        named: None,
    };
    while let Some(byte) = walk.next_byte() {
        walk.step(byte)?;
    }
    if let Some((_, from, count)) = walk.named {
        walk.document.found.truncate(count);
        walk.push(from..text.len(), Cow::Borrowed(""), Kind::Named);
    }
    Ok(walk.document)
}

impl<'t> Walk<'t, '_> {
    /// The next byte that is not blank.
    fn next_byte(&mut self) -> Option<u8> {
        // A text sequence (RFC 7464) separates documents by this one.
        const RECORD_SEPARATOR: u8 = 0x1e;
        let rest = &self.text.as_bytes()[self.at..];
        let blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == RECORD_SEPARATOR;
        self.at += rest.iter().take_while(|byte| blank(byte)).count();
        self.text.as_bytes().get(self.at).copied()
    }

    fn step(&mut self, byte: u8) -> Result<(), Broken> {
        let empty = self.names.len() < self.around.len();
        let state = match self.around.last_mut() {
            None => return self.value(byte),
            Some(Around::Array { .. }) => return self.element(byte),
            Some(Around::Object { state, .. }) => state,
        };
        let before = *state;
        match (before, byte) {
            (Member::Name, b'"') => self.name(),
            (Member::Name, b'}') if empty => self.close(),
            (Member::Comma, b'}') => self.close(),
            (Member::Colon, b':') => {
                *state = Member::Value;
                self.at += 1;
                Ok(())
            }
            (Member::Comma, b',') => {
                *state = Member::Name;
                self.at += 1;
                Ok(())
            }
            (Member::Value, _) => {
                *state = Member::Comma;
                self.value(byte)
            }
            _ => Err(Broken),
        }
    }

    fn element(&mut self, byte: u8) -> Result<(), Broken> {
        let Some(Around::Array { next }) = self.around.last_mut() else { return Err(Broken) };
        let number = *next;
        match byte {
            b']' => return self.close(),
            b',' if number > 0 => {
                self.at += 1;
                return Ok(());
            }
            b',' => return Err(Broken),
            _ => *next += 1,
        }
        // The elements of an outermost array are the events of a stream.
        let is_outermost = self.around.len() == 1;
        let hash = if is_outermost { 0 } else { number as u64 + 1 };
        self.enter(number.to_string().into(), hash);
        self.value(byte)
    }

    /// Makes `name` the last step of the place.
    fn enter(&mut self, name: Box<str>, hash: u64) {
        let depth = self.around.len();
        self.names.truncate(depth - 1);
        self.hashes.truncate(depth);
        let above = self.hashes.last().copied().unwrap_or_default();
        let mut hasher = DefaultHasher::new();
        (above, hash).hash(&mut hasher);
        self.names.push(name);
        self.hashes.push(hasher.finish());
    }

    fn name(&mut self) -> Result<(), Broken> {
        let (at, text, closed) = self.string()?;
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let name: Box<str> = (*text).into();
        self.push(at, text, Kind::Name);
        self.enter(name, hasher.finish());
        if let (Some(Around::Object { state, .. }), true) = (self.around.last_mut(), closed) {
            *state = Member::Colon;
        }
        Ok(())
    }

    fn value(&mut self, byte: u8) -> Result<(), Broken> {
        let from = self.at;
        let leads = |path: &Path| path.leads_to(&self.names);
        let is_named = self.named.is_none() && self.paths.iter().any(leads);
        let count = self.document.found.len();
        match byte {
            b'{' | b'[' => {
                if is_named {
                    self.named = Some((self.around.len(), from, count));
                }
                return self.open(byte);
            }
            b'"' => {
                let (at, text, _) = self.string()?;
                self.tell_apart(&text);
                self.push(at, text, Kind::Text);
            }
            b'-' | b'0'..=b'9' => {
                let digits = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
                let length = self.text.as_bytes()[from..].iter().take_while(|b| digits(b)).count();
                self.at += length;
                let text = &self.text[from..self.at];
                self.tell_apart(text);
                self.push(from..self.at, Cow::Borrowed(text), Kind::Number);
            }
            _ => self.word()?,
        }
        if is_named {
            self.document.found.truncate(count);
            self.push(from..self.at, Cow::Borrowed(""), Kind::Named);
        }
        Ok(())
    }

    /// `true`, `false` or `null`, or how far it came.
    fn word(&mut self) -> Result<(), Broken> {
        let rest = &self.text[self.at..];
        for word in ["true", "false", "null"] {
            if rest.starts_with(word) || word.starts_with(rest) {
                self.at += word.len().min(rest.len());
                return Ok(());
            }
        }
        Err(Broken)
    }

    fn open(&mut self, byte: u8) -> Result<(), Broken> {
        if self.around.len() == DEPTH_MAX {
            return Err(Broken);
        }
        self.at += 1;
        self.around.push(if byte == b'[' {
            Around::Array { next: 0 }
        } else {
            let parent = self.object();
            self.document.objects.push(ObjectIn { parent, told_by: 0 });
            Around::Object { object: self.document.objects.len() - 1, state: Member::Name }
        });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Broken> {
        self.at += 1;
        self.around.pop();
        let depth = self.around.len();
        self.names.truncate(depth);
        self.hashes.truncate(depth + 1);
        if let Some((_, from, count)) = self.named.filter(|(named, ..)| *named == depth) {
            self.named = None;
            self.document.found.truncate(count);
            self.push(from..self.at, Cow::Borrowed(""), Kind::Named);
        }
        Ok(())
    }

    /// The innermost object.
    fn object(&self) -> usize {
        let objects = self.around.iter().rev().filter_map(|around| match around {
            Around::Object { object, .. } => Some(*object),
            Around::Array { .. } => None,
        });
        objects.into_iter().next().unwrap_or(NO_OBJECT)
    }

    /// Members that say to which of several interleaved texts an event belongs.
    fn tell_apart(&mut self, value: &str) {
        if !matches!(self.around.last(), Some(Around::Object { .. })) {
            return;
        }
        let name = self.names.last().map_or("", |name| &**name);
        let is_outermost = self.around.len() == 1;
        if name.ends_with("index") || name == "item_id" || (is_outermost && name == "type") {
            let mut hasher = DefaultHasher::new();
            (name, value).hash(&mut hasher);
            let object = self.object();
            if let Some(object) = self.document.objects.get_mut(object) {
                object.told_by ^= hasher.finish();
            }
        }
    }

    fn push(&mut self, at: Range<usize>, text: Cow<'t, str>, kind: Kind) {
        // An element is called as its array is.
        let is_element = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
        let name = self.names.iter().rev().find(|name| !is_element(name));
        let name = name.map_or("", |name| &**name);
        let is_value = matches!(kind, Kind::Text | Kind::Number);
        self.document.found.push(Found {
            at,
            text,
            kind,
            secret: is_value && is_secret_name(name),
            is_id: is_value && (name == "id" || name.ends_with("_id") || name.ends_with("Id")),
            place: self.hashes.last().copied().unwrap_or_default(),
            object: self.object(),
        });
    }

    /// The string that begins here: where its inside stands, what it says, and
    /// whether it ends.
    fn string(&mut self) -> Result<(Range<usize>, Cow<'t, str>, bool), Broken> {
        let from = self.at + 1;
        let rest = &self.text[from..];
        let plain = rest.find(['"', '\\']).unwrap_or(rest.len());
        if rest.as_bytes().get(plain) != Some(&b'\\') {
            let closed = plain < rest.len();
            self.at = from + plain + usize::from(closed);
            return Ok((from..from + plain, Cow::Borrowed(&rest[..plain]), closed));
        }
        let mut said = rest[..plain].to_owned();
        let mut at = plain;
        loop {
            let clean = rest[at..].find(['"', '\\']).unwrap_or(rest.len() - at);
            said.push_str(&rest[at..at + clean]);
            at += clean;
            match rest.as_bytes().get(at) {
                Some(b'"') => {
                    self.at = from + at + 1;
                    return Ok((from..from + at, Cow::Owned(said), true));
                }
                Some(_) => match escape(&rest[at..]) {
                    Escape::Char(c, length) => {
                        said.push(c);
                        at += length;
                    }
                    Escape::Cut => break,
                    Escape::Wrong => return Err(Broken),
                },
                None => break,
            }
        }
        self.at = self.text.len();
        Ok((from..self.text.len(), Cow::Owned(said), false))
    }
}

enum Escape {
    Char(char, usize),
    /// The text ends in the middle of it.
    Cut,
    Wrong,
}

/// Reads the escape that `text` begins with.
fn escape(text: &str) -> Escape {
    let Some(letter) = text.as_bytes().get(1) else { return Escape::Cut };
    let simple = match letter {
        b'"' | b'\\' | b'/' => char::from(*letter),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unicode(text),
        _ => return Escape::Wrong,
    };
    Escape::Char(simple, 2)
}

fn unicode(text: &str) -> Escape {
    let unit = |at: usize| -> Option<Option<u32>> {
        let digits = text.as_bytes().get(at..at + 4)?;
        let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
        let text = std::str::from_utf8(digits).ok().filter(|_| is_hex);
        Some(text.and_then(|text| u32::from_str_radix(text, 16).ok()))
    };
    let first = match unit(2) {
        None => return Escape::Cut,
        Some(None) => return Escape::Wrong,
        Some(Some(first)) => first,
    };
    if (0xd800..0xdc00).contains(&first)
        && text.as_bytes().get(6..8) == Some(b"\\u")
        && let Some(Some(second @ 0xdc00..0xe000)) = unit(8)
    {
        let point = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        return Escape::Char(char::from_u32(point).unwrap_or('\u{fffd}'), 12);
    }
    Escape::Char(char::from_u32(first).unwrap_or('\u{fffd}'), 6)
}

/// Names, without `_` and `-` and in lower case, whose values are secrets.
const SECRET_NAMES: &[&str] = &["authorization", "cookie", "pwd", "credential", "credentials"];
const SECRET_ENDINGS: &[&str] = &[
    "apikey",
    "secret",
    "secretkey",
    "secretaccesskey",
    "accesskey",
    "accountkey",
    "privatekey",
    "accesstoken",
    "refreshtoken",
    "authtoken",
    "bearertoken",
    "sessiontoken",
    "idtoken",
    "password",
    "passwd",
    "passphrase",
    "authorization",
    "setcookie",
];

/// `token` is not among them: providers call words so.
pub(super) fn is_secret_name(name: &str) -> bool {
    const LONGEST: usize = 64;
    if name.len() < 3 || name.len() > LONGEST {
        return false;
    }
    let folded: String =
        name.chars().filter(|c| c.is_alphanumeric()).map(|c| c.to_ascii_lowercase()).collect();
    SECRET_NAMES.contains(&&*folded) || SECRET_ENDINGS.iter().any(|end| folded.ends_with(end))
}
