//! What happens between sockets: TLS, HTTP/2, tunnels, and how bytes and their
//! times pass.

use std::{
    io::Write as _,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header::AUTHORIZATION};
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

use crate::support::{
    AnyBody, CHAT, Handler, PATIENCE, Proxy, chat, chat_provider, client, fed, feed, handler,
    json_answer, provider, read, read_until, serve, until, whole,
};

/// An authority of a test, and certificates by it.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    /// Certificate and key of a server, as PEM.
    fn issue(&self, names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn client(&self, protocols: &[&str]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(ring);
        let config = config.with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
        config
    }

    fn server(&self, names: &[&str], protocols: &[&str]) -> TlsAcceptor {
        let (certificate, key) = self.issue(names);
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(ring);
        let config = config.with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
        config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    fn write(&self, path: &Path) -> String {
        std::fs::write(path, self.issuer.pem()).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

async fn tls(address: SocketAddr, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

fn get(token: &str, id: &str, uri: &str) -> Request<AnyBody> {
    let request = Request::get(uri).header(AUTHORIZATION, format!("Bearer {token}"));
    request.header("x-request-id", id).body(whole("")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listener_speaks_tls_and_takes_a_new_certificate() {
    let (first, second) = (Authority::new(), Authority::new());
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    let write = |(certificate, key): (String, String)| {
        std::fs::write(path("key.pem"), key).unwrap();
        std::fs::write(path("certificate.pem"), certificate).unwrap();
    };
    write(first.issue(&["localhost"]));
    let upstream = chat_provider().await;
    let (certificate, key) = (path("certificate.pem"), path("key.pem"));
    let environment = [("TLS_CERT_FILE", certificate.as_str()), ("TLS_KEY_FILE", key.as_str())];
    let proxy = Proxy::before(&format!("http://{upstream}"), &environment).await;
    // The listener speaks only TLS now: management goes by the socket.
    let made = proxy.command(&["project", "create", "acme", "-o", "json"]);
    let project: Value = serde_json::from_slice(&made.stdout).unwrap();
    let id = project["id"].as_str().unwrap();
    let made = proxy.command(&["token", "create", "--project", id, "-o", "json"]);
    let token: Value = serde_json::from_slice(&made.stdout).unwrap();
    let token = token["token"].as_str().unwrap();

    let stream = tls(proxy.address, first.client(&["h2", "http/1.1"])).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let handshake = conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut old, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let response = old.send_request(get(token, "by-h2", "https://localhost/v1/models")).await;
    // The project has no key: what matters is which protocol was spoken.
    assert_eq!(response.unwrap().status(), 503);
    assert_eq!(proxy.record("by-h2").await["http_version"], "2");

    for (protocols, id) in [(&["http/1.1"][..], "by-h1"), (&[], "by-none")] {
        let stream = tls(proxy.address, first.client(protocols)).await.unwrap();
        let (mut sender, connection) = conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = get(token, id, "/v1/models");
        request.headers_mut().insert("host", "localhost".parse().unwrap());
        assert_eq!(sender.send_request(request).await.unwrap().status(), 503);
        assert_eq!(proxy.record(id).await["http_version"], "1.1");
    }
    assert!(tls(proxy.address, second.client(&["h2"])).await.is_err(), "not trusted yet");

    // Half a pair, then the other half: the old one stays until both fit.
    write(second.issue(&["localhost"]));
    until("the new certificate", async || tls(proxy.address, second.client(&["h2"])).await.ok())
        .await;
    assert!(tls(proxy.address, first.client(&["h2"])).await.is_err(), "the old one is gone");
    let response = old.send_request(get(token, "still", "https://localhost/v1/models")).await;
    assert_eq!(response.unwrap().status(), 503, "connections live on");
    // Rubbish is not taken.
    std::fs::write(path("key.pem"), "rubbish").unwrap();
    until("a word about the rubbish", async || {
        let lines = proxy.lines();
        let said = |line: &Value| line["msg"].as_str()?.contains("cannot be used").then_some(());
        lines.iter().find_map(said)
    })
    .await;
    tls(proxy.address, second.client(&["h2"])).await.unwrap();
}

/// A provider behind TLS; what it saw is what it answers.
async fn tls_provider(acceptor: TlsAcceptor, handler: Handler) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, handler) = (acceptor.clone(), Arc::clone(&handler));
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve(stream, handler).await;
                }
            });
        }
    });
    address
}

