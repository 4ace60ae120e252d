//! What answers with many values in little memory: quantiles and the number of
//! different values, exact while there is room and within a stated error after.
//! Two of a kind join into what one would have been.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The hash of numbers that are codes or hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        // An odd constant with well spread bits; the high half is the good one.
        let mixed = (self.0.rotate_left(5) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

pub(crate) type Mixed = BuildHasherDefault<Mix>;

/// What the threads of one question may keep together, in bytes.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    used: Arc<AtomicUsize>,
    max: usize,
}

impl Room {
    pub(crate) fn new(max: usize) -> Self {
        Self { used: Arc::default(), max }
    }

    pub(crate) fn take(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Exact answers have to go.
    pub(crate) fn is_full(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.max / 2
    }

    /// Even what is not exact does not fit.
    pub(crate) fn is_overfull(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.max
    }
}

/// Numbers as codes that sort as the numbers do.
pub(crate) const fn code_of_number(number: f64) -> u64 {
    // Minus zero is zero.
    let bits = (number + 0.0).to_bits();
    if bits >> 63 == 1 { !bits } else { bits | (1 << 63) }
}

pub(crate) const fn number_of_code(code: u64) -> f64 {
    f64::from_bits(if code >> 63 == 1 { code & !(1 << 63) } else { !code })
}

pub(crate) const fn code_of_whole(whole: i64) -> u64 {
    whole.cast_unsigned() ^ (1 << 63)
}

pub(crate) const fn whole_of_code(code: u64) -> i64 {
    (code ^ (1 << 63)).cast_signed()
}

/// Binary digits of a number that a sketch forgets: seven of its fraction stay,
/// so that the middle of a bucket is within 0.4 % of all in it.
const FORGOTTEN_BITS: u32 = 45;
pub(crate) const QUANTILE_ERROR: &str = "0.4 %";
const BUCKET_BYTES: usize = 24;
const SAMPLE_BYTES: usize = 8;

/// Codes, in no order, in pieces: none is ever moved, neither when more come nor
/// when two threads join theirs.
#[derive(Debug, Default)]
pub(crate) struct Codes {
    full: Vec<Vec<u64>>,
    last: Vec<u64>,
    /// Of the full ones.
    count: usize,
    histogram: Option<Histogram>,
}

const PIECE_MIN: usize = 64;
const PIECE_MAX: usize = 16 * 1024;
/// Fewer codes are gathered and sorted out as they are.
const FEW: usize = 4096;
const BARS: usize = 4096;

/// How many codes lie in each part of their range: a quantile then looks at the
/// codes of one part.
#[derive(Debug)]
struct Histogram {
    least: u64,
    shift: u32,
    bars: Vec<u64>,
}

impl Codes {
    fn push(&mut self, code: u64, room: &Room) {
        if self.last.len() == self.last.capacity() {
            self.grow(room);
        }
        self.last.push(code);
    }

    fn grow(&mut self, room: &Room) {
        let size = (self.last.capacity() * 2).clamp(PIECE_MIN, PIECE_MAX);
        let full = std::mem::replace(&mut self.last, Vec::with_capacity(size));
        self.histogram = None;
        self.keep(full);
        room.take(size * SAMPLE_BYTES);
    }

    fn keep(&mut self, piece: Vec<u64>) {
        if !piece.is_empty() {
            self.count += piece.len();
            self.full.push(piece);
        }
    }

    fn join(&mut self, other: Self) {
        self.histogram = None;
        other.full.into_iter().for_each(|piece| self.keep(piece));
        self.keep(other.last);
    }

    fn len(&self) -> usize {
        self.count + self.last.len()
    }

    fn bytes(&self) -> usize {
        let pieces = self.full.iter().chain(std::iter::once(&self.last));
        pieces.map(|piece| piece.capacity() * SAMPLE_BYTES).sum()
    }

