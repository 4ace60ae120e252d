//! Notices when the clock of the machine was set.

use std::time::Instant;

use domain::time::Timestamp;

/// Smaller steps are what time services do all day.
const STEP_MICROS_MIN: i64 = 1_000_000;

/// The wall clock beside one that nobody sets.
#[derive(Debug)]
pub struct ClockWatch {
    wall: Timestamp,
    steady: Instant,
}

impl ClockWatch {
    pub fn new(wall: Timestamp, steady: Instant) -> Self {
        Self { wall, steady }
    }

    /// By how many milliseconds the clock was set since the last look.
    pub fn look(&mut self, wall: Timestamp, steady: Instant) -> Option<i64> {
        let passed = i64::try_from(steady.duration_since(self.steady).as_micros());
        let moved = wall.as_micros().saturating_sub(self.wall.as_micros());
        (self.wall, self.steady) = (wall, steady);
        let step = moved.saturating_sub(passed.unwrap_or(i64::MAX));
        (step.abs() >= STEP_MICROS_MIN).then_some(step / 1000)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn steps_are_seen_and_drift_is_not() {
        let (wall, steady) = (Timestamp::from_micros(1_000_000_000), Instant::now());
        let mut watch = ClockWatch::new(wall, steady);
        let at = |second: u64| steady + Duration::from_secs(second);
        assert_eq!(watch.look(wall.plus_micros(1_000_900), at(1)), None);
        assert_eq!(watch.look(wall.plus_micros(3_602_000_900), at(2)), Some(3_600_000));
        assert_eq!(watch.look(wall.plus_micros(3_603_000_900), at(3)), None);
        assert_eq!(watch.look(wall.plus_micros(4_000_000), at(4)), Some(-3_600_000));
    }
}
