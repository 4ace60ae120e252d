//! One target, one round: every figure of the table, from the outside.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, bail};
use serde::Serialize;

use super::{
    load::{Shot, closed_loop, fixed_rate},
    process::{CpuTime, resident_bytes, settle},
    scenario::{self, Kind},
};

const CONNECTIONS: usize = 64;
const RATE_PER_SECOND: u32 = 200;
const PACED_STREAMS: usize = 32;
const MEMORY_STREAMS: usize = 64;
/// Before each measured phase: pools are filled, caches warm.
const WARM_UP: Duration = Duration::from_millis(300);
const MEMORY_INTERVAL: Duration = Duration::from_millis(50);
/// Requests that [`Target::probe`] sends.
pub const PROBES: u64 = 2;

/// Which figures of a target are wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Phases {
    All,
    /// Processor time only: the product without its records.
    Cpu,
}

/// Something that requests can be sent to.
pub struct Target {
    pub name: String,
    pub address: SocketAddr,
    pub prefix: String,
    pub token: String,
    /// None for the provider itself, whose latency is subtracted from others'.
    pub pid: Option<u32>,
    pub phases: Phases,
}

/// Body lengths of whole answers, as the provider gives them.
pub struct Expected {
    plain: u64,
    stream: u64,
}

/// The figures of one target in one round. Absent: not measured.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sample {
    pub target: String,
    pub round: u32,
    pub sent: u64,
    pub requests_per_second: Option<f64>,
    pub cpu_us_per_request: Option<f64>,
    pub cpu_us_per_stream: Option<f64>,
    pub streams_per_second: Option<f64>,
    /// Of the whole round.
    pub sealing_cpu_us: f64,
    pub idle_bytes: Option<u64>,
    pub stream_bytes: Option<u64>,
    pub latency_us: Vec<u32>,
    pub first_chunk_us: Vec<u32>,
}

/// What a closed loop cost the target.
struct Cost {
    answers: u64,
    per_second: f64,
    cpu_us_each: Option<f64>,
    first_byte_us: Vec<u32>,
}

impl Target {
    pub fn direct(address: SocketAddr) -> Self {
        Self {
            name: "direct".to_owned(),
            address,
            prefix: String::new(),
            token: scenario::LINE_TOKEN.to_owned(),
            pid: None,
            phases: Phases::All,
        }
    }

    pub fn resident_bytes(&self) -> Result<Option<u64>> {
        self.pid.map(resident_bytes).transpose()
    }

    fn shot(&self, kind: Kind, expected: Option<u64>) -> Shot {
        let shot = scenario::shot(kind, self.address, &self.prefix, &self.token);
        Shot { body_bytes: expected, ..shot }
    }

    /// Asks the provider itself how long its answers are.
    pub fn expected(&self) -> Result<Expected> {
        let plain = self.shot(Kind::Plain, None).probe()?;
        Ok(Expected { plain, stream: self.shot(Kind::Stream, None).probe()? })
    }

    /// Sends [`PROBES`] requests and compares their answers with the provider's.
    pub fn probe(&self, expected: &Expected) -> Result<()> {
        let seen = self.expected()?;
        if (seen.plain, seen.stream) != (expected.plain, expected.stream) {
            bail!(
                "answers of {} and {} bytes, but the provider sends {} and {}",
                seen.plain,
                seen.stream,
                expected.plain,
                expected.stream
            );
        }
        Ok(())
    }

    /// One round.
    pub fn measure(&self, round: u32, expected: &Expected, time: Duration) -> Result<Sample> {
        let mut sample = Sample { target: self.name.clone(), round, ..Sample::default() };
        let begun = self.pid.map(CpuTime::of).transpose()?;
        let plain = self.shot(Kind::Plain, Some(expected.plain));
        let cost = self.cost(&plain, CONNECTIONS, time, &mut sample.sent)?;
        sample.requests_per_second = Some(cost.per_second);
        sample.cpu_us_per_request = cost.cpu_us_each;
        if self.phases == Phases::Cpu {
            self.settle()?;
            return Ok(sample);
        }
        self.settle()?;
        sample.latency_us = fixed_rate(&plain, RATE_PER_SECOND, time)?;
        sample.sent += sample.latency_us.len() as u64;
        let stream = self.shot(Kind::Stream, Some(expected.stream));
        let cost = self.cost(&stream, CONNECTIONS, time, &mut sample.sent)?;
        sample.streams_per_second = Some(cost.per_second);
        sample.cpu_us_per_stream = cost.cpu_us_each;
        self.settle()?;
        let paced = self.shot(Kind::Paced, Some(expected.stream));
        let cost = self.cost(&paced, PACED_STREAMS, time, &mut sample.sent)?;
        sample.first_chunk_us = cost.first_byte_us;
        if let Some(pid) = self.pid {
            settle(pid)?;
            let (peak, sent) = peak_memory(pid, &paced)?;
            sample.stream_bytes = Some(peak);
            sample.sent += sent;
        }
        // The next target has the machine to itself.
        self.settle()?;
        let ended = self.pid.map(CpuTime::of).transpose()?;
        if let Some((begun, ended)) = begun.zip(ended) {
            sample.sealing_cpu_us = ended.sealing_micros_since(begun);
        }
        Ok(sample)
    }

    fn settle(&self) -> Result<()> {
        self.pid.map_or(Ok(()), settle)
    }

    fn cost(&self, shot: &Shot, count: usize, time: Duration, sent: &mut u64) -> Result<Cost> {
        *sent += closed_loop(shot, count, WARM_UP)?.answers;
        let before = self.pid.map(CpuTime::of).transpose()?;
        let seen = closed_loop(shot, count, time)?;
        let after = self.pid.map(CpuTime::of).transpose()?;
        *sent += seen.answers;
        let cpu_us = after.zip(before).map(|(after, before)| after.micros_since(before));
        Ok(Cost {
            answers: seen.answers,
            per_second: seen.answers as f64 / seen.elapsed.as_secs_f64(),
            cpu_us_each: cpu_us.map(|cpu_us| cpu_us / seen.answers.max(1) as f64),
            first_byte_us: seen.first_byte_us,
        })
        .and_then(|cost| if cost.answers == 0 { bail!("no answer in time") } else { Ok(cost) })
    }
}

/// The most memory that was resident while streams ran, and how many ran.
fn peak_memory(pid: u32, paced: &Shot) -> Result<(u64, u64)> {
    let ended = Arc::new(AtomicBool::new(false));
    let watched = Arc::clone(&ended);
    let watcher = std::thread::spawn(move || {
        let mut peak = 0;
        while !watched.load(Ordering::Relaxed) {
            peak = peak.max(resident_bytes(pid).unwrap_or(0));
            std::thread::sleep(MEMORY_INTERVAL);
        }
        peak
    });
    let seen = closed_loop(paced, MEMORY_STREAMS, Duration::from_millis(700));
    ended.store(true, Ordering::Relaxed);
    let Ok(peak) = watcher.join() else { bail!("the memory watcher panicked") };
    Ok((peak, seen?.answers))
}
