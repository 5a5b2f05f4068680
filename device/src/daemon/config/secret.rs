//! What is never shown: passwords, by themselves and inside of addresses.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// What stands in place of a secret.
const HIDDEN: &str = "***";

/// A password. It has one way out, `reveal`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

impl Secret {
    /// The password itself, for whom it is meant.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(HIDDEN)
    }
}

/// A text with user and password of every address in it hidden.
pub(crate) fn masked(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        // User and password end at the last @ before the path, the query or the next word.
        let end = after.find(|c: char| "/?#\"'<>".contains(c) || c.is_whitespace());
        let authority = &after[..end.unwrap_or(after.len())];
        rest = match authority.rfind('@') {
            Some(at) => {
                shown.push_str(HIDDEN);
                &after[at..]
            }
            None => after,
        };
    }
    shown + rest
}

pub(super) fn hidden<S: Serializer>(_: &str, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(HIDDEN)
}

pub(super) fn uri<S: Serializer>(uri: &str, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&masked(uri))
}

#[allow(clippy::ref_option, reason = "serde gives it so")]
pub(super) fn optional_uri<S: Serializer>(uri: &Option<String>, to: S) -> Result<S::Ok, S::Error> {
    uri.as_deref().map(masked).serialize(to)
}

pub(super) fn uris<S: Serializer>(uris: &[String], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(uris.iter().map(|uri| masked(uri)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_hidden_and_nothing_else() {
        for (text, shown) in [
            ("rtsp://ann:pa@ss@box/1?a=b", "rtsp://***@box/1?a=b"),
            ("http://token@box", "http://***@box"),
            ("http://box/a@b", "http://box/a@b"),
            ("two http://a:b@c and mqtt://d:e@f:1", "two http://***@c and mqtt://***@f:1"),
            ("no address, ann@box", "no address, ann@box"),
            ("cut off ://", "cut off ://"),
        ] {
            assert_eq!(masked(text), shown);
        }
        let secret = Secret("pass".to_owned());
        assert_eq!(format!("{secret:?}"), HIDDEN);
        assert_eq!(serde_json::to_string(&secret).expect("JSON"), "\"***\"");
    }
}
