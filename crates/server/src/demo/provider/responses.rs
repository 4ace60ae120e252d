//! OpenAI's Responses API, plain and streamed.

use bytes::Bytes;
use domain::usage::Usage;
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    content::Ask,
    directives::Directives,
    openai::{CREATED, pieces, reports},
    reply::{Reply, named_event},
};

pub(super) fn responses(ask: &Ask, request: &Value, directives: &Directives) -> Reply {
    if ask.stream {
        return Reply::events(events(ask, request, directives))
            .with_usage(ask.usage, reports(directives));
    }
    let answer = response(ask, request, &[item(ask, "completed")], Some(directives));
    Reply::json(StatusCode::OK, &answer).with_usage(ask.usage, reports(directives))
}

/// The response object; without directives, as it looks before its end.
fn response(ask: &Ask, request: &Value, output: &[Value], ended: Option<&Directives>) -> Value {
    let status = match ended {
        None => "in_progress",
        Some(_) if ask.answer.truncated && ask.tool.is_none() => "incomplete",
        Some(_) => "completed",
    };
    let incomplete = (status == "incomplete").then(|| json!({"reason": "max_output_tokens"}));
    let usage = ended.filter(|directives| !directives.no_usage).map(|_| usage(&ask.usage));
    json!({
        "id": ask.id("resp_"), "object": "response", "created_at": CREATED, "status": status,
        "background": false, "error": null, "incomplete_details": incomplete,
        "instructions": request.get("instructions"),
        "max_output_tokens": request.get("max_output_tokens"),
        "model": ask.response_model(), "output": output, "parallel_tool_calls": true,
        "previous_response_id": request.get("previous_response_id"),
        "reasoning": {"effort": null, "summary": null}, "service_tier": "default",
        "store": request.get("store").cloned().unwrap_or(Value::Bool(true)), "temperature": 1.0,
        "text": {"format": {"type": "text"}}, "tool_choice": "auto",
        "tools": request.get("tools").cloned().unwrap_or_else(|| json!([])), "top_p": 1.0,
        "truncation": "disabled", "usage": usage, "user": request.get("user"), "metadata": {},
    })
}

fn usage(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_input_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens})
}

fn item(ask: &Ask, status: &str) -> Value {
    let done = status == "completed";
    match &ask.tool {
        Some(tool) => json!({
            "id": ask.id("fc_"), "type": "function_call", "status": status,
            "call_id": ask.id("call_"), "name": tool.name,
            "arguments": if done { tool.arguments.as_str() } else { "" }}),
        None => {
            let content = done.then(|| part(&ask.answer.text()));
            json!({"id": ask.id("msg_"), "type": "message", "status": status, "role": "assistant",
                   "content": content.into_iter().collect::<Vec<_>>()})
        }
    }
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "annotations": [], "logprobs": [], "text": text})
}

fn events(ask: &Ask, request: &Value, directives: &Directives) -> Vec<Bytes> {
    let opening = response(ask, request, &[], None);
    let mut events = vec![
        json!({"type": "response.created", "response": opening}),
        json!({"type": "response.in_progress", "response": opening}),
        json!({"type": "response.output_item.added", "output_index": 0,
               "item": item(ask, "in_progress")}),
    ];
    if ask.tool.is_some() {
        push_tool_events(ask, &mut events);
    } else {
        push_text_events(ask, &mut events);
    }
    let done = item(ask, "completed");
    events.push(json!({"type": "response.output_item.done", "output_index": 0, "item": done}));
    let whole = response(ask, request, &[done], Some(directives));
    let last = if whole["status"] == "incomplete" { "incomplete" } else { "completed" };
    events.push(json!({"type": format!("response.{last}"), "response": whole}));
    let numbered = events.iter_mut().enumerate().map(|(number, event)| {
        event["sequence_number"] = number.into();
        named_event(event)
    });
    numbered.collect()
}

fn push_text_events(ask: &Ask, events: &mut Vec<Value>) {
    let at = |kind: &str, key: &str, value: Value| {
        json!({"type": kind, "item_id": ask.id("msg_"), "output_index": 0, "content_index": 0,
               "logprobs": [], key: value})
    };
    events.push(at("response.content_part.added", "part", part("")));
    let words = ask.answer.words.iter();
    events.extend(words.map(|word| at("response.output_text.delta", "delta", word.clone().into())));
    let text = ask.answer.text();
    events.push(at("response.output_text.done", "text", text.clone().into()));
    events.push(at("response.content_part.done", "part", part(&text)));
}

fn push_tool_events(ask: &Ask, events: &mut Vec<Value>) {
    let Some(tool) = &ask.tool else { return };
    let item = ask.id("fc_");
    let at = |kind: &str, key: &str, value: &str| {
        let mut event = json!({"type": kind, "item_id": item, "output_index": 0});
        event[key] = value.into();
        event
    };
    let kind = "response.function_call_arguments.delta";
    events.extend(pieces(&tool.arguments).map(|piece| at(kind, "delta", &piece)));
    events.push(at("response.function_call_arguments.done", "arguments", &tool.arguments));
}
