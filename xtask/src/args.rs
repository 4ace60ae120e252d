//! The flags of a task, read by hand: `--name VALUE` and `--name`.

use std::{collections::VecDeque, str::FromStr};

use anyhow::{Context, Result, bail};

/// What is left of the command line.
#[derive(Debug)]
pub struct Args(VecDeque<String>);

impl Args {
    pub fn new(args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(args.into_iter().map(Into::into).collect())
    }

    /// The next word, when it is not a flag.
    pub fn word(&mut self) -> Option<String> {
        self.0.pop_front_if(|word| !word.starts_with("--"))
    }

    /// Whether `--name` was given.
    pub fn flag(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|word| word != name);
        self.0.len() != before
    }

    /// The value of `--name`, when it was given.
    pub fn value<T>(&mut self, name: &str) -> Result<Option<T>>
    where
        T: FromStr,
        T::Err: Into<anyhow::Error>,
    {
        let Some(index) = self.0.iter().position(|word| word == name) else { return Ok(None) };
        self.0.remove(index);
        let Some(text) = self.0.remove(index) else { bail!("{name} needs a value") };
        let value = text.parse().map_err(Into::into);
        Ok(Some(value.with_context(|| format!("the value of {name}"))?))
    }

    /// Every value of a flag that may be repeated.
    pub fn values<T>(&mut self, name: &str) -> Result<Vec<T>>
    where
        T: FromStr,
        T::Err: Into<anyhow::Error>,
    {
        let mut values = Vec::new();
        while let Some(value) = self.value(name)? {
            values.push(value);
        }
        Ok(values)
    }

    /// Everything that is left, for another program.
    pub fn rest(self) -> Vec<String> {
        self.0.into()
    }

    /// Refuses what nobody asked for.
    pub fn finish(self) -> Result<()> {
        match self.0.front() {
            Some(word) => bail!("unknown argument '{word}'"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_come_in_any_order() {
        let mut args =
            Args::new(["proxy", "--check", "--rounds", "3", "--peer", "a", "--peer", "b"]);
        assert_eq!(args.word().as_deref(), Some("proxy"));
        assert_eq!(args.word(), None);
        assert_eq!(args.values::<String>("--peer").expect("peers"), ["a", "b"]);
        assert_eq!(args.value::<u32>("--rounds").expect("a number"), Some(3));
        assert!(args.flag("--check"));
        assert!(args.finish().is_ok());
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(Args::new(["--rounds"]).value::<u32>("--rounds").is_err());
        assert!(Args::new(["--rounds", "x"]).value::<u32>("--rounds").is_err());
        assert!(Args::new(["--what"]).finish().is_err());
    }
}
