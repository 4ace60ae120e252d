//! Tokens used, where the figure comes from, and what it costs.

use std::fmt;

use serde::Serialize;

/// Token counts as OpenTelemetry defines them: `input` counts all input, cached
/// and cache-write tokens included; `output` includes reasoning.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Usage {
    pub input_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    pub total_tokens: Option<u64>,
    pub cached_input_tokens: Option<u64>,
    pub cache_write_tokens: Option<u64>,
    pub reasoning_tokens: Option<u64>,
}

impl Usage {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The total that the provider gave, or the sum where it gave none.
    pub fn with_total(mut self) -> Self {
        if self.total_tokens.is_none()
            && let (Some(input), Some(output)) = (self.input_tokens, self.output_tokens)
        {
            self.total_tokens = Some(input.saturating_add(output));
        }
        self
    }
}

/// Whose figure the usage is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum UsageSource {
    Provider,
    Estimated,
    #[default]
    Unknown,
}

impl UsageSource {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Estimated => "estimated",
            Self::Unknown => "unknown",
        }
    }
}

/// US dollars in units of 10⁻⁹: exact sums, and DECIMAL(18,9) in Parquet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct UsdNanos(pub u64);

/// A decimal without trailing zeros: `0.0015`, `12`.
impl fmt::Display for UsdNanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        if fraction == 0 {
            return write!(f, "{whole}");
        }
        let (mut digits, mut width) = (fraction, 9);
        while digits % 10 == 0 {
            digits /= 10;
            width -= 1;
        }
        write!(f, "{whole}.{digits:0width$}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_print_exactly() {
        assert_eq!(UsdNanos(0).to_string(), "0");
        assert_eq!(UsdNanos(1_500_000).to_string(), "0.0015");
        assert_eq!(UsdNanos(12_000_000_001).to_string(), "12.000000001");
    }
}