    fn iter(&self) -> impl Iterator<Item = u64> {
        self.full.iter().chain(std::iter::once(&self.last)).flatten().copied()
    }

    /// The code that so many are not above.
    fn at_rank(&mut self, rank: usize) -> Option<u64> {
        let (mut before, mut bar) = (0, None);
        if self.len() > FEW {
            let histogram = self.histogram.take().unwrap_or_else(|| Histogram::of(self));
            bar = histogram.bars.iter().position(|count| {
                let is_here = rank < before + *count as usize;
                before += if is_here { 0 } else { *count as usize };
                is_here
            });
            self.histogram = Some(histogram);
        }
        let mut codes: Vec<u64> = match (&self.histogram, bar) {
            (Some(histogram), Some(bar)) => {
                self.iter().filter(|code| histogram.bar(*code) == bar).collect()
            }
            _ => self.iter().collect(),
        };
        let rank = rank.checked_sub(before).filter(|rank| *rank < codes.len())?;
        Some(*codes.select_nth_unstable(rank).1)
    }
}

impl Histogram {
    fn of(codes: &Codes) -> Self {
        let ends = |(least, most): (u64, u64), code: u64| (least.min(code), most.max(code));
        let (least, most) = codes.iter().fold((u64::MAX, 0), ends);
        let bits = u64::BITS - most.saturating_sub(least).leading_zeros();
        let shift = bits.saturating_sub(BARS.trailing_zeros());
        let mut histogram = Self { least, shift, bars: vec![0; BARS] };
        for code in codes.iter() {
            let bar = histogram.bar(code);
            histogram.bars[bar] += 1;
        }
        histogram
    }

    fn bar(&self, code: u64) -> usize {
        ((code - self.least) >> self.shift) as usize & (BARS - 1)
    }
}

/// The values of one group.
#[derive(Debug)]
pub(crate) enum Samples {
    /// All of them.
    Exact(Codes),
    /// Codes of numbers without their last bits, and how many there are.
    Sketch(HashMap<u32, u64, Mixed>),
}

impl Default for Samples {
    fn default() -> Self {
        Self::Exact(Codes::default())
    }
}

impl Samples {
    /// `number` gives the number that a code stands for.
    pub(crate) fn add(&mut self, code: u64, room: &Room, number: fn(u64) -> f64) {
        match self {
            Self::Exact(codes) => codes.push(code, room),
            Self::Sketch(buckets) => {
                let before = buckets.len();
                *buckets.entry(bucket(number(code))).or_default() += 1;
                room.take((buckets.len() - before) * BUCKET_BYTES);
            }
        }
    }

    pub(crate) fn shrink(&mut self, room: &Room, number: fn(u64) -> f64) {
        if let Self::Exact(codes) = self {
            let mut buckets: HashMap<u32, u64, Mixed> = HashMap::default();
            for code in codes.iter() {
                *buckets.entry(bucket(number(code))).or_default() += 1;
            }
            room.give_back(codes.bytes());
            room.take(buckets.len() * BUCKET_BYTES);
            *self = Self::Sketch(buckets);
        }
    }

    pub(crate) fn join(&mut self, mut other: Self, room: &Room, number: fn(u64) -> f64) {
        if let (Self::Exact(codes), Self::Exact(others)) = (&mut *self, &mut other) {
            return codes.join(std::mem::take(others));
        }
        self.shrink(room, number);
        other.shrink(room, number);
        if let (Self::Sketch(buckets), Self::Sketch(others)) = (self, other) {
            let before = buckets.len();
            room.give_back(others.len() * BUCKET_BYTES);
            for (bucket, count) in others {
                *buckets.entry(bucket).or_default() += count;
            }
            room.take((buckets.len() - before) * BUCKET_BYTES);
        }
    }

