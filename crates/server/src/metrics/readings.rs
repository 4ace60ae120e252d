//! Figures that others keep and that are read at a scrape.

use prometheus::{
    Gauge, IntCounterVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};

/// Whether a figure only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
}

/// The books of the journal, read under one lock: `accepted = stored +
/// coalesced + lost + in flight` in every scrape.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Books {
    pub accepted: u64,
    pub stored: u64,
    pub synced: u64,
    pub coalesced: u64,
    pub in_flight: u64,
    /// By reason; every reason is always there, so that an alert can be written
    /// before the first loss.
    pub lost: Vec<(&'static str, u64)>,
}

type Read = Box<dyn Fn() -> Vec<MetricFamily> + Send + Sync>;

/// A group of figures that come from one look, so that they agree.
pub struct Reading {
    descriptions: Vec<Desc>,
    read: Read,
}

impl Reading {
    /// One figure without labels.
    pub fn one(
        kind: Kind,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) -> Self {
        Self::many(vec![(kind, name, help)], move || vec![read()])
    }

    /// Several figures from one look, in the order of their names.
    pub fn many(
        names: Vec<(Kind, &'static str, &'static str)>,
        read: impl Fn() -> Vec<f64> + Send + Sync + 'static,
    ) -> Self {
        let descriptions = names.iter().flat_map(|(_, name, help)| describe(name, help, &[]));
        let descriptions = descriptions.collect();
        let read = move || {
            let figures = read();
            names
                .iter()
                .zip(figures)
                .flat_map(|((kind, name, help), figure)| family(*kind, name, help, figure))
                .collect()
        };
        Self { descriptions, read: Box::new(read) }
    }

    /// Counters of one name by one label, whose values are a closed list.
    pub fn labelled(
        name: &'static str,
        help: &'static str,
        label: &'static str,
        read: impl Fn() -> Vec<(&'static str, u64)> + Send + Sync + 'static,
    ) -> Self {
        let descriptions = describe(name, help, &[label]).into_iter().collect();
        let read = move || counters(name, help, label, &read());
        Self { descriptions, read: Box::new(read) }
    }

    /// Gauges of one name by one label, whose values are a closed list.
    pub fn gauges(
        name: &'static str,
        help: &'static str,
        label: &'static str,
        read: impl Fn() -> Vec<(&'static str, u64)> + Send + Sync + 'static,
    ) -> Self {
        let descriptions = describe(name, help, &[label]).into_iter().collect();
        let read = move || {
            let Ok(gauges) = prometheus::GaugeVec::new(Opts::new(name, help), &[label]) else {
                return Vec::new();
            };
            for (value, figure) in read() {
                gauges.with_label_values(&[value]).set(figure as f64);
            }
            gauges.collect()
        };
        Self { descriptions, read: Box::new(read) }
    }

    /// Audit entries: how many were written, by action and result, and how many
    /// wait to be sequenced.
    pub fn entries(
        read: impl Fn() -> (Vec<(&'static str, &'static str, u64)>, u64) + Send + Sync + 'static,
    ) -> Self {
        const WRITTEN: (&str, &str) =
            ("llm_proxy_audit_entries_total", "Audit entries committed by this process.");
        const PENDING: (&str, &str) =
            ("llm_proxy_audit_pending", "Audit entries that wait to be sequenced.");
        let labels = ["action", "result"];
        let mut descriptions: Vec<Desc> =
            describe(WRITTEN.0, WRITTEN.1, &labels).into_iter().collect();
        descriptions.extend(describe(PENDING.0, PENDING.1, &[]));
        let read = move || {
            let (written, pending) = read();
            let mut families = family(Kind::Gauge, PENDING.0, PENDING.1, pending as f64);
            if let Ok(counters) = IntCounterVec::new(Opts::new(WRITTEN.0, WRITTEN.1), &labels) {
                for (action, result, count) in written {
                    counters.with_label_values(&[action, result]).inc_by(count);
                }
                families.extend(counters.collect());
            }
            families
        };
        Self { descriptions, read: Box::new(read) }
    }

    /// The books of the journal.
    pub fn books(read: impl Fn() -> Books + Send + Sync + 'static) -> Self {
        const NAMES: [(Kind, &str, &str); 5] = [
            (Kind::Counter, "llm_proxy_records_accepted_total", "Records that room was taken for."),
            (Kind::Counter, "llm_proxy_records_stored_total", "Records covered by a commit line."),
            (Kind::Counter, "llm_proxy_records_synced_total", "Stored records that are synced."),
            (
                Kind::Counter,
                "llm_proxy_records_coalesced_total",
                "Refusals counted in a record for many.",
            ),
            (Kind::Gauge, "llm_proxy_records_in_flight", "Records accepted and not yet stored."),
        ];
        const LOST: (&str, &str) =
            ("llm_proxy_records_lost_total", "Records that could not be stored.");
        let mut descriptions: Vec<Desc> =
            NAMES.iter().flat_map(|(_, name, help)| describe(name, help, &[])).collect();
        descriptions.extend(describe(LOST.0, LOST.1, &["reason"]));
        let read = move || {
            let books = read();
            let figures =
                [books.accepted, books.stored, books.synced, books.coalesced, books.in_flight];
            let mut families: Vec<MetricFamily> = NAMES
                .iter()
                .zip(figures)
                .flat_map(|((kind, name, help), figure)| family(*kind, name, help, figure as f64))
                .collect();
            families.extend(counters(LOST.0, LOST.1, "reason", &books.lost));
            families
        };
        Self { descriptions, read: Box::new(read) }
    }
}

impl Collector for Reading {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        (self.read)()
    }
}

fn describe(name: &str, help: &str, labels: &[&str]) -> Option<Desc> {
    let labels = labels.iter().map(|label| (*label).to_owned()).collect();
    Desc::new(name.to_owned(), help.to_owned(), labels, std::collections::HashMap::new()).ok()
}

fn family(kind: Kind, name: &str, help: &str, figure: f64) -> Vec<MetricFamily> {
    match kind {
        Kind::Gauge => Gauge::new(name, help).map_or_else(
            |_| Vec::new(),
            |gauge| {
                gauge.set(figure);
                gauge.collect()
            },
        ),
        Kind::Counter => prometheus::Counter::new(name, help).map_or_else(
            |_| Vec::new(),
            |counter| {
                // A counter refuses to shrink, and a figure below zero is none.
                counter.inc_by(figure.max(0.0));
                counter.collect()
            },
        ),
    }
}

fn counters(
    name: &str,
    help: &str,
    label: &'static str,
    figures: &[(&'static str, u64)],
) -> Vec<MetricFamily> {
    let Ok(counters) = IntCounterVec::new(Opts::new(name, help), &[label]) else {
        return Vec::new();
    };
    for (value, figure) in figures {
        counters.with_label_values(&[*value]).inc_by(*figure);
    }
    counters.collect()
}
