//! Where finished lines go.

use std::{
    fmt,
    io::Write,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    time::Duration,
};

use crate::delivery::pretty;

/// Lines that wait for a slow terminal or pipe at most.
const FALLBACK_LINES_MAX: usize = 4096;

/// What became of a line.
#[derive(Debug)]
pub enum Taken {
    Yes,
    /// There is no room now: the line is dropped.
    Full,
    /// There will be no room: the line goes elsewhere.
    Failed(Vec<u8>),
}

/// Takes finished lines (one JSON object, no newline) and never waits.
pub trait Sink: Send + Sync {
    fn take(&self, line: Vec<u8>) -> Taken;
}

/// Writes lines from a thread of its own while there is no journal.
pub struct Fallback(SyncSender<Item>);

enum Item {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

impl fmt::Debug for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fallback")
    }
}

impl Fallback {
    /// Begins the thread. `style` is `None` for plain JSON lines.
    pub fn begin(
        out: impl Write + Send + 'static,
        style: Option<pretty::Style>,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(FALLBACK_LINES_MAX);
        std::thread::Builder::new()
            .name("trace-fallback".to_owned())
            .spawn(move || write_all(receiver, out, style))?;
        Ok(Self(sender))
    }

    pub(super) fn take(&self, line: Vec<u8>) -> bool {
        self.0.try_send(Item::Line(line)).is_ok()
    }

    /// Waits until all lines before are written, at most so long.
    pub(super) fn flush(&self, timeout: Duration) -> bool {
        let (done, told) = sync_channel(1);
        if self.0.try_send(Item::Flush(done)).is_err() {
            return false;
        }
        !matches!(told.recv_timeout(timeout), Err(RecvTimeoutError::Timeout))
    }
}

fn write_all(receiver: Receiver<Item>, mut out: impl Write, style: Option<pretty::Style>) {
    let mut buffer = Vec::new();
    for item in receiver {
        match item {
            Item::Line(line) => {
                buffer.clear();
                match style {
                    Some(style) => pretty::write(&mut buffer, &line, style),
                    None => {
                        buffer.extend_from_slice(&line);
                        buffer.push(b'\n');
                    }
                }
                // Nobody can be told that the last resort is broken.
                drop(out.write_all(&buffer).and_then(|()| out.flush()));
            }
            Item::Flush(done) => {
                let _told = done.try_send(());
            }
        }
    }
}
