//! Every refusal, in its shape, with its record.

use std::sync::atomic::Ordering;

use dataplane::ports::NoRoom;
use domain::{glob::Glob, time::Timestamp};
use http::Method;

use crate::harness::{CHAT, Harness, Setup, answering, models, post};

/// Sends one raw request and checks status, code and outcome, on the wire and in
/// the record.
async fn check(
    change: impl FnOnce(&mut Setup),
    request: &str,
    status: u16,
    code: &str,
    outcome: &str,
) {
    let upstream = answering(CHAT).await;
    let mut harness = Harness::start(upstream, change).await;
    let answer = harness.raw(request).await;
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}\n{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["error"]["code"], code, "{request}");
    let record = harness.record().await;
    assert_eq!(record["status_code"], status, "{request}");
    assert_eq!(record["error_code"], code, "{request}");
    assert_eq!(record["outcome"], outcome, "{request}");
    let id = record["request_id"].as_str().unwrap();
    assert!(head.contains(&format!("x-request-id: {id}")), "{head}");
    assert_eq!(body["error"]["request_id"], id);
    assert!(head.contains("traceresponse: 00-"), "{head}");
    harness.finish().await;
}

fn unchanged(_: &mut Setup) {}

#[tokio::test]
async fn heads_are_refused() {
    let get =
        |path: &str, headers: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
    let auth = "authorization: Bearer {token}\r\n";
    check(unchanged, &get("/v1/models", ""), 401, "token_missing", "denied").await;
    let basic = "authorization: Basic YWJj\r\n";
    check(unchanged, &get("/v1/models", basic), 401, "token_invalid", "denied").await;
    let other = format!("x-api-key: sk-{}\r\n", "b".repeat(43));
    check(unchanged, &get("/v1/models", &other), 401, "token_not_found", "denied").await;
    for path in ["/v1/../manage/keys", "/v1/%2e%2e/x", "/v1//models", "/v1/a%2fb", "//v1/models"] {
        check(unchanged, &get(path, auth), 400, "invalid_request", "client_error").await;
    }
    let query = format!("/v1/models?api_key=sk-{}", "c".repeat(43));
    check(unchanged, &get(&query, auth), 400, "token_in_query", "denied").await;
    let upgrade = format!("{auth}connection: upgrade\r\nupgrade: websocket\r\n");
    check(unchanged, &get("/v1/realtime", &upgrade), 501, "upgrade_not_supported", "client_error")
        .await;
    let large = format!("{auth}x-large: {}\r\n", "a".repeat(33_000));
    check(unchanged, &get("/v1/models", &large), 431, "headers_too_large", "client_error").await;
    let origin = format!("{auth}origin: https://evil.example\r\n");
    let only_good = |setup: &mut Setup| {
        setup.provider.allowed_origins = vec!["https://good.example".into()];
    };
    check(only_good, &get("/v1/models", &origin), 403, "origin_not_allowed", "denied").await;
    let needs_origin = |setup: &mut Setup| {
        setup.provider.required_headers = vec![http::header::ORIGIN];
    };
    check(needs_origin, &get("/v1/models", auth), 400, "origin_required", "denied").await;
    let nothing = |setup: &mut Setup| setup.provider.allowed_endpoints.clear();
    check(nothing, &get("/v1/models", auth), 404, "endpoint_not_found", "denied").await;
    let only_post = |setup: &mut Setup| setup.provider.allowed_methods = vec![Method::POST];
    check(only_post, &get("/v1/models", auth), 405, "method_not_allowed", "denied").await;
}

