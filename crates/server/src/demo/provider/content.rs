//! What the sample provider says: text and figures computed from the request,
//! so that the same request always gets the same answer.

use domain::usage::Usage;
use serde_json::Value;

use super::directives::Directives;

/// The answers' vocabulary; some of it more than one byte a character, so that
/// cuts inside of characters happen.
const WORDS: [&str; 32] = [
    "The", "proxy", "passes", "each", "chunk", "on", "at", "once", "and", "keeps", "one", "record",
    "of", "what", "went", "by", "with", "its", "tokens", "naïve", "café", "日本", "→", "cost",
    "time", "to", "first", "byte", "🙂", "outcome", "model", "end.",
];
const WORDS_MIN: u64 = 8;
/// Four bytes a token is the usual rule of thumb for English.
const BYTES_PER_TOKEN: u64 = 4;
/// Providers report cached input from this much input on.
const CACHED_FROM_TOKENS: u64 = 256;
/// Deeper nesting is not looked into.
const DEPTH_MAX: usize = 64;

/// What a request asks for, whichever API it speaks.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) model: String,
    pub(super) stream: bool,
    /// Identifies the answer: equal requests give equal answers.
    pub(super) seed: u64,
    pub(super) answer: Answer,
    pub(super) tool: Option<ToolCall>,
    /// Choices wanted.
    pub(super) choices: u64,
    pub(super) usage: Usage,
}

/// The words of an answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) words: Vec<String>,
    /// The request's limit came before the end.
    pub(super) truncated: bool,
}

impl Answer {
    pub(super) fn text(&self) -> String {
        self.words.concat()
    }
}

/// The call of the first tool that the request offers.
#[derive(Debug)]
pub(super) struct ToolCall {
    pub(super) name: String,
    /// JSON text.
    pub(super) arguments: String,
}

impl Ask {
    /// Reads a JSON request. The error is the provider's message for a 400.
    pub(super) fn read(body: &[u8], directives: &Directives) -> Result<(Self, Value), String> {
        let request: Value = serde_json::from_slice(body)
            .map_err(|_| "We could not parse the JSON body of your request.".to_owned())?;
        let Some(model) = request.get("model").and_then(Value::as_str).map(str::to_owned) else {
            return Err("you must provide a model parameter".into());
        };
        let seed = fnv1a(body);
        let input = input_tokens(&request);
        let tool = tool_call(&request, directives);
        let choices = request.get("n").and_then(Value::as_u64).unwrap_or(1).clamp(1, 128);
        let answer = answer(seed, &request, directives);
        let reasoning = reasoning_tokens(&request, &model, seed, directives);
        let spoken = match &tool {
            Some(tool) => tokens_of(tool.arguments.len() as u64 + 16),
            None => answer.words.len() as u64,
        };
        let output = choices * (spoken + reasoning.unwrap_or(0));
        let usage = Usage {
            input_tokens: Some(input),
            output_tokens: Some(output),
            total_tokens: Some(input + output),
            cached_input_tokens: Some(cached_tokens(input, directives)),
            cache_write_tokens: None,
            reasoning_tokens: Some(choices * reasoning.unwrap_or(0)),
        };
        let stream = request.get("stream").and_then(Value::as_bool).unwrap_or(false);
        Ok((Self { model, stream, seed, answer, tool, choices, usage }, request))
    }

    pub(super) fn id(&self, prefix: &str) -> String {
        format!("{prefix}{:016x}", self.seed)
    }

    /// The dated name under which providers answer for an alias.
    pub(super) fn response_model(&self) -> String {
        match self.model.as_str() {
            "gpt-4o" => "gpt-4o-2024-08-06".into(),
            "gpt-4o-mini" => "gpt-4o-mini-2024-07-18".into(),
            "gpt-4.1" => "gpt-4.1-2025-04-14".into(),
            other => other.into(),
        }
    }
}

fn answer(seed: u64, request: &Value, directives: &Directives) -> Answer {
    let wanted = directives.chunks.unwrap_or(WORDS_MIN + seed % 24);
    let limit = ["max_tokens", "max_completion_tokens", "max_output_tokens"]
        .iter()
        .find_map(|name| request.get(name).and_then(Value::as_u64))
        .unwrap_or(u64::MAX);
    let mut state = seed;
    let words = (0..wanted.min(limit)).map(|index| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let word = WORDS[usize::try_from(state >> 59).unwrap_or(0) % WORDS.len()];
        if index == 0 { word.to_owned() } else { format!(" {word}") }
    });
    Answer { words: words.collect(), truncated: limit < wanted }
}

