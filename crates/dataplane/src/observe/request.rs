//! Watches a request on its way up.

use std::fmt;

use bytes::Bytes;
use domain::{
    provider::{Operation, ProviderKind},
    record::{END_USER_CHARS_MAX, MODEL_BYTES_MAX, bounded},
};
use http::{HeaderMap, header};

use super::{
    Shape, codings,
    decode::{Decoder, Take},
    json::Scanner,
    multipart::Form,
    question::{Node, Question},
    text::{Collector, TextBudget},
};

/// What a request body says, as far as it was seen.
#[derive(Debug, Default)]
pub struct RequestFacts {
    pub model: Option<Box<str>>,
    /// The first present of `user`, `safety_identifier`, `metadata.user_id`.
    pub end_user: Option<Box<str>>,
    /// `"stream": true`.
    pub stream: bool,
    /// `"stream_options": {"include_usage": true}`.
    pub include_usage: bool,
    /// The body, kept only where the provider may not report usage; see
    /// [`super::Texts::of`].
    pub text: Option<Collector>,
}

/// Watches the bytes of a request on their way up.
pub struct RequestObserver {
    way: Way,
}

enum Way {
    Plain(Box<Reader>),
    Coded(Decoder<Reader>),
    Blind,
}

/// The scanners behind the observer, fed with decoded bytes.
struct Reader {
    body: Body,
    question: Question,
    text: Option<Collector>,
    kind: ProviderKind,
    operation: Operation,
}

enum Body {
    Json(Scanner<Node>),
    Form(Form),
}

impl RequestObserver {
    pub fn new(kind: ProviderKind, operation: Operation, headers: &HeaderMap) -> Self {
        let body = match Shape::of(headers) {
            Shape::Json | Shape::Text => Some(Body::Json(Scanner::new(Node::Root))),
            Shape::Form => {
                let content_type = headers.get(header::CONTENT_TYPE);
                content_type.and_then(|value| Form::new(value.to_str().ok()?)).map(Body::Form)
            }
            Shape::EventStream | Shape::Other => None,
        };
        let Some(body) = body else { return Self { way: Way::Blind } };
        let reader = Reader { body, question: Question::default(), text: None, kind, operation };
        let way = match codings(headers) {
            Some(codings) if codings.is_empty() => Way::Plain(Box::new(reader)),
            Some(codings) => Decoder::new(&codings, reader).map_or(Way::Blind, Way::Coded),
            None => Way::Blind,
        };
        Self { way }
    }

    /// Keeps the body for an estimate, within `budget`, while the provider may
    /// leave usage out: dropped as soon as the body says otherwise.
    #[must_use]
    pub fn collecting(mut self, budget: &TextBudget) -> Self {
        if let Some(reader) = self.reader()
            && reader.may_lack_usage()
            && matches!(reader.body, Body::Json(_))
        {
            reader.text = Some(Collector::new(budget));
        }
        self
    }

    pub fn data(&mut self, bytes: &Bytes) {
        match &mut self.way {
            Way::Plain(reader) => reader.take(bytes),
            Way::Coded(decoder) => decoder.push(bytes),
            Way::Blind => {}
        }
    }

    /// Whether the answer may come without usage, as far as the body was seen:
    /// then the generated text is worth keeping too.
    pub fn may_lack_usage(&mut self) -> bool {
        self.reader().is_some_and(|reader| reader.text.is_some())
    }

    /// The model asked for, as far as the body was seen.
    pub fn model(&mut self) -> Option<&str> {
        self.reader()?.question.model.as_deref()
    }

    pub fn finish(mut self) -> RequestFacts {
        let Some(reader) = self.reader() else { return RequestFacts::default() };
        reader.finish()
    }

    fn reader(&mut self) -> Option<&mut Reader> {
        match &mut self.way {
            Way::Plain(reader) => Some(reader),
            Way::Coded(decoder) => Some(decoder.target()),
            Way::Blind => None,
        }
    }
}

impl fmt::Debug for RequestObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestObserver").finish_non_exhaustive()
    }
}

impl Reader {
    /// OpenAI leaves usage out of streams that do not ask for it; Anthropic never
    /// does; servers that imitate either may do anything.
    fn may_lack_usage(&self) -> bool {
        use Operation::{Chat, Completions, Embeddings, Messages, Responses};
        match self.kind {
            ProviderKind::Anthropic => false,
            ProviderKind::Openai => matches!(self.operation, Chat | Completions),
            ProviderKind::Other => {
                matches!(self.operation, Chat | Completions | Embeddings | Messages | Responses)
            }
        }
    }

    fn finish(&mut self) -> RequestFacts {
        let question = std::mem::take(&mut self.question);
        let end_user = question.user.or(question.safety_identifier).or(question.metadata_user);
        RequestFacts {
            model: question.model.map(|model| bounded(&model, MODEL_BYTES_MAX).into()),
            end_user: end_user.map(|user| first_chars(&user, END_USER_CHARS_MAX).into()),
            stream: question.stream,
            include_usage: question.include_usage,
            text: self.text.take(),
        }
    }
}

impl Take for Reader {
    fn take(&mut self, decoded: &[u8]) {
        let question = &mut self.question;
        match &mut self.body {
            Body::Json(scanner) => {
                if let Some(text) = &mut self.text {
                    text.push(decoded);
                }
                let was_done = scanner.is_done();
                scanner.feed(decoded, question);
                let reports = question.include_usage || !question.stream;
                if scanner.is_done() && !was_done && self.kind == ProviderKind::Openai && reports {
                    self.text = None;
                }
            }
            Body::Form(form) => {
                form.feed(decoded, &mut |name, value, _is_whole| question.field(name, value));
            }
        }
    }
}

fn first_chars(text: &str, chars_max: usize) -> &str {
    text.char_indices().nth(chars_max).map_or(text, |(at, _)| &text[..at])
}
