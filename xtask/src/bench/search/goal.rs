//! What a figure is held against.

use super::super::table::number;

/// A bound of one figure of ours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// At most so many milliseconds.
    Ms(f64),
    /// At most so many times what DuckDB, ripgrep or jq took in the same run.
    TimesDuck(f64),
    TimesRipgrep(f64),
    TimesJq(f64),
    /// A figure that is no time: at most, or at least, so much.
    Most(f64),
    Least(f64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    Met,
    Missed,
    NotMeasured,
}

impl Verdict {
    pub fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "MISSED",
            Self::NotMeasured => "not measured",
        }
    }
}

/// What the tools took, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    pub ripgrep: Option<f64>,
    pub jq: Option<f64>,
    pub duck: Option<f64>,
}

impl Goal {
    pub fn judge(self, own: Option<f64>, others: Times) -> Verdict {
        let limit = match self {
            Self::Ms(limit) | Self::Most(limit) | Self::Least(limit) => Some(limit),
            Self::TimesDuck(times) => others.duck.map(|other| other * times),
            Self::TimesRipgrep(times) => others.ripgrep.map(|other| other * times),
            Self::TimesJq(times) => others.jq.map(|other| other * times),
        };
        match own.zip(limit) {
            None => Verdict::NotMeasured,
            Some((own, limit)) if matches!(self, Self::Least(_)) == (own > limit) => Verdict::Met,
            Some((own, limit)) if own == limit => Verdict::Met,
            Some(_) => Verdict::Missed,
        }
    }

    pub fn show(self) -> String {
        match self {
            Self::Ms(limit) => format!("<= {} ms", number(limit)),
            Self::TimesDuck(times) => format!("<= {times} x DuckDB"),
            Self::TimesRipgrep(times) => format!("<= {times} x ripgrep"),
            Self::TimesJq(times) => format!("<= jq / {}", number(1.0 / times)),
            Self::Most(limit) => format!("<= {}", number(limit)),
            Self::Least(limit) => format!(">= {}", number(limit)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_judge_both_ways() {
        let others = Times { duck: Some(100.0), jq: Some(2_000.0), ripgrep: None };
        for (goal, own, verdict) in [
            (Goal::Ms(8.0), 8.0, Verdict::Met),
            (Goal::Ms(8.0), 8.1, Verdict::Missed),
            (Goal::TimesDuck(0.5), 49.0, Verdict::Met),
            (Goal::TimesDuck(0.5), 51.0, Verdict::Missed),
            (Goal::TimesJq(0.05), 99.0, Verdict::Met),
            (Goal::TimesRipgrep(1.5), 1.0, Verdict::NotMeasured),
            (Goal::Least(150.0), 151.0, Verdict::Met),
            (Goal::Least(150.0), 149.0, Verdict::Missed),
        ] {
            assert_eq!(goal.judge(Some(own), others), verdict, "{goal:?} {own}");
        }
        assert_eq!(Goal::Ms(1.0).judge(None, others), Verdict::NotMeasured);
    }
}
