//! OpenAI's chat completions, legacy completions, embeddings and models.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use domain::usage::Usage;
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    content::Ask,
    directives::Directives,
    reply::{Reply, event},
};

/// A fixed time keeps equal answers equal.
pub(super) const CREATED: u64 = 1_763_892_000;
const EMBEDDING_DIMENSIONS: u64 = 8;
pub(super) const MODELS: [&str; 9] = [
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-4.1",
    "gpt-5",
    "o4-mini",
    "gpt-3.5-turbo-instruct",
    "text-embedding-3-small",
    "claude-sonnet-4-5",
    "claude-haiku-4-5",
];

pub(super) fn chat(ask: &Ask, request: &Value, directives: &Directives) -> Reply {
    let wants_usage =
        request.pointer("/stream_options/include_usage").and_then(Value::as_bool).unwrap_or(false);
    if ask.stream {
        let reported = wants_usage && !directives.no_usage;
        return Reply::events(chat_chunks(ask, reported, directives))
            .with_usage(ask.usage, reported && !directives.garbage);
    }
    let choices: Vec<Value> = (0..ask.choices)
        .map(|index| {
            json!({"index": index, "message": chat_message(ask, index), "logprobs": null,
                   "finish_reason": finish_reason(ask)})
        })
        .collect();
    let mut answer = json!({
        "id": ask.id("chatcmpl-"), "object": "chat.completion", "created": CREATED,
        "model": ask.response_model(), "choices": choices,
        "service_tier": "default", "system_fingerprint": "fp_sample",
    });
    if !directives.no_usage {
        answer["usage"] = chat_usage(&ask.usage);
    }
    Reply::json(StatusCode::OK, &answer).with_usage(ask.usage, reports(directives))
}

/// Whether a plain answer says what it used.
pub(super) fn reports(directives: &Directives) -> bool {
    !directives.no_usage && !directives.garbage
}

fn chat_message(ask: &Ask, index: u64) -> Value {
    match &ask.tool {
        Some(tool) => json!({
            "role": "assistant", "content": null, "refusal": null, "annotations": [],
            "tool_calls": [{"id": format!("call_{:08x}{index}", ask.seed), "type": "function",
                "function": {"name": tool.name, "arguments": tool.arguments}}]}),
        None => json!({"role": "assistant", "content": ask.answer.text(), "refusal": null,
                       "annotations": []}),
    }
}

fn finish_reason(ask: &Ask) -> &'static str {
    match (&ask.tool, ask.answer.truncated) {
        (Some(_), _) => "tool_calls",
        (None, true) => "length",
        (None, false) => "stop",
    }
}

fn chat_usage(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}})
}

fn chat_chunks(ask: &Ask, reported: bool, directives: &Directives) -> Vec<Bytes> {
    let id = ask.id("chatcmpl-");
    let model = ask.response_model();
    let chunk = |choices: Value| {
        let mut chunk = json!({
            "id": id, "object": "chat.completion.chunk", "created": CREATED, "model": model,
            "service_tier": "default", "system_fingerprint": "fp_sample", "choices": choices});
        if reported {
            chunk["usage"] = Value::Null;
        }
        chunk
    };
    let delta = |index: u64, delta: Value| {
        event(&chunk(json!([{"index": index, "delta": delta, "logprobs": null,
                             "finish_reason": null}])))
    };
    let mut chunks = Vec::new();
    for index in 0..ask.choices {
        chunks.push(delta(index, json!({"role": "assistant", "content": "", "refusal": null})));
        match &ask.tool {
            Some(tool) => {
                let call = format!("call_{:08x}{index}", ask.seed);
                chunks.push(delta(
                    index,
                    json!({"tool_calls": [{"index": 0, "id": call,
                    "type": "function", "function": {"name": tool.name, "arguments": ""}}]}),
                ));
                chunks.extend(pieces(&tool.arguments).map(|piece| {
                    delta(
                        index,
                        json!({"tool_calls": [{"index": 0,
                        "function": {"arguments": piece}}]}),
                    )
                }));
            }
            None => {
                let words = ask.answer.words.iter();
                chunks.extend(words.map(|word| delta(index, json!({"content": word}))));
            }
        }
        chunks.push(event(&chunk(json!([{"index": index, "delta": {}, "logprobs": null,
                                         "finish_reason": finish_reason(ask)}]))));
    }
    if reported {
        let mut last = chunk(json!([]));
        last["usage"] = chat_usage(&ask.usage);
        chunks.push(event(&last));
    }
    if !directives.no_done {
        chunks.push(Bytes::from_static(b"data: [DONE]\n\n"));
    }
    chunks
}

