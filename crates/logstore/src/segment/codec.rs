//! Numbers and bits as the side index keeps them. Readers treat every byte as
//! hostile: what is not there is `None`.

/// Appends `value` in groups of seven bits, lowest first.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Small numbers of both signs as small numbers.
pub(crate) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub(crate) const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Takes numbers from the front of a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            let bits = u64::from(byte & 0x7f);
            if (bits << shift) >> shift != bits {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// A varint that must fit and stay under a bound.
    pub(crate) fn count(&mut self, max: usize) -> Option<usize> {
        usize::try_from(self.varint()?).ok().filter(|count| *count <= max)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }
}

/// Appends bits, lowest first.
#[derive(Debug, Default)]
pub(crate) struct BitWriter {
    out: Vec<u8>,
    word: u64,
    bits: u32,
}

impl BitWriter {
    /// The low `bits` (at most 32) of `value`.
    pub(crate) fn put(&mut self, value: u32, bits: u32) {
        let mask = (1u64 << bits) - 1;
        self.word |= (u64::from(value) & mask) << self.bits;
        self.bits += bits;
        while self.bits >= 8 {
            self.out.push(self.word as u8);
            self.word >>= 8;
            self.bits -= 8;
        }
    }

    /// So many ones, then a zero.
    pub(crate) fn put_unary(&mut self, mut value: u32) {
        while value >= 32 {
            self.put(u32::MAX, 32);
            value -= 32;
        }
        self.put((1u32 << value) - 1, value + 1);
    }

    /// Fills the last byte with zeros; the writer begins anew.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        if self.bits > 0 {
            self.out.push(self.word as u8);
        }
        (self.word, self.bits) = (0, 0);
        std::mem::take(&mut self.out)
    }
}

/// Takes bits, lowest first.
#[derive(Debug)]
pub(crate) struct BitReader<'a> {
    bytes: Bytes<'a>,
    word: u64,
    bits: u32,
}

impl<'a> BitReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes: Bytes(bytes), word: 0, bits: 0 }
    }

    /// At most 32 bits.
    pub(crate) fn take(&mut self, bits: u32) -> Option<u32> {
        while self.bits < bits {
            self.word |= u64::from(*self.bytes.take(1)?.first()?) << self.bits;
            self.bits += 8;
        }
        let value = self.word & ((1u64 << bits) - 1);
        self.word >>= bits;
        self.bits -= bits;
        Some(value as u32)
    }

    pub(crate) fn take_unary(&mut self) -> Option<u32> {
        let mut value = 0u32;
        while self.take(1)? == 1 {
            value = value.checked_add(1)?;
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(values in proptest::collection::vec((any::<u64>(), 0u32..64), 0..50)) {
            let values: Vec<u64> = values.iter().map(|(value, shift)| value >> shift).collect();
            let mut out = Vec::new();
            for value in &values {
                put_varint(&mut out, *value);
                put_varint(&mut out, zigzag(*value as i64));
            }
            let mut bytes = Bytes(&out);
            for value in &values {
                prop_assert_eq!(bytes.varint(), Some(*value));
                prop_assert_eq!(bytes.varint().map(unzigzag), Some(*value as i64));
            }
            prop_assert_eq!(bytes.varint(), None);
        }

        #[test]
        fn bits_come_back(
            values in proptest::collection::vec((any::<u32>(), 0u32..33, 0u32..99), 0..50),
        ) {
            let mut writer = BitWriter::default();
            for (value, bits, unary) in &values {
                writer.put(*value, *bits);
                writer.put_unary(*unary);
            }
            let out = writer.finish();
            let mut reader = BitReader::new(&out);
            for (value, bits, unary) in &values {
                let kept = (u64::from(*value) & ((1u64 << bits) - 1)) as u32;
                prop_assert_eq!(reader.take(*bits), Some(kept));
                prop_assert_eq!(reader.take_unary(), Some(*unary));
            }
        }

        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            let mut numbers = Bytes(&bytes);
            while numbers.varint().is_some() {}
            let mut bits = BitReader::new(&bytes);
            while bits.take_unary().is_some() {}
        }
    }
}