    /// The smallest value that at least `part` of all are not above: as a code if
    /// exact, else as a number.
    pub(crate) fn quantile(&mut self, part: f64) -> Option<Result<u64, f64>> {
        match self {
            Self::Exact(codes) => {
                let at = rank(part, codes.len() as u64)? as usize;
                codes.at_rank(at).map(Ok)
            }
            Self::Sketch(buckets) => {
                let mut sorted: Vec<(u32, u64)> = buckets.iter().map(|(b, n)| (*b, *n)).collect();
                sorted.sort_unstable();
                let mut left = rank(part, sorted.iter().map(|(_, count)| count).sum())?;
                for (bucket, count) in sorted {
                    if left < count {
                        return Some(Err(middle(bucket)));
                    }
                    left -= count;
                }
                None
            }
        }
    }
}

/// The place of a quantile among `count` sorted values (nearest rank).
fn rank(part: f64, count: u64) -> Option<u64> {
    // Products such as 0.95 × 20 may come out a little too large.
    let rank = (part * count as f64 - 1e-9).ceil().max(1.0) as u64;
    (count > 0).then(|| rank.min(count) - 1)
}

fn bucket(number: f64) -> u32 {
    u32::try_from(code_of_number(number) >> FORGOTTEN_BITS).unwrap_or(u32::MAX)
}

fn middle(bucket: u32) -> f64 {
    let least = u64::from(bucket) << FORGOTTEN_BITS;
    // Zero has a bucket with the smallest numbers there are.
    match number_of_code(least) == 0.0 {
        true => 0.0,
        false => number_of_code(least | (1 << (FORGOTTEN_BITS - 1))),
    }
}

/// Hashes that are kept one by one for one group.
const HASHES_MAX: usize = 64 * 1024;
const HASH_BYTES: usize = 16;
/// Binary digits of a hash that choose a register.
const REGISTER_BITS: u32 = 12;
const REGISTERS: usize = 1 << REGISTER_BITS;
pub(crate) const DISTINCT_ERROR: &str = "4 %";

/// How many different hashes were seen.
#[derive(Debug)]
pub(crate) enum Distinct {
    Exact(HashSet<u64, Mixed>),
    /// HyperLogLog: of the hashes that chose a register, the longest run of
    /// leading zeros.
    Sketch(Box<[u8; REGISTERS]>),
}

impl Default for Distinct {
    fn default() -> Self {
        Self::Exact(HashSet::default())
    }
}

impl Distinct {
    pub(crate) fn add(&mut self, hash: u64, room: &Room) {
        match self {
            Self::Exact(hashes) => {
                if hashes.insert(hash) {
                    room.take(HASH_BYTES);
                }
                if hashes.len() > HASHES_MAX {
                    self.shrink(room);
                }
            }
            Self::Sketch(registers) => register(registers, hash),
        }
    }

    pub(crate) fn shrink(&mut self, room: &Room) {
        if let Self::Exact(hashes) = self {
            let mut registers = Box::new([0u8; REGISTERS]);
            hashes.iter().for_each(|hash| register(&mut registers, *hash));
            room.give_back(hashes.len() * HASH_BYTES);
            room.take(REGISTERS);
            *self = Self::Sketch(registers);
        }
    }

    pub(crate) fn join(&mut self, other: Self, room: &Room) {
        match other {
            Self::Exact(hashes) => {
                room.give_back(hashes.len() * HASH_BYTES);
                hashes.into_iter().for_each(|hash| self.add(hash, room));
            }
            Self::Sketch(others) => {
                self.shrink(room);
                room.give_back(REGISTERS);
                if let Self::Sketch(registers) = self {
                    for (own, other) in registers.iter_mut().zip(others.iter()) {
                        *own = (*own).max(*other);
                    }
                }
            }
        }
    }

    pub(crate) fn is_exact(&self) -> bool {
        matches!(self, Self::Exact(_))
    }

