//! A client's connection that gives up on a client who gives nothing.
//!
//! Owns the two waits that HTTP itself has no clock for: for the first bytes,
//! before it is known which version is spoken, and for a client that takes no
//! more bytes of its answer (whose request would otherwise be held for ever,
//! since nobody asks for the next frame). Must never set a timer for a
//! connection on which bytes move.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

/// How long a client may take nothing of what is ready for it.
const WRITE_STALL_MAX: Duration = Duration::from_secs(120);
/// What an HTTP/2 client begins with: only as long as the bytes agree with it
/// is the version open.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub struct Stalling<S> {
    stream: S,
    /// Rings when the version is still open; gone once it is decided.
    first: Option<Pin<Box<Sleep>>>,
    matched: usize,
    write: Option<Pin<Box<Sleep>>>,
    write_max: Duration,
}

impl<S> Stalling<S> {
    pub fn new(stream: S, first_bytes: Duration) -> Self {
        let first = Some(Box::pin(tokio::time::sleep(first_bytes)));
        Self { stream, first, matched: 0, write: None, write_max: WRITE_STALL_MAX }
    }

    fn note_read(&mut self, bytes: &[u8]) {
        let agrees = PREFACE[self.matched..].starts_with(bytes);
        self.matched += if agrees { bytes.len() } else { 0 };
        if !agrees || self.matched == PREFACE.len() {
            self.first = None;
        }
    }

    /// Lets a write pass; one that waits is given its time.
    fn check_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write = None;
            return written;
        }
        let max = self.write_max;
        let alarm = self.write.get_or_insert_with(|| Box::pin(tokio::time::sleep(max)));
        alarm.as_mut().poll(cx).map(|()| Err(late("the client takes no more bytes")))
    }
}

fn late(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, message)
}

impl<S: AsyncRead + Unpin> AsyncRead for Stalling<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if self.first.is_none() {
            return read;
        }
        if read.is_ready() {
            self.note_read(&buffer.filled()[before..]);
            return read;
        }
        let alarm = self.first.as_mut().map(|alarm| alarm.as_mut().poll(cx));
        match alarm {
            Some(Poll::Ready(())) => Poll::Ready(Err(late("the client said nothing"))),
            _ => Poll::Pending,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stalling<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.check_write(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.check_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.check_write(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.check_write(cx, shut)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const FIRST: Duration = Duration::from_millis(60);

    fn impatient(stream: tokio::io::DuplexStream) -> Stalling<tokio::io::DuplexStream> {
        Stalling { write_max: FIRST, ..Stalling::new(stream, FIRST) }
    }

    #[tokio::test]
    async fn silence_at_the_beginning_ends_a_connection() {
        for prefix in ["", "P", "PRI * HTTP/2.0\r\n"] {
            let (mut client, server) = tokio::io::duplex(64);
            client.write_all(prefix.as_bytes()).await.expect("room");
            let mut server = impatient(server);
            let error = server.read_exact(&mut [0; 24]).await.expect_err("late");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{prefix}");
        }
    }

    #[tokio::test]
    async fn a_decided_version_is_left_to_http() {
        for start in ["GET", "PO", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            let (mut client, server) = tokio::io::duplex(64);
            let mut server = impatient(server);
            client.write_all(start.as_bytes()).await.expect("room");
            server.read_exact(&mut vec![0; start.len()]).await.expect("read");
            let mut byte = [0; 1];
            let later = tokio::time::timeout(FIRST * 2, server.read_exact(&mut byte));
            assert!(later.await.is_err(), "{start}: still waiting");
        }
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_given_up() {
        let (client, server) = tokio::io::duplex(64);
        let mut server = impatient(server);
        let error = server.write_all(&[0; 1000]).await.expect_err("stalled");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(client);
    }
}
