//! What the command line asks for.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use domain::{ids::InstanceId, time::Timestamp};

/// The Monday on which generated weeks end, so that figures can be compared.
const END: &str = "2026-11-23T00:00:00Z";

#[derive(Clone, Debug)]
pub struct Options {
    pub data_dir: Option<PathBuf>,
    pub records: u64,
    pub seed: u64,
    pub days: u32,
    pub end: Timestamp,
    pub instance: InstanceId,
    /// Records a second, in the time of the machine.
    pub rate: Option<u32>,
    pub also_jsonl: Option<PathBuf>,
    pub seals: bool,
    /// Merges small files at the end.
    pub compacts: bool,
}

impl Options {
    pub fn read(words: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut records = None;
        let mut options = Self {
            data_dir: None,
            records: 0,
            seed: 42,
            days: 7,
            end: time(END)?,
            instance: instance("gen")?,
            rate: None,
            also_jsonl: None,
            seals: true,
            compacts: false,
        };
        let mut words = words.into_iter();
        while let Some(flag) = words.next() {
            match flag.as_str() {
                "--unsealed" => options.seals = false,
                "--compact" => options.compacts = true,
                _ => {}
            }
            if ["--unsealed", "--compact"].contains(&flag.as_str()) {
                continue;
            }
            let value = words.next().with_context(|| format!("{flag} needs a value"))?;
            let number = || value.parse::<u64>().with_context(|| format!("{flag} {value}"));
            match flag.as_str() {
                "--data-dir" => options.data_dir = Some(PathBuf::from(&value)),
                "--records" => records = Some(number()?),
                "--seed" => options.seed = number()?,
                "--days" => options.days = u32::try_from(number()?)?,
                "--end" => options.end = time(&value)?,
                "--instance" => options.instance = instance(&value)?,
                "--rate" => options.rate = Some(u32::try_from(number()?)?),
                "--also-jsonl" => options.also_jsonl = Some(PathBuf::from(&value)),
                _ => bail!("unknown argument '{flag}'"),
            }
        }
        options.records = records.context("--records is missing")?;
        if options.rate == Some(0) || options.days == 0 {
            bail!("neither --rate nor --days can be 0");
        }
        Ok(options)
    }
}

fn time(text: &str) -> Result<Timestamp> {
    if text == "now" {
        return Ok(machine_time());
    }
    Timestamp::parse(text).with_context(|| format!("'{text}' is not an RFC 3339 time"))
}

/// Generated traffic may end now, or happen now.
#[expect(clippy::disallowed_methods, reason = "a tool that is told to use the machine's time")]
pub fn machine_time() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let micros = since.map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX));
    Timestamp::from_micros(micros)
}

fn instance(name: &str) -> Result<InstanceId> {
    InstanceId::parse(name).with_context(|| format!("'{name}' cannot name an instance"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Options> {
        Options::read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn what_is_missing_or_wrong_is_said() {
        let options = read("--records 10 --unsealed --data-dir d --rate 5").expect("options");
        assert_eq!((options.records, options.rate, options.seals), (10, Some(5), false));
        for (line, message) in [
            ("--data-dir d", "--records is missing"),
            ("--data-dir d --records ten", "--records ten"),
            ("--data-dir d --records 1 --what x", "unknown argument '--what'"),
            ("--data-dir d --records 1 --days 0", "neither --rate nor --days can be 0"),
            ("--data-dir d --records 1 --end noon", "'noon' is not an RFC 3339 time"),
            ("--data-dir d --records", "--records needs a value"),
        ] {
            assert_eq!(read(line).expect_err(line).to_string(), message);
        }
    }
}
