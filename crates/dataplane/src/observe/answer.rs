//! What to look for in an answer, in every dialect at once: the paths do not
//! collide, so no dialect has to be guessed before the first byte is read.
//!
//! OpenAI Chat Completions, legacy completions, embeddings, images and the
//! Responses API; Anthropic Messages; and what Groq (`x_groq`), DeepSeek
//! (`prompt_cache_hit_tokens`), Mistral (content in parts), xAI and Azure add.

use domain::{
    record::{ERROR_BYTES_MAX, MODEL_BYTES_MAX, bounded},
    usage::Usage,
};

use super::{
    json::{Scalar, Sink},
    text::Text,
};

mod node;

pub(super) use node::Node;
use node::{Count, root_child, usage_child};

/// Distinct finish reasons of one answer that are kept.
const FINISH_REASONS_BYTES_MAX: usize = 128;
const CODE_BYTES_MAX: usize = 128;

const COUNTS: usize = Count::Reasoning as usize + 1;

/// The dialect that a stream turned out to speak, by its events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Spoken {
    Chat,
    Responses,
    Messages,
}

/// The event or document that is being read, as far as its end must know.
#[derive(Debug, Default)]
struct Current {
    kind: Kind,
    status: Status,
    incomplete_reason: Option<Box<str>>,
    error_seen: bool,
    root_message: Option<Box<str>>,
    root_code: Option<Box<str>>,
    root_type: Option<Box<str>>,
    is_error_object: bool,
}

/// The `type` at the root, where it decides something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Kind {
    #[default]
    Other,
    Error,
    MessageStop,
    /// `response.completed`, `response.incomplete`, `response.cancelled`.
    ResponseEnd,
    ResponseFailed,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Status {
    #[default]
    Absent,
    Final(&'static str),
}

/// Collects the facts of one answer from the values that the scanner finds.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) is_stream: bool,
    /// The HTTP status says that this is an error.
    pub(super) is_failure: bool,
    /// A Responses answer: `status` at the root is how it ended.
    pub(super) status_counts: bool,
    /// Errors in a plain body are taken at their word.
    pub(super) errors_count: bool,
    pub(super) spoken: Option<Spoken>,
    pub(super) model: Option<Box<str>>,
    pub(super) finish_reason: Option<Box<str>>,
    pub(super) error: Option<Box<str>>,
    pub(super) error_code: Option<Box<str>>,
    pub(super) failed_midstream: bool,
    /// The dialect's last event was seen.
    pub(super) ended: bool,
    /// Generated content was seen.
    pub(super) generated: bool,
    /// A figure of usage was seen.
    pub(super) has_usage: bool,
    /// Collected only where the estimate is made.
    pub(super) text: Option<Text>,
    counts: [Option<u64>; COUNTS],
    current: Current,
}

impl Answer {
    pub(super) fn new(is_stream: bool, is_failure: bool) -> Self {
        Self {
            is_stream,
            is_failure,
            status_counts: false,
            errors_count: is_failure,
            spoken: None,
            model: None,
            finish_reason: None,
            error: None,
            error_code: None,
            failed_midstream: false,
            ended: false,
            generated: false,
            has_usage: false,
            text: None,
            counts: [None; COUNTS],
            current: Current::default(),
        }
    }

    /// The event or document is over: what depends on several of its values is
    /// decided now, so that their order does not matter.
    pub(super) fn end(&mut self, event_name: &[u8]) {
        let current = std::mem::take(&mut self.current);
        let is_error = current.kind == Kind::Error
            || current.is_error_object
            || (self.is_stream && event_name == b"error")
            || (self.is_failure && !self.is_stream);
        if is_error {
            set(&mut self.error, current.root_message);
            if current.root_code.is_some() {
                set(&mut self.error_code, current.root_code);
            } else if self.error_code.is_none() && self.error.is_some() && !current.error_seen {
                // Beside a nested error, the root's type only says `error`.
                set(&mut self.error_code, current.root_type.filter(|kind| &**kind != "error"));
            }
        }
        let failed = is_error || current.error_seen || current.kind == Kind::ResponseFailed;
        if self.is_stream && failed && !self.is_failure {
            self.failed_midstream = true;
        }
        self.ended |=
            matches!(current.kind, Kind::MessageStop | Kind::ResponseEnd | Kind::ResponseFailed);
        let is_response_end = matches!(current.kind, Kind::ResponseEnd | Kind::ResponseFailed);
        if is_response_end || (self.status_counts && !self.is_stream) {
            if current.incomplete_reason.is_some() {
                self.finish_reason = current.incomplete_reason;
            } else if let Status::Final(status) = current.status {
                self.finish_reason = Some(status.into());
            }
        }
    }

