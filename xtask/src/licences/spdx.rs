//! Licence expressions: `MIT OR (Apache-2.0 AND Unicode-3.0)`, and the older
//! `MIT/Apache-2.0`.

use anyhow::{Result, bail};

/// Whether the allowed licences satisfy an expression. `AND` binds closer than
/// `OR`; a licence `WITH` an exception is one name.
pub fn satisfied(expression: &str, allowed: &impl Fn(&str) -> bool) -> Result<bool> {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, allowed };
    let value = parser.either()?;
    if !parser.words.is_empty() {
        bail!("cannot read the licence '{expression}'");
    }
    Ok(value)
}

struct Parser<'a, F> {
    words: &'a [&'a str],
    allowed: &'a F,
}

impl<F: Fn(&str) -> bool> Parser<'_, F> {
    fn take(&mut self, word: &str) -> bool {
        let found = self.words.first() == Some(&word);
        if found {
            self.words = &self.words[1..];
        }
        found
    }

    fn either(&mut self) -> Result<bool> {
        let mut value = self.both()?;
        while self.take("OR") {
            value |= self.both()?;
        }
        Ok(value)
    }

    fn both(&mut self) -> Result<bool> {
        let mut value = self.one()?;
        while self.take("AND") {
            value &= self.one()?;
        }
        Ok(value)
    }

    fn one(&mut self) -> Result<bool> {
        if self.take("(") {
            let value = self.either()?;
            if !self.take(")") {
                bail!("a licence expression without its closing bracket");
            }
            return Ok(value);
        }
        let Some((name, rest)) = self.words.split_first() else { bail!("a licence is missing") };
        self.words = rest;
        if !self.take("WITH") {
            return Ok((self.allowed)(name));
        }
        let Some((exception, rest)) = self.words.split_first() else { bail!("WITH what?") };
        self.words = rest;
        Ok((self.allowed)(&format!("{name} WITH {exception}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read_as_written() {
        let allowed = |name: &str| ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].contains(&name);
        for (expression, value) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("GPL-3.0 OR MIT", true),
            ("GPL-3.0/MIT", true),
            ("MIT AND ISC", true),
            ("MIT AND GPL-3.0", false),
            ("(MIT OR GPL-3.0) AND ISC", true),
            ("GPL-3.0 OR MIT AND ISC", true),
            ("Apache-2.0 WITH LLVM-exception OR GPL-3.0", true),
        ] {
            assert_eq!(satisfied(expression, &allowed).expect(expression), value, "{expression}");
        }
        for expression in ["", "MIT OR", "(MIT", "MIT ISC"] {
            assert!(satisfied(expression, &allowed).is_err(), "{expression}");
        }
    }
}