/// A tool's arguments as a stream gives them: a few characters at a time.
pub(super) fn pieces(text: &str) -> impl Iterator<Item = String> + '_ {
    let characters: Vec<char> = text.chars().collect();
    let pieces: Vec<String> = characters.chunks(6).map(|piece| piece.iter().collect()).collect();
    pieces.into_iter()
}

pub(super) fn completions(ask: &Ask, request: &Value, directives: &Directives) -> Reply {
    let id = ask.id("cmpl-");
    let object = |text: &str, finish: Value| {
        json!({"id": id, "object": "text_completion", "created": CREATED,
               "model": ask.response_model(),
               "choices": [{"text": text, "index": 0, "logprobs": null, "finish_reason": finish}]})
    };
    let usage = json!({"prompt_tokens": ask.usage.input_tokens,
        "completion_tokens": ask.usage.output_tokens, "total_tokens": ask.usage.total_tokens});
    let usage_told = Usage { cached_input_tokens: None, reasoning_tokens: None, ..ask.usage };
    if !ask.stream {
        let mut answer = object(&ask.answer.text(), finish_reason(ask).into());
        if !directives.no_usage {
            answer["usage"] = usage;
        }
        return Reply::json(StatusCode::OK, &answer).with_usage(usage_told, reports(directives));
    }
    let words = ask.answer.words.iter();
    let mut chunks: Vec<Bytes> = words.map(|word| event(&object(word, Value::Null))).collect();
    chunks.push(event(&object("", finish_reason(ask).into())));
    let wants_usage = request.pointer("/stream_options/include_usage") == Some(&Value::Bool(true));
    let reported = wants_usage && !directives.no_usage;
    if reported {
        let mut last = object("", Value::Null);
        last["choices"] = json!([]);
        last["usage"] = usage;
        chunks.push(event(&last));
    }
    if !directives.no_done {
        chunks.push(Bytes::from_static(b"data: [DONE]\n\n"));
    }
    Reply::events(chunks).with_usage(usage_told, reported && !directives.garbage)
}

pub(super) fn embeddings(ask: &Ask, request: &Value, directives: &Directives) -> Reply {
    let inputs = match request.get("input") {
        Some(Value::Array(items)) if items.iter().all(Value::is_string) => items.len() as u64,
        _ => 1,
    };
    let wanted = request.get("dimensions").and_then(Value::as_u64);
    let dimensions = wanted.unwrap_or(EMBEDDING_DIMENSIONS).clamp(1, 4096);
    let base64 = request.get("encoding_format") == Some(&"base64".into());
    let data: Vec<Value> = (0..inputs)
        .map(|index| {
            let vector = vector(ask.seed.wrapping_add(index), dimensions);
            let embedding = if base64 {
                let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                STANDARD.encode(bytes).into()
            } else {
                json!(vector)
            };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        })
        .collect();
    let usage = Usage {
        input_tokens: ask.usage.input_tokens,
        total_tokens: ask.usage.input_tokens,
        ..Usage::default()
    };
    let mut answer = json!({"object": "list", "data": data, "model": ask.model});
    if !directives.no_usage {
        answer["usage"] =
            json!({"prompt_tokens": usage.input_tokens, "total_tokens": usage.total_tokens});
    }
    Reply::json(StatusCode::OK, &answer).with_usage(usage, reports(directives))
}

/// Numbers in [-1, 1) that a 32-bit float holds exactly.
fn vector(seed: u64, dimensions: u64) -> Vec<f32> {
    let numbers = (0..dimensions).map(|index| {
        let mixed = seed.wrapping_add(index).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        f32::from(u8::try_from(mixed).unwrap_or(0)) / 128.0 - 1.0
    });
    numbers.collect()
}

pub(super) fn models() -> Reply {
    let data: Vec<Value> = MODELS.iter().map(|id| model_object(id)).collect();
    Reply::json(StatusCode::OK, &json!({"object": "list", "data": data}))
}

pub(super) fn model(id: &str) -> Option<Reply> {
    MODELS.contains(&id).then(|| Reply::json(StatusCode::OK, &model_object(id)))
}

fn model_object(id: &str) -> Value {
    json!({"id": id, "object": "model", "created": CREATED, "owned_by": "sample"})
}
