//! What is sent: the requests, and how a provider is told to pace its answer.

use std::net::SocketAddr;

use super::load::Shot;

/// The token that the line knows, and that is sent to peers.
pub const LINE_TOKEN: &str = "sk-benchmark-token-of-the-line-0123456789abcdef";
/// What every key that is sent to the provider begins with.
pub const KEY_PREFIX: &str = "sk-";
/// Chunks of a streamed answer: the words, then the finish, the usage, `[DONE]`.
pub const CHUNKS: u64 = 53;
/// Chunks that are not words.
pub const CLOSING_CHUNKS: u64 = 3;
/// Between two chunks of a paced stream.
const PACE_MS: u64 = 10;
/// How the sample provider is told what to do; the inner one reads the same.
pub const DIRECTIVES_HEADER: &str = "x-sample";

/// The kinds of request of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A chat completion in one piece.
    Plain,
    /// Streamed as fast as it goes.
    Stream,
    /// Streamed with a pause between chunks.
    Paced,
}

const PLAIN: &str = r#"{"model":"gpt-4o-mini","messages":[{"role":"system","content":"You are terse."},{"role":"user","content":"Say in one sentence why a proxy should keep a record of what passes."}],"temperature":0.2,"user":"bench"}"#;
const STREAM: &str = r#"{"model":"gpt-4o-mini","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"Count slowly."}],"user":"bench"}"#;

/// The prepared request of a kind for one target.
pub fn shot(kind: Kind, address: SocketAddr, prefix: &str, token: &str) -> Shot {
    let body = if kind == Kind::Plain { PLAIN } else { STREAM };
    let words = CHUNKS - CLOSING_CHUNKS;
    let directives = match kind {
        Kind::Plain => String::new(),
        Kind::Stream => format!("{DIRECTIVES_HEADER}: chunks={words}\r\n"),
        Kind::Paced => {
            format!("{DIRECTIVES_HEADER}: chunks={words},chunk_delay={PACE_MS}ms\r\n")
        }
    };
    let request = format!(
        "POST {prefix}/v1/chat/completions HTTP/1.1\r\nhost: {address}\r\n\
         authorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         accept: */*\r\nuser-agent: bench/1\r\n{directives}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    Shot { address, request: request.into_bytes(), body_bytes: None }
}
