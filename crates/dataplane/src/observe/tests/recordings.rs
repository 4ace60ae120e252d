//! Recorded answers of real providers give the providers' own figures, however
//! they are cut and compressed.
//!
//! The recordings are not part of the repository: `LLM_PROXY_RECORDINGS` names
//! their directory, or they lie in `shared/recordings` beside the repository.
//! Without them a few hand-written answers stand in.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use domain::usage::Usage;
use serde_json::Value;

use super::*;

/// One recorded answer as it travels.
struct Recorded {
    name: String,
    kind: ProviderKind,
    operation: Operation,
    is_stream: bool,
    status: u16,
    wire: Vec<u8>,
    values: Vec<Value>,
}

/// Merges the usage objects of all events, the last word of each field winning,
/// and gives the fields OpenTelemetry's meaning. Written against the values, not
/// the scanner, so that it can disagree.
fn expected_usage(values: &[Value]) -> Option<Usage> {
    let mut merged = serde_json::Map::new();
    for value in values {
        for path in ["/message/usage", "/response/usage", "/x_groq/usage", "/usage"] {
            let Some(Value::Object(usage)) = value.pointer(path) else { continue };
            for (name, figure) in usage.iter().filter(|(_, figure)| !figure.is_null()) {
                merged.insert(name.clone(), figure.clone());
            }
        }
    }
    let merged = Value::Object(merged);
    let get = |path: &str| merged.pointer(path).and_then(Value::as_u64);
    let input = match (get("/prompt_tokens"), get("/input_tokens")) {
        (Some(prompt), _) => Some(prompt),
        (None, Some(input)) => Some(
            input
                + get("/cache_read_input_tokens").unwrap_or(0)
                + get("/cache_creation_input_tokens").unwrap_or(0),
        ),
        (None, None) => None,
    };
    let reasoning = get("/completion_tokens_details/reasoning_tokens")
        .or(get("/output_tokens_details/reasoning_tokens"))
        .or(get("/output_tokens_details/thinking_tokens"))
        .or(get("/reasoning_tokens"));
    let total = get("/total_tokens");
    let mut output = get("/completion_tokens").or(get("/output_tokens"));
    // The output is what the total leaves after the input.
    if let (Some(total), Some(input), Some(_), Some(1..)) = (total, input, output, reasoning) {
        output = Some(total - input);
    }
    let usage = Usage {
        input_tokens: input,
        output_tokens: output,
        total_tokens: total.or_else(|| Some(input? + output?)),
        cached_input_tokens: get("/prompt_tokens_details/cached_tokens")
            .or(get("/input_tokens_details/cached_tokens"))
            .or(get("/cache_read_input_tokens"))
            .or(get("/prompt_cache_hit_tokens")),
        cache_write_tokens: get("/cache_creation_input_tokens")
            .or(get("/input_tokens_details/cache_write_tokens")),
        reasoning_tokens: reasoning,
    };
    (!usage.is_empty()).then_some(usage)
}

fn expected_model(values: &[Value]) -> Option<&str> {
    let models = values.iter().flat_map(|value| {
        ["/message/model", "/response/model", "/model"].map(|path| value.pointer(path))
    });
    models.flatten().filter_map(Value::as_str).rfind(|model| !model.is_empty())
}

fn expected_finish(values: &[Value]) -> Option<String> {
    let mut words: Vec<&str> = Vec::new();
    let mut last = None;
    for value in values {
        for choice in value["choices"].as_array().into_iter().flatten() {
            if let Some(word) = choice["finish_reason"].as_str().filter(|word| !word.is_empty())
                && !words.contains(&word)
            {
                words.push(word);
            }
        }
        let stop = value["delta"]["stop_reason"].as_str().or(value["stop_reason"].as_str());
        last = stop.or(last);
        let is_end = ["response.completed", "response.incomplete", "response.failed"]
            .iter()
            .any(|kind| value["type"] == *kind);
        let response = if is_end { &value["response"] } else { value };
        if is_end || value["object"] == "response" {
            let reason = response["incomplete_details"]["reason"].as_str();
            last = reason.or(response["status"].as_str()).or(last);
        }
    }
    if words.is_empty() { last.map(str::to_owned) } else { Some(words.join(",")) }
}

