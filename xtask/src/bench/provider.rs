//! The inner provider: what the harness is proven with when the product's
//! sample provider is not to be had. It answers chat completions and nothing
//! else.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use anyhow::Result;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{
    Request, Response,
    body::{Body as HttpBody, Frame, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
};
use tokio::time::{Instant, Sleep};

use super::{
    scenario,
    serve::{Answers, Body, Shape, full, serve},
};

const PLAIN: &str = r#"{"id":"chatcmpl-bench","object":"chat.completion","created":1790000000,"model":"gpt-4o-mini-2024-07-18","choices":[{"index":0,"message":{"role":"assistant","content":"Because what nobody wrote down can be neither found, nor billed, nor proven.","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":31,"completion_tokens":17,"total_tokens":48,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}},"system_fingerprint":"fp_bench"}"#;

struct Provider;

/// Serves until the process is ended.
pub fn run(address: SocketAddr, shape: Shape) -> Result<()> {
    serve(address, shape, Provider)
}

impl Answers for Provider {
    type Part = ();

    fn part(&self) {}

    async fn answer((): (), request: Request<Incoming>) -> Response<Body> {
        let directives = request.headers().get(scenario::DIRECTIVES_HEADER);
        let directives = directives.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let number = |name: &str| -> Option<u64> {
            let word = directives.split(',').find_map(|word| word.strip_prefix(name))?;
            word.trim_start_matches('=').trim_end_matches("ms").parse().ok()
        };
        let chunks = number("chunks=").map(|words| words + scenario::CLOSING_CHUNKS);
        let pace_ms = number("chunk_delay=").unwrap_or(0);
        let mut body = request.into_body();
        while let Some(Ok(_)) = body.frame().await {}
        let (kind, body) = match chunks {
            None => ("application/json", full(PLAIN)),
            Some(chunks) => ("text/event-stream", Chunks::new(chunks, pace_ms).boxed()),
        };
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }
}

/// A stream of server-sent events, each in a frame of its own.
struct Chunks {
    left: u64,
    pace: Duration,
    pause: Pin<Box<Sleep>>,
    /// Set when the next poll may give a frame: between two frames the stream
    /// is pending once, so that each is written by itself, as providers do.
    ready: bool,
}

impl Chunks {
    fn new(left: u64, pace_ms: u64) -> Self {
        let pause = Box::pin(tokio::time::sleep(Duration::ZERO));
        Self { left, pace: Duration::from_millis(pace_ms), pause, ready: true }
    }

    fn event(&self) -> Bytes {
        let mut text = String::from("data: ");
        let head = r#"{"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1790000000,"model":"gpt-4o-mini-2024-07-18","system_fingerprint":"fp_bench","#;
        match self.left {
            1 => text.push_str("[DONE]"),
            2 => text.extend([
                head,
                r#""choices":[],"usage":{"prompt_tokens":9,"completion_tokens":50,"total_tokens":59}}"#,
            ]),
            3 => text.extend([
                head,
                r#""choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}"#,
            ]),
            left => {
                let delta = r#""choices":[{"index":0,"delta":{"content":"#;
                let tail = r#"},"logprobs":null,"finish_reason":null}],"usage":null}"#;
                write!(text, "{head}{delta}\" {left:03}\"{tail}").ok();
            }
        }
        text.push_str("\n\n");
        text.into()
    }
}

impl HttpBody for Chunks {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if !self.ready {
            if self.pace.is_zero() {
                self.ready = true;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            std::task::ready!(self.pause.as_mut().poll(context));
        }
        let event = self.event();
        self.left -= 1;
        self.ready = false;
        let due = Instant::now() + self.pace;
        self.pause.as_mut().reset(due);
        Poll::Ready(Some(Ok(Frame::data(event))))
    }
}
