//! Watches a request on its way up.

use std::fmt;

use bytes::Bytes;
use domain::{
    provider::Operation,
    record::{END_USER_CHARS_MAX, MODEL_BYTES_MAX, bounded},
};
use http::{HeaderMap, header};

use super::{
    Shape, codings,
    decode::{Coding, Decoder, Take},
    is_counted,
    json::Scanner,
    multipart::Form,
    question::{Node, Question},
    text::{Kept, TextBudget},
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
    /// The body, in case the provider does not report usage; see
    /// [`super::Texts::of`].
    pub text: Option<Kept>,
}

/// Watches the bytes of a request on their way up.
pub struct RequestObserver {
    way: Way,
    /// How the body is coded, until the kept body knows.
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
    question: Question,
    operation: Operation,
}

enum Body {
    Json(Scanner<Node>),
    Form(Form),
}

impl RequestObserver {
    pub fn new(operation: Operation, headers: &HeaderMap) -> Self {
        let body = match Shape::of(headers) {
            Shape::Json | Shape::Text => Some(Body::Json(Scanner::new(Node::Root))),
            Shape::Form => {
                let content_type = headers.get(header::CONTENT_TYPE);
                content_type.and_then(|value| Form::new(value.to_str().ok()?)).map(Body::Form)
            }
            Shape::EventStream | Shape::Other => None,
        };
        let blind = || Self { way: Way::Blind, codings: Vec::new(), text: None };
        let Some(body) = body else { return blind() };
        let Some(codings) = codings(headers) else { return blind() };
        let reader = Reader { body, question: Question::default(), operation };
        let way = if codings.is_empty() {
            Way::Plain(Box::new(reader))
        } else {
            Decoder::new(&codings, reader).map_or(Way::Blind, Way::Coded)
        };
        Self { way, codings, text: None }
    }

    /// Keeps the body, within `budget`, for an estimate where the provider should
    /// report no usage.
    #[must_use]
    pub fn collecting(mut self, budget: &TextBudget) -> Self {
        if self.reader().is_some_and(|reader| reader.can_be_estimated()) {
            self.text = Some(Kept::new(budget, std::mem::take(&mut self.codings), false));
        }
        self
    }

    pub fn data(&mut self, bytes: &Bytes) {
        if let Some(text) = &mut self.text {
            text.push(bytes);
        }
        match &mut self.way {
            Way::Plain(reader) => reader.take(bytes),
            Way::Coded(decoder) => decoder.push(bytes),
            Way::Blind => {}
        }
    }

    /// Whether usage can be estimated: then the answer is worth keeping too.
    pub fn is_collecting(&self) -> bool {
        self.text.is_some()
    }

    /// Usage is known: nothing is kept any more.
    pub fn forget(&mut self) {
        self.text = None;
    }

    /// The answer is a stream: the body is kept for as long as that takes.
    pub fn lasts(&mut self) {
        if let Some(text) = &mut self.text {
            text.make_lasting();
        }
    }

    /// The model asked for, as far as the body was seen.
    pub fn model(&mut self) -> Option<&str> {
        self.reader()?.question.model.as_deref()
    }

    pub fn finish(mut self) -> RequestFacts {
        let text = self.text.take();
        let Some(reader) = self.reader() else { return RequestFacts::default() };
        RequestFacts { text, ..reader.finish() }
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
    /// Any provider may leave usage out: OpenAI of streams that do not ask for
    /// it, servers that imitate one or the other of whatever they like.
    fn can_be_estimated(&self) -> bool {
        is_counted(self.operation) && matches!(self.body, Body::Json(_))
    }

    fn finish(&mut self) -> RequestFacts {
        let question = std::mem::take(&mut self.question);
        let end_user = question.user.or(question.safety_identifier).or(question.metadata_user);
        RequestFacts {
            model: question.model.map(|model| bounded(&model, MODEL_BYTES_MAX).into()),
            end_user: end_user.map(|user| first_chars(&user, END_USER_CHARS_MAX).into()),
            stream: question.stream,
            include_usage: question.include_usage,
            text: None,
        }
    }
}

impl Take for Reader {
    fn take(&mut self, decoded: &[u8]) {
        let question = &mut self.question;
        match &mut self.body {
            Body::Json(scanner) => {
                scanner.feed(decoded, question);
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
