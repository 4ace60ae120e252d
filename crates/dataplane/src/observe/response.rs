//! Watches an answer on its way down.

use std::fmt;

use bytes::Bytes;
use domain::{
    provider::{Operation, ProviderKind},
    record::ERROR_BYTES_MAX,
    usage::Usage,
};
use http::HeaderMap;

use super::{
    Shape,
    answer::{Answer, Node, Spoken, text},
    codings,
    decode::{Coding, Decoder, Take},
    is_counted,
    json::Scanner,
    sse::{Events, Sse},
    text::{Kept, Text, TextBudget},
};

const DONE: &[u8] = b"[DONE]";

/// What an answer says, as far as it was seen.
#[derive(Debug, Default)]
pub struct ResponseFacts {
    /// The last that was named.
    pub response_model: Option<Box<str>>,
    /// Several choices that end differently give all words, joined by commas.
    pub finish_reason: Option<Box<str>>,
    /// The provider's last word, already in OpenTelemetry's meaning.
    pub usage: Option<Usage>,
    /// Of the cache writes, those kept for an hour: they cost more.
    pub cache_write_1h_tokens: Option<u64>,
    pub error_code: Option<Box<str>>,
    pub error: Option<Box<str>>,
    /// An error event in the middle of a stream that began well.
    pub failed_midstream: bool,
    /// SSE events (`data:` blocks, `[DONE]` included); `None`: not a stream.
    pub events: Option<u64>,
    /// A stream that ended without its dialect's last event. Chat needs
    /// `[DONE]` where the provider is OpenAI; a finish reason is enough of
    /// others, some of which leave `[DONE]` out.
    pub unterminated: bool,
    /// The answer itself, kept only where it was asked for and the provider
    /// reported no usage; see [`super::Texts::of`].
    pub text: Option<Kept>,
}

/// Watches the bytes of an answer on their way down.
pub struct ResponseObserver {
    way: Way,
    told_of_token: bool,
    /// How the answer is coded, until the kept answer knows.
    codings: Vec<Coding>,
    text: Option<Kept>,
}

enum Way {
    Plain(Box<Reader>),
    Coded(Decoder<Reader>),
    Blind,
}

/// The scanners behind the observer, fed with decoded bytes.
struct Reader {
    body: Body,
    content: Content,
    kind: ProviderKind,
    operation: Operation,
}

enum Body {
    Json,
    Stream(Sse),
    /// Nothing but blanks so far, and no content type to trust.
    Undecided,
    /// The beginning of an error in plain text.
    Text(Vec<u8>),
    Ignored,
}

/// What takes the JSON of a body, or of one event after the other.
struct Content {
    scanner: Scanner<Node>,
    answer: Answer,
    events: u64,
    /// First bytes of the current event, to know `[DONE]`.
    start: [u8; DONE.len() + 2],
    event_bytes: usize,
}

impl ResponseObserver {
    pub fn new(kind: ProviderKind, operation: Operation, status: u16, headers: &HeaderMap) -> Self {
        let body = match Shape::of(headers) {
            Shape::Json => Body::Json,
            Shape::EventStream => Body::Stream(Sse::new()),
            Shape::Text => Body::Undecided,
            Shape::Form | Shape::Other => return Self::blind(),
        };
        let Some(codings) = codings(headers) else { return Self::blind() };
        let is_stream = matches!(body, Body::Stream(_));
        let reader =
            Reader { body, content: Content::new(is_stream, status, operation), kind, operation };
        let way = if codings.is_empty() {
            Way::Plain(Box::new(reader))
        } else {
            Decoder::new(&codings, reader).map_or(Way::Blind, Way::Coded)
        };
        Self { way, told_of_token: !is_stream, codings, text: None }
    }

    fn blind() -> Self {
        Self { way: Way::Blind, told_of_token: true, codings: Vec::new(), text: None }
    }

    /// Keeps a good answer, within `budget` and until it reports usage, for an
    /// estimate. Embeddings are no text.
    #[must_use]
    pub fn collecting(mut self, budget: &TextBudget) -> Self {
        let Some(reader) = self.reader() else { return self };
        let operation = reader.operation;
        let has_text = is_counted(operation) && operation != Operation::Embeddings;
        let is_stream = reader.content.answer.is_stream;
        if has_text && !reader.content.answer.is_failure {
            self.text = Some(Kept::new(budget, std::mem::take(&mut self.codings), is_stream));
        }
        self
    }

    /// Returns true once: with the first generated content of a stream (the
    /// first token). The answers that come at once have none.
    pub fn data(&mut self, bytes: &Bytes) -> bool {
        let answer = match &mut self.way {
            Way::Plain(reader) => {
                reader.take(bytes);
                &reader.content.answer
            }
            Way::Coded(decoder) => {
                decoder.push(bytes);
                &decoder.target().content.answer
            }
            Way::Blind => return false,
        };
        if let Some(text) = &mut self.text {
            if answer.has_usage {
                self.text = None;
            } else {
                text.push(bytes);
            }
        }
        if answer.generated && !self.told_of_token {
            self.told_of_token = true;
            return true;
        }
        false
    }

    /// Whether usage was reported already: nothing needs to be kept for an
    /// estimate.
    pub fn knows_usage(&mut self) -> bool {
        self.reader().is_some_and(|reader| reader.content.answer.has_usage)
    }

    /// `complete`: the body reached its end.
    pub fn finish(mut self, complete: bool) -> ResponseFacts {
        let undecoded = matches!(&self.way, Way::Coded(decoder) if decoder.is_broken());
        let text = self.text.take();
        let Some(reader) = self.reader() else { return ResponseFacts::default() };
        let facts = reader.finish(complete, undecoded);
        ResponseFacts { text: text.filter(|_| facts.usage.is_none()), ..facts }
    }

