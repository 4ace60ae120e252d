//! Sockets: accepts connections, ends TLS, speaks HTTP/1.1 and HTTP/2 (h2c by
//! prior knowledge, ALPN with TLS), and sends each request to the data plane or
//! to the management side.

use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::{JoinError, JoinSet},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{
    answer::{Answer, BoxError},
    limits::{HEAD_BUFFER_BYTES_MAX, HTTP2_STREAMS_MAX},
    overdue::StreamExecutor,
    plane::{ConnectionError, Plane},
    ports::BoxFuture,
    quiet::Quiet,
    serve::{begin, serve},
    stall::Stalling,
    upstream::Pools,
};

/// A TLS handshake must be over within this.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// After an error of the listener, before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers what is not the data plane's.
pub trait Fallback: Send + Sync + 'static {
    fn call(&self, request: Request<Incoming>, peer: SocketAddr)
    -> BoxFuture<'_, Response<Answer>>;
}

/// The certificate in use, replaced while running when its files change.
pub type SharedTls = Arc<ArcSwapOption<ServerConfig>>;

/// A connection on its way from the listener to a lane.
pub struct Accepted {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    /// One of `connections_max`, given back when the connection ends.
    permit: OwnedSemaphorePermit,
}

/// Connections that wait for a lane to take them.
pub const LANE_QUEUE_MAX: usize = 1024;

/// Accepts connections and deals them out to the lanes in turn, until `stop`.
/// The lanes end when their connections have.
pub async fn accept(
    listener: TcpListener,
    plane: Arc<Plane>,
    lanes: Vec<mpsc::Sender<Accepted>>,
    stop: CancellationToken,
) {
    let connections = Arc::new(Semaphore::new(plane.parts.limits.connections_max));
    for lane in lanes.iter().cycle() {
        let accepted = tokio::select! {
            accepted = next(&listener, &plane, &connections) => accepted,
            () = stop.cancelled() => return,
        };
        if lane.send(accepted).await.is_err() {
            return;
        }
    }
}

/// The next connection, as soon as there is room for one.
async fn next(listener: &TcpListener, plane: &Plane, connections: &Arc<Semaphore>) -> Accepted {
    let permit = Arc::clone(connections).acquire_owned().await;
    let permit = permit.expect("the semaphore is never closed");
    loop {
        let accepted = listener.accept().await.and_then(|(stream, peer)| {
            // Without it the last small chunk of an answer waits for an
            // acknowledgement.
            stream.set_nodelay(true)?;
            Ok((stream.into_std()?, peer))
        });
        match accepted {
            Ok((stream, peer)) => {
                plane.counters.connections_total.fetch_add(1, Ordering::Relaxed);
                return Accepted { stream, peer, permit };
            }
            Err(error) => {
                plane.counters.connection_error(ConnectionError::Accept);
                tracing::warn!(error = %error, "a connection could not be accepted");
                // Out of file descriptors: accepting again at once would spin.
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves connections on one runtime. Each runtime has its own lane, with its
/// own pools, so that a request stays on the thread where it arrived.
pub struct Lane {
    pub plane: Arc<Plane>,
    pub pools: Pools,
    pub fallback: Arc<dyn Fallback>,
    /// Holds `None` for plain HTTP.
    pub tls: SharedTls,
    /// Cancelled when no new request may begin.
    pub stop: CancellationToken,
}

impl Lane {
    /// Serves what comes until the sender is gone and all connections ended.
    /// Dropping it cuts them.
    pub async fn run(self, mut incoming: mpsc::Receiver<Accepted>) {
        // Dropping the set aborts what it holds.
        let mut connections = JoinSet::new();
        let lane = Arc::new(self);
        loop {
            let accepted = tokio::select! {
                accepted = incoming.recv() => accepted,
                Some(ended) = connections.join_next() => {
                    report(ended);
                    continue;
                }
            };
            let Some(Accepted { stream, peer, permit }) = accepted else { break };
            let lane = Arc::clone(&lane);
            connections.spawn(async move {
                let _open = Open::count(&lane.plane);
                lane.take(stream, peer).await;
                drop(permit);
            });
        }
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    }

    async fn take(self: Arc<Self>, stream: std::net::TcpStream, peer: SocketAddr) {
        match TcpStream::from_std(stream) {
            Ok(stream) => self.connection(stream, peer).await,
            Err(error) => {
                self.plane.counters.connection_error(ConnectionError::Accept);
                tracing::warn!(error = %error, "a connection could not be registered");
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
        let mut builder = auto::Builder::new(StreamExecutor);
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
        let stream = Stalling::new(stream, self.plane.parts.limits.header_read_timeout);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut stop = Some(Quiet::new(self.stop.clone().cancelled_owned()));
        let ended = std::future::poll_fn(|cx| {
            if stop.as_mut().is_some_and(|stop| stop.poll(cx).is_ready()) {
                stop = None;
                connection.as_mut().graceful_shutdown();
            }
            connection.as_mut().poll(cx)
        });
        let ended = ended.await;
        if let Err(error) = ended {
            let reason = reason(&*error);
            self.plane.counters.connection_error(reason);
            tracing::debug!(error = %error, reason = reason.as_str(), "a connection ended badly");
        }
    }

    /// The record begins with the call, not with the first poll of the answer.
    fn request(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> impl Future<Output = Result<Response<Answer>, BoxError>> + Send {
        let address: IpAddr = peer.ip();
        let begun = begin(&self.plane, request, address);
        async move {
            match begun {
                Ok(begun) => Ok(serve(&self.plane, &self.pools, begun).await),
                Err(request) => Ok(self.fallback.call(request, peer).await),
            }
        }
    }
}

/// Counts a connection for as long as it is open.
struct Open(Arc<Plane>);

impl Open {
    fn count(plane: &Arc<Plane>) -> Self {
        plane.counters.connections_open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(plane))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.counters.connections_open.fetch_sub(1, Ordering::Relaxed);
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("the task of a connection panicked");
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
