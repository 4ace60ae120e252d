//! The answers of a proxy as bytes: just enough HTTP/1.1 to know where one ends.
//!
//! The generator shares two cores with what it measures, so it sends prepared
//! bytes and reads answers with this instead of a whole client library.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// No answer of ours has a longer head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const READ_BUFFER_BYTES: usize = 64 * 1024;
const BLOCKING_TIMEOUT: Duration = Duration::from_secs(30);

/// One answer while it arrives.
#[derive(Debug, Default)]
pub struct Answer {
    head: Vec<u8>,
    state: State,
    pub status: u16,
    pub body_bytes: u64,
    /// Kept only where asked: the management calls want to read it.
    pub body: Option<Vec<u8>>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum State {
    #[default]
    Head,
    Length(u64),
    ChunkSize(u64),
    Chunk(u64),
    /// The line end after a chunk's data: one or two bytes to go.
    ChunkEnd(u8),
    /// After the last chunk: how many bytes of the current trailer line are in.
    Trailer(u32),
    Done,
}

impl Answer {
    /// An answer whose body is kept.
    pub fn keeping_body() -> Self {
        Self { body: Some(Vec::new()), ..Self::default() }
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes the next bytes of the connection.
    pub fn feed(&mut self, mut input: &[u8]) -> Result<()> {
        while !input.is_empty() {
            let taken = match self.state {
                State::Head => self.head(input)?,
                State::Length(left) | State::Chunk(left) => self.body(input, left),
                State::ChunkSize(size) => self.chunk_size(input[0], size)?,
                State::ChunkEnd(left) => {
                    self.state =
                        if left > 1 { State::ChunkEnd(left - 1) } else { State::ChunkSize(0) };
                    1
                }
                State::Trailer(line) => self.trailer(input[0], line),
                State::Done => bail!("{} bytes after the end of an answer", input.len()),
            };
            input = &input[taken..];
        }
        Ok(())
    }

    fn head(&mut self, input: &[u8]) -> Result<usize> {
        let before = self.head.len();
        self.head.extend_from_slice(input);
        let from = before.saturating_sub(3);
        let Some(end) = self.head[from..].windows(4).position(|w| w == b"\r\n\r\n") else {
            if self.head.len() > HEAD_BYTES_MAX {
                bail!("the head of an answer is longer than {HEAD_BYTES_MAX} bytes");
            }
            return Ok(input.len());
        };
        let end = from + end + 4;
        self.head.truncate(end);
        self.read_head()?;
        Ok(end - before)
    }

    fn read_head(&mut self) -> Result<()> {
        let text = std::str::from_utf8(&self.head).context("the head of an answer")?;
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        self.status =
            status.and_then(|status| status.parse().ok()).context("an answer without status")?;
        let mut framing = None;
        for line in lines {
            let Some((name, value)) = line.split_once(':') else { continue };
            if name.eq_ignore_ascii_case("content-length") {
                framing = Some(State::Length(value.trim().parse().context("content-length")?));
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                framing = Some(State::ChunkSize(0));
            }
        }
        self.state = match framing {
            _ if self.status == 204 => State::Done,
            Some(State::Length(0)) => State::Done,
            Some(state) => state,
            None => bail!("an answer that ends with its connection"),
        };
        Ok(())
    }

    fn body(&mut self, input: &[u8], left: u64) -> usize {
        let taken = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.body_bytes += taken as u64;
        if let Some(body) = &mut self.body {
            body.extend_from_slice(&input[..taken]);
        }
        let left = left - taken as u64;
        self.state = match self.state {
            State::Chunk(_) if left == 0 => State::ChunkEnd(2),
            State::Chunk(_) => State::Chunk(left),
            _ if left == 0 => State::Done,
            _ => State::Length(left),
        };
        taken
    }

    fn chunk_size(&mut self, byte: u8, size: u64) -> Result<usize> {
        self.state = match byte {
            b'\r' => State::ChunkSize(size),
            b'\n' if size == 0 => State::Trailer(0),
            b'\n' => State::Chunk(size),
            _ => match char::from(byte).to_digit(16) {
                Some(digit) if size < 1 << 40 => State::ChunkSize(size * 16 + u64::from(digit)),
                _ => bail!("a bad chunk size"),
            },
        };
        Ok(1)
    }

    fn trailer(&mut self, byte: u8, line: u32) -> usize {
        self.state = match byte {
            b'\r' => State::Trailer(line),
            b'\n' if line == 0 => State::Done,
            b'\n' => State::Trailer(0),
            _ => State::Trailer(line.saturating_add(1)),
        };
        1
    }
}

/// A connection that a thread waits on: for exact send times and for the few
/// management calls.
pub struct Blocking {
    stream: TcpStream,
    buffer: Box<[u8]>,
}

impl Blocking {
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, BLOCKING_TIMEOUT)
            .with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(BLOCKING_TIMEOUT))?;
        Ok(Self { stream, buffer: vec![0; READ_BUFFER_BYTES].into() })
    }

    /// Sends a request and waits for the whole answer.
    pub fn exchange(&mut self, request: &[u8], mut answer: Answer) -> Result<Answer> {
        self.stream.write_all(request)?;
        while !answer.is_done() {
            match self.stream.read(&mut self.buffer) {
                Ok(0) => bail!("the connection closed before the end of an answer"),
                Ok(count) => answer.feed(&self.buffer[..count])?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(answer)
    }
}

/// Waits until somebody accepts connections there.
pub fn wait_for(address: SocketAddr, limit: Duration) -> Result<()> {
    let start = Instant::now();
    loop {
        match TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            Ok(_) => return Ok(()),
            Err(error) if start.elapsed() > limit => {
                return Err(error).with_context(|| format!("nobody listens on {address}"));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], body: &[u8]) {
        for step in [1, 2, 3, 7, bytes.len()] {
            let mut answer = Answer::keeping_body();
            for part in bytes.chunks(step) {
                assert!(!answer.is_done());
                answer.feed(part).expect("well formed");
            }
            assert!(answer.is_done(), "steps of {step}");
            assert_eq!(answer.status, 200);
            assert_eq!(answer.body.as_deref(), Some(body));
            assert_eq!(answer.body_bytes, body.len() as u64);
        }
    }

    #[test]
    fn answers_end_where_they_say() {
        check(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nx: y\r\n\r\nhello", b"hello");
        check(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"");
        check(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nB\r\n, world and\r\n0\r\n\r\n",
            b"hello, world and",
        );
        check(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nt: v\r\n\r\n",
            b"a",
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for bytes in [
            b"HTTP/1.1 200 OK\r\n\r\n".as_slice(),
            b"HTTP/1.1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
        ] {
            assert!(Answer::default().feed(bytes).is_err());
        }
    }
}
