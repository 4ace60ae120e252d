//! What Prometheus sees (CONTRACT §10).
//!
//! Owns every metric's name and labels. Promises bounded labels (models past a
//! limit fold into `other`) and that requests pay nothing: records are counted
//! from the journal's thread after they were appended, everything else is read
//! when somebody scrapes. Must never count what a record says twice.

mod json;
mod readings;
mod recent;

use std::collections::HashSet;

use domain::{
    capture::{Captured, Fate, Side},
    record::Record,
};
use parking_lot::Mutex;
use prometheus::{
    Encoder as _, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder,
    core::Collector,
};

pub use readings::{Books, Kind, Reading};
use recent::Children;

/// Models with a label of their own; the rest is `other`.
const MODELS_MAX: usize = 200;
/// A longer name of a model is nobody's model.
const MODEL_LABEL_BYTES_MAX: usize = 64;
const OTHER: &str = "other";
const NONE: &str = "none";

const DURATION_BUCKETS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
];
const TTFT_BUCKETS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
const OVERHEAD_BUCKETS: &[f64] = &[
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.05,
    0.25, 1.0,
];

/// A metric cannot be registered: its name is taken or not legal.
#[derive(Debug, thiserror::Error)]
#[error("register a metric")]
pub struct MetricsError(#[from] prometheus::Error);

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    overheads: HistogramVec,
    ttfts: HistogramVec,
    tokens: IntCounterVec,
    bodies_captured: IntCounterVec,
    bodies_dropped: IntCounterVec,
    models: Mutex<HashSet<Box<str>>>,
    recent: Mutex<Option<Children>>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    pub fn new(version: &'static str, instance: &str) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let requests = registered(
            &registry,
            IntCounterVec::new(
                Opts::new("llm_proxy_requests_total", "Requests with a stored record."),
                &["provider", "operation", "outcome", "status_class"],
            ),
        )?;
        let histogram = |name: &str, help: &str, buckets: &[f64], labels: &[&str]| {
            let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            registered(&registry, HistogramVec::new(options, labels))
        };
        let durations = histogram(
            "llm_proxy_request_duration_seconds",
            "From the head of the request to the end of the answer.",
            DURATION_BUCKETS,
            &["provider", "operation"],
        )?;
        let overheads = histogram(
            "llm_proxy_overhead_seconds",
            "Our own time until the head of the answer.",
            OVERHEAD_BUCKETS,
            &["provider"],
        )?;
        let ttfts = histogram(
            "llm_proxy_ttft_seconds",
            "From the head of the request to the first generated token.",
            TTFT_BUCKETS,
            &["provider", "operation"],
        )?;
        let tokens = registered(
            &registry,
            IntCounterVec::new(
                Opts::new("llm_proxy_tokens_total", "Tokens by direction."),
                &["provider", "model", "direction"],
            ),
        )?;
        let bodies = |name: &str, help: &str, labels: &[&str]| {
            registered(&registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let bodies_captured =
            bodies("llm_proxy_bodies_captured_total", "Bodies kept beside records.", &["side"])?;
        let bodies_dropped = bodies(
            "llm_proxy_bodies_dropped_total",
            "Bodies that were to be kept and are not.",
            &["side", "reason"],
        )?;
        let build = registered(
            &registry,
            prometheus::IntGaugeVec::new(
                Opts::new("llm_proxy_build_info", "Always 1; the labels say what runs."),
                &["version", "instance"],
            ),
        )?;
        build.with_label_values(&[version, instance]).set(1);
        let models = Mutex::default();
        Ok(Self {
            registry,
            requests,
            durations,
            overheads,
            ttfts,
            tokens,
            bodies_captured,
            bodies_dropped,
            models,
            recent: Mutex::default(),
        })
    }

    /// Adds something that is read at each scrape.
    pub fn read(&self, reading: Reading) -> Result<(), MetricsError> {
        Ok(self.registry.register(Box::new(reading))?)
    }

    /// Counts a stored record. A coalesced one stands for many requests, of
    /// which no single time is known.
    pub fn observe(&self, record: &Record) {
        let mut recent = self.recent.lock();
        let children = Children::of(self, &mut recent, record);
        children.requests.inc_by(record.coalesced.map_or(1, |coalesced| coalesced.count));
        children.observe_times(self, record);
        children.count_tokens(self, record);
        self.count_bodies(record.captured);
    }

    fn count_bodies(&self, captured: Captured) {
        let sides = [(Side::Request, captured.request), (Side::Response, captured.response)];
        for (side, fate) in sides {
            let side = side.as_str();
            match fate {
                Fate::None => {}
                Fate::Kept { .. } => self.bodies_captured.with_label_values(&[side]).inc(),
                Fate::Omitted(why) => {
                    self.bodies_dropped.with_label_values(&[side, why.as_str()]).inc();
                }
            }
        }
    }

    fn model_label<'m>(&self, model: &'m str) -> &'m str {
        if model.len() > MODEL_LABEL_BYTES_MAX {
            return OTHER;
        }
        let mut models = self.models.lock();
        if models.contains(model) {
            return model;
        }
        if models.len() >= MODELS_MAX {
            return OTHER;
        }
        models.insert(model.into());
        model
    }

    /// The Prometheus text format, version 0.0.4.
    pub fn text(&self) -> Result<String, MetricsError> {
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    /// The same figures as JSON.
    pub fn json(&self) -> serde_json::Value {
        json::of(&self.registry.gather())
    }
}

/// The media type of [`Metrics::text`].
pub const TEXT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: prometheus::Result<C>,
) -> Result<C, MetricsError> {
    let collector = collector?;
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

fn status_class(status: Option<u16>) -> &'static str {
    match status.map(|status| status / 100) {
        Some(1) => "1xx",
        Some(2) => "2xx",
        Some(3) => "3xx",
        Some(4) => "4xx",
        Some(5) => "5xx",
        _ => NONE,
    }
}

#[cfg(test)]
mod tests;
