//! The table: medians over the rounds, ratios to the line of the same round,
//! and what they are held against.

use anyhow::{Result, bail};
use serde_json::json;

use super::{
    machine::Machine,
    measure::Sample,
    product::Books,
    scenario::CHUNKS,
    serve::Shape,
    table::{columns, dash, median, number},
};

const PRODUCT: &str = "llm-proxy";
const PRODUCT_OFF: &str = "llm-proxy-off";
const LINE: &str = "line";
const DIRECT: &str = "direct";
const MB: f64 = 1e6;

/// Everything that a run found out.
pub struct Report {
    machine: Machine,
    shape: Shape,
    seconds: f64,
    samples: Vec<Sample>,
    books: Vec<Books>,
}

/// One row of the table.
struct Figure {
    name: &'static str,
    read: fn(&Report, &str) -> Option<f64>,
    /// For a figure that is held as a ratio: its value in one round.
    per_round: Option<fn(&Sample) -> Option<f64>>,
    bound: Option<Bound>,
}

/// What the product's value, or its ratio to the line, must keep to.
#[derive(Clone, Copy)]
struct Bound {
    most: bool,
    ratio: bool,
    goal: f64,
    must: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    Met,
    GoalMissed,
    MustMissed,
    Unknown,
}

impl Bound {
    const fn most(goal: f64, must: f64) -> Option<Self> {
        Some(Self { most: true, ratio: false, goal, must: Some(must) })
    }

    const fn ratio(most: bool, goal: f64, must: f64) -> Option<Self> {
        Some(Self { most, ratio: true, goal, must: Some(must) })
    }

    fn judge(self, value: Option<f64>) -> Verdict {
        let keeps = |limit: f64| value.map(|value| (value <= limit) == self.most || value == limit);
        match (keeps(self.goal), self.must.and_then(keeps)) {
            (None, _) => Verdict::Unknown,
            (Some(true), _) => Verdict::Met,
            (Some(false), Some(false)) => Verdict::MustMissed,
            (Some(false), _) => Verdict::GoalMissed,
        }
    }

    fn show(self, limit: f64) -> String {
        let sign = if self.most { "<=" } else { ">=" };
        format!("{sign} {}{}", if self.ratio { "x " } else { "" }, number(limit))
    }
}

/// The rows, in the order of DESIGN §10.
const FIGURES: &[Figure] = &[
    Figure {
        name: "CPU us per request, 64 connections",
        read: |report, target| report.median(target, |sample| sample.cpu_us_per_request),
        per_round: Some(|sample| sample.cpu_us_per_request),
        bound: Bound::ratio(true, 1.2, 1.5),
    },
    Figure {
        name: "requests/s, 64 connections",
        read: |report, target| report.median(target, |sample| sample.requests_per_second),
        per_round: Some(|sample| sample.requests_per_second),
        bound: Bound::ratio(false, 0.9, 0.75),
    },
    Figure {
        name: "added latency at 200/s, p50 us",
        read: |report, target| report.added(target, 0.50, |sample| &sample.latency_us),
        per_round: None,
        bound: Bound::most(80.0, 120.0),
    },
    Figure {
        name: "added latency at 200/s, p99 us",
        read: |report, target| report.added(target, 0.99, |sample| &sample.latency_us),
        per_round: None,
        bound: Bound::most(200.0, 300.0),
    },
    Figure {
        name: "CPU us per stream, flat out",
        read: |report, target| report.median(target, |sample| sample.cpu_us_per_stream),
        per_round: Some(|sample| sample.cpu_us_per_stream),
        bound: Bound::ratio(true, 0.8, 1.3),
    },
    Figure {
        name: "CPU us per streamed chunk",
        read: |report, target| {
            let stream = report.median(target, |sample| sample.cpu_us_per_stream)?;
            Some(stream / CHUNKS as f64)
        },
        per_round: None,
        bound: None,
    },
    Figure {
        name: "streams/s, 64 connections",
        read: |report, target| report.median(target, |sample| sample.streams_per_second),
        per_round: None,
        bound: None,
    },
    Figure {
        name: "added time to first chunk, 32 paced, ms",
        read: |report, target| {
            Some(report.added(target, 0.5, |sample| &sample.first_chunk_us)? / 1000.0)
        },
        per_round: None,
        bound: Some(Bound { most: true, ratio: false, goal: 0.3, must: None }),
    },
    Figure {
        name: "memory idle, MB",
        read: |report, target| {
            Some(report.median(target, |s| s.idle_bytes.map(|bytes| bytes as f64))? / MB)
        },
        per_round: None,
        bound: Bound::most(15.0, 25.0),
    },
    Figure {
        name: "memory under 64 streams, MB",
        read: |report, target| {
            Some(report.median(target, |s| s.stream_bytes.map(|bytes| bytes as f64))? / MB)
        },
        per_round: None,
        bound: Bound::most(25.0, 45.0),
    },
    Figure {
        name: "record on minus off, CPU us",
        read: Report::record_cost,
        per_round: None,
        bound: Bound::most(3.0, 5.0),
    },
    Figure {
        name: "sealing, CPU us per record",
        read: |report, target| {
            let books = report.books.iter().find(|books| books.target == target)?;
            (books.sealed > 0).then(|| books.sealing_cpu_us / books.sealed as f64)
        },
        per_round: None,
        bound: Some(Bound { most: true, ratio: false, goal: 8.0, must: None }),
    },
    Figure {
        name: "peak memory of the run, MB",
        read: |report, target| {
            let books = report.books.iter().find(|books| books.target == target)?;
            Some(books.peak_bytes as f64 / MB)
        },
        per_round: None,
        bound: None,
    },
];