/// All text within the parts of a request that a model reads.
fn input_tokens(request: &Value) -> u64 {
    let parts = ["messages", "input", "prompt", "system", "instructions", "tools"];
    let bytes: u64 = parts.iter().filter_map(|part| request.get(part)).map(text_bytes).sum();
    3 + tokens_of(bytes)
}

fn tokens_of(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN)
}

fn text_bytes(value: &Value) -> u64 {
    fn walk(value: &Value, depth: usize) -> u64 {
        match value {
            _ if depth > DEPTH_MAX => 0,
            Value::String(text) => text.len() as u64,
            Value::Array(items) => items.iter().map(|item| walk(item, depth + 1)).sum(),
            Value::Object(fields) => fields.values().map(|field| walk(field, depth + 1)).sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        }
    }
    walk(value, 0)
}

fn cached_tokens(input: u64, directives: &Directives) -> u64 {
    let usual = if input >= CACHED_FROM_TOKENS { input / 2 } else { 0 };
    directives.cached_tokens.unwrap_or(usual).min(input)
}

fn reasoning_tokens(
    request: &Value,
    model: &str,
    seed: u64,
    directives: &Directives,
) -> Option<u64> {
    let asked = ["reasoning", "reasoning_effort", "thinking"]
        .iter()
        .any(|name| request.get(name).is_some_and(|value| !value.is_null()));
    let reasons = asked || model.starts_with('o');
    directives.reasoning_tokens.or_else(|| reasons.then(|| 32 + seed % 64))
}

/// Calls the first tool offered, unless the conversation already holds its
/// result or the request says that none may be called.
fn tool_call(request: &Value, directives: &Directives) -> Option<ToolCall> {
    let tools = request.get("tools").and_then(Value::as_array);
    let forbidden = request.get("tool_choice").and_then(Value::as_str) == Some("none");
    let answered = ["messages", "input"]
        .iter()
        .filter_map(|part| request.get(part))
        .any(|part| part.as_array().is_some_and(|items| items.iter().any(is_tool_result)));
    let name = tools.and_then(|tools| tools.first()).and_then(|tool| {
        let function = tool.get("function").unwrap_or(tool);
        function.get("name").and_then(Value::as_str)
    });
    let name = match name {
        Some(name) if !forbidden && !answered => name,
        _ if directives.tools => "sample_tool",
        _ => return None,
    };
    Some(ToolCall { name: name.into(), arguments: r#"{"city":"Zürich","unit":"celsius"}"#.into() })
}

fn is_tool_result(item: &Value) -> bool {
    let is = |key: &str, value: &str| item.get(key).and_then(Value::as_str) == Some(value);
    let content = item.get("content").and_then(Value::as_array);
    is("role", "tool")
        || is("type", "function_call_output")
        || content.is_some_and(|blocks| {
            blocks.iter().any(|block| block.get("type") == Some(&"tool_result".into()))
        })
}

/// FNV-1a, 64 bits: a stable fingerprint of test data, nothing more.
pub(super) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str, directives: &str) -> Ask {
        let directives = Directives::default().overridden_by(directives).expect("known words");
        Ask::read(body.as_bytes(), &directives).expect("a good request").0
    }

    #[test]
    fn equal_requests_get_equal_answers() {
        let body = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hello there"}]}"#;
        let (first, second) = (read(body, ""), read(body, ""));
        assert_eq!(first.answer.text(), second.answer.text());
        assert_eq!(first.usage, second.usage);
        assert_eq!(first.usage.input_tokens, Some(3 + 4));
    }

    #[test]
    fn figures_follow_the_request() {
        let body = r#"{"model":"o4-mini","messages":[],"n":2,"max_tokens":5}"#;
        let ask = read(body, "reasoning=10");
        assert!(ask.answer.truncated);
        assert_eq!(ask.usage.output_tokens, Some(2 * (5 + 10)));
        assert_eq!(ask.usage.reasoning_tokens, Some(20));
    }

    #[test]
    fn a_tool_is_called_once() {
        let tools = r#""tools":[{"type":"function","function":{"name":"weather"}}]"#;
        let first = read(&format!(r#"{{"model":"m","messages":[],{tools}}}"#), "");
        assert_eq!(first.tool.map(|tool| tool.name).as_deref(), Some("weather"));
        let answered =
            read(&format!(r#"{{"model":"m","messages":[{{"role":"tool"}}],{tools}}}"#), "");
        assert!(answered.tool.is_none());
    }
}