    fn reader(&mut self) -> Option<&mut Reader> {
        match &mut self.way {
            Way::Plain(reader) => Some(reader),
            Way::Coded(decoder) => Some(decoder.target()),
            Way::Blind => None,
        }
    }
}

impl fmt::Debug for ResponseObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseObserver").finish_non_exhaustive()
    }
}

impl Reader {
    fn finish(&mut self, complete: bool, undecoded: bool) -> ResponseFacts {
        let content = &mut self.content;
        let mut is_stream = false;
        match &mut self.body {
            Body::Stream(sse) => {
                is_stream = true;
                if complete {
                    sse.finish(content);
                }
            }
            Body::Json => {
                content.scanner.finish(&mut content.answer);
                content.answer.end(b"");
            }
            Body::Text(start) => {
                let start = text(start.trim_ascii_end(), ERROR_BYTES_MAX);
                content.answer.error = (!start.is_empty()).then_some(start);
            }
            Body::Undecided | Body::Ignored => {}
        }
        let unterminated =
            is_stream && !undecoded && content.is_unterminated(self.kind, self.operation);
        let answer = &mut content.answer;
        ResponseFacts {
            response_model: answer.model.take(),
            finish_reason: answer.finish_reason.take(),
            usage: answer.usage(),
            cache_write_1h_tokens: answer.cache_write_1h_tokens(),
            error_code: answer.error_code.take(),
            error: answer.error.take(),
            failed_midstream: answer.failed_midstream,
            events: is_stream.then_some(content.events),
            unterminated,
            text: None,
        }
    }

    /// JSON is taken at its first character, whatever the type says; the rest
    /// only matters as the text of an error.
    fn decide(&mut self, decoded: &[u8]) {
        let Some(first) = decoded.first() else { return };
        self.body = match first {
            b'{' | b'[' | b'"' => Body::Json,
            _ if self.content.answer.is_failure => Body::Text(Vec::new()),
            _ => Body::Ignored,
        };
    }
}

impl Take for Reader {
    fn take(&mut self, decoded: &[u8]) {
        let mut decoded = decoded;
        if matches!(self.body, Body::Undecided) {
            // What counts as blank here may not in JSON: it goes no further,
            // wherever the bytes were cut.
            decoded = decoded.trim_ascii_start();
            self.decide(decoded);
        }
        let content = &mut self.content;
        match &mut self.body {
            Body::Json => content.scanner.feed(decoded, &mut content.answer),
            Body::Stream(sse) => sse.feed(decoded, content),
            Body::Text(start) => {
                let decoded = if start.is_empty() { decoded.trim_ascii_start() } else { decoded };
                let room = ERROR_BYTES_MAX - start.len();
                start.extend_from_slice(&decoded[..decoded.len().min(room)]);
            }
            Body::Undecided | Body::Ignored => {}
        }
    }
}

impl Content {
    fn new(is_stream: bool, status: u16, operation: Operation) -> Self {
        let is_failure = status >= 400;
        let mut answer = Answer::new(is_stream, is_failure);
        answer.status_counts = operation == Operation::Responses;
        answer.errors_count = is_failure || is_generation(operation);
        Self {
            scanner: Scanner::new(Node::Root),
            answer,
            events: 0,
            start: [0; DONE.len() + 2],
            event_bytes: 0,
        }
    }

    fn is_unterminated(&self, kind: ProviderKind, operation: Operation) -> bool {
        let answer = &self.answer;
        if answer.is_failure || answer.ended || answer.failed_midstream {
            return false;
        }
        let dialect = match operation {
            Operation::Chat | Operation::Completions => Some(Spoken::Chat),
            Operation::Responses => Some(Spoken::Responses),
            Operation::Messages => Some(Spoken::Messages),
            _ => None,
        };
        match answer.spoken.or(dialect) {
            Some(Spoken::Chat) => kind == ProviderKind::Openai || answer.finish_reason.is_none(),
            Some(Spoken::Responses | Spoken::Messages) => true,
            None => false,
        }
    }
}

impl Events for Content {
    fn data(&mut self, piece: &[u8]) {
        if self.event_bytes < self.start.len() {
            let kept = piece.len().min(self.start.len() - self.event_bytes);
            self.start[self.event_bytes..self.event_bytes + kept].copy_from_slice(&piece[..kept]);
        }
        self.event_bytes = self.event_bytes.saturating_add(piece.len());
        self.scanner.feed(piece, &mut self.answer);
    }

    fn end(&mut self, name: &[u8]) {
        self.events += 1;
        let is_short = self.event_bytes <= self.start.len();
        if is_short && self.start[..self.event_bytes].trim_ascii() == DONE {
            self.answer.ended = true;
        } else {
            self.scanner.finish(&mut self.answer);
            self.answer.end(name);
        }
        self.event_bytes = 0;
        self.scanner.restart(Node::Root);
    }
}

/// The generated text of a kept answer.
pub(super) fn generated(answer: &Kept) -> Option<Text> {
    let is_stream = answer.is_stream();
    let body = if is_stream { Body::Stream(Sse::new()) } else { Body::Undecided };
    let (kind, operation) = (ProviderKind::Other, Operation::Other);
    let mut content = Content::new(is_stream, 200, operation);
    content.answer.text = Some(Text::default());
    let reader = Reader { body, content, kind, operation };
    answer.feed(reader, |reader| reader.content.answer.text.take()).flatten()
}

fn is_generation(operation: Operation) -> bool {
    is_counted(operation) || operation == Operation::Images
}