impl Report {
    pub fn new(shape: Shape, seconds: f64, samples: Vec<Sample>, books: Vec<Books>) -> Self {
        Self { machine: Machine::read(), shape, seconds, samples, books }
    }

    fn of<'a>(&'a self, target: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| sample.target == target)
    }

    fn median(&self, target: &str, read: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        median(self.of(target).filter_map(read).collect())
    }

    /// A quantile over all rounds, less the same quantile without a proxy.
    fn added(
        &self,
        target: &str,
        quantile: f64,
        read: impl Fn(&Sample) -> &Vec<u32>,
    ) -> Option<f64> {
        let of = |target: &str| {
            quantile_of(self.of(target).flat_map(|sample| read(sample).iter().copied()), quantile)
        };
        let own = of(target)?;
        Some(if target == DIRECT { own } else { own - of(DIRECT)? })
    }

    /// The median over the rounds of the ratio to the line of the same round.
    fn ratio(&self, target: &str, read: fn(&Sample) -> Option<f64>) -> Option<f64> {
        let ratios = self.of(target).filter_map(|sample| {
            let line = self.of(LINE).find(|line| line.round == sample.round)?;
            Some(read(sample)? / read(line)?)
        });
        median(ratios.collect())
    }

    fn record_cost(&self, target: &str) -> Option<f64> {
        if target != PRODUCT {
            return None;
        }
        let costs = self.of(PRODUCT).filter_map(|on| {
            let off = self.of(PRODUCT_OFF).find(|off| off.round == on.round)?;
            Some(on.cpu_us_per_request? - off.cpu_us_per_request?)
        });
        median(costs.collect())
    }

    fn targets(&self) -> Vec<&str> {
        let first = self.samples.iter().filter(|sample| sample.round == 0);
        first.map(|sample| sample.target.as_str()).collect()
    }

    fn judged(&self) -> Vec<(&'static Figure, Option<f64>, Verdict)> {
        let bounded = FIGURES.iter().filter_map(|figure| Some((figure, figure.bound?)));
        bounded
            .map(|(figure, bound)| {
                let value = match figure.per_round {
                    Some(read) if bound.ratio => self.ratio(PRODUCT, read),
                    _ => (figure.read)(self, PRODUCT),
                };
                (figure, value, bound.judge(value))
            })
            .collect()
    }

    pub fn print(&self) {
        println!("\n{}", self.machine.describe());
        println!(
            "runtime shape {}, {} s a phase, {} rounds in turn; generator, provider and proxy \
             share the cores; sealing is a figure of its own\nlatency and first chunk: \
             'direct' is the provider alone, the others are what they add to it\n",
            self.shape.name(),
            self.seconds,
            self.of(DIRECT).count()
        );
        for line in columns(&self.table()) {
            println!("{line}");
        }
        println!();
        for books in &self.books {
            let word = if books.balance() { "balance" } else { "DO NOT BALANCE" };
            let Books { target, sent, records, shown, sealed, .. } = books;
            println!(
                "books of {target} {word}: {sent} requests, {records} records found, {shown} \
                 lines shown, {sealed} sealed by then"
            );
        }
    }

    fn table(&self) -> Vec<Vec<String>> {
        let targets = self.targets();
        let mut head = vec!["figure".to_owned()];
        for target in &targets {
            head.push((*target).to_owned());
            if is_compared(target) {
                head.push("/ line".to_owned());
            }
        }
        head.extend(["goal", "must", ""].map(str::to_owned));
        let mut rows = vec![head];
        let judged = self.judged();
        for figure in FIGURES {
            let mut row = vec![figure.name.to_owned()];
            for target in &targets {
                row.push((figure.read)(self, target).map_or_else(dash, number));
                if is_compared(target) {
                    let ratio = figure.per_round.and_then(|read| self.ratio(target, read));
                    row.push(ratio.map_or_else(dash, |ratio| format!("x {ratio:.2}")));
                }
            }
            let show = |limit: Option<f64>| {
                figure.bound.zip(limit).map_or_else(dash, |(bound, limit)| bound.show(limit))
            };
            row.push(show(figure.bound.map(|bound| bound.goal)));
            row.push(show(figure.bound.and_then(|bound| bound.must)));
            let verdict = judged.iter().find(|(judged, ..)| judged.name == figure.name);
            row.push(verdict.map_or("", |(.., verdict)| verdict.word()).to_owned());
            rows.push(row);
        }
        rows
    }

    /// Everything, for whoever wants to compute something else.
    pub fn json(&self) -> Result<String> {
        let figures: Vec<_> = self
            .judged()
            .into_iter()
            .map(|(figure, value, verdict)| {
                json!({ "figure": figure.name, "value": value, "verdict": verdict.word() })
            })
            .collect();
        Ok(serde_json::to_string_pretty(&json!({
            "machine": self.machine,
            "shape": self.shape.name(),
            "seconds": self.seconds,
            "figures": figures,
            "books": self.books,
            "samples": self.samples,
        }))?)
    }

    /// Fails when the books do not balance; with `check` also when a goal was
    /// missed or could not be measured.
    pub fn verdict(&self, check: bool) -> Result<()> {
        if let Some(books) = self.books.iter().find(|books| !books.balance()) {
            let Books { target, sent, records, shown, .. } = books;
            bail!("{target}: {records} records and {shown} lines for {sent} requests");
        }
        let missed: Vec<_> =
            self.judged().into_iter().filter(|(.., verdict)| *verdict != Verdict::Met).collect();
        for (figure, value, verdict) in &missed {
            let value = value.map_or_else(dash, number);
            println!("{}: {} ({value})", verdict.word(), figure.name);
        }
        if check && !missed.is_empty() {
            bail!("{} of {} goals not met", missed.len(), self.judged().len());
        }
        Ok(())
    }
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::GoalMissed => "goal missed",
            Self::MustMissed => "MUST MISSED",
            Self::Unknown => "not measured",
        }
    }
}

