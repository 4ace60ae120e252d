//! Metrics as JSON: `{"name": {"type", "help", "values": [{"labels", …}]}}`.

use prometheus::proto::{Metric, MetricFamily, MetricType};
use serde_json::{Map, Value, json};

pub(super) fn of(families: &[MetricFamily]) -> Value {
    let mut all = Map::new();
    for family in families {
        let kind = family.get_field_type();
        let values: Vec<Value> =
            family.get_metric().iter().map(|metric| value(kind, metric)).collect();
        let name = match kind {
            MetricType::COUNTER => "counter",
            MetricType::HISTOGRAM => "histogram",
            _ => "gauge",
        };
        let family_json = json!({"type": name, "help": family.help(), "values": values});
        all.insert(family.name().to_owned(), family_json);
    }
    Value::Object(all)
}

fn value(kind: MetricType, metric: &Metric) -> Value {
    let labels: Map<String, Value> = metric
        .get_label()
        .iter()
        .map(|pair| (pair.name().to_owned(), Value::from(pair.value())))
        .collect();
    match kind {
        MetricType::COUNTER => {
            json!({"labels": labels, "value": number(metric.get_counter().get_value())})
        }
        MetricType::HISTOGRAM => {
            let histogram = metric.get_histogram();
            let buckets: Map<String, Value> = histogram
                .get_bucket()
                .iter()
                .map(|bucket| {
                    (bucket.upper_bound().to_string(), Value::from(bucket.cumulative_count()))
                })
                .collect();
            json!({
                "labels": labels,
                "count": histogram.get_sample_count(),
                "sum": histogram.get_sample_sum(),
                "buckets": buckets,
            })
        }
        _ => json!({"labels": labels, "value": number(metric.get_gauge().get_value())}),
    }
}

/// Whole numbers without a fraction, as far as a float is exact.
fn number(value: f64) -> Value {
    let exact = value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0;
    if exact { Value::from(value as i64) } else { Value::from(value) }
}
