//! The line that tells how far a long search is: on a terminal only, and gone
//! before anything else is printed.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use logstore::engine::Progress;
use parking_lot::{Mutex, MutexGuard};

/// A search that takes less needs no line.
const PATIENCE: Duration = Duration::from_millis(500);
const INTERVAL: Duration = Duration::from_millis(100);
const CLEAR: &[u8] = b"\r\x1b[K";

/// Draws on a terminal, whichever thread tells the progress.
pub(super) struct Meter(Mutex<State>);

struct State {
    terminal: Box<dyn Write + Send>,
    began: Instant,
    drawn: Option<Instant>,
    /// The line stands on the terminal now.
    visible: bool,
}

impl Meter {
    pub fn new(terminal: Box<dyn Write + Send>) -> Self {
        let began = Instant::now();
        Self(Mutex::new(State { terminal, began, drawn: None, visible: false }))
    }

    /// Takes a reading; never keeps the reader waiting.
    pub fn see(&self, progress: &Progress) {
        let Some(mut state) = self.0.try_lock() else { return };
        let elapsed = state.began.elapsed();
        let is_time = state.drawn.is_none_or(|drawn| drawn.elapsed() >= INTERVAL);
        if elapsed < PATIENCE || !is_time {
            return;
        }
        state.drawn = Some(Instant::now());
        let line = line(progress, elapsed);
        // A terminal that is gone shows no progress.
        let drawn = state.terminal.write_all(CLEAR);
        let drawn = drawn.and_then(|()| state.terminal.write_all(line.as_bytes()));
        state.visible = drawn.and_then(|()| state.terminal.flush()).is_ok();
    }

    /// Takes the line away and keeps it away while the guard lives.
    pub fn quiet(&self) -> impl Sized + use<'_> {
        let mut state = self.0.lock();
        if state.visible {
            let cleared = state.terminal.write_all(CLEAR);
            state.visible = cleared.and_then(|()| state.terminal.flush()).is_err();
        }
        Quiet { _state: state }
    }
}

struct Quiet<'m> {
    _state: MutexGuard<'m, State>,
}

fn line(progress: &Progress, elapsed: Duration) -> String {
    let Progress { files_total, files_done, rows_total, rows_scanned, .. } = *progress;
    let seconds = elapsed.as_secs_f64().max(0.001);
    let rate = rows_scanned as f64 / seconds;
    let left = rows_total.saturating_sub(rows_scanned) as f64 / rate.max(1.0);
    let time = match left {
        _ if rows_scanned == 0 => String::new(),
        left if left < 90.0 => format!(", {} s left", left.ceil()),
        left => format!(", {} min left", (left / 60.0).ceil()),
    };
    format!(
        "{files_done} of {files_total} files, {} of {} rows, {} rows/s{time}",
        short(rows_scanned as f64),
        short(rows_total as f64),
        short(rate),
    )
}

/// `950`, `12.3 k`, `4.5 M`.
fn short(number: f64) -> String {
    match number {
        n if n < 10_000.0 => format!("{n:.0}"),
        n if n < 1e6 => format!("{:.1} k", n / 1e3),
        n if n < 1e9 => format!("{:.1} M", n / 1e6),
        n => format!("{:.1} G", n / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_line_tells_and_goes() {
        let progress = Progress {
            files_total: 58,
            files_done: 12,
            rows_total: 5_000_000,
            rows_scanned: 3_400_000,
            bytes_read: 1,
        };
        assert_eq!(
            line(&progress, Duration::from_secs(2)),
            "12 of 58 files, 3.4 M of 5.0 M rows, 1.7 M rows/s, 1 s left",
        );
        let screen = Screen::default();
        let meter = Meter::new(Box::new(screen.clone()));
        meter.see(&progress);
        assert!(screen.0.lock().is_empty(), "a short search draws nothing");
        meter.0.lock().began = Instant::now().checked_sub(PATIENCE).expect("after the start");
        meter.see(&progress);
        assert!(screen.0.lock().ends_with(b" s left"));
        drop(meter.quiet());
        assert!(screen.0.lock().ends_with(CLEAR));
    }
}
