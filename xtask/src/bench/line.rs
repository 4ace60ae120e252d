//! The line: the least that does the whole job. hyper in and out, a token looked up in a map, the
//! provider's key in its place, and one JSON line a request handed to a thread that writes it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use std::{path::Path, sync::Arc};

use anyhow::Result;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{Request, Response, StatusCode, http::uri::Authority};

use super::bare::{bad_gateway, redirect};
use super::serve::{Answers, Body, Pool, Shape, full, pool, serve};

const QUEUE_LINES: usize = 16_384;
const BATCH_LINES: usize = 1_000;
pub struct Shared {
    upstream: Authority,
    keys: HashMap<String, HeaderValue>,
    lines: SyncSender<Told>,
    ids: AtomicU64,
}

struct Line(Arc<Shared>);

/// One request on its way; what it told leaves when it is dropped.
struct Exchange {
    shared: Arc<Shared>,
    start: Instant,
    told: Told,
}

#[derive(Default)]
struct Told {
    id: u64,
    at_us: u128,
    head_us: u64,
    path: String,
    status: u16,
    response_bytes: u64,
    duration_us: u64,
}

impl Exchange {
    fn count(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        self.told.response_bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        frame
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut told = std::mem::take(&mut self.told);
        told.duration_us = micros(self.start);
        self.shared.lines.try_send(told).ok();
    }
}

fn micros(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Serves until the process is ended; `token` buys `key`.
pub fn run(address: SocketAddr, shape: Shape, upstream: &str, file: &Path) -> Result<()> {
    let (lines, received) = sync_channel(QUEUE_LINES);
    let mut file = std::fs::File::create(file)?;
    std::thread::spawn(move || write(&received, &mut file));
    let key = HeaderValue::from_static("Bearer sk-provider-key-of-the-line");
    let keys = HashMap::from([(super::scenario::LINE_TOKEN.to_owned(), key)]);
    let shared = Shared { upstream: upstream.parse()?, keys, lines, ids: AtomicU64::new(1) };
    serve(address, shape, Line(Arc::new(shared)))
}

fn now_us() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros()
}

fn write(lines: &Receiver<Told>, file: &mut std::fs::File) {
    let mut text = String::new();
    while let Ok(first) = lines.recv() {
        text.clear();
        format(&mut text, &first);
        lines.try_iter().take(BATCH_LINES).for_each(|line| format(&mut text, &line));
        file.write_all(text.as_bytes()).ok();
    }
}

#[rustfmt::skip]
fn format(text: &mut String, e: &Told) {
    let (id, status) = (e.id, e.status);
    writeln!(
        text,
        concat!(
            r#"{{"schema":1,"stream":"record","record_id":"{id:032x}","ts_us":{},"level":"info","#,
            r#""msg":"request completed","component":"proxy","instance":"line","version":"0.0.0","#,
            r#""request_id":"{id:032x}","correlation_id":"{id:032x}","trace_id":"{id:032x}","#,
            r#""span_id":"{id:016x}","project_id":"{:032x}","project":"bench","token_id":"{:032x}","#,
            r#""client_ip":"127.0.0.1","provider":"openai","operation":"chat","method":"POST","#,
            r#""path":"{}","http_version":"1.1","status_code":{status},"outcome":"ok","#,
            r#""upstream_status_code":{status},"response_bytes":{},"duration_ms":{}.{:03},"#,
            r#""upstream_ms":{}.{:03},"attempts":1}}"#
        ),
        e.at_us, 7, 8, e.path, e.response_bytes, e.duration_us / 1000, e.duration_us % 1000,
        e.head_us / 1000, e.head_us % 1000, id = id, status = status,
    )
    .ok();
}

impl Answers for Line {
    type Part = (Pool, Arc<Shared>);

    fn part(&self) -> Self::Part {
        (pool(), Arc::clone(&self.0))
    }

    async fn answer((pool, shared): Self::Part, mut request: Request<Incoming>) -> Response<Body> {
        let id = shared.ids.fetch_add(1, Ordering::Relaxed);
        let (path, at_us) = (request.uri().path().to_owned(), now_us());
        let told = Told { id, at_us, path, status: 401, ..Told::default() };
        let start = Instant::now();
        let mut exchange = Exchange { shared: Arc::clone(&shared), start, told };
        let token = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = token.and_then(|value| value.strip_prefix("Bearer "));
        let Some(key) = token.and_then(|token| shared.keys.get(token)) else {
            let mut response = Response::new(full("no such token"));
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            return response;
        };
        request.headers_mut().insert(AUTHORIZATION, key.clone());
        match pool.request(redirect(request, &shared.upstream)).await {
            Ok(response) => {
                exchange.told.status = response.status().as_u16();
                exchange.told.head_us = micros(exchange.start);
                // The body owns the exchange: its line leaves when the body ends or is dropped.
                // Through a method, so that the closure owns the whole exchange.
                let count = move |frame: Frame<Bytes>| exchange.count(frame);
                response.map(|body| body.map_frame(count).boxed())
            }
            Err(error) => bad_gateway(&error.to_string()),
        }
    }
}