fn version_handler() -> Handler {
    handler(|request: Request<Incoming>| async move {
        let version = format!("{:?}", request.version());
        json_answer(200, json!({ "version": version }).to_string())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn providers_behind_a_private_authority_are_reached_with_http2() {
    let authority = Authority::new();
    let files = tempfile::tempdir().unwrap();
    let ca = authority.write(&files.path().join("ca.pem"));
    for (protocols, expected) in [(&["h2", "http/1.1"][..], "HTTP/2.0"), (&[], "HTTP/1.1")] {
        let acceptor = authority.server(&["localhost"], protocols);
        let upstream = tls_provider(acceptor, version_handler()).await;
        let base = format!("https://localhost:{}", upstream.port());
        let proxy = Proxy::before(&base, &[("UPSTREAM_CA_FILE", &ca)]).await;
        let token = proxy.token().await;
        let request = get(&token, "trusted", &proxy.url("/v1/models"));
        let answer = read(client().request(request).await.unwrap()).await;
        assert_eq!(answer.status, 200);
        let said: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(said["version"], expected);

        let proxy = Proxy::before(&base, &[]).await;
        let token = proxy.token().await;
        let request = get(&token, "unknown", &proxy.url("/v1/models"));
        let answer = read(client().request(request).await.unwrap()).await;
        assert_eq!(answer.status, 502, "{:?}", answer.body);
        assert_eq!(proxy.record("unknown").await["error_code"], "upstream_unreachable");
    }
}

/// A forward proxy: `CONNECT`, to wherever the test says, and what it was asked.
async fn forward_proxy(to: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let seen = Arc::clone(&seen);
            tokio::spawn(async move {
                let head = read_until(&mut stream, |text| text.ends_with("\r\n\r\n")).await;
                seen.lock().push(head);
                stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
                let mut upstream = TcpStream::connect(to).await.unwrap();
                // Either side may hang up as it likes.
                drop(copy_bidirectional(&mut stream, &mut upstream).await);
            });
        }
    });
    (address, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn providers_are_reached_through_a_tunnel_unless_no_proxy_says_so() {
    let authority = Authority::new();
    let files = tempfile::tempdir().unwrap();
    let ca = authority.write(&files.path().join("ca.pem"));
    let acceptor = authority.server(&["provider.test", "localhost"], &["h2"]);
    let upstream = tls_provider(acceptor, version_handler()).await;
    let (forward, asked) = forward_proxy(upstream).await;
    let through = format!("http://user:password@{forward}");
    let environment = [("UPSTREAM_CA_FILE", &*ca), ("HTTPS_PROXY", &*through)];
    // A name that only the forward proxy can resolve.
    let proxy = Proxy::before("https://provider.test:8443", &environment).await;
    let token = proxy.token().await;
    let request = get(&token, "tunnel", &proxy.url("/v1/models"));
    let answer = read(client().request(request).await.unwrap()).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    assert!(answer.body.starts_with(br#"{"version":"HTTP/2.0"#));
    {
        let asked = asked.lock();
        assert_eq!(asked.len(), 1, "{asked:?}");
        assert!(asked[0].starts_with("CONNECT provider.test:8443 HTTP/1.1\r\n"), "{asked:?}");
        let head = asked[0].to_ascii_lowercase();
        assert!(head.contains("proxy-authorization: basic dxnlcjpwyxnzd29yza=="), "{head}");
        assert!(!head.contains("bearer"), "{head}");
    }
    let base = format!("https://localhost:{}", upstream.port());
    let direct = [("NO_PROXY", "other.test,localhost"), environment[0], environment[1]];
    let proxy = Proxy::before(&base, &direct).await;
    let token = proxy.token().await;
    let request = get(&token, "direct", &proxy.url("/v1/models"));
    assert_eq!(client().request(request).await.unwrap().status(), 200);
    assert_eq!(asked.lock().len(), 1, "the forward proxy was not asked again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_a_provider_refused_is_sent_once_more() {
    let authority = Authority::new();
    let files = tempfile::tempdir().unwrap();
    let ca = authority.write(&files.path().join("ca.pem"));
    let acceptor = authority.server(&["localhost"], &["h2"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    let refusals = Arc::new(AtomicUsize::new(0));
    let left = Arc::clone(&refusals);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, left) = (acceptor.clone(), Arc::clone(&left));
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let take = |n: usize| n.checked_sub(1);
                    if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
                        respond.send_reset(h2::Reason::REFUSED_STREAM);
                        continue;
                    }
                    let mut stream = respond.send_response(Response::new(()), false).unwrap();
                    stream.send_data(Bytes::from_static(b"{}"), true).unwrap();
                    // Says GOAWAY: what comes next must find another connection.
                    connection.graceful_shutdown();
                }
            });
        }
    });
    let base = format!("https://localhost:{}", upstream.port());
    let proxy = Proxy::before(&base, &[("UPSTREAM_CA_FILE", &ca)]).await;
    let limited = json!({ "allowed_models": ["gpt-*"] });
    let token = proxy.token_of("acme", limited).await["token"].as_str().unwrap().to_owned();
    let body = r#"{"model":"gpt-4o","messages":[]}"#;
    // (refusals to come, attempts expected, status expected)
    for (refused, attempts, status) in [(0, 1, 200), (1, 2, 200), (2, 2, 502)] {
        for with_body in [false, true] {
            refusals.store(refused, Ordering::SeqCst);
            let id = format!("refused-{refused}-{with_body}");
            let request = if with_body {
                chat(&proxy, &token, &id, body)
            } else {
                get(&token, &id, &proxy.url("/v1/models"))
            };
            let response = client().request(request).await.unwrap();
            let record = proxy.record(&id).await;
            assert_eq!(response.status(), status, "{id}: {record}");
            assert_eq!(record["attempts"], attempts, "{id}: {record}");
        }
    }
    refusals.store(0, Ordering::SeqCst);
    for n in 0..20 {
        let request = get(&token, &format!("away-{n}"), &proxy.url("/v1/models"));
        assert_eq!(client().request(request).await.unwrap().status(), 200, "after a GOAWAY");
    }
}

