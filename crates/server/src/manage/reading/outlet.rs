//! An answer that leaves while it is found: a bounded pipe from the thread that
//! searches to the connection that sends.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use bytes::Bytes;
use tokio::{runtime::Handle, sync::mpsc};

use super::Gone;
use crate::manage::error::{Error, Result};

/// Pieces between the thread and the connection.
const PIECES_MAX: usize = 4;
const PIECE_BYTES: usize = 64 * 1024;
/// A client that takes no piece for so long has gone, or is too slow to wait for.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an answer waits for its first piece before its head is sent.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);

/// The reading end. Dropping it stops the work behind it.
#[derive(Debug)]
pub struct Pieces {
    pub first: Option<Bytes>,
    pub rest: mpsc::Receiver<Result<Bytes>>,
    _gone: Gone,
}

/// The writing end, on a blocking thread.
pub(super) struct Outlet {
    sender: mpsc::Sender<Result<Bytes>>,
    runtime: Handle,
    piece: Vec<u8>,
}

/// Begins `work` on a thread of its own; what fails before the first piece is
/// the answer's error. `gone` is what the work's question listens to.
pub(super) async fn begin(
    gone: Gone,
    work: impl FnOnce(&mut Outlet) -> Result<()> + Send + 'static,
) -> Result<Pieces> {
    let (sender, mut rest) = mpsc::channel(PIECES_MAX);
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || {
        let mut outlet = Outlet { sender, runtime, piece: Vec::new() };
        let worked = work(&mut outlet).and_then(|()| outlet.flush().map_err(broken));
        if let Err(error) = worked {
            // Whoever went away need not be told.
            outlet.send(Err(error)).unwrap_or_default();
        }
    });
    let first = match tokio::time::timeout(HEAD_TIMEOUT, rest.recv()).await {
        Ok(Some(Err(error))) => return Err(error),
        Ok(Some(Ok(first))) => Some(first),
        Ok(None) | Err(_) => None,
    };
    Ok(Pieces { first, rest, _gone: gone })
}

pub(super) fn broken(error: io::Error) -> Error {
    Error::new(crate::manage::error::Kind::TimedOut, "the answer was not taken").with_source(error)
}

impl Outlet {
    fn send(&mut self, piece: Result<Bytes>) -> io::Result<()> {
        let sent = tokio::time::timeout(SEND_TIMEOUT, self.sender.send(piece));
        match self.runtime.block_on(sent) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl io::Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.piece);
        self.send(Ok(piece.into()))
    }
}