/// Whether an event carries generated content: refusals may carry none.
fn generates(value: &Value) -> bool {
    fn has_text(value: &Value) -> bool {
        match value {
            Value::String(text) => !text.is_empty(),
            Value::Array(parts) => parts.iter().any(has_text),
            Value::Object(part) => {
                let names = ["text", "thinking", "function", "name", "arguments"];
                names.iter().filter_map(|name| part.get(*name)).any(has_text)
            }
            _ => false,
        }
    }
    let delta = &value["delta"];
    let choices = value["choices"].as_array().map_or(&[][..], Vec::as_slice);
    delta.as_str().is_some_and(|text| !text.is_empty())
        || ["text", "thinking", "partial_json"].iter().any(|name| has_text(&delta[name]))
        || choices.iter().any(|choice| {
            let names = ["content", "reasoning_content", "reasoning", "tool_calls"];
            has_text(&choice["text"]) || names.iter().any(|name| has_text(&choice["delta"][name]))
        })
}

fn parse_line(line: &str) -> Value {
    // Two recorded lines lack their last brace; everything before it counts.
    (0..3)
        .find_map(|braces| serde_json::from_str(&format!("{line}{}", "}".repeat(braces))).ok())
        .expect("a recorded line is JSON")
}

fn load(folder: &str, path: &Path) -> Option<Recorded> {
    let name = format!("{folder}/{}", path.file_name()?.to_str()?);
    let text = fs::read_to_string(path).expect("a readable recording");
    let is_stream = name.ends_with(".chunks.txt");
    if !is_stream && !name.ends_with(".json") {
        return None;
    }
    let values: Vec<Value> = if is_stream {
        text.lines().filter(|line| !line.trim().is_empty()).map(parse_line).collect()
    } else {
        vec![serde_json::from_str(&text).expect("a recorded body is JSON")]
    };
    let first = values.first()?;
    let is_chat = |value: &Value| value.get("choices").is_some();
    let operation = match folder {
        "anthropic-messages" => Operation::Messages,
        "openai-completion" => Operation::Completions,
        "openai-embedding" => Operation::Embeddings,
        "openai-image" => Operation::Images,
        _ if name.contains("transcription") => Operation::Audio,
        "openai-responses" => Operation::Responses,
        "azure" if !values.iter().any(is_chat) => Operation::Responses,
        _ => Operation::Chat,
    };
    let kind = match folder {
        "anthropic-messages" => ProviderKind::Anthropic,
        _ if folder.starts_with("openai-") && folder != "openai-compatible-chat" => {
            ProviderKind::Openai
        }
        _ => ProviderKind::Other,
    };
    let mut wire = String::new();
    if is_stream {
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            if let Some(kind) = parse_line(line)["type"].as_str() {
                wire += &format!("event: {kind}\n");
            }
            wire += &format!("data: {line}\n\n");
        }
        if matches!(operation, Operation::Chat | Operation::Completions) {
            wire += "data: [DONE]\n\n";
        }
    } else {
        wire.clone_from(&text);
    }
    let is_error = !is_stream && first["error"].is_object();
    let status = if is_error { 400 } else { 200 };
    Some(Recorded { name, kind, operation, is_stream, status, wire: wire.into_bytes(), values })
}

fn directory() -> Option<PathBuf> {
    let named = option_env!("LLM_PROXY_RECORDINGS").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/recordings");
    named.or(Some(beside)).filter(|directory| directory.is_dir())
}

fn recordings() -> Vec<Recorded> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/answers");
    let mut roots = vec![own];
    match directory() {
        Some(directory) => roots.push(directory),
        None => {
            let note = "no recordings beside the repository: only the hand-written answers run; \
                        set LLM_PROXY_RECORDINGS to replay more";
            std::io::stderr().write_all(format!("{note}\n").as_bytes()).expect("stderr");
        }
    }
    let mut found = Vec::new();
    for root in roots {
        let mut folders: Vec<_> = fs::read_dir(root)
            .expect("a directory")
            .map(|entry| entry.expect("an entry"))
            .collect();
        folders.sort_by_key(fs::DirEntry::path);
        for folder in folders.iter().filter(|folder| folder.path().is_dir()) {
            let name = folder.file_name().into_string().expect("a plain name");
            for file in fs::read_dir(folder.path()).expect("a directory") {
                found.extend(load(&name, &file.expect("an entry").path()));
            }
        }
    }
    found
}

