//! Settings that take several values.

use domain::audit::Action;
use ipnet::IpNet;

use super::{EncryptionKey, Value, must_be};

/// Several values, separated by commas.
macro_rules! lists {
    ($($item:ty, $form:literal;)+) => {$(
        impl Value for Vec<$item> {
            const FORM: &'static str = $form;

            fn parse(text: &str) -> Result<Self, String> {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                items.map(|item| item_of(item).ok_or_else(must_be::<Self>)).collect()
            }

            fn show(&self) -> String {
                self.iter().map(ListItem::text).collect::<Vec<_>>().join(",")
            }
        }
    )+};
}

lists! {
    IpNet, "addresses or networks (10.0.0.0/8,::1), separated by commas";
    EncryptionKey, "base64 of exactly 32 bytes each, separated by commas";
    HostRule, "host names, .suffixes, addresses or *, separated by commas";
    Action, "actions (project.update,logs.export), separated by commas";
}

trait ListItem: Sized {
    fn of(text: &str) -> Option<Self>;
    fn text(&self) -> String;
}

fn item_of<T: ListItem>(text: &str) -> Option<T> {
    T::of(text)
}

impl ListItem for IpNet {
    fn of(text: &str) -> Option<Self> {
        text.parse().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(Self::from))
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl ListItem for Action {
    fn of(text: &str) -> Option<Self> {
        Self::parse(text)
    }

    fn text(&self) -> String {
        self.as_str().to_owned()
    }
}

impl ListItem for EncryptionKey {
    fn of(text: &str) -> Option<Self> {
        Self::parse(text).ok()
    }

    fn text(&self) -> String {
        self.show()
    }
}

/// A host that is reached without the forward proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRule(pub String);

impl ListItem for HostRule {
    fn of(text: &str) -> Option<Self> {
        let fits = text.len() <= 253
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:*/[]".contains(&byte));
        fits.then(|| Self(text.to_owned()))
    }

    fn text(&self) -> String {
        self.0.clone()
    }
}
