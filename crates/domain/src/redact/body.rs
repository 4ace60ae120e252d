//! A body of any kind, through the rules: what kind it is, which texts it
//! holds, and whether there is a rule that can read it.

use super::{
    Redacted,
    builtin::whole_words,
    events,
    form::{self, Part},
    rules::Rules,
    sheet::{Sheet, Write},
};
use crate::capture::Omission;

/// A captured body, decoded.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    pub bytes: &'a [u8],
    pub content_type: Option<&'a str>,
    /// There was more: what stands at the end may be the beginning of anything.
    pub cut: bool,
}

/// How a body holds its texts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form<'a> {
    /// One document, or one a line.
    Json,
    Events,
    Pairs,
    Parts(&'a str),
    Text,
}

impl<'a> Form<'a> {
    /// `None`: this is no text.
    fn of(source: &Source<'a>) -> Option<Self> {
        let content_type = source.content_type.unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let essence = essence.to_ascii_lowercase();
        let looks_json = || {
            let first = source.bytes.iter().find(|byte| !byte.is_ascii_whitespace());
            if matches!(first, Some(b'{' | b'[' | b'"')) { Self::Json } else { Self::Text }
        };
        let json = ["json", "jsonl", "x-ndjson", "json-seq", "x-jsonlines"];
        match essence.split_once('/') {
            Some(("text", "event-stream")) => Some(Self::Events),
            Some((_, kind)) if json.contains(&kind) || kind.ends_with("+json") => Some(Self::Json),
            Some(("application", "x-www-form-urlencoded")) => Some(Self::Pairs),
            Some(("multipart", _)) => form::boundary(content_type).map(Self::Parts),
            Some(("application", "xml" | "javascript" | "graphql" | "yaml" | "toml")) => {
                Some(Self::Text)
            }
            Some((_, kind)) if kind.ends_with("+xml") => Some(Self::Text),
            Some(("text", _)) => Some(looks_json()),
            // Nothing said, or nothing that can be read: the bytes tell.
            None => Some(looks_json()),
            Some(_) => None,
        }
    }
}

/// Whether bodies of this type may be text. Asked before anything is copied.
pub fn may_be_text(content_type: Option<&str>) -> bool {
    Form::of(&Source { bytes: b"", content_type, cut: false }).is_some()
}

impl Rules {
    /// The text of a body without what the rules find, and without the exact
    /// `secrets`. An error says why no rule can read it: then it must not be
    /// kept.
    pub fn redact(&self, source: &Source<'_>, secrets: &[&str]) -> Result<Redacted, Omission> {
        let form = Form::of(source).ok_or(Omission::Binary)?;
        let assembled;
        let text = if let Form::Parts(boundary) = form {
            assembled = form::without_files(source.bytes, boundary);
            &*assembled
        } else {
            utf8(source)?
        };
        let text = if source.cut { &text[..whole_words(text)] } else { text };
        // A byte order mark is no part of any document.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut sheet = Sheet::new(self, secrets, text, source.cut);
        match form {
            Form::Json => sheet.json(0..text.len())?,
            Form::Events => events::read(text, &mut sheet)?,
            Form::Pairs => form::read_pairs(text, &mut sheet),
            Form::Parts(boundary) => {
                for part in form::parts(text, boundary) {
                    let Part { head, content, name } = part;
                    sheet.text(head, Write::Raw, None);
                    sheet.text(content, Write::Raw, Some(name));
                }
            }
            Form::Text => sheet.text(0..text.len(), Write::Raw, None),
        }
        Ok(sheet.redacted())
    }
}

/// The text of the bytes; a character that the cut went through is left out.
fn utf8<'a>(source: &Source<'a>) -> Result<&'a str, Omission> {
    let text = match std::str::from_utf8(source.bytes) {
        Ok(text) => Ok(text),
        Err(error) if source.cut && error.error_len().is_none() => {
            std::str::from_utf8(&source.bytes[..error.valid_up_to()])
        }
        Err(error) => Err(error),
    };
    text.map_err(|_| Omission::Unreadable)
}
