//! What changed: fields by an allow-list on the model.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{
    action::words,
    value::{Value, Word},
};

words! {
    /// A field of a governed model that an entry may name.
    Field {
        AllowedModels = "allowed_models",
        CaptureBodies = "capture_bodies",
        DeactivatedAt = "deactivated_at",
        Description = "description",
        ExpiresAt = "expires_at",
        IsActive = "is_active",
        Labels = "labels",
        MaxRequests = "max_requests",
        Name = "name",
        ProjectId = "project_id",
        ProjectIds = "project_ids",
        ProviderKeys = "provider_keys",
        RateLimitRpm = "rate_limit_rpm",
        RevokedAt = "revoked_at",
        Role = "role",
        Secret = "secret",
        Value = "value",
    }
}

/// The value of a field at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FieldValue {
    /// Nothing is set; it does not appear.
    Absent,
    Shown(Value),
    /// Secrets by name, each with the number of its version: a change shows as
    /// `{"<name>":{"changed":true}}` and nothing else.
    Secrets(BTreeMap<String, i64>),
}

impl<T: Into<Value>> From<T> for FieldValue {
    fn from(value: T) -> Self {
        Self::Shown(value.into())
    }
}

impl FieldValue {
    pub fn optional(value: Option<impl Into<Value>>) -> Self {
        value.map_or(Self::Absent, |value| Self::Shown(value.into()))
    }
}

/// A model whose changes are told. Implement it by taking the model apart
/// without `..`, so that a field without a decision does not compile.
pub trait Audited {
    fn audited(&self) -> Vec<(Field, FieldValue)>;
}

impl<T: Audited> Audited for Option<T> {
    fn audited(&self) -> Vec<(Field, FieldValue)> {
        self.as_ref().map(Audited::audited).unwrap_or_default()
    }
}

/// The fields that differ, with what they were and what they are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Change(pub(super) BTreeMap<Field, (Option<Value>, Option<Value>)>);

impl Change {
    /// Everything that a new model has set.
    pub fn created(after: &impl Audited) -> Self {
        Self::between(&None::<Nothing>, after)
    }

    pub fn between(before: &impl Audited, after: &impl Audited) -> Self {
        let mut before: BTreeMap<Field, FieldValue> = before.audited().into_iter().collect();
        let mut change = Self::default();
        for (field, now) in after.audited() {
            change.put(field, before.remove(&field).unwrap_or(FieldValue::Absent), now);
        }
        for (field, was) in before {
            change.put(field, was, FieldValue::Absent);
        }
        change
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The fields, in the order of their names.
    pub fn fields(&self) -> Vec<Field> {
        self.0.keys().copied().collect()
    }

    fn put(&mut self, field: Field, was: FieldValue, now: FieldValue) {
        if was == now {
            return;
        }
        let shown = |value| match value {
            FieldValue::Shown(value) => Some(value),
            FieldValue::Absent | FieldValue::Secrets(_) => None,
        };
        let sides = match (was, now) {
            (FieldValue::Secrets(was), FieldValue::Secrets(now)) => (None, rotated(&was, &now)),
            (FieldValue::Absent, FieldValue::Secrets(now)) => {
                (None, rotated(&BTreeMap::new(), &now))
            }
            (FieldValue::Secrets(was), FieldValue::Absent) => {
                (None, rotated(&was, &BTreeMap::new()))
            }
            (was, now) => (shown(was), shown(now)),
        };
        if sides != (None, None) {
            self.0.insert(field, sides);
        }
    }
}

fn rotated(was: &BTreeMap<String, i64>, now: &BTreeMap<String, i64>) -> Option<Value> {
    let replaced = now.iter().filter(|(name, version)| was.get(*name) != Some(version));
    let removed = was.keys().filter(|name| !now.contains_key(*name));
    let changed = replaced.map(|(name, _)| name).chain(removed);
    let changed: Vec<_> = changed.map(|name| (name.as_str(), Value::changed())).collect();
    (!changed.is_empty()).then(|| Value::map(changed))
}

/// A model before it existed.
struct Nothing;

impl Audited for Nothing {
    fn audited(&self) -> Vec<(Field, FieldValue)> {
        Vec::new()
    }
}

impl From<Word> for Value {
    fn from(word: Word) -> Self {
        Self::text(word.as_str())
    }
}