fn compress(coding: &str, body: &[u8]) -> Vec<u8> {
    let level = flate2::Compression::fast();
    match coding {
        "gzip" => {
            let mut coder = flate2::write::GzEncoder::new(Vec::new(), level);
            coder.write_all(body).expect("memory");
            coder.finish().expect("memory")
        }
        "deflate" => {
            let mut coder = flate2::write::ZlibEncoder::new(Vec::new(), level);
            coder.write_all(body).expect("memory");
            coder.finish().expect("memory")
        }
        "deflate-raw" => {
            let mut coder = flate2::write::DeflateEncoder::new(Vec::new(), level);
            coder.write_all(body).expect("memory");
            coder.finish().expect("memory")
        }
        "zstd" => zstd::stream::encode_all(body, 1).expect("memory"),
        // Stored as it is, in a stream that says so: the format's simplest form.
        "br" => {
            let mut out = vec![0x0c];
            for block in body.chunks(1 << 16) {
                out.extend(brotli_stored_block(block));
            }
            out.push(3);
            out
        }
        other => panic!("no coder for {other}"),
    }
}

/// An uncompressed meta-block of RFC 7932 §9.2, byte-aligned on both sides.
fn brotli_stored_block(block: &[u8]) -> Vec<u8> {
    // ISLAST 0, MNIBBLES 4 (two bits 0), MLEN-1 in 16 bits, ISUNCOMPRESSED 1.
    let header = (block.len() as u32 - 1) << 3 | 1 << 19;
    let mut out = header.to_le_bytes()[..3].to_vec();
    out.extend_from_slice(block);
    out
}

fn check(recorded: &Recorded, coding: Option<&str>, cut: Cut) {
    let name = format!("{} {coding:?} {cut:?}", recorded.name);
    let body = coding.map_or_else(
        || recorded.wire.clone(),
        |codings| {
            codings
                .split(',')
                .fold(recorded.wire.clone(), |body, coding| compress(coding.trim(), &body))
        },
    );
    let header = coding.map(|coding| coding.replace("-raw", ""));
    let case = Case {
        kind: recorded.kind,
        operation: recorded.operation,
        status: recorded.status,
        content_type: if recorded.is_stream { "text/event-stream" } else { "application/json" },
        coding: header.as_deref(),
        body: &body,
        complete: true,
    };
    let (facts, tokens) = case.observe(cut);
    let values = &recorded.values;
    assert_eq!(facts.usage, expected_usage(values), "{name}");
    assert_eq!(facts.response_model.as_deref(), expected_model(values), "{name}");
    assert_eq!(facts.finish_reason.as_deref(), expected_finish(values).as_deref(), "{name}");
    assert!(!facts.unterminated, "{name}");
    if recorded.is_stream {
        let done = matches!(recorded.operation, Operation::Chat | Operation::Completions);
        assert_eq!(facts.events, Some(values.len() as u64 + u64::from(done)), "{name}");
        let failed = values.iter().any(|value| value["type"] == "error");
        assert_eq!(facts.failed_midstream, failed, "{name}");
        assert_eq!(tokens, u32::from(values.iter().any(generates)), "{name}: first tokens");
    } else if let Some(message) = values[0].pointer("/error/message") {
        assert_eq!(facts.error.as_deref(), message.as_str(), "{name}");
        assert!(facts.error_code.is_some(), "{name}");
    }
}

#[test]
fn recordings_give_the_providers_own_figures() {
    let recordings = recordings();
    assert!(recordings.len() >= 8, "the hand-written answers are there");
    for (at, recorded) in recordings.iter().enumerate() {
        check(recorded, None, Cut::Whole);
        check(recorded, None, Cut::Bytes);
        let seed = at as u64 * 7919 + 17;
        check(recorded, None, Cut::Seed(seed));
        for coding in ["gzip", "br", "zstd", "deflate", "deflate-raw", "gzip, br"] {
            check(recorded, Some(coding), Cut::Seed(seed));
        }
    }
}
