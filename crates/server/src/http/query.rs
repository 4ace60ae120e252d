//! Reads a query string parameter by parameter, as [`crate::manage::fields`]
//! reads a body: what nobody asked for is refused by name.

use std::collections::BTreeMap;

use crate::manage::{
    Page,
    error::{Error, Result},
};

/// Queries of searches are written by programs too.
const QUERY_BYTES_MAX: usize = 32 * 1024;
const LIMIT_DEFAULT: u32 = 100;
const LIMIT_MAX: u32 = 1000;
const CURSOR_BYTES_MAX: usize = 512;
const NAME_CHARS_SHOWN: usize = 64;

/// The parameters that were not yet taken.
#[derive(Debug, Default)]
pub struct Query {
    parameters: BTreeMap<String, String>,
}

impl Query {
    pub fn parse(query: Option<&str>) -> Result<Self> {
        let query = query.unwrap_or_default();
        if query.len() > QUERY_BYTES_MAX {
            let most = QUERY_BYTES_MAX / 1024;
            return Err(Error::invalid(format!("the query string is longer than {most} KiB")));
        }
        let mut parameters = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if parameters.insert(name.into_owned(), value.into_owned()).is_some() {
                return Err(Error::invalid("a query parameter stands twice"));
            }
        }
        Ok(Self { parameters })
    }

    /// All of them, in one order whoever wrote them; before any is taken.
    pub fn normalised(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.parameters);
        query.finish()
    }

    pub fn text(&mut self, name: &str) -> Option<String> {
        self.parameters.remove(name)
    }

    pub fn boolean(&mut self, name: &str) -> Result<Option<bool>> {
        match self.text(name).as_deref() {
            None => Ok(None),
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(_) => Err(Error::invalid(format!("{name} must be true or false"))),
        }
    }

    /// `limit` and `cursor`. That a cursor is one of ours, the store checks.
    pub fn page(&mut self) -> Result<Page> {
        let limit = match self.text("limit") {
            None => LIMIT_DEFAULT,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=LIMIT_MAX).contains(limit))
                .ok_or_else(|| Error::invalid(format!("limit must be 1 to {LIMIT_MAX}")))?,
        };
        let cursor = self.text("cursor");
        if cursor.as_ref().is_some_and(|cursor| cursor.len() > CURSOR_BYTES_MAX) {
            return Err(Error::invalid("cursor is not one of ours"));
        }
        Ok(Page { limit, cursor })
    }

    /// Refuses whatever was not asked for.
    pub fn finish(self) -> Result<()> {
        let Some(unknown) = self.parameters.keys().next() else { return Ok(()) };
        let shown: String = unknown.chars().take(NAME_CHARS_SHOWN).collect();
        let shown = domain::redact::redacted(&shown, &[]);
        Err(Error::invalid(format!("unknown query parameter {}", shown.escape_debug())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_checked_by_name() {
        let check = |query: &str, expected: &str| {
            let read = || -> Result<()> {
                let mut query = Query::parse(Some(query))?;
                query.boolean("activeOnly")?;
                query.page()?;
                query.finish()
            };
            let said = read().map_or_else(|error| error.to_string(), |()| "fine".to_owned());
            assert_eq!(said, expected, "{query}");
        };
        check("", "fine");
        check("limit=1000&activeOnly=true&cursor=abc", "fine");
        for bad in ["0", "1001", "-1", "ten", "", "99999999999"] {
            check(&format!("limit={bad}"), "limit must be 1 to 1000");
        }
        check("activeOnly=yes", "activeOnly must be true or false");
        check("limit=1&limit=2", "a query parameter stands twice");
        check("project=x", "unknown query parameter project");
        check("sk-AAAAAAAAAAAAAAAAAAAAAAAA=1", "unknown query parameter ***");
        check(&format!("cursor={}", "a".repeat(600)), "cursor is not one of ours");
    }
}
