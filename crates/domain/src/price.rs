//! What tokens cost: list prices from a table that ships with the product, and
//! an operator's own table over it.
//!
//! Prices are decimal strings in US dollars per million tokens and stay exact:
//! nanodollars per million tokens as integers, multiplied by counts and rounded
//! once. A model that the table does not know costs nothing that we could name:
//! the answer is `None`, never a guess.

use std::{collections::HashMap, sync::Arc};

use serde::Deserialize;

use crate::{
    glob::Glob,
    usage::{Usage, UsdNanos},
};

const SHIPPED: &str = include_str!("../data/prices.json");
const TOKENS_A_PRICE: u128 = 1_000_000;
/// Digits after the point that a nanodollar has.
const DECIMALS: usize = 9;
/// Bounds an operator's file.
pub const PRICES_MAX: usize = 10_000;

/// A table that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PriceError {
    #[error("the price table is not valid")]
    Syntax(#[from] serde_json::Error),
    #[error("`{0}` is not a price in dollars with at most {DECIMALS} decimals")]
    NotAPrice(String),
    #[error("the price table has more than {PRICES_MAX} prices")]
    TooMany,
    #[error("prices are in USD per 1000000 tokens only")]
    Unit,
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: String,
    #[serde(default)]
    currency: Option<String>,
    #[serde(default)]
    per_tokens: Option<u64>,
    #[serde(default, rename = "sources")]
    _sources: serde::de::IgnoredAny,
    prices: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    /// An id, or a pattern with `*`.
    model: String,
    /// Only for the provider of this name in the configuration.
    #[serde(default)]
    provider: Option<String>,
    #[serde(default, rename = "vendor")]
    _vendor: serde::de::IgnoredAny,
    input: String,
    #[serde(default)]
    cached_input: Option<String>,
    #[serde(default)]
    cache_write: Option<String>,
    #[serde(default)]
    cache_write_1h: Option<String>,
    #[serde(default)]
    output: Option<String>,
    #[serde(default)]
    long: Option<LongRow>,
}

/// Other prices for the whole request when its input is long.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LongRow {
    input_tokens_over: u64,
    input: String,
    #[serde(default)]
    cached_input: Option<String>,
    #[serde(default)]
    cache_write: Option<String>,
    #[serde(default)]
    cache_write_1h: Option<String>,
    #[serde(default)]
    output: Option<String>,
}

/// Nanodollars per million tokens.
#[derive(Clone, Copy, Debug)]
struct Rates {
    input: u64,
    cached_input: u64,
    cache_write: u64,
    cache_write_1h: u64,
    output: Option<u64>,
}

#[derive(Clone, Debug)]
struct Price {
    provider: Option<Box<str>>,
    rates: Rates,
    long: Option<(u64, Rates)>,
}

/// What is to be priced.
#[derive(Clone, Copy, Debug, Default)]
pub struct Priced<'a> {
    pub usage: Usage,
    /// The part of `usage.cache_write_tokens` that is kept for an hour.
    pub cache_write_1h_tokens: u64,
    /// As asked for.
    pub model: Option<&'a str>,
    /// As answered: nearer to the bill, so it is looked up first.
    pub response_model: Option<&'a str>,
    /// The provider's name in the configuration.
    pub provider: &'a str,
}

/// Prices by model.
#[derive(Clone, Debug)]
pub struct PriceTable {
    version: Arc<str>,
    exact: HashMap<Box<str>, Vec<Price>>,
    /// Most specific first.
    patterns: Vec<(Glob, Price)>,
}

impl PriceTable {
    /// The table that ships with this version.
    pub fn shipped() -> Self {
        Self::parse(SHIPPED).expect("a test reads the shipped table")
    }

    pub fn parse(json: &str) -> Result<Self, PriceError> {
        let file: File = serde_json::from_str(json)?;
        if file.prices.len() > PRICES_MAX {
            return Err(PriceError::TooMany);
        }
        let unit_is_other = file.currency.is_some_and(|currency| currency != "USD")
            || file.per_tokens.is_some_and(|tokens| u128::from(tokens) != TOKENS_A_PRICE);
        if unit_is_other {
            return Err(PriceError::Unit);
        }
        let mut table =
            Self { version: file.version.into(), exact: HashMap::new(), patterns: Vec::new() };
        for row in file.prices {
            let price = Price::of(&row)?;
            if row.model.contains('*') {
                table.patterns.push((Glob::new(row.model), price));
            } else {
                table.exact.entry(row.model.into()).or_default().push(price);
            }
        }
        table.sort_patterns();
        Ok(table)
    }

    /// This table with `over`'s prices instead of its own where both have one.
    #[must_use]
    pub fn overridden_by(mut self, over: Self) -> Self {
        self.version = format!("{}+{}", self.version, over.version).into();
        for (model, prices) in over.exact {
            let known = self.exact.entry(model).or_default();
            known.retain(|old| !prices.iter().any(|new| new.provider == old.provider));
            known.extend(prices);
        }
        self.patterns.retain(|(glob, old)| {
            !over
                .patterns
                .iter()
                .any(|(new_glob, new)| new_glob == glob && new.provider == old.provider)
        });
        // Before equally specific ones of the table below.
        self.patterns.splice(0..0, over.patterns);
        self.sort_patterns();
        self
    }

