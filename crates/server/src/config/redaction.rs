//! `redaction` in the configuration file, and in the provider file for one
//! provider: which built-in rules take something out of captured bodies, and
//! which paths and patterns of the operator.
//!
//! ```yaml
//! redaction:
//!   builtin: [credentials, email, card, phone]
//!   paths: ["messages.*.name", "**.ssn"]
//!   patterns:
//!     - {name: employee, regex: 'E[0-9]{6}'}
//! ```

use domain::redact::{Builtin, PATHS_MAX, PATTERNS_MAX, Path, Pattern, Rules};
use serde_yaml_ng::Value as Yaml;

use super::{Origin, Shown, providers::Reader, source};

const PATH_FORM: &str = "names separated by dots, * for any one and ** for any number of them";

/// The rules for everybody. Problems have been reported.
pub fn read(written: &Yaml, problems: &mut Vec<String>) -> Rules {
    let mut reader = Reader::new(written, source::REDACTION_KEY, problems);
    let builtin = reader.list("builtin", "one of credentials, email, card, phone", Builtin::parse);
    let (paths, patterns) = read_own(&mut reader);
    reader.finish();
    Rules::new(builtin.unwrap_or_else(|| Builtin::ALL.to_vec()), paths, patterns)
}

/// The same rules and those of one provider, which can only add to them.
pub fn with_provider(rules: &Rules, reader: &mut Reader<'_, '_>) -> Rules {
    let own = reader.below(source::REDACTION_KEY, read_own);
    own.map_or_else(|| rules.clone(), |(paths, patterns)| rules.and(paths, patterns))
}

/// The line of `config show`.
pub fn shown(rules: &Rules, written: &Yaml) -> Shown {
    let origin = if written.is_null() { Origin::Default } else { Origin::File };
    Shown { key: "REDACTION", value: rules.names().join(","), origin }
}

fn read_own(reader: &mut Reader<'_, '_>) -> (Vec<Path>, Vec<Pattern>) {
    let paths = reader.list("paths", PATH_FORM, Path::parse).unwrap_or_default();
    if paths.len() > PATHS_MAX {
        reader.problem_at("paths", &format!("at most {PATHS_MAX}"));
    }
    let items = reader.items("patterns");
    if items.len() > PATTERNS_MAX {
        reader.problem_at("patterns", &format!("at most {PATTERNS_MAX}"));
    }
    let mut patterns = Vec::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        let path = reader.path_of(&format!("patterns[{at}]"));
        let mut below = Reader::new(item, &path, reader.problems());
        let name = below.text("name").unwrap_or_default();
        let regex = below.text("regex").unwrap_or_default();
        match Pattern::new(&name, &regex) {
            Ok(pattern) => patterns.push(pattern),
            Err(why) => below.problem(&path, &why.to_string()),
        }
        below.finish();
    }
    (paths, patterns)
}
