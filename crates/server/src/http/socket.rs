//! The admin socket: the same routes for people on this machine, who are known
//! by their user id instead of a key.
//!
//! Owns `DATA_DIR/run/admin.sock`. Promises that only the user who runs the
//! server (and root) is served: the file is 0600 in a directory of 0700, and
//! the kernel names each peer. Must never be reachable over a network.

use std::{
    io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Management, Origin};

/// Connections served at once; local tools need a few.
const CONNECTIONS_MAX: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// After an error of the listener (descriptors used up), before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the socket of a data directory is.
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("run").join("admin.sock")
}

/// A bound socket. The file goes when this is dropped.
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl AdminSocket {
    /// Call with the lock of the data directory held: a file that is already
    /// there then belongs to a process that is gone.
    pub fn bind(data_dir: &Path) -> io::Result<Self> {
        let path = path(data_dir);
        if let Some(run) = path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(run)?;
            std::fs::set_permissions(run, std::fs::Permissions::from_mode(0o700))?;
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Serves until told to stop; requests at work finish on `tasks`.
    pub async fn serve(
        self,
        management: Arc<Management>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) {
        let slots = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the admin socket cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (management, stop) = (Arc::clone(&management), stop.clone());
            tasks.spawn(async move {
                serve_peer(stream, management, stop).await;
                drop(slot);
            });
        }
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "the admin socket's file was gone already");
        }
    }
}

async fn serve_peer(stream: UnixStream, management: Arc<Management>, stop: CancellationToken) {
    let uid = match stream.peer_cred() {
        Ok(peer) => peer.uid(),
        Err(error) => {
            tracing::warn!(%error, "the peer of the admin socket is not known; refused");
            return;
        }
    };
    let own = rustix::process::geteuid().as_raw();
    if uid != own && uid != 0 {
        tracing::warn!(uid, "a peer of the admin socket is another user; refused");
        return;
    }
    let service = service_fn(move |request| {
        let management = Arc::clone(&management);
        async move {
            Ok::<_, std::convert::Infallible>(
                management.handle(request, Origin::Local { uid }).await,
            )
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection of the admin socket broke off");
    }
}