    /// Names the prices in a record.
    pub fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// The cost, where the model is known and there is something to price.
    pub fn cost(&self, priced: &Priced<'_>) -> Option<UsdNanos> {
        let usage = &priced.usage;
        if usage.input_tokens.is_none() && usage.output_tokens.is_none() {
            return None;
        }
        let models = [priced.response_model, priced.model];
        let price = models.iter().flatten().find_map(|model| self.find(model, priced.provider))?;
        let input = usage.input_tokens.unwrap_or(0);
        let rates = match price.long {
            Some((over, rates)) if input > over => rates,
            _ => price.rates,
        };
        let cached = usage.cached_input_tokens.unwrap_or(0).min(input);
        let written = usage.cache_write_tokens.unwrap_or(0).min(input - cached);
        let written_1h = priced.cache_write_1h_tokens.min(written);
        let output = usage.output_tokens.unwrap_or(0);
        let output_rate = if output == 0 { 0 } else { rates.output? };
        let parts = [
            (input - cached - written, rates.input),
            (cached, rates.cached_input),
            (written - written_1h, rates.cache_write),
            (written_1h, rates.cache_write_1h),
            (output, output_rate),
        ];
        let sum = parts.iter().try_fold(0u128, |sum, (tokens, rate)| {
            sum.checked_add(u128::from(*tokens) * u128::from(*rate))
        })?;
        let nanos = sum.checked_add(TOKENS_A_PRICE / 2)? / TOKENS_A_PRICE;
        u64::try_from(nanos).ok().map(UsdNanos)
    }

    /// The id itself, then without its date, then the most specific pattern.
    fn find(&self, model: &str, provider: &str) -> Option<&Price> {
        let exact = |model: &str| {
            let prices = self.exact.get(model)?;
            let own = prices.iter().find(|price| price.provider.as_deref() == Some(provider));
            own.or_else(|| prices.iter().find(|price| price.provider.is_none()))
        };
        exact(model).or_else(|| exact(undated(model)?)).or_else(|| {
            let for_us =
                |price: &Price| price.provider.as_deref().is_none_or(|name| name == provider);
            let found =
                self.patterns.iter().find(|(glob, price)| glob.matches(model) && for_us(price));
            found.map(|(_, price)| price)
        })
    }

    /// Longer patterns say more; those for one provider come before the rest.
    fn sort_patterns(&mut self) {
        self.patterns.sort_by_key(|(glob, price)| {
            std::cmp::Reverse((price.provider.is_some(), glob.as_str().len()))
        });
    }
}

impl Price {
    fn of(row: &Row) -> Result<Self, PriceError> {
        let rates = Rates::of(
            &row.input,
            row.cached_input.as_deref(),
            row.cache_write.as_deref(),
            row.cache_write_1h.as_deref(),
            row.output.as_deref(),
        )?;
        let long = row.long.as_ref().map(|long| {
            let rates = Rates::of(
                &long.input,
                long.cached_input.as_deref(),
                long.cache_write.as_deref(),
                long.cache_write_1h.as_deref(),
                long.output.as_deref(),
            )?;
            Ok::<_, PriceError>((long.input_tokens_over, rates))
        });
        let provider = row.provider.as_deref().map(Into::into);
        Ok(Self { provider, rates, long: long.transpose()? })
    }
}

impl Rates {
    /// What has no price of its own costs as much as its nearest kin.
    fn of(
        input: &str,
        cached_input: Option<&str>,
        cache_write: Option<&str>,
        cache_write_1h: Option<&str>,
        output: Option<&str>,
    ) -> Result<Self, PriceError> {
        let or = |text: Option<&str>, kin: u64| text.map_or(Ok(kin), nanos);
        let input = nanos(input)?;
        let cache_write = or(cache_write, input)?;
        Ok(Self {
            input,
            cached_input: or(cached_input, input)?,
            cache_write,
            cache_write_1h: or(cache_write_1h, cache_write)?,
            output: output.map(nanos).transpose()?,
        })
    }
}

/// `2.50` as 2 500 000 000.
fn nanos(text: &str) -> Result<u64, PriceError> {
    let wrong = || PriceError::NotAPrice(text.to_owned());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || fraction.len() > DECIMALS || !digits(whole) || !digits(fraction) {
        return Err(wrong());
    }
    format!("{whole}{fraction:0<DECIMALS$}").parse().map_err(|_| wrong())
}

