//! Walks one mapping of a YAML document, notes what was asked for, and reports
//! what is wrong with its path.

use std::collections::BTreeSet;

use serde_yaml_ng::Value as Yaml;

use crate::config::source::scalar;

/// One mapping, where it stands, and where problems go.
pub struct Reader<'v, 'p> {
    value: &'v Yaml,
    path: String,
    asked: BTreeSet<String>,
    problems: &'p mut Vec<String>,
}

impl<'v, 'p> Reader<'v, 'p> {
    /// `Null` reads as an empty mapping.
    pub fn new(value: &'v Yaml, path: &str, problems: &'p mut Vec<String>) -> Self {
        if !value.is_mapping() && !value.is_null() {
            let place = if path.is_empty() { "the provider file" } else { path };
            problems.push(format!("{place}: must be a mapping"));
        }
        Self { value, path: path.to_owned(), asked: BTreeSet::new(), problems }
    }

    pub fn problems(&mut self) -> &mut Vec<String> {
        self.problems
    }

    /// A problem at an absolute path.
    pub fn problem(&mut self, path: &str, reason: &str) {
        self.problems.push(format!("{path}: {reason}"));
    }

    /// A problem at a path below this mapping.
    pub fn problem_at(&mut self, key: &str, reason: &str) {
        let path = self.path_of(key);
        self.problem(&path, reason);
    }

    pub fn has(&self, key: &str) -> bool {
        self.value.get(key).is_some()
    }

    pub fn text(&mut self, key: &str) -> Option<String> {
        self.parsed(key, "text", |text| Some(text.to_owned()))
    }

    /// A scalar in a given form; absence and refusal are both `None`.
    pub fn parsed<T>(
        &mut self,
        key: &str,
        form: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let value = self.ask(key)?;
        let text = if value.is_sequence() { None } else { scalar(value) };
        let parsed = text.and_then(|text| parse(text.trim()));
        if parsed.is_none() {
            self.problem_at(key, &format!("must be {form}"));
        }
        parsed
    }

    /// A list in which each item has a given form.
    pub fn list<T>(
        &mut self,
        key: &str,
        form: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Yaml::Sequence(items) = self.ask(key)? else {
            self.problem_at(key, "must be a list");
            return None;
        };
        let mut parsed = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            match scalar(item).and_then(|text| parse(text.trim())) {
                Some(item) => parsed.push(item),
                None => self.problem_at(&format!("{key}[{at}]"), &format!("must be {form}")),
            }
        }
        Some(parsed)
    }

    /// The items of a list, whatever they are.
    pub fn items(&mut self, key: &str) -> Vec<Yaml> {
        match self.ask(key) {
            None | Some(Yaml::Null) => Vec::new(),
            Some(Yaml::Sequence(items)) => items.clone(),
            Some(_) => {
                self.problem_at(key, "must be a list");
                Vec::new()
            }
        }
    }

    /// The keys and values of a mapping.
    pub fn entries(&mut self, key: &str) -> Vec<(String, Yaml)> {
        let mapping = match self.ask(key) {
            None | Some(Yaml::Null) => return Vec::new(),
            Some(Yaml::Mapping(mapping)) => mapping,
            Some(_) => {
                self.problem_at(key, "must be a mapping");
                return Vec::new();
            }
        };
        let mut entries = Vec::with_capacity(mapping.len());
        for (name, value) in mapping {
            match scalar(name) {
                Some(name) => entries.push((name, value.clone())),
                None => self.problem_at(key, "a key is not text"),
            }
        }
        entries
    }

    /// Reads the mapping at `key`, if there is one, to its end.
    pub fn below<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&mut Reader<'_, '_>) -> T,
    ) -> Option<T> {
        let value = self.ask(key)?;
        let path = self.path_of(key);
        let mut below = Reader::new(value, &path, self.problems);
        let result = read(&mut below);
        below.finish();
        Some(result)
    }

    /// Reports every key that nobody asked for.
    pub fn finish(self) {
        let Yaml::Mapping(mapping) = self.value else { return };
        for key in mapping.keys() {
            let key = scalar(key).unwrap_or_default();
            if !self.asked.contains(&key) {
                let path = path_of(&self.path, &key);
                self.problems.push(format!("{path}: unknown key"));
            }
        }
    }

    fn ask(&mut self, key: &str) -> Option<&'v Yaml> {
        self.asked.insert(key.to_owned());
        self.value.get(key)
    }

    /// Where a key below this mapping stands.
    pub fn path_of(&self, key: &str) -> String {
        path_of(&self.path, key)
    }
}

fn path_of(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
