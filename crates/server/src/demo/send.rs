//! Sends the demo's calls over real connections and says what came back.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use domain::secret::Secret;
use http::{Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

use super::calls::{Call, Reading};

/// A call of the demo that takes longer has failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// What the client saw.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) status: u16,
    pub(super) request_id: Option<String>,
    pub(super) whole: bool,
    pub(super) bytes: usize,
}

/// The demo's client.
pub(super) struct Sender {
    client: Client<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
}

impl Sender {
    pub(super) fn to(address: SocketAddr) -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build_http(), address }
    }

    pub(super) async fn send(
        &self,
        call: &Call,
        request_id: &str,
        token: Option<&Secret>,
    ) -> anyhow::Result<Seen> {
        tokio::time::timeout(CALL_TIMEOUT, self.exchange(call, request_id, token))
            .await
            .context("no answer in time")?
    }

    async fn exchange(
        &self,
        call: &Call,
        request_id: &str,
        token: Option<&Secret>,
    ) -> anyhow::Result<Seen> {
        let body = call.body.as_ref().map(ToString::to_string).unwrap_or_default();
        let mut request = Request::builder()
            .method(if call.body.is_some() { "POST" } else { "GET" })
            .uri(format!("http://{}{}", self.address, call.path))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, "llm-proxy-demo")
            .header("x-request-id", request_id);
        if !call.directives.is_empty() {
            request = request.header("x-sample", call.directives);
        }
        if let Some(token) = token {
            request = if call.path.starts_with("/anthropic/") {
                let request = request.header("anthropic-version", "2023-06-01");
                request.header("x-api-key", token.expose())
            } else {
                request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose()))
            };
        }
        let request = request.body(Full::new(Bytes::from(body)))?;
        let response = self.client.request(request).await?;
        let id = response.headers().get("x-request-id");
        let mut seen = Seen {
            status: response.status().as_u16(),
            request_id: id.and_then(|id| id.to_str().ok()).map(str::to_owned),
            whole: false,
            bytes: 0,
        };
        let mut body = response.into_body();
        loop {
            match body.frame().await {
                None => {
                    seen.whole = true;
                    return Ok(seen);
                }
                Some(Err(_)) => return Ok(seen),
                Some(Ok(frame)) => {
                    seen.bytes += frame.data_ref().map_or(0, Bytes::len);
                    if call.reading == Reading::LeavesEarly {
                        return Ok(seen);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::{
        calls::sample_calls,
        provider::{Config, SampleProvider},
    };

    /// What the demo expects of the provider's own answers, without a proxy
    /// between.
    #[tokio::test]
    async fn the_sample_provider_ends_each_call_as_expected() {
        let provider = SampleProvider::start(Config::default()).await.expect("a free port");
        let sender = Sender::to(provider.addr());
        for mut call in sample_calls().into_iter().filter(|call| call.reaches_provider) {
            call.path = call.path.strip_prefix("/anthropic").unwrap_or(call.path);
            let seen = sender.send(&call, call.name, Some(provider.key())).await;
            let seen = seen.expect("an answer");
            assert_eq!((seen.status, seen.whole), (call.status, call.whole), "{}", call.name);
            assert!(seen.bytes > 0, "{}", call.name);
            let entry = provider.ledger().entry(call.name).expect("received");
            assert_eq!((entry.count, entry.status), (1, call.status), "{}", call.name);
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = sample_calls().iter().map(|call| call.name).collect();
        names.sort_unstable();
        let calls = names.len();
        names.dedup();
        assert_eq!(names.len(), calls);
        assert!(calls >= 30, "a few dozen");
    }
}