/// `gpt-4o` of `gpt-4o-2024-08-06`, `claude-sonnet-4` of
/// `claude-sonnet-4-20250514` or `claude-sonnet-4@20250514`.
fn undated(model: &str) -> Option<&str> {
    let digits = |text: &str, count: usize| {
        text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    if let Some(bare) = model.strip_suffix("-latest") {
        return Some(bare);
    }
    let (bare, last) = model.rsplit_once(['-', '@'])?;
    if digits(last, 8) {
        return Some(bare);
    }
    let (bare, month) = bare.rsplit_once('-')?;
    let (bare, year) = bare.rsplit_once('-')?;
    (digits(year, 4) && digits(month, 2) && digits(last, 2)).then_some(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(input: u64, cached: u64, written: u64, output: u64) -> Usage {
        Usage {
            input_tokens: Some(input),
            output_tokens: Some(output),
            cached_input_tokens: Some(cached),
            cache_write_tokens: Some(written),
            ..Usage::default()
        }
    }

    fn check(model: &str, usage: Usage, cache_write_1h_tokens: u64, expected: Option<&str>) {
        let priced =
            Priced { usage, cache_write_1h_tokens, model: Some(model), ..Priced::default() };
        let cost = PriceTable::shipped().cost(&priced).map(|cost| cost.to_string());
        assert_eq!(cost.as_deref(), expected, "{model}");
    }

    #[test]
    fn shipped_prices_are_exact() {
        check("gpt-4o-2024-08-06", usage(1000, 0, 0, 500), 0, Some("0.0075"));
        check("gpt-4o", usage(1000, 400, 0, 0), 0, Some("0.002"));
        check("gpt-4o-mini", usage(1, 0, 0, 0), 0, Some("0.00000015"));
        check("claude-sonnet-4-5-20250929", usage(165, 40, 100, 15), 40, Some("0.000777"));
        check("text-embedding-3-small", usage(12, 0, 0, 0), 0, Some("0.00000024"));
        check("gpt-3.5-turbo-instruct:20230824-v2", usage(1_000_000, 0, 0, 0), 0, Some("1.5"));
        check("gpt-5.4", usage(272_000, 0, 0, 0), 0, Some("0.68"));
        check("gpt-5.4", usage(272_001, 0, 0, 0), 0, Some("1.360005"));
        check("some-model-of-tomorrow", usage(1, 0, 0, 1), 0, None);
        check("text-embedding-3-small", usage(1, 0, 0, 1), 0, None);
        check("gpt-4o", Usage::default(), 0, None);
        check("gpt-4o", usage(u64::MAX, 0, 0, u64::MAX), 0, None);
    }

    #[test]
    fn the_answering_model_is_priced_first() {
        let priced = Priced {
            usage: usage(1_000_000, 0, 0, 0),
            model: Some("gpt-4o-mini"),
            response_model: Some("gpt-4o"),
            ..Priced::default()
        };
        assert_eq!(PriceTable::shipped().cost(&priced), Some(UsdNanos(2_500_000_000)));
        let priced = Priced { response_model: Some("unknown"), ..priced };
        assert_eq!(PriceTable::shipped().cost(&priced), Some(UsdNanos(150_000_000)));
    }

    #[test]
    fn an_operators_table_wins() {
        let over = r#"{"version": "ours", "prices": [
            {"model": "gpt-4o", "input": "2", "output": "8"},
            {"model": "gpt-4o", "provider": "azure", "input": "1", "output": "8"},
            {"model": "llama-*", "input": "0.0000001", "output": "0"},
            {"model": "llama-3*", "input": "3", "output": "0"}
        ]}"#;
        let table =
            PriceTable::shipped().overridden_by(PriceTable::parse(over).expect("a valid table"));
        assert!(table.version().ends_with("+ours"));
        let cost = |model, provider| {
            let usage = usage(1_000_000, 0, 0, 0);
            let priced = Priced { usage, model: Some(model), provider, ..Priced::default() };
            table.cost(&priced).map(|cost| cost.to_string())
        };
        assert_eq!(cost("gpt-4o-2024-08-06", "openai").as_deref(), Some("2"));
        assert_eq!(cost("gpt-4o", "azure").as_deref(), Some("1"));
        assert_eq!(cost("llama-4", "groq").as_deref(), Some("0.0000001"));
        assert_eq!(cost("llama-3.3", "groq").as_deref(), Some("3"));
        assert_eq!(cost("gpt-4.1", "openai").as_deref(), Some("2"));
    }

    #[test]
    fn bad_tables_are_refused() {
        let check = |json: &str| assert!(PriceTable::parse(json).is_err(), "{json}");
        check("{}");
        check(r#"{"version":"1","prices":[{"model":"m","input":"1,5"}]}"#);
        check(r#"{"version":"1","prices":[{"model":"m","input":"-1"}]}"#);
        check(r#"{"version":"1","prices":[{"model":"m","input":"1.0000000001"}]}"#);
        check(r#"{"version":"1","prices":[{"model":"m","input":"99999999999999999999"}]}"#);
        check(r#"{"version":"1","prices":[{"model":"m","input":"1","ouput":"2"}]}"#);
        check(r#"{"version":"1","currency":"EUR","prices":[]}"#);
    }
}
