//! The sample provider: an HTTP server that speaks the wire formats of OpenAI
//! and Anthropic, for the demo, for tests and for benchmarks.
//!
//! Owns its listener, its connections and a [`Ledger`] of what it received.
//! Promises: equal requests get equal answers; whatever a request's `x-sample`
//! header asks for happens, and nothing else. It must never be taken for a
//! model: it thinks nothing, and listens on loopback unless told otherwise.

mod anthropic;
mod body;
mod content;
pub mod directives;
mod errors;
pub mod ledger;
mod openai;
mod prepared;
mod raw;
mod reply;
mod responses;
mod service;
#[cfg(test)]
mod tests;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use domain::secret::Secret;
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{directives::Directives, ledger::Ledger, prepared::Prepared, service::Service};

/// More connections than any test opens; the rest wait to be accepted.
const CONNECTIONS_MAX: usize = 32_768;
/// Kept waiting by the kernel.
const BACKLOG: u32 = 4096;
/// Pause after a failed accept (out of descriptors), so that it cannot spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// How the sample provider runs.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: SocketAddr,
    /// Keys that it accepts begin so.
    pub key_prefix: String,
    /// What each request gets unless its `x-sample` header says otherwise.
    pub defaults: Directives,
    /// Answers prepared once instead of computed from each request: a plain
    /// answer of 1 KB and a stream of 53 chunks. For benchmarks.
    pub prepared: bool,
    /// Whether to keep a ledger.
    pub keeps_ledger: bool,
    /// TLS with the certificates and ALPN of this configuration.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            key_prefix: "sample-".into(),
            defaults: Directives::default(),
            prepared: false,
            keeps_ledger: true,
            tls: None,
        }
    }
}

/// A running sample provider; dropping it stops it.
#[derive(Debug)]
pub struct SampleProvider {
    addr: SocketAddr,
    secure: bool,
    key: Secret,
    ledger: Ledger,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

impl SampleProvider {
    /// Listens and serves in tasks of the current runtime.
    pub async fn start(config: Config) -> io::Result<Self> {
        let listener = listen(config.listen)?;
        let addr = listener.local_addr()?;
        let (cancel, tasks) = (CancellationToken::new(), TaskTracker::new());
        let acceptor = config.tls.clone().map(TlsAcceptor::from);
        let provider = Self {
            addr,
            secure: acceptor.is_some(),
            key: Secret::new(format!("{}key-0123456789", config.key_prefix)),
            ledger: Ledger::default(),
            cancel: cancel.clone(),
            tasks: tasks.clone(),
        };
        let service = Arc::new(Service {
            key_prefix: config.key_prefix,
            defaults: config.defaults,
            prepared: config.prepared.then(Prepared::build),
            ledger: provider.ledger.clone(),
            keeps_ledger: config.keeps_ledger,
        });
        let accepting = accept(listener, acceptor, service, cancel, tasks.clone());
        tasks.spawn(accepting);
        Ok(provider)
    }

    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The base URL, without a path.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.secure { "https" } else { "http" }, self.addr)
    }

    /// A key that it accepts.
    pub const fn key(&self) -> &Secret {
        &self.key
    }

    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Closes the listener and breaks every connection, as a crash would.
    pub async fn stop(self) {
        self.cancel.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Serves until `signal` is done.
    pub async fn stop_after(self, signal: impl Future<Output = ()>) {
        signal.await;
        self.stop().await;
    }
}

impl Drop for SampleProvider {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = match addr {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

async fn accept(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    service: Arc<Service>,
    cancel: CancellationToken,
    tasks: TaskTracker,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            next = next => next,
            () = cancel.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (acceptor, service, cancel) = (acceptor.clone(), Arc::clone(&service), cancel.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = Box::pin(serve(stream, acceptor, service)) => {}
                () = cancel.cancelled() => {}
            }
            drop(slot);
        });
    }
}

async fn serve(stream: TcpStream, acceptor: Option<TlsAcceptor>, service: Arc<Service>) {
    // Without it, small chunks wait for acknowledgements.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    match acceptor {
        None => serve_io(stream, service).await,
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve_io(stream, service).await;
            }
        }
    }
}

/// A connection that fails is the caller's affair: tests look at their side.
async fn serve_io<I>(io: I, service: Arc<Service>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handler = service_fn(move |request| {
        let service = Arc::clone(&service);
        async move { service.handle(request).await }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().half_close(false);
    builder.http2().max_concurrent_streams(4096);
    drop(builder.serve_connection(TokioIo::new(io), handler).await);
}