/// HTTP/2 by hand: takes the first request and goes away without it.
async fn go_away(mut stream: tokio_rustls::server::TlsStream<TcpStream>) {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    // The last stream that was looked at: none. The reason: no error.
    const GO_AWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const PREFACE_BYTES: usize = 24;
    const HEADERS: u8 = 1;
    let mut preface = [0; PREFACE_BYTES];
    stream.read_exact(&mut preface).await.unwrap();
    stream.write_all(&SETTINGS).await.unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        stream.read_exact(&mut vec![0; length as usize]).await.unwrap();
        if head[3] == HEADERS {
            break;
        }
    }
    stream.write_all(&GO_AWAY).await.unwrap();
    // The proxy hangs up when it has nothing more to do here.
    drop(stream.read_to_end(&mut Vec::new()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_a_provider_went_away_from_is_sent_once_more() {
    let authority = Authority::new();
    let files = tempfile::tempdir().unwrap();
    let ca = authority.write(&files.path().join("ca.pem"));
    let acceptor = authority.server(&["localhost"], &["h2"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let opened = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let stream = acceptor.accept(stream).await.unwrap();
            if opened.fetch_add(1, Ordering::SeqCst) == 0 {
                tokio::spawn(go_away(stream));
            } else {
                tokio::spawn(serve(stream, version_handler()));
            }
        }
    });
    let base = format!("https://localhost:{}", upstream.port());
    let proxy = Proxy::before(&base, &[("UPSTREAM_CA_FILE", &ca)]).await;
    let token = proxy.token().await;
    let request = get(&token, "away", &proxy.url("/v1/models"));
    let status = client().request(request).await.unwrap().status();
    let record = proxy.record("away").await;
    assert_eq!(status, 200, "{record}");
    assert_eq!(record["attempts"], 2, "{record}");
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_without_tls_trailers_and_head() {
    let upstream = provider(handler(|request: Request<Incoming>| async move {
        let is_head = request.method() == Method::HEAD;
        let collected = request.into_body().collect().await.unwrap();
        let sent = collected.trailers().and_then(|trailers| trailers.get("x-sum").cloned());
        let (sender, body) = fed();
        tokio::spawn(async move {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-end", "down".parse().unwrap());
            if let Some(sum) = sent {
                trailers.insert("x-sum", sum);
            }
            if !is_head {
                feed(&sender, "{}").await;
                sender.send(Ok(Frame::trailers(trailers))).await.unwrap();
            }
        });
        let response = Response::builder().header("content-type", "application/json");
        response.header("trailer", "x-end, x-sum").header("x-kept", "yes").body(body).unwrap()
    }))
    .await;
    let proxy = Proxy::before(&format!("http://{upstream}"), &[]).await;
    let token = proxy.token().await;
    let stream = TcpStream::connect(proxy.address).await.unwrap();
    let handshake = conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let (up, body) = fed();
    let request = Request::post(proxy.url("/v1/files"))
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .header("x-request-id", "trailers")
        .header("te", "trailers")
        .header("trailer", "x-sum")
        .body(body);
    let pending = tokio::spawn(sender.send_request(request.unwrap()));
    feed(&up, "some").await;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "4".parse().unwrap());
    up.send(Ok(Frame::trailers(trailers))).await.unwrap();
    drop(up);
    let answer = read(pending.await.unwrap().unwrap()).await;
    assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"{}"[..]));
    let trailers = answer.trailers.expect("trailers came down");
    assert_eq!(trailers["x-end"], "down");
    assert_eq!(trailers["x-sum"], "4", "trailers went up");
    let record = proxy.record("trailers").await;
    assert_eq!((&record["http_version"], &record["request_bytes"]), (&json!("2"), &json!(4)));

    let request = Request::head(proxy.url("/v1/models"))
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .header("x-request-id", "head")
        .body(whole(""));
    let answer = read(sender.send_request(request.unwrap()).await.unwrap()).await;
    assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 0));
    assert_eq!(answer.headers["x-kept"], "yes");
    let record = proxy.record("head").await;
    assert_eq!((&record["method"], &record["outcome"]), (&json!("HEAD"), &json!("ok")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_upload_gets_no_continue() {
    let upstream = chat_provider().await;
    let base = format!("http://{upstream}");
    let proxy = Proxy::before(&base, &[("MAX_REQUEST_BYTES", "1KiB")]).await;
    let token = proxy.token().await;
    let head = |id: &str, token: &str, length: usize| {
        format!(
            "POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
             x-request-id: {id}\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let unknown = format!("sk-{}", "u".repeat(43));
    for (id, token, length, status) in [
        ("wrong", &unknown, 10, 401),
        ("large", &token, 2048, 413),
        ("none", &String::new(), 5, 401),
    ] {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(head(id, token, length).as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, |text| text.contains("\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert_eq!(proxy.record(id).await["status_code"], status);
    }
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(head("fine", &token, 4).as_bytes()).await.unwrap();
    let answer = read_until(&mut stream, |text| text.ends_with("\r\n\r\n")).await;
    assert_eq!(answer, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").await.unwrap();
    let answer = read_until(&mut stream, |text| text.contains("usage")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let record = proxy.record("fine").await;
    assert_eq!((&record["outcome"], &record["request_bytes"]), (&json!("ok"), &json!(4)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_is_answered_here() {
    let upstream = chat_provider().await;
    let proxy = Proxy::before(&format!("http://{upstream}"), &[]).await;
    let request = Request::options(proxy.url("/v1/chat/completions"))
        .header("origin", "https://app.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization, content-type")
        .header("x-request-id", "preflight")
        .body(whole(""));
    let answer = read(client().request(request.unwrap()).await.unwrap()).await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.headers["access-control-allow-origin"], "https://app.example");
    let allowed = answer.headers["access-control-allow-headers"].to_str().unwrap();
    assert!(allowed.to_ascii_lowercase().contains("authorization"), "{allowed}");
    let record = proxy.record("preflight").await;
    assert_eq!((&record["method"], &record["status_code"]), (&json!("OPTIONS"), &json!(204)));
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarded_addresses_are_believed_from_trusted_proxies_only() {
    let upstream = chat_provider().await;
    let base = format!("http://{upstream}");
    for (trusted, forwarded, expected) in [
        ("", "203.0.113.7", "127.0.0.1"),
        ("10.0.0.0/8", "203.0.113.7", "127.0.0.1"),
        ("127.0.0.0/8", "203.0.113.7", "203.0.113.7"),
        ("127.0.0.0/8,10.0.0.0/8", "198.51.100.1, 203.0.113.7, 10.1.1.1", "203.0.113.7"),
        ("127.0.0.0/8", "198.51.100.1, rubbish", "127.0.0.1"),
        ("127.0.0.0/8", "[2001:db8::7]:4711", "2001:db8::7"),
    ] {
        let proxy = Proxy::before(&base, &[("TRUSTED_PROXIES", trusted)]).await;
        let mut request = get("none", "forwarded", &proxy.url("/v1/models"));
        request.headers_mut().insert("x-forwarded-for", forwarded.parse().unwrap());
        assert_eq!(client().request(request).await.unwrap().status(), 401);
        let record = proxy.record("forwarded").await;
        assert_eq!(record["client_ip"], expected, "{forwarded} by {trusted}");
    }
}

/// A stream with usage, as OpenAI writes it, in one piece for each event.
fn events(line_end: &str) -> Vec<String> {
    let chunk = |rest: Value| {
        let mut chunk = json!({ "id": "c", "object": "chat.completion.chunk",
            "model": "gpt-4o-mini-2024-07-18" });
        chunk.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        format!("data: {chunk}{line_end}{line_end}")
    };
    let said =
        |text: &str| chunk(json!({ "choices": [{ "index": 0, "delta": { "content": text } }] }));
    vec![
        said("Hel"),
        said("lo"),
        chunk(json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] })),
        chunk(json!({ "choices": [], "usage": { "prompt_tokens": 12, "completion_tokens": 5,
            "total_tokens": 17, "prompt_tokens_details": { "cached_tokens": 4 } } })),
        format!("data: [DONE]{line_end}{line_end}"),
    ]
}

fn assert_usage(record: &Value) {
    for (field, value) in [
        ("input_tokens", json!(12)),
        ("output_tokens", json!(5)),
        ("total_tokens", json!(17)),
        ("cached_input_tokens", json!(4)),
        ("usage_source", json!("provider")),
        ("finish_reason", json!("stop")),
        ("events", json!(5)),
        ("stream_response", json!(true)),
        ("outcome", json!("ok")),
    ] {
        assert_eq!(record[field], value, "{field} of {record}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_arrives_while_the_next_is_withheld() {
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let feeds = sender.clone();
    let upstream = provider(handler(move |request: Request<Incoming>| {
        let feeds = feeds.clone();
        async move {
            request.into_body().collect().await.unwrap();
            let (feed, body) = fed();
            feeds.send(feed).await.unwrap();
            let response = Response::builder().header("content-type", "text/event-stream");
            response.body(body).unwrap()
        }
    }))
    .await;
    let mut feeds = receiver;
    let proxy = Proxy::before(&format!("http://{upstream}"), &[]).await;
    let token = proxy.token().await;
    for (line_end, id) in [("\n", "lines"), ("\r\n", "crlf"), ("\r", "cr")] {
        let body = r#"{"model":"gpt-4o-mini","stream":true}"#;
        let request = chat(&proxy, &token, id, body);
        let (response, provider_side) =
            tokio::join!(client().request(request), async { feeds.recv().await.unwrap() });
        let mut body = response.unwrap().into_body();
        for event in events(line_end) {
            // Nothing more is sent until this has arrived whole.
            feed(&provider_side, event.clone()).await;
            let mut arrived = Vec::new();
            while arrived.len() < event.len() {
                let frame = tokio::time::timeout(PATIENCE, body.frame()).await;
                let frame = frame.expect("the chunk arrives by itself").unwrap().unwrap();
                arrived.extend_from_slice(&frame.into_data().unwrap());
            }
            assert_eq!(String::from_utf8(arrived).unwrap(), event);
        }
        drop(provider_side);
        assert!(body.frame().await.is_none());
        assert_usage(&proxy.record(id).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_streams_pass_untouched_and_are_understood() {
    let text = events("\n").concat();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    let coded = Bytes::from(encoder.finish().unwrap());
    let sent = coded.clone();
    let upstream = provider(handler(move |request: Request<Incoming>| {
        let coded = sent.clone();
        async move {
            request.into_body().collect().await.unwrap();
            let (sender, body) = fed();
            tokio::spawn(async move {
                for piece in coded.chunks(7) {
                    feed(&sender, Bytes::copy_from_slice(piece)).await;
                }
            });
            Response::builder()
                .header("content-type", "text/event-stream; charset=utf-8")
                .header("content-encoding", "gzip")
                .body(body)
                .unwrap()
        }
    }))
    .await;
    let proxy = Proxy::before(&format!("http://{upstream}"), &[]).await;
    let token = proxy.token().await;
    let request = chat(&proxy, &token, "gzip", r#"{"model":"gpt-4o-mini","stream":true}"#);
    let answer = read(client().request(request).await.unwrap()).await;
    assert_eq!(answer.headers["content-encoding"], "gzip");
    assert_eq!(answer.body, coded, "not a byte differs");
    assert_usage(&proxy.record("gzip").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_level_of_one_token_rises_and_falls_back() {
    let upstream = chat_provider().await;
    let proxy = Proxy::before(&format!("http://{upstream}"), &[]).await;
    let loud = proxy.token_of("loud", Value::Null).await;
    let quiet = proxy.token_of("quiet", Value::Null).await;
    let send = async |token: &Value, id: &str| {
        let request = chat(&proxy, token["token"].as_str().unwrap(), id, CHAT);
        assert_eq!(client().request(request).await.unwrap().status(), 200);
        proxy.record(id).await;
    };
    let traces = |id: &str| {
        let lines = proxy.lines();
        let fine = |line: &Value| line["level"] == "debug" || line["level"] == "trace";
        let of = lines.iter().filter(|line| fine(line) && line["request_id"] == id);
        of.count()
    };
    send(&loud, "before").await;
    let change = json!({ "level": "trace", "token_id": loud["id"], "ttl": 2 });
    let (status, view) = proxy.manage(Method::PUT, "/manage/log-level", change).await;
    assert_eq!(status, 200, "{view}");
    assert_eq!(view["overrides"][0]["token_id"], loud["id"]);
    send(&loud, "during").await;
    send(&quiet, "other").await;
    until("traces of the loud one", async || (traces("during") > 0).then_some(())).await;
    let mut sent = 0;
    until("the level falls back by itself", async || {
        sent += 1;
        let id = format!("after-{sent}");
        send(&loud, &id).await;
        (traces(&id) == 0).then_some(())
    })
    .await;
    let (_, view) = proxy.manage(Method::GET, "/manage/log-level", Value::Null).await;
    assert_eq!(view["overrides"], json!([]));
    for id in ["before", "other"] {
        assert_eq!(traces(id), 0, "{id}");
    }
}
