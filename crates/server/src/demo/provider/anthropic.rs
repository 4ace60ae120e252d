//! Anthropic's messages, plain and streamed, token counting and models.

use bytes::Bytes;
use domain::usage::Usage;
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    content::Ask,
    directives::Directives,
    openai::{MODELS, pieces, reports},
    reply::{Reply, named_event},
};

/// Anthropic's three input figures, which add up to all input.
struct InputFigures {
    fresh: u64,
    cache_read: u64,
    cache_write: u64,
}

impl InputFigures {
    /// A request that marks something for the cache writes a quarter of it.
    fn of(ask: &Ask, request: &Value) -> Self {
        let input = ask.usage.input_tokens.unwrap_or(0);
        let cache_read = ask.usage.cached_input_tokens.unwrap_or(0);
        let marked = ["system", "messages", "tools"]
            .iter()
            .filter_map(|part| request.get(part))
            .any(|part| part.to_string().contains("\"cache_control\""));
        let cache_write = if marked { (input - cache_read) / 4 } else { 0 };
        Self { fresh: input - cache_read - cache_write, cache_read, cache_write }
    }

    fn to_json(&self, output: u64) -> Value {
        json!({
            "input_tokens": self.fresh, "cache_creation_input_tokens": self.cache_write,
            "cache_read_input_tokens": self.cache_read,
            "cache_creation": {"ephemeral_5m_input_tokens": self.cache_write,
                               "ephemeral_1h_input_tokens": 0},
            "output_tokens": output, "service_tier": "standard"})
    }

    /// The same in the words of a record.
    fn to_usage(&self, output: u64) -> Usage {
        let input = self.fresh + self.cache_read + self.cache_write;
        Usage {
            input_tokens: Some(input),
            output_tokens: Some(output),
            total_tokens: Some(input + output),
            cached_input_tokens: Some(self.cache_read),
            cache_write_tokens: Some(self.cache_write),
            reasoning_tokens: None,
        }
    }
}

pub(super) fn messages(ask: &Ask, request: &Value, directives: &Directives) -> Reply {
    let figures = InputFigures::of(ask, request);
    let output = ask.usage.output_tokens.unwrap_or(0);
    let usage = figures.to_usage(output);
    if ask.stream {
        return Reply::events(events(ask, &figures, output, directives))
            .with_usage(usage, reports(directives));
    }
    let mut message = message(ask, content(ask));
    message["stop_reason"] = stop_reason(ask).into();
    if !directives.no_usage {
        message["usage"] = figures.to_json(output);
    }
    Reply::json(StatusCode::OK, &message).with_usage(usage, reports(directives))
}

fn message(ask: &Ask, content: Value) -> Value {
    json!({"id": ask.id("msg_"), "type": "message", "role": "assistant", "model": ask.model,
           "content": content, "stop_reason": null, "stop_sequence": null})
}

fn content(ask: &Ask) -> Value {
    match &ask.tool {
        Some(tool) => {
            let input: Value = serde_json::from_str(&tool.arguments).unwrap_or_default();
            json!([{"type": "tool_use", "id": ask.id("toolu_"), "name": tool.name, "input": input}])
        }
        None => json!([{"type": "text", "text": ask.answer.text(), "citations": null}]),
    }
}

fn stop_reason(ask: &Ask) -> &'static str {
    match (&ask.tool, ask.answer.truncated) {
        (Some(_), _) => "tool_use",
        (None, true) => "max_tokens",
        (None, false) => "end_turn",
    }
}

fn events(ask: &Ask, figures: &InputFigures, output: u64, directives: &Directives) -> Vec<Bytes> {
    let mut start = message(ask, json!([]));
    if !directives.no_usage {
        start["usage"] = figures.to_json(1);
    }
    let (block, deltas): (Value, Vec<Value>) = match &ask.tool {
        Some(tool) => (
            json!({"type": "tool_use", "id": ask.id("toolu_"), "name": tool.name, "input": {}}),
            pieces(&tool.arguments)
                .map(|piece| json!({"type": "input_json_delta", "partial_json": piece}))
                .collect(),
        ),
        None => (
            json!({"type": "text", "text": ""}),
            ask.answer
                .words
                .iter()
                .map(|word| json!({"type": "text_delta", "text": word}))
                .collect(),
        ),
    };
    let mut events = vec![
        json!({"type": "message_start", "message": start}),
        json!({"type": "content_block_start", "index": 0, "content_block": block}),
        json!({"type": "ping"}),
    ];
    let deltas = deltas.into_iter();
    events.extend(
        deltas.map(|delta| json!({"type": "content_block_delta", "index": 0, "delta": delta})),
    );
    events.push(json!({"type": "content_block_stop", "index": 0}));
    let mut end = json!({"type": "message_delta",
        "delta": {"stop_reason": stop_reason(ask), "stop_sequence": null}});
    if !directives.no_usage {
        end["usage"] = json!({"output_tokens": output});
    }
    events.push(end);
    if !directives.no_done {
        events.push(json!({"type": "message_stop"}));
    }
    events.iter().map(named_event).collect()
}

pub(super) fn count_tokens(ask: &Ask) -> Reply {
    Reply::json(StatusCode::OK, &json!({"input_tokens": ask.usage.input_tokens}))
}

pub(super) fn models() -> Reply {
    let ids: Vec<&str> = MODELS.into_iter().filter(|id| id.starts_with("claude")).collect();
    let data: Vec<Value> = ids
        .iter()
        .map(|id| {
            json!({"type": "model", "id": id, "display_name": id,
                   "created_at": "2025-10-01T00:00:00Z"})
        })
        .collect();
    Reply::json(
        StatusCode::OK,
        &json!({"data": data, "has_more": false, "first_id": ids.first(), "last_id": ids.last()}),
    )
}
