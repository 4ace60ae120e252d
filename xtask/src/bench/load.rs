//! The generator: closed loops on one thread for throughput and streams, exact
//! send times on a few threads for latency.

use std::{
    cell::RefCell,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tokio::{io::AsyncReadExt, io::AsyncWriteExt, net::TcpStream, task::LocalSet};

use super::wire::{Answer, Blocking};

const READ_BUFFER_BYTES: usize = 64 * 1024;
/// Threads of the fixed-rate generator: one answer may take this many intervals
/// before the next request is sent late (and is still timed from its due time).
const PACED_THREADS: u32 = 4;
/// Sleeping ends late by the timer's slack, so the last stretch is spun.
const SPIN: Duration = Duration::from_micros(150);

/// A prepared request and what a whole answer to it looks like.
#[derive(Clone, Debug)]
pub struct Shot {
    pub address: SocketAddr,
    pub request: Vec<u8>,
    /// Bytes of a whole body, when known: anything else fails the run.
    pub body_bytes: Option<u64>,
}

impl Shot {
    /// Sends it once and returns the length of the body.
    pub fn probe(&self) -> Result<u64> {
        let mut connection = Blocking::connect(self.address)?;
        let answer = connection.exchange(&self.request, Answer::keeping_body())?;
        if answer.status != 200 {
            let body = answer.body.unwrap_or_default();
            bail!("status {}: {}", answer.status, String::from_utf8_lossy(&body));
        }
        Ok(answer.body_bytes)
    }

    fn check(&self, answer: &Answer) -> Result<()> {
        if answer.status != 200 {
            bail!("status {} from {}", answer.status, self.address);
        }
        if self.body_bytes.is_some_and(|bytes| bytes != answer.body_bytes) {
            bail!("a body of {} bytes from {}", answer.body_bytes, self.address);
        }
        Ok(())
    }
}

/// What a closed loop saw.
#[derive(Debug, Default)]
pub struct Loop {
    pub answers: u64,
    pub elapsed: Duration,
    /// From sending to the first byte of a body, in microseconds.
    pub first_byte_us: Vec<u32>,
}

/// Keeps `connections` busy for `time`; each finishes the answer that it began,
/// so that what was sent was also answered.
pub fn closed_loop(shot: &Shot, connections: usize, time: Duration) -> Result<Loop> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let seen = Rc::new(RefCell::new(Loop::default()));
    let set = LocalSet::new();
    let start = Instant::now();
    let result = set.block_on(&runtime, async {
        let tasks: Vec<_> = (0..connections)
            .map(|_| tokio::task::spawn_local(one(shot.clone(), start + time, Rc::clone(&seen))))
            .collect();
        for task in tasks {
            task.await.context("a connection of the generator")??;
        }
        Ok(())
    });
    drop(set);
    let mut seen = seen.take();
    seen.elapsed = start.elapsed();
    result.map(|()| seen)
}

async fn one(shot: Shot, end: Instant, seen: Rc<RefCell<Loop>>) -> Result<()> {
    let mut stream = TcpStream::connect(shot.address).await?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    while Instant::now() < end {
        let sent = Instant::now();
        let mut first_byte_us = None;
        stream.write_all(&shot.request).await?;
        let mut answer = Answer::default();
        while !answer.is_done() {
            let count = stream.read(&mut buffer).await?;
            if count == 0 {
                bail!("{} closed before the end of an answer", shot.address);
            }
            answer.feed(&buffer[..count])?;
            if answer.body_bytes > 0 && first_byte_us.is_none() {
                first_byte_us = Some(micros(sent.elapsed()));
            }
        }
        shot.check(&answer)?;
        let mut seen = seen.borrow_mut();
        seen.answers += 1;
        seen.first_byte_us.extend(first_byte_us);
    }
    Ok(())
}

/// Latencies at a fixed rate, each from the time at which its request was due:
/// a stall counts against every request that it delayed.
pub fn fixed_rate(shot: &Shot, per_second: u32, time: Duration) -> Result<Vec<u32>> {
    let interval = Duration::from_secs(1) / per_second;
    let start = Instant::now() + Duration::from_millis(20);
    let threads: Vec<_> = (0..PACED_THREADS)
        .map(|index| {
            let shot = shot.clone();
            let first = start + interval * index;
            std::thread::spawn(move || paced(&shot, first, interval * PACED_THREADS, start + time))
        })
        .collect();
    let mut latencies = Vec::new();
    for thread in threads {
        let Ok(result) = thread.join() else { bail!("a thread of the generator panicked") };
        latencies.extend(result?);
    }
    Ok(latencies)
}

fn paced(shot: &Shot, first: Instant, interval: Duration, end: Instant) -> Result<Vec<u32>> {
    let mut connection = Blocking::connect(shot.address)?;
    let mut latencies = Vec::new();
    let mut due = first;
    while due < end {
        wait_until(due);
        let answer = connection.exchange(&shot.request, Answer::default())?;
        latencies.push(micros(due.elapsed()));
        shot.check(&answer)?;
        due += interval;
    }
    Ok(latencies)
}

fn wait_until(due: Instant) {
    let left = due.saturating_duration_since(Instant::now());
    if left > SPIN {
        std::thread::sleep(left - SPIN);
    }
    while Instant::now() < due {
        std::hint::spin_loop();
    }
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}