    pub(crate) fn count(&self) -> u64 {
        match self {
            Self::Exact(hashes) => hashes.len() as u64,
            Self::Sketch(registers) => {
                let sum: f64 = registers.iter().map(|zeros| (-f64::from(*zeros)).exp2()).sum();
                let count = REGISTERS as f64;
                let raw = 0.7213 / (1.0 + 1.079 / count) * count * count / sum;
                let empty = registers.iter().filter(|zeros| **zeros == 0).count();
                let estimate = match empty > 0 && raw < 2.5 * count {
                    true => count * (count / empty as f64).ln(),
                    false => raw,
                };
                estimate.round() as u64
            }
        }
    }
}

fn register(registers: &mut [u8; REGISTERS], hash: u64) {
    let at = (hash >> (64 - REGISTER_BITS)) as usize;
    let zeros = (hash << REGISTER_BITS | 1 << (REGISTER_BITS - 1)).leading_zeros() + 1;
    registers[at] = registers[at].max(u8::try_from(zeros).unwrap_or(u8::MAX));
}

/// The same for equal texts in every process.
pub(crate) fn hash_of(bytes: &[u8]) -> u64 {
    use std::hash::DefaultHasher;
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_sort_as_their_numbers() {
        let numbers = [f64::MIN, -1.5, -0.0, 0.1, 1.0, 1.5, 1e300];
        for pair in numbers.windows(2) {
            assert!(code_of_number(pair[0]) < code_of_number(pair[1]), "{pair:?}");
        }
        for number in numbers {
            assert_eq!(number_of_code(code_of_number(number)), number);
        }
        for whole in [i64::MIN, -1, 0, 1, i64::MAX] {
            assert_eq!(whole_of_code(code_of_whole(whole)), whole);
        }
        assert!(code_of_whole(-1) < code_of_whole(0));
    }

    #[test]
    fn quantiles_are_exact_and_then_within_the_stated_error() {
        let room = Room::new(usize::MAX);
        let (mut exact, mut other) = (Samples::default(), Samples::default());
        // Few are sorted out at once, many with a histogram.
        for n in 1..=1000u32 {
            let code = code_of_number(f64::from(n) * 1.7);
            let half = if n % 2 == 0 { &mut exact } else { &mut other };
            half.add(code, &room, number_of_code);
        }
        exact.join(other, &room, number_of_code);
        for times in [1, 100] {
            for _ in 1..times {
                for n in 1..=1000u32 {
                    exact.add(code_of_number(f64::from(n) * 1.7), &room, number_of_code);
                }
            }
            for (part, rank) in [(0.0, 1), (0.5, 500), (0.95, 950), (0.999, 999), (1.0, 1000)] {
                let expected = f64::from(rank) * 1.7;
                let code = exact.quantile(part).expect("values").expect("exact");
                assert_eq!(number_of_code(code), expected, "{part} of {times}");
            }
        }
        exact.shrink(&room, number_of_code);
        for (part, rank) in [(0.5, 500), (0.95, 950), (1.0, 1000)] {
            let expected = f64::from(rank) * 1.7;
            let about = exact.quantile(part).expect("values").expect_err("a sketch");
            assert!((about / expected - 1.0).abs() < 0.004, "{part}: {about} for {expected}");
        }
        assert!(Samples::default().quantile(0.5).is_none());
    }

    #[test]
    fn different_values_are_counted_exactly_and_then_about() {
        let room = Room::new(usize::MAX);
        let mut distinct = Distinct::default();
        for n in 0..200_000u32 {
            distinct.add(hash_of(&(n % 50_000).to_le_bytes()), &room);
        }
        assert_eq!(distinct.count(), 50_000);
        let mut other = Distinct::default();
        for n in 0..500_000u32 {
            other.add(hash_of(&n.to_le_bytes()), &room);
        }
        assert!(!other.is_exact());
        distinct.join(other, &room);
        let off = distinct.count() as f64 / 500_000.0 - 1.0;
        assert!(off.abs() < 0.04, "{off}");
    }
}
