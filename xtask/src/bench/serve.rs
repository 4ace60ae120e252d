//! What every part of the benchmark that serves has in common: the shape of the
//! runtime, the listener and the pool. The same for the bare pass-through, the
//! line and the inner provider, and as in the product.

use std::{convert::Infallible, net::SocketAddr, str::FromStr, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::net::{TcpListener, TcpSocket};

const BACKLOG: u32 = 1024;
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(90);

pub type Body = BoxBody<Bytes, hyper::Error>;
pub type Pool = Client<HttpConnector, Incoming>;

/// How the runtime is laid out over the cores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// One runtime, work moves between its threads.
    Multi,
    /// A runtime for each core, connections stay where they were accepted.
    PerCore,
}

impl FromStr for Shape {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "multi" => Ok(Self::Multi),
            "percore" => Ok(Self::PerCore),
            _ => bail!("the shape is multi or percore, not '{text}'"),
        }
    }
}

impl Shape {
    pub fn name(self) -> &'static str {
        match self {
            Self::Multi => "multi",
            Self::PerCore => "percore",
        }
    }
}

/// Answers one request; `part` belongs to the runtime that the request is on.
pub trait Answers: Send + Sync + 'static {
    /// State of one runtime: a pool must not be shared between runtimes.
    type Part: Clone + Send + Sync + 'static;

    fn part(&self) -> Self::Part;

    fn answer(
        part: Self::Part,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Body>> + Send;
}

/// Serves until the process is ended.
pub fn serve<A: Answers>(address: SocketAddr, shape: Shape, answers: A) -> Result<()> {
    if shape == Shape::Multi {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        return runtime.block_on(accept::<A>(listen(address, &runtime, false)?, answers.part()));
    }
    let cores = std::thread::available_parallelism()?.get();
    let answers = Arc::new(answers);
    let threads: Vec<_> = (0..cores)
        .map(|_| {
            let answers = Arc::clone(&answers);
            std::thread::spawn(move || -> Result<()> {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                let listener = listen(address, &runtime, true)?;
                runtime.block_on(accept::<A>(listener, answers.part()))
            })
        })
        .collect();
    for thread in threads {
        let Ok(result) = thread.join() else { bail!("a serving thread panicked") };
        result?;
    }
    Ok(())
}

fn listen(
    address: SocketAddr,
    runtime: &tokio::runtime::Runtime,
    shared: bool,
) -> Result<TcpListener> {
    let _entered = runtime.enter();
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(shared)?;
    socket.bind(address).with_context(|| format!("bind {address}"))?;
    Ok(socket.listen(BACKLOG)?)
}

async fn accept<A: Answers>(listener: TcpListener, part: A::Part) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let part = part.clone();
        let service = service_fn(move |request| {
            let part = part.clone();
            async move { Ok::<_, Infallible>(A::answer(part, request).await) }
        });
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            // A client that goes away is no event here.
            connection.await.ok();
        });
    }
}

/// The pool that every forwarding part uses.
pub fn pool() -> Pool {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .pool_timer(TokioTimer::new())
        .build(connector)
}

/// A body that is already whole.
pub fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed()
}