    /// The provider's last word on each figure, in OpenTelemetry's meaning.
    pub(super) fn usage(&self) -> Option<Usage> {
        let get = |count: Count| self.counts[count as usize];
        let cache_read = get(Count::CacheRead);
        let cache_creation = get(Count::CacheCreation);
        // Anthropic's `input_tokens` leaves cached tokens out; `prompt_tokens`
        // never does, also where a compatible server adds Anthropic's figures.
        let input = get(Count::Prompt).or_else(|| {
            let input = get(Count::Input)?;
            let cached = cache_read.unwrap_or(0).saturating_add(cache_creation.unwrap_or(0));
            Some(input.saturating_add(cached))
        });
        let mut output = get(Count::Output);
        let (total, reasoning) = (get(Count::Total), get(Count::Reasoning));
        // xAI counts reasoning apart from completion tokens; its total tells.
        if let (Some(input), Some(out), Some(total), Some(reasoning)) =
            (input, output, total, reasoning)
            && reasoning > 0
            && input.checked_add(out).and_then(|sum| sum.checked_add(reasoning)) == Some(total)
        {
            output = Some(out + reasoning);
        }
        let usage = Usage {
            input_tokens: input,
            output_tokens: output,
            total_tokens: total,
            cached_input_tokens: get(Count::Cached).or(cache_read),
            cache_write_tokens: cache_creation.or(get(Count::CacheWrite)),
            reasoning_tokens: reasoning,
        };
        (!usage.is_empty()).then(|| usage.with_total())
    }

    pub(super) fn cache_write_1h_tokens(&self) -> Option<u64> {
        self.counts[Count::CacheWrite1h as usize]
    }

    fn kind(&mut self, value: &[u8]) {
        let (kind, spoken) = match value {
            b"error" => (Kind::Error, None),
            b"message_stop" => (Kind::MessageStop, Some(Spoken::Messages)),
            b"message_start"
            | b"message_delta"
            | b"content_block_start"
            | b"content_block_delta"
            | b"content_block_stop" => (Kind::Other, Some(Spoken::Messages)),
            b"response.completed" | b"response.incomplete" | b"response.cancelled" => {
                (Kind::ResponseEnd, Some(Spoken::Responses))
            }
            b"response.failed" => (Kind::ResponseFailed, Some(Spoken::Responses)),
            _ if value.starts_with(b"response.") => (Kind::Other, Some(Spoken::Responses)),
            _ => (Kind::Other, None),
        };
        self.current.kind = kind;
        if self.is_stream {
            self.spoken = spoken.or(self.spoken);
        }
        if self.errors_count || kind == Kind::Error {
            self.current.root_type = Some(text(value, CODE_BYTES_MAX));
        }
    }

    fn finish(&mut self, reason: &[u8]) {
        let reason = text(reason, FINISH_REASONS_BYTES_MAX);
        match &mut self.finish_reason {
            None => self.finish_reason = Some(reason),
            // Several choices may end differently: all words, each once.
            Some(known) if !known.split(',').any(|word| *word == *reason) => {
                if known.len() + 1 + reason.len() <= FINISH_REASONS_BYTES_MAX {
                    *known = format!("{known},{reason}").into();
                }
            }
            Some(_) => {}
        }
    }
}

impl Sink for Answer {
    type Node = Node;

    fn child(&self, parent: Node, key: &[u8]) -> Node {
        match parent {
            Node::Root => root_child(key),
            Node::Choice => match key {
                b"finish_reason" => Node::FinishReason,
                b"delta" | b"message" => Node::Delta,
                b"text" => Node::Generated,
                b"error" => Node::Error,
                _ => Node::Nothing,
            },
            Node::Delta => match key {
                b"content" | b"reasoning_content" | b"reasoning" | b"refusal" | b"tool_calls"
                | b"function_call" | b"text" | b"thinking" | b"partial_json" => Node::Generated,
                b"stop_reason" => Node::StopReason,
                _ => Node::Nothing,
            },
            Node::Generated => match key {
                b"text" | b"thinking" | b"content" | b"function" | b"name" | b"arguments"
                | b"summary" | b"refusal" => Node::Generated,
                b"input" => Node::ToolInput,
                _ => Node::Nothing,
            },
            Node::ToolInput => Node::ToolInput,
            Node::Response | Node::Message => match key {
                b"model" => Node::Model,
                b"usage" => Node::Usage,
                b"stop_reason" => Node::StopReason,
                b"status" => Node::Status,
                b"error" => Node::Error,
                b"incomplete_details" => Node::Incomplete,
                _ => Node::Nothing,
            },
            Node::XGroq => match key {
                b"usage" => Node::Usage,
                b"error" => Node::Error,
                _ => Node::Nothing,
            },
            Node::Incomplete if key == b"reason" => Node::IncompleteReason,
            Node::Error => match key {
                b"message" => Node::ErrorMessage,
                b"type" => Node::ErrorType,
                b"code" => Node::ErrorCode,
                _ => Node::Nothing,
            },
            Node::Detail if matches!(key, b"msg" | b"message") => Node::ErrorMessage,
            Node::Usage => usage_child(key),
            Node::InputDetails => match key {
                b"cached_tokens" => Node::Count(Count::Cached),
                b"cache_write_tokens" => Node::Count(Count::CacheWrite),
                _ => Node::Nothing,
            },
            Node::OutputDetails => match key {
                b"reasoning_tokens" | b"thinking_tokens" => Node::Count(Count::Reasoning),
                _ => Node::Nothing,
            },
            Node::CacheCreation if key == b"ephemeral_1h_input_tokens" => {
                Node::Count(Count::CacheWrite1h)
            }
            _ => Node::Nothing,
        }
    }

