//! The children of the metrics that the last record went to. Most records go
//! where the one before went: looking five children up by their labels costs
//! more than counting in them.

use std::sync::Arc;

use domain::{
    provider::Operation,
    record::{Outcome, Record},
};
use prometheus::{Histogram, IntCounter};

use super::{Metrics, NONE, seconds, status_class};

/// Tokens are counted by these directions.
const DIRECTIONS: usize = 5;

/// What all of a record's labels but its model are made of.
#[derive(Clone, PartialEq, Eq)]
struct Labels {
    provider: Option<Arc<str>>,
    operation: Operation,
    outcome: Outcome,
    status: &'static str,
}

pub(super) struct Children {
    labels: Labels,
    pub(super) requests: IntCounter,
    /// What is not observed must not stand at zero: looked up when needed.
    durations: Option<Histogram>,
    overheads: Option<Histogram>,
    ttfts: Option<Histogram>,
    tokens: Option<ModelTokens>,
}

struct ModelTokens {
    /// As the record names it, which may be longer than its label.
    model: Box<str>,
    directions: [Option<IntCounter>; DIRECTIONS],
}

impl Children {
    /// Those of `record`, kept or looked up.
    pub(super) fn of<'a>(
        metrics: &Metrics,
        kept: &'a mut Option<Self>,
        record: &Record,
    ) -> &'a mut Self {
        let labels = Labels {
            provider: record.provider.clone(),
            operation: record.operation,
            outcome: record.outcome,
            status: status_class(record.status_code),
        };
        match kept {
            Some(children) if children.labels == labels => {}
            _ => *kept = Some(Self::look_up(metrics, labels)),
        }
        kept.as_mut().expect("they were looked up")
    }

    fn look_up(metrics: &Metrics, labels: Labels) -> Self {
        let provider = labels.provider.as_deref().unwrap_or(NONE);
        let operation = labels.operation.as_str();
        let requests = [provider, operation, labels.outcome.as_str(), labels.status];
        Self {
            requests: metrics.requests.with_label_values(&requests),
            durations: None,
            overheads: None,
            ttfts: None,
            tokens: None,
            labels,
        }
    }

    pub(super) fn observe_times(&mut self, metrics: &Metrics, record: &Record) {
        let provider = self.labels.provider.as_deref().unwrap_or(NONE);
        let both = [provider, self.labels.operation.as_str()];
        if record.coalesced.is_none() {
            let child = || metrics.durations.with_label_values(&both);
            self.durations.get_or_insert_with(child).observe(seconds(record.duration_us));
        }
        if let Some(overhead) = record.overhead_us {
            let child = || metrics.overheads.with_label_values(&[provider]);
            self.overheads.get_or_insert_with(child).observe(seconds(overhead));
        }
        if let Some(ttft) = record.ttft_us {
            let child = || metrics.ttfts.with_label_values(&both);
            self.ttfts.get_or_insert_with(child).observe(seconds(ttft));
        }
    }

    pub(super) fn count_tokens(&mut self, metrics: &Metrics, record: &Record) {
        let usage = &record.usage;
        let counts: [(&str, Option<u64>); DIRECTIONS] = [
            ("input", usage.input_tokens),
            ("output", usage.output_tokens),
            ("cached_input", usage.cached_input_tokens),
            ("cache_write", usage.cache_write_tokens),
            ("reasoning", usage.reasoning_tokens),
        ];
        if counts.iter().all(|(_, tokens)| tokens.is_none_or(|tokens| tokens == 0)) {
            return;
        }
        // The provider's name for it: what a client asks for may be anything.
        let named = record.response_model.as_deref().or(record.model.as_deref());
        let named = named.unwrap_or(NONE);
        let is_kept = self.tokens.as_ref().is_some_and(|tokens| &*tokens.model == named);
        if !is_kept {
            self.tokens = Some(ModelTokens { model: named.into(), directions: Default::default() });
        }
        let Some(tokens) = &mut self.tokens else { return };
        let provider = self.labels.provider.as_deref().unwrap_or(NONE);
        for ((direction, count), counter) in counts.iter().zip(&mut tokens.directions) {
            let Some(count) = count.filter(|count| *count > 0) else { continue };
            let child = || {
                let model = metrics.model_label(named);
                metrics.tokens.with_label_values(&[provider, model, direction])
            };
            counter.get_or_insert_with(child).inc_by(count);
        }
    }
}
