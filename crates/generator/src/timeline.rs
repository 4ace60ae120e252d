//! When things happen: more by day than by night, less at the weekend.

use domain::time::Timestamp;

const HOUR_MICROS: i64 = 3_600_000_000;
const HOURS_A_DAY: i64 = 24;
/// How busy each hour of a day is, UTC.
const BY_HOUR: [f64; 24] = [
    0.42, 0.36, 0.33, 0.31, 0.34, 0.45, 0.68, 0.98, 1.35, 1.62, 1.70, 1.66, 1.48, 1.58, 1.67, 1.62,
    1.50, 1.30, 1.12, 1.00, 0.90, 0.78, 0.64, 0.52,
];
const WEEKEND: f64 = 0.55;

/// The moments at which records end.
#[derive(Clone, Debug)]
pub struct Timeline {
    start: Timestamp,
    pace: Pace,
}

#[derive(Clone, Debug)]
enum Pace {
    /// The share of all records that is over at the end of each hour.
    Days {
        records: u64,
        over: Vec<f64>,
    },
    Even {
        per_second: u32,
    },
}

impl Timeline {
    /// `records` over the `days` before `end`.
    pub fn new(end: Timestamp, days: u32, records: u64) -> Self {
        let hours = i64::from(days.max(1)) * HOURS_A_DAY;
        let start = end.plus_micros(-hours * HOUR_MICROS);
        let first = start.as_micros().div_euclid(HOUR_MICROS);
        let mut sum = 0.0;
        let mut over: Vec<f64> = (first..first + hours)
            .map(|hour| {
                sum += weight(hour);
                sum
            })
            .collect();
        over.iter_mut().for_each(|share| *share /= sum);
        Self { start, pace: Pace::Days { records: records.max(1), over } }
    }

    /// From `start` on, always as many a second.
    pub fn even(start: Timestamp, per_second: u32) -> Self {
        Self { start, pace: Pace::Even { per_second: per_second.max(1) } }
    }

    /// When the record of this number ends: later than those before it.
    pub fn at(&self, number: u64) -> Timestamp {
        let micros = match &self.pace {
            Pace::Even { per_second } => number as f64 * 1e6 / f64::from(*per_second),
            Pace::Days { records, over } => {
                let share = number as f64 / *records as f64;
                let hour = over.partition_point(|over| *over <= share).min(over.len() - 1);
                let before = if hour == 0 { 0.0 } else { over[hour - 1] };
                let within = (share - before) / (over[hour] - before);
                (hour as f64 + within) * HOUR_MICROS as f64
            }
        };
        self.start.plus_micros(micros as i64)
    }
}

/// Of one hour since the epoch, which was a Thursday.
fn weight(hour: i64) -> f64 {
    let weekday = (hour.div_euclid(HOURS_A_DAY) + 3).rem_euclid(7);
    let of_day = BY_HOUR[hour.rem_euclid(HOURS_A_DAY) as usize];
    if weekday >= 5 { of_day * WEEKEND } else { of_day }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_goes_back_and_stays_inside() {
        let end = Timestamp::parse("2026-11-23T00:00:00Z").expect("a time");
        let line = Timeline::new(end, 7, 100_000);
        let mut last = end.plus_micros(-7 * 24 * HOUR_MICROS);
        for number in 0..100_000 {
            let at = line.at(number);
            assert!(at >= last && at < end, "{number}: {at}");
            last = at;
        }
    }

    #[test]
    fn nights_and_weekends_are_quiet() {
        let end = Timestamp::parse("2026-11-23T00:00:00Z").expect("a time");
        let line = Timeline::new(end, 7, 100_000);
        let between = |from: &str, to: &str| {
            let (from, to) = (Timestamp::parse(from), Timestamp::parse(to));
            let inside = |at: &Timestamp| Some(*at) >= from && Some(*at) < to;
            (0..100_000).map(|number| line.at(number)).filter(inside).count()
        };
        let noon = between("2026-11-18T10:00:00Z", "2026-11-18T11:00:00Z");
        let night = between("2026-11-18T03:00:00Z", "2026-11-18T04:00:00Z");
        let sunday = between("2026-11-22T10:00:00Z", "2026-11-22T11:00:00Z");
        assert!(noon > 4 * night && noon > sunday, "{noon}, {night}, {sunday}");
    }
}
