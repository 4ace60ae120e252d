//! Where the text of a setting comes from.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::Read as _,
    path::{Path, PathBuf},
};

use serde_yaml_ng::Value as Yaml;

use super::{Environment, Shown, settings::Setting, values::Value};

/// No configuration file and no secret file is longer than this.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Who set a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    File,
    Environment,
    /// A file named by `X_FILE`.
    SecretFile(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File => f.write_str("file"),
            Self::Environment => f.write_str("environment"),
            Self::SecretFile(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The file's keys and the environment, read setting by setting.
pub struct Source<'a> {
    environment: &'a Environment,
    written: BTreeMap<String, String>,
    known: BTreeSet<String>,
    pub shown: Vec<Shown>,
}

/// The one key of the file whose value is a mapping.
pub const REDACTION_KEY: &str = "redaction";

/// What a configuration file says.
#[derive(Debug, Default)]
pub struct Written {
    /// Flat keys and texts.
    pub settings: BTreeMap<String, String>,
    /// What stands under [`REDACTION_KEY`]; null where nothing does.
    pub redaction: Yaml,
}

/// Reads the configuration file.
pub fn read(path: &Path, problems: &mut Vec<String>) -> Written {
    let text = match read_bounded(path) {
        Ok(text) => text,
        Err(reason) => {
            problems.push(format!("configuration file {}: {reason}", path.display()));
            return Written::default();
        }
    };
    let mapping = match serde_yaml_ng::from_str(&text) {
        Ok(Yaml::Mapping(mapping)) => mapping,
        Ok(Yaml::Null) => return Written::default(),
        Ok(_) => {
            problems.push(format!("configuration file {}: not a mapping", path.display()));
            return Written::default();
        }
        Err(error) => {
            let place = not_yaml(&error);
            problems.push(format!("configuration file {}: {place}", path.display()));
            return Written::default();
        }
    };
    let mut written = Written::default();
    for (key, value) in mapping {
        let Yaml::String(key) = key else {
            problems.push("configuration file: a key is not text".to_owned());
            continue;
        };
        if key == REDACTION_KEY {
            written.redaction = value;
            continue;
        }
        match scalar(&value) {
            Some(text) => drop(written.settings.insert(key, text)),
            None => problems.push(format!("{key}: must be one value or a list of them")),
        }
    }
    written
}

/// Says where a document breaks. The parser's own words may quote the document,
/// and the document may hold secrets.
pub fn not_yaml(error: &serde_yaml_ng::Error) -> String {
    match error.location() {
        Some(at) => format!("not valid YAML at line {} column {}", at.line(), at.column()),
        None => "not valid YAML".to_owned(),
    }
}

/// The text of a scalar, or of a list as it would stand in a variable.
pub fn scalar(value: &Yaml) -> Option<String> {
    match value {
        Yaml::Null => Some(String::new()),
        Yaml::Bool(value) => Some(value.to_string()),
        Yaml::Number(value) => Some(value.to_string()),
        Yaml::String(value) => Some(value.clone()),
        Yaml::Sequence(items) => {
            let items: Option<Vec<String>> = items
                .iter()
                .map(|item| if item.is_sequence() { None } else { scalar(item) })
                .collect();
            Some(items?.join(","))
        }
        Yaml::Mapping(_) | Yaml::Tagged(_) => None,
    }
}

pub fn read_bounded(path: &Path) -> Result<String, String> {
    // Pipes and devices have no length that could be asked first.
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("longer than {FILE_BYTES_MAX} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())
}

impl<'a> Source<'a> {
    pub fn new(environment: &'a Environment, written: BTreeMap<String, String>) -> Self {
        Self { environment, written, known: BTreeSet::new(), shown: Vec::new() }
    }

    /// The value of one setting. `None` has been reported.
    pub fn take<V: Value>(&mut self, setting: &Setting, problems: &mut Vec<String>) -> Option<V> {
        self.known.insert(setting.key());
        let found = match self.find(setting) {
            Ok(found) => found,
            Err(problem) => {
                problems.push(format!("{}: {problem}", setting.variable));
                return None;
            }
        };
        let (text, origin) = found.unwrap_or((setting.default.to_owned(), Origin::Default));
        match V::parse(text.trim()) {
            Ok(value) => {
                let unset = text.trim().is_empty();
                let shown = match (unset, setting.secret) {
                    // Worked out at the start: said as in the documentation.
                    (true, _) => setting.default_text.replace('`', ""),
                    (false, true) => "***".to_owned(),
                    (false, false) => value.show(),
                };
                self.shown.push(Shown { key: setting.variable, value: shown, origin });
                Some(value)
            }
            Err(problem) => {
                problems.push(format!("{}: {problem}", setting.variable));
                None
            }
        }
    }

    fn find(&mut self, setting: &Setting) -> Result<Option<(String, Origin)>, String> {
        let in_environment =
            |name: &str| self.environment.get(name).filter(|text| !text.trim().is_empty()).cloned();
        let variable = in_environment(setting.variable);
        let key = setting.key();
        let written = self.written.get(&key).filter(|text| !text.is_empty()).cloned();
        if !setting.secret {
            return Ok(variable
                .map(|text| (text, Origin::Environment))
                .or(written.map(|text| (text, Origin::File))));
        }
        let file_variable = in_environment(&format!("{}_FILE", setting.variable));
        let file_key = format!("{key}_file");
        let file_written = self.written.get(&file_key).filter(|text| !text.is_empty()).cloned();
        self.known.insert(file_key);
        one_of(variable, file_variable, Origin::Environment).and_then(|found| match found {
            Some(found) => Ok(Some(found)),
            None => one_of(written, file_written, Origin::File),
        })
    }

    /// Every key of the file must be a setting.
    pub fn refuse_unknown(&self, all: &[Setting], problems: &mut Vec<String>) {
        for key in self.written.keys().filter(|key| !self.known.contains(*key)) {
            let nearest = all.iter().map(Setting::key).find(|known| similar(known, key));
            let hint =
                nearest.map_or_else(String::new, |known| format!(" (did you mean {known}?)"));
            problems.push(format!("{key}: unknown key{hint}"));
        }
    }
}

/// A secret itself, or what stands in the file that is named for it.
fn one_of(
    text: Option<String>,
    file: Option<String>,
    origin: Origin,
) -> Result<Option<(String, Origin)>, String> {
    match (text, file) {
        (Some(_), Some(_)) => Err("given twice, as a value and as a file".to_owned()),
        (Some(text), None) => Ok(Some((text, origin))),
        (None, None) => Ok(None),
        (None, Some(path)) => {
            let path = PathBuf::from(path);
            let text = read_bounded(&path)
                .map_err(|reason| format!("the secret file cannot be read: {reason}"))?;
            if text.trim().is_empty() {
                return Err("the secret file is empty".to_owned());
            }
            Ok(Some((text, Origin::SecretFile(path))))
        }
    }
}

/// Whether one slip of the hand turns `one` into `other`.
fn similar(one: &str, other: &str) -> bool {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    if one.len().abs_diff(other.len()) > 1 {
        return false;
    }
    let start = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
    let end = one.iter().rev().zip(other.iter().rev()).take_while(|(a, b)| a == b).count();
    start + end + 2 >= one.len().max(other.len())
}
