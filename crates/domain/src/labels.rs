//! Labels: what operators attach to projects and tokens to find them again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub const LABELS_MAX: usize = 32;
pub const LABEL_KEY_BYTES_MAX: usize = 64;
pub const LABEL_VALUE_BYTES_MAX: usize = 256;

/// A bounded, ordered set of labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The labels of a token over those of its project: the token's win.
    pub fn merged(&self, over: &Self) -> Self {
        let mut merged = self.0.clone();
        merged.extend(over.0.clone());
        Self(merged)
    }

    /// One line of JSON, as it stands in a record.
    pub fn to_json(&self) -> String {
        let mut out = vec![b'{'];
        for (at, (key, value)) in self.0.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            crate::json::write_text(&mut out, key);
            out.push(b':');
            crate::json::write_text(&mut out, value);
        }
        out.push(b'}');
        String::from_utf8(out).expect("written from valid text")
    }
}

impl TryFrom<BTreeMap<String, String>> for Labels {
    type Error = String;

    fn try_from(map: BTreeMap<String, String>) -> Result<Self, String> {
        if map.len() > LABELS_MAX {
            return Err(format!("at most {LABELS_MAX} labels"));
        }
        for (key, value) in &map {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._/-".contains(&b);
            if key.is_empty() || key.len() > LABEL_KEY_BYTES_MAX || !key.bytes().all(allowed) {
                return Err(format!(
                    "a label key is 1 to {LABEL_KEY_BYTES_MAX} characters of [A-Za-z0-9._/-]"
                ));
            }
            if value.len() > LABEL_VALUE_BYTES_MAX {
                return Err(format!("a label value is at most {LABEL_VALUE_BYTES_MAX} bytes"));
            }
        }
        Ok(Self(map))
    }
}

impl From<Labels> for BTreeMap<String, String> {
    fn from(labels: Labels) -> Self {
        labels.0
    }
}