    fn element(&self, parent: Node) -> Node {
        match parent {
            Node::Choices => Node::Choice,
            Node::Generated | Node::ToolInput | Node::Detail => parent,
            _ => Node::Nothing,
        }
    }

    fn scalar(&self, node: Node) -> Scalar {
        match node {
            Node::ToolInput if self.text.is_some() => Scalar::Pieces,
            Node::Generated | Node::Delta => match self.text {
                Some(_) => Scalar::Pieces,
                None if self.is_stream && !self.generated => Scalar::Peek,
                None => Scalar::Skip,
            },
            Node::Message | Node::RootCode if !self.errors_count && !self.is_stream => Scalar::Skip,
            Node::Root if !self.is_failure => Scalar::Skip,
            Node::Nothing
            | Node::ToolInput
            | Node::Response
            | Node::XGroq
            | Node::Choices
            | Node::Choice
            | Node::Incomplete
            | Node::Usage
            | Node::InputDetails
            | Node::OutputDetails
            | Node::CacheCreation => Scalar::Skip,
            _ => Scalar::Whole,
        }
    }

    fn inside(&self, node: Node) -> bool {
        match node {
            Node::Root
            | Node::Response
            | Node::Message
            | Node::XGroq
            | Node::Choices
            | Node::Choice
            | Node::Delta
            | Node::Incomplete
            | Node::Usage
            | Node::InputDetails
            | Node::OutputDetails
            | Node::CacheCreation => true,
            Node::Generated => self.text.is_some() || (self.is_stream && !self.generated),
            Node::ToolInput => self.text.is_some(),
            Node::Error | Node::Detail => self.errors_count || self.is_stream,
            _ => false,
        }
    }

    fn string(&mut self, node: Node, value: &[u8]) {
        match node {
            Node::Type => self.kind(value),
            Node::Object if value == b"response" => self.status_counts = true,
            Node::Object if value == b"error" => self.current.is_error_object = true,
            // The last one wins, and nearly always is the one that is known.
            Node::Model
                if !value.is_empty() && self.model.as_deref().map(str::as_bytes) != Some(value) =>
            {
                self.model = Some(text(value, MODEL_BYTES_MAX));
            }
            Node::FinishReason if !value.is_empty() => self.finish(value),
            Node::StopReason if !value.is_empty() => {
                self.finish_reason = Some(text(value, FINISH_REASONS_BYTES_MAX));
            }
            Node::Status => self.current.status = final_status(value),
            Node::IncompleteReason => {
                self.current.incomplete_reason = Some(text(value, FINISH_REASONS_BYTES_MAX));
            }
            Node::Message => self.current.root_message = Some(text(value, ERROR_BYTES_MAX)),
            Node::RootCode => self.current.root_code = Some(text(value, CODE_BYTES_MAX)),
            Node::Error | Node::ErrorMessage | Node::Detail | Node::Root
                if self.errors_count || self.is_stream =>
            {
                self.current.error_seen = true;
                self.error = Some(text(value, ERROR_BYTES_MAX));
            }
            Node::ErrorCode => self.error_code = Some(text(value, CODE_BYTES_MAX)),
            Node::ErrorType if self.error_code.is_none() => {
                self.error_code = Some(text(value, CODE_BYTES_MAX));
            }
            _ => {}
        }
    }

    fn piece(&mut self, _node: Node, piece: &[u8]) {
        self.generated = true;
        if let Some(text) = &mut self.text {
            text.push(piece);
        }
    }

    fn peeked(&mut self, _node: Node) {
        self.generated = true;
    }

    fn number(&mut self, node: Node, value: u64) {
        match node {
            Node::Count(count) => {
                self.counts[count as usize] = Some(value);
                self.has_usage |= count != Count::CacheWrite1h;
            }
            Node::ErrorCode => self.error_code = Some(value.to_string().into()),
            Node::RootCode => self.current.root_code = Some(value.to_string().into()),
            _ => {}
        }
    }

    fn boolean(&mut self, _node: Node, _value: bool) {}

    fn entered(&mut self, node: Node) {
        match node {
            Node::Error => self.current.error_seen = true,
            Node::Choices if self.is_stream => self.spoken = Some(Spoken::Chat),
            _ => {}
        }
    }
}

fn final_status(value: &[u8]) -> Status {
    match value {
        b"completed" => Status::Final("completed"),
        b"incomplete" => Status::Final("incomplete"),
        b"failed" => Status::Final("failed"),
        b"cancelled" => Status::Final("cancelled"),
        _ => Status::Absent,
    }
}

fn set(slot: &mut Option<Box<str>>, value: Option<Box<str>>) {
    if value.is_some() {
        *slot = value;
    }
}

/// Valid, bounded text of bytes that may be cut in the middle of a character.
pub(super) fn text(bytes: &[u8], bytes_max: usize) -> Box<str> {
    bounded(&String::from_utf8_lossy(bytes), bytes_max).into()
}
