//! Sockets: accepts connections, ends TLS, speaks HTTP/1.1 and HTTP/2 (h2c by
//! prior knowledge, ALPN with TLS), and sends each request to the data plane or
//! to the management side.

use std::{
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    answer::{Answer, BoxError},
    limits::{HEAD_BUFFER_BYTES_MAX, HTTP2_STREAMS_MAX},
    plane::{ConnectionError, Plane},
    ports::BoxFuture,
    serve::serve,
    upstream::Pools,
};

/// A TLS handshake must be over within this.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers what is not the data plane's.
pub trait Fallback: Send + Sync + 'static {
    fn call(&self, request: Request<Incoming>, peer: SocketAddr)
    -> BoxFuture<'_, Response<Answer>>;
}

/// The certificate in use, replaced while running when its files change.
pub type SharedTls = Arc<ArcSwapOption<ServerConfig>>;

/// One listening socket and what stands behind it. Each runtime has its own.
pub struct Listen {
    pub plane: Arc<Plane>,
    pub pools: Pools,
    pub fallback: Arc<dyn Fallback>,
    /// Holds `None` for plain HTTP.
    pub tls: SharedTls,
    pub connections: Arc<Semaphore>,
    /// Cancelled when no new connection or request may begin.
    pub stop: CancellationToken,
}

impl Listen {
    /// Accepts until `stop`, then lets running requests end. Resolves when all
    /// connections are closed; dropping it cuts them.
    pub async fn run(self, listener: TcpListener) {
        let tasks = TaskTracker::new();
        let cut = CancellationToken::new();
        let _cut_on_drop = cut.clone().drop_guard();
        let shared = Arc::new(self);
        loop {
            let accepted = tokio::select! {
                accepted = shared.accept(&listener) => accepted,
                () = shared.stop.cancelled() => break,
            };
            let Some((stream, peer, permit)) = accepted else { continue };
            let (shared, cut) = (Arc::clone(&shared), cut.clone());
            tasks.spawn(async move {
                let plane = Arc::clone(&shared.plane);
                let open = &plane.counters.connections_open;
                open.fetch_add(1, Ordering::Relaxed);
                // `None`: cut at the end of the time to drain.
                let _ended = cut.run_until_cancelled(shared.connection(stream, peer)).await;
                open.fetch_sub(1, Ordering::Relaxed);
                drop(permit);
            });
        }
        tasks.close();
        tasks.wait().await;
    }

    /// The next connection, when there is room for one.
    async fn accept(
        &self,
        listener: &TcpListener,
    ) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
        let permit = Arc::clone(&self.connections).acquire_owned().await.ok()?;
        match listener.accept().await {
            Ok((stream, peer)) => {
                self.plane.counters.connections_total.fetch_add(1, Ordering::Relaxed);
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(error = %error, "TCP_NODELAY was refused");
                }
                Some((stream, peer, permit))
            }
            Err(error) => {
                self.plane.counters.connection_error(ConnectionError::Accept);
                tracing::warn!(error = %error, "a connection could not be accepted");
                // Out of file descriptors: accepting again at once would spin.
                tokio::time::sleep(Duration::from_millis(50)).await;
                None
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let Some(tls) = self.tls.load_full() else {
            return self.http(stream, peer).await;
        };
        let handshake = TlsAcceptor::from(tls).accept(stream);
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => self.http(stream, peer).await,
            Ok(Err(error)) => {
                self.plane.counters.connection_error(ConnectionError::Tls);
                tracing::debug!(error = %error, "a TLS handshake failed");
            }
            Err(_) => self.plane.counters.connection_error(ConnectionError::Tls),
        }
    }

    async fn http(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: SocketAddr,
    ) {
        let shared = Arc::clone(&self);
        let service = service_fn(move |request| Arc::clone(&shared).request(request, peer));
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.plane.parts.limits.header_read_timeout)
            .max_buf_size(HEAD_BUFFER_BYTES_MAX);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(HTTP2_STREAMS_MAX)
            .max_header_list_size(HEAD_BUFFER_BYTES_MAX as u32)
            .adaptive_window(true)
            .keep_alive_interval(Some(Duration::from_secs(30)));
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            let reason = reason(&*error);
            self.plane.counters.connection_error(reason);
            tracing::debug!(error = %error, reason = reason.as_str(), "a connection ended badly");
        }
    }

    async fn request(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Result<Response<Answer>, BoxError> {
        let address: IpAddr = peer.ip();
        match serve(&self.plane, &self.pools, request, address).await {
            Ok(response) => Ok(response),
            Err(request) => Ok(self.fallback.call(request, peer).await),
        }
    }
}

/// Names the end of a connection for the metric.
fn reason(error: &(dyn std::error::Error + 'static)) -> ConnectionError {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            if error.is_parse() {
                return ConnectionError::Parse;
            }
            if error.is_timeout() {
                return ConnectionError::HeaderTimeout;
            }
            if error.is_incomplete_message() {
                return ConnectionError::Incomplete;
            }
        }
        if error.is::<std::io::Error>() {
            return ConnectionError::Io;
        }
        cause = error.source();
    }
    ConnectionError::Other
}