fn is_compared(target: &str) -> bool {
    ![DIRECT, LINE].contains(&target)
}

pub fn quantile_of(values: impl Iterator<Item = u32>, quantile: f64) -> Option<f64> {
    let mut values: Vec<u32> = values.collect();
    values.sort_unstable();
    let index = (values.len() as f64 * quantile) as usize;
    values.get(index.min(values.len().checked_sub(1)?)).map(|value| f64::from(*value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(target: &str, round: u32, cpu: f64) -> Sample {
        let cpu_us_per_request = Some(cpu);
        Sample { target: target.to_owned(), round, cpu_us_per_request, ..Sample::default() }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let mut samples = Vec::new();
        // The machine was three times slower in the last round, for both.
        for (round, (line, own)) in [(10.0, 11.0), (10.0, 12.0), (30.0, 39.0)].iter().enumerate() {
            samples.push(sample(LINE, round as u32, *line));
            samples.push(sample(PRODUCT, round as u32, *own));
            samples.push(sample(PRODUCT_OFF, round as u32, own - 2.0));
        }
        let report = Report::new(Shape::Multi, 1.0, samples, Vec::new());
        let ratio = report.ratio(PRODUCT, |sample| sample.cpu_us_per_request);
        assert!(ratio.is_some_and(|ratio| (ratio - 1.2).abs() < 1e-9));
        assert_eq!(report.record_cost(PRODUCT), Some(2.0));
        assert!(report.verdict(false).is_ok());
        assert!(report.verdict(true).is_err(), "what was not measured was not met");
    }

    #[test]
    fn bounds_judge_both_ways() {
        let most = Bound::most(80.0, 120.0).expect("a bound");
        let least = Bound::ratio(false, 0.9, 0.75).expect("a bound");
        for (bound, value, verdict) in [
            (most, 80.0, Verdict::Met),
            (most, 81.0, Verdict::GoalMissed),
            (most, 121.0, Verdict::MustMissed),
            (least, 0.9, Verdict::Met),
            (least, 0.8, Verdict::GoalMissed),
            (least, 0.7, Verdict::MustMissed),
        ] {
            assert_eq!(bound.judge(Some(value)), verdict, "{value}");
        }
        assert_eq!(most.judge(None), Verdict::Unknown);
    }

    #[test]
    fn missing_records_fail_the_run() {
        let books = Books {
            target: PRODUCT.to_owned(),
            sent: 3,
            records: 2,
            shown: 3,
            sealed: 0,
            sealing_cpu_us: 0.0,
            peak_bytes: 0,
        };
        let report = Report::new(Shape::Multi, 1.0, Vec::new(), vec![books]);
        assert!(report.verdict(false).is_err());
    }

    #[test]
    fn quantiles() {
        assert_eq!(quantile_of(0..100, 0.99), Some(99.0));
        assert_eq!(quantile_of(std::iter::empty(), 0.5), None);
    }
}