#[tokio::test]
async fn token_states_are_refused() {
    let request = post("/v1/chat/completions", r#"{"model":"gpt-4o-mini"}"#, "");
    let revoked = |setup: &mut Setup| setup.grant.token_active = false;
    check(revoked, &request, 401, "token_inactive", "denied").await;
    let expired = |setup: &mut Setup| setup.grant.expires_at = Some(Timestamp::from_micros(1));
    check(expired, &request, 401, "token_expired", "denied").await;
    let inactive = |setup: &mut Setup| setup.grant.project_active = false;
    check(inactive, &request, 403, "project_inactive", "denied").await;
    let used = |setup: &mut Setup| setup.grant.max_requests = Some(0);
    check(used, &request, 429, "quota_exceeded", "denied").await;
    let keyless = |setup: &mut Setup| setup.grant.keys.clear();
    check(keyless, &request, 503, "upstream_key_error", "proxy_error").await;
}

#[tokio::test]
async fn rules_that_see_the_body_fail_closed() {
    let only_mini = |setup: &mut Setup| setup.grant.allowed_models = models(&["gpt-4o-mini*"]);
    for body in [
        r#"{"model":"gpt-4o"}"#,
        r#"{"model":"gpt-4o-mini","model":"gpt-4o"}"#,
        r#"{"input":"x"}"#,
        "[]",
        "not json",
        "",
    ] {
        let request = post("/v1/chat/completions", body, "");
        check(only_mini, &request, 403, "model_not_allowed", "denied").await;
    }
    let encoded =
        post("/v1/chat/completions", r#"{"model":"gpt-4o-mini"}"#, "content-encoding: gzip\r\n");
    check(only_mini, &encoded, 403, "model_not_allowed", "denied").await;
    let whitelist = |setup: &mut Setup| {
        setup.provider.param_whitelist = vec![("service_tier".into(), vec![Glob::new("default")])];
    };
    let request = post("/v1/chat/completions", r#"{"model":"m","service_tier":"priority"}"#, "");
    check(whitelist, &request, 400, "param_not_allowed", "denied").await;
    // A body without a type may be taken for JSON.
    let untyped = request.replace("content-type: application/json\r\n", "");
    check(whitelist, &untyped, 400, "param_not_allowed", "denied").await;
}

#[tokio::test]
async fn a_param_rule_does_not_ask_for_a_model() {
    let whitelist = |setup: &mut Setup| {
        setup.provider.param_whitelist = vec![("service_tier".into(), vec![Glob::new("default")])];
    };
    let mut harness = Harness::start(answering(CHAT).await, whitelist).await;
    let answer = harness.post("/v1/moderations", r#"{"input":"x","service_tier":"default"}"#).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(harness.record().await["outcome"], "ok");
    harness.finish().await;
}

#[tokio::test]
async fn bodies_over_the_limit_are_refused() {
    let small = |setup: &mut Setup| setup.limits.request_bytes_max = 100;
    let body = format!(r#"{{"model":"m","input":"{}"}}"#, "a".repeat(200));
    let announced = post("/v1/chat/completions", &body, "");
    check(small, &announced, 413, "body_too_large", "client_error").await;
    let chunked = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {{token}}\r\n\
         content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n\
         {:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    check(small, &chunked, 413, "body_too_large", "client_error").await;
    let broken = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
                  transfer-encoding: chunked\r\n\r\nzz\r\n";
    check(small, broken, 400, "invalid_request", "client_error").await;
}

#[tokio::test]
async fn quota_is_exact_under_concurrency() {
    let upstream = answering(CHAT).await;
    let mut harness = Harness::start(upstream, |setup| setup.grant.max_requests = Some(17)).await;
    let request = post("/v1/chat/completions", r#"{"model":"m"}"#, "");
    let answers: Vec<_> = (0..50).map(|_| harness.raw(&request)).collect();
    let mut served = 0;
    for answer in join_all(answers).await {
        if answer.starts_with("HTTP/1.1 200 ") {
            served += 1;
        } else {
            assert!(answer.contains("quota_exceeded"), "{answer}");
            assert!(answer.contains("x-should-retry: false"), "{answer}");
        }
    }
    assert_eq!(served, 17);
    for _ in 0..50 {
        harness.record().await;
    }
    assert_eq!(harness.live.used(), 17);
    harness.finish().await;
}

#[tokio::test]
async fn preflights_are_answered_and_recorded() {
    let upstream = answering(CHAT).await;
    let mut harness = Harness::start(upstream, unchanged).await;
    let answer = harness
        .raw(
            "OPTIONS /v1/chat/completions HTTP/1.1\r\nhost: x\r\norigin: https://app.example\r\n\
             access-control-request-method: POST\r\n\
             access-control-request-headers: authorization\r\n\r\n",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    assert!(answer.contains("access-control-allow-origin: https://app.example"), "{answer}");
    assert!(answer.contains("access-control-allow-headers: authorization"), "{answer}");
    assert_eq!(harness.record().await["outcome"], "ok");
    harness.finish().await;
}

#[tokio::test]
async fn no_room_is_told_and_counted() {
    let upstream = answering(CHAT).await;
    let mut harness = Harness::start(upstream, unchanged).await;
    for (no_room, code) in [(NoRoom::Full, "overloaded"), (NoRoom::Failed, "audit_unavailable")] {
        *harness.outbox.no_room.lock() = Some(no_room);
        for _ in 0..3 {
            let answer = harness.post("/v1/chat/completions", "{}").await;
            assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains(code), "{answer}");
            assert!(answer.contains("retry-after: 1"), "{answer}");
        }
        *harness.outbox.no_room.lock() = None;
        harness.plane.flush_coalesced(true);
        let record = harness.record().await;
        assert_eq!(record["error_code"], code);
        assert_eq!(record["count"], 3);
    }
    harness.finish().await;
}

#[tokio::test]
async fn floods_without_a_token_become_few_records_with_exact_counts() {
    let upstream = answering(CHAT).await;
    let mut harness = Harness::start(upstream, unchanged).await;
    let request = "GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n";
    for _ in 0..10 {
        join_all((0..30).map(|_| harness.raw(request)).collect()).await;
    }
    harness.plane.flush_coalesced(true);
    let finished = harness.outbox.finished.load(Ordering::Relaxed);
    let mut total = 0;
    for _ in 0..finished {
        total += harness.record().await["count"].as_u64().unwrap_or(1);
    }
    assert_eq!(total, 300);
    assert!(finished < 300, "some were folded: {finished}");
    harness.finish().await;
}

pub async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut pinned: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        let mut pending = false;
        for (future, output) in &mut pinned {
            if output.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(ready) => *output = Some(ready),
                    std::task::Poll::Pending => pending = true,
                }
            }
        }
        if pending { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    pinned.into_iter().map(|(_, output)| output.unwrap()).collect()
}

#[tokio::test]
async fn every_refusal_is_told_once_with_what_may_be_kept_of_its_credential() {
    let upstream = answering(CHAT).await;
    let harness = Harness::start(upstream, unchanged).await;
    let unknown = format!("sk-{}", "x".repeat(43));
    for credential in ["", "authorization: Bearer nonsense\r\n", "authorization: Basic x\r\n"] {
        harness.raw(&format!("GET /v1/models HTTP/1.1\r\nhost: x\r\n{credential}\r\n")).await;
    }
    let head = "GET /v1/models HTTP/1.1\r\nhost: x\r\n";
    harness.raw(&format!("{head}x-api-key: {unknown}\r\n\r\n")).await;
    assert!(harness.post("/v1/chat/completions", "{}").await.starts_with("HTTP/1.1 200 "));
    let told = harness.outbox.denied.lock().clone();
    let codes: Vec<&str> = told.iter().map(|(code, _)| code.as_str()).collect();
    assert_eq!(codes, ["token_missing", "token_invalid", "token_invalid", "token_not_found"]);
    let marks: Vec<_> = told.iter().map(|(_, mark)| mark.as_ref().map(|it| it.bytes)).collect();
    assert_eq!(marks, [None, Some(8), None, Some(46)]);
    assert!(!format!("{told:?}").contains("nonsense"));
}

#[tokio::test]
async fn what_cannot_be_recorded_is_served_where_the_policy_says_so() {
    let upstream = answering(CHAT).await;
    let mut harness = Harness::start(upstream, unchanged).await;
    harness.outbox.serves_unrecorded.store(true, Ordering::Relaxed);
    *harness.outbox.no_room.lock() = Some(NoRoom::Failed);
    for _ in 0..3 {
        let answer = harness.post("/v1/chat/completions", "{}").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    // No room because too much is at work is another thing.
    *harness.outbox.no_room.lock() = Some(NoRoom::Full);
    let shed = harness.post("/v1/chat/completions", "{}").await;
    assert!(shed.starts_with("HTTP/1.1 503 "), "{shed}");
    *harness.outbox.no_room.lock() = None;
    harness.plane.flush_coalesced(true);
    assert_eq!(harness.record().await["error_code"], "overloaded");
    let outbox = harness.outbox.clone();
    harness.finish().await;
    assert_eq!(outbox.unrecorded.load(Ordering::Relaxed), 3);
}
