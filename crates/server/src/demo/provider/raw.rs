//! Endpoints that no provider has in this form, for tests of the transport:
//! echo, a sink for uploads, a generator for downloads, trailers, files, audio.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts};
use http_body::Body;
use http_body_util::BodyExt as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{
    body::{ScriptedBody, Step},
    directives::{bytes, query_parameters},
    ledger::Line,
    openai::CREATED,
    reply::{Reply, filler},
};

/// What arrived of a body that was read to its end and not kept.
pub(super) struct Digested {
    bytes: u64,
    frames: u64,
    sha256: String,
    trailers: Option<HeaderMap>,
    first_line: Bytes,
}

/// Kept of a body's beginning: enough for a multipart boundary line.
const FIRST_LINE_BYTES_MAX: usize = 200;

/// Reads a body in constant memory.
pub(super) async fn digest<B>(body: B) -> Result<Digested, B::Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut body = body;
    let mut digested = Digested {
        bytes: 0,
        frames: 0,
        sha256: String::new(),
        trailers: None,
        first_line: Bytes::new(),
    };
    let mut hash = Sha256::new();
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => {
                if digested.bytes == 0 {
                    let end = data.len().min(FIRST_LINE_BYTES_MAX);
                    digested.first_line = Bytes::copy_from_slice(&data[..end]);
                }
                digested.bytes += data.len() as u64;
                digested.frames += 1;
                hash.update(&data);
            }
            Err(frame) => digested.trailers = frame.into_trailers().ok(),
        }
    }
    digested.sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(digested)
}

/// Says what was received, exactly.
pub(super) fn echo(parts: &Parts, received: &Digested) -> Reply {
    let mut answer = json!({
        "object": "sample.echo", "method": parts.method.as_str(), "path": parts.uri.path(),
        "query": parts.uri.query(), "version": format!("{:?}", parts.version),
        "headers": header_map(&parts.headers), "body_bytes": received.bytes,
        "body_frames": received.frames, "body_sha256": received.sha256,
        "body_start": String::from_utf8_lossy(&received.first_line),
    });
    if let Some(trailers) = &received.trailers {
        answer["trailers"] = json!(header_map(trailers));
    }
    Reply::json(StatusCode::OK, &answer)
}

fn header_map(headers: &HeaderMap) -> BTreeMap<&str, Vec<String>> {
    let mut map = BTreeMap::<&str, Vec<String>>::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        map.entry(name.as_str()).or_default().push(value);
    }
    map
}

/// `GET /v1/generate?bytes=1GB`: that much, in constant memory.
pub(super) fn generate(parts: &Parts, line: Line) -> Response<ScriptedBody> {
    let parameters = query_parameters(parts.uri.query());
    let wanted = parameters.get("bytes").and_then(|text| bytes(text)).unwrap_or(1 << 20);
    let steps = [Step::Repeat { pattern: filler(), remaining: wanted }];
    let mut response = raw(steps, "application/octet-stream", line);
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(wanted));
    response
}

/// An answer with trailers.
pub(super) fn trailers(line: Line) -> Response<ScriptedBody> {
    let trailers = HeaderMap::from_iter([(
        http::HeaderName::from_static("x-sample-trailer"),
        HeaderValue::from_static("after the body"),
    )]);
    let data = Step::Data(Bytes::from_static(b"a body with trailers\n"));
    let mut response = raw([data, Step::Trailers(trailers)], "text/plain", line);
    response.headers_mut().insert(header::TRAILER, HeaderValue::from_static("x-sample-trailer"));
    response
}

/// Speech: bytes that are text in no encoding.
pub(super) fn speech(line: Line) -> Response<ScriptedBody> {
    let noise: Vec<u8> =
        (0..32 * 1024u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut response = raw([], "audio/mpeg", Line::none());
    *response.body_mut() = ScriptedBody::whole(noise.into(), line);
    response
}

fn raw<const N: usize>(
    steps: [Step; N],
    content_type: &'static str,
    line: Line,
) -> Response<ScriptedBody> {
    line.answers(200, None);
    let mut response = Response::new(ScriptedBody::new(Vec::from(steps), line));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An uploaded file, described.
pub(super) fn file(received: &Digested) -> Reply {
    Reply::json(
        StatusCode::OK,
        &json!({"id": format!("file-{}", &received.sha256[..16]), "object": "file",
                "bytes": received.bytes, "created_at": CREATED, "filename": "sample.jsonl",
                "purpose": "batch", "sha256": received.sha256}),
    )
}

/// A transcription of whatever was sent.
pub(super) fn transcription(received: &Digested) -> Reply {
    let text = format!("{} bytes of sound", received.bytes);
    Reply::json(StatusCode::OK, &json!({"text": text}))
}

pub(super) fn is_upload(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}
