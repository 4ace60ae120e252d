//! What a witness saw, over HTTP, for anybody: nothing of it is secret.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore};

use super::Memory;

/// Connections at once; others wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// How long a connection may take for its head, and in all.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);

/// Begins to answer; returns the address.
pub(super) async fn begin(address: SocketAddr, memory: Arc<Memory>) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("listen on {address}"))?;
    let address = listener.local_addr()?;
    let routes = Router::new()
        .route("/checkpoint", get(checkpoint))
        .route("/vkey", get(vkey))
        .route("/evidence", get(evidence))
        .route("/evidence/{name}", get(evidence_named))
        .with_state(memory);
    tokio::spawn(accept(listener, routes));
    Ok(address)
}

async fn accept(listener: TcpListener, routes: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection to the witness failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(routes.clone());
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        let served = http.serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            // Whoever breaks off or is too slow learns nothing; nobody else cares.
            let _ended = tokio::time::timeout(CONNECTION_TIMEOUT, served).await;
            drop(place);
        });
    }
}

async fn checkpoint(State(memory): State<Arc<Memory>>) -> Response {
    match memory.newest() {
        Some(note) => note.to_string().into_response(),
        None => (StatusCode::NOT_FOUND, "nothing was seen yet\n").into_response(),
    }
}

async fn vkey(State(memory): State<Arc<Memory>>) -> String {
    format!("{}\n", memory.verifier())
}

async fn evidence(State(memory): State<Arc<Memory>>) -> Response {
    match memory.evidence() {
        Ok(names) => Json(names).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn evidence_named(State(memory): State<Arc<Memory>>, Path(name): Path<String>) -> Response {
    match memory.evidence_named(&name) {
        Some(bytes) => bytes.into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
