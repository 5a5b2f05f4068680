//! Secrets that are never shown: passwords, alone and within URLs.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// Text in place of a secret.
const HIDDEN: &str = "***";

/// A password. Only `reveal` returns its text.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

impl Secret {
    /// Wraps a password that was read elsewhere.
    pub(crate) fn new(password: String) -> Self {
        Self(password)
    }

    /// Returns the text of the password.
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

/// Endings of the names of query values that are secret: `?loginpas=`, `&access_token=`.
const SECRET_VALUES: [&str; 12] = [
    "password", "passwd", "passw", "pass", "pas", "pwd", "psw", "pw", "token", "secret", "apikey",
    "api_key",
];

/// Schemes of `Authorization`, which are not secret.
const LOGIN_SCHEMES: [&str; 3] = ["basic", "bearer", "digest"];

/// Masks all credentials in a text: user names and passwords of URLs, passwords in queries, HTTP
/// logins.
pub(crate) fn masked(text: &str) -> String {
    let text = without_logins(text);
    let text = without_values(&text, |c| "&\"'<>".contains(c) || c.is_whitespace());
    without_headers(&text)
}

/// Like [`masked`], for a text that is a single URL: quotation marks and spaces belong to a
/// password.
pub(crate) fn masked_address(text: &str) -> String {
    let shown = match text.split_once("://") {
        None => without_login(text),
        Some((scheme, rest)) => match secret_length(rest) {
            0 => text.to_owned(),
            hidden => format!("{scheme}://{HIDDEN}{}", &rest[hidden..]),
        },
    };
    without_values(&shown, |c| c == '&')
}

/// Masks user name and password of all URLs, with or without a scheme.
fn without_logins(text: &str) -> String {
    let is_end = |c: char| "\"'<>".contains(c) || c.is_whitespace();
    let hide = |word: &str| {
        let Some(mut at) = word.find("://") else { return without_login(word) };
        let mut shown = String::with_capacity(word.len());
        let mut rest = word;
        loop {
            let (before, after) = rest.split_at(at + 3);
            shown.push_str(before);
            let hidden = secret_length(after);
            if hidden > 0 {
                shown.push_str(HIDDEN);
            }
            rest = &after[hidden..];
            match rest.find("://") {
                Some(next) => at = next,
                None => return shown + rest,
            }
        }
    };
    text.split_inclusive(is_end).map(hide).collect()
}

/// Masks the text before the `@` of a URL without a scheme, if it holds a user name and a password.
fn without_login(word: &str) -> String {
    let hidden = || {
        let at = word.rfind('@')?;
        let colon = word[..at].find(':')?;
        let from = word[..colon].rfind(['=', '(', '[', ',']).map_or(0, |before| before + 1);
        let is_host = word[at + 1..].starts_with(|c: char| c == '[' || c.is_alphanumeric());
        (from < colon && is_host).then_some((from, at))
    };
    match hidden() {
        Some((from, at)) => format!("{}{HIDDEN}{}", &word[..from], &word[at..]),
        None => word.to_owned(),
    }
}

/// Masks the values of `NAME=VALUE` with the name of a secret. A value ends at `is_end`.
fn without_values(text: &str, is_end: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('=') {
        let (before, value) = rest.split_at(at + 1);
        shown.push_str(before);
        rest = value;
        if !is_secret_name(&before[..at]) {
            continue;
        }
        let value = &value[..value.find(&is_end).unwrap_or(value.len())];
        // Punctuation at the end of a sentence is not part of the value.
        let value = value.trim_end_matches([':', ',', '.', ')', ']']);
        if !value.is_empty() {
            shown.push_str(HIDDEN);
        }
        rest = &rest[value.len()..];
    }
    shown + rest
}

/// Returns true if the text ends with the name of a secret. The short names count only as whole
/// names: `compass` is no secret.
fn is_secret_name(text: &str) -> bool {
    let mut names = text.rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let name = names.next().unwrap_or_default().to_ascii_lowercase();
    SECRET_VALUES.iter().any(|secret| {
        let before = name.strip_suffix(secret);
        before.is_some_and(|before| {
            let known = matches!(before, "" | "user" | "login" | "http" | "rtsp");
            known || before.ends_with('_') || secret.len() > 4
        })
    })
}

/// Masks the credentials of `Authorization: SCHEME CREDENTIALS`, up to the end of the line or a
/// quotation mark.
fn without_headers(text: &str) -> String {
    const NAME: &str = "authorization:";
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.to_ascii_lowercase().find(NAME) {
        let (before, value) = rest.split_at(at + NAME.len());
        shown.push_str(before);
        let (value, after) =
            value.split_at(value.find(['\n', '\r', '\'', '"']).unwrap_or(value.len()));
        let credentials = value.trim_start();
        let scheme = credentials.split(' ').next().unwrap_or_default();
        let is_scheme = LOGIN_SCHEMES.contains(&scheme.to_ascii_lowercase().as_str());
        let told = if is_scheme { format!(" {scheme}") } else { String::new() };
        shown.push_str(&told);
        if credentials.len() > told.trim_start().len() {
            shown.push(' ');
            shown.push_str(HIDDEN);
        }
        // The values of a digest are in quotation marks.
        rest = if scheme.eq_ignore_ascii_case("digest") {
            &after[after.find(['\n', '\r']).unwrap_or(after.len())..]
        } else {
            after
        };
    }
    shown + rest
}

/// Length of user name and password before an `@`, in bytes, in a URL without its scheme. An
/// unescaped password may hold any character, so it is taken to end at the last `@`, unless no
/// password can precede that.
fn secret_length(rest: &str) -> usize {
    let host = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    if host.contains(['@', ':']) { rest.rfind('@').unwrap_or(0) } else { 0 }
}

pub(super) fn hidden<S: Serializer>(_: &str, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(HIDDEN)
}

pub(super) fn uri<S: Serializer>(uri: &str, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&masked_address(uri))
}

#[allow(clippy::ref_option, reason = "serde gives it so")]
pub(super) fn optional_uri<S: Serializer>(uri: &Option<String>, to: S) -> Result<S::Ok, S::Error> {
    uri.as_deref().map(masked_address).serialize(to)
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
            ("http://ann:a/b?c#d@box/1", "http://***@box/1"),
            ("http://box:80/1 and ann@box", "http://box:80/1 and ann@box"),
            (
                "'http://ann:a@box' or \"http://ann:a@box\"",
                "'http://***@box' or \"http://***@box\"",
            ),
            ("rtsp://box/x?user=a&pwd=hush&ch=1: 401", "rtsp://box/x?user=a&pwd=***&ch=1: 401"),
            ("http://box/x?Password=hush: 401", "http://box/x?Password=***: 401"),
            (
                "?loginpas=a&access_token=b&user_pass=c",
                "?loginpas=***&access_token=***&user_pass=***",
            ),
            ("rtsp://box/user=a_password=hush_1.sdp?x", "rtsp://box/user=a_password=***"),
            ("pass=hush 'token=hush' compass=9", "pass=*** 'token=***' compass=9"),
            ("password= and pwd", "password= and pwd"),
            ("to ann:a@b@box/1, (ann:a@box)", "to ***@box/1, (***@box)"),
            ("url=ann:a@box", "url=***@box"),
            ("12:30 ann@box, box:80 a:b@", "12:30 ann@box, box:80 a:b@"),
            ("> Authorization: Basic aHVzaA==", "> Authorization: Basic ***"),
            ("-H 'authorization: hush' -v", "-H 'authorization: ***' -v"),
            ("Authorization: Digest username=\"a\", b=\"c\"\nx", "Authorization: Digest ***\nx"),
        ] {
            assert_eq!(masked(text), shown);
        }
        for (text, shown) in [
            ("http://ann:a 'b\" c@box/1", "http://***@box/1"),
            ("http://box/a@b", "http://box/a@b"),
            ("exec:", "exec:"),
            ("rtsp://box/x?pwd=a 'b\" c&ch=1", "rtsp://box/x?pwd=***&ch=1"),
            ("rtsp:ann:a b@box/1", "***@box/1"),
        ] {
            assert_eq!(masked_address(text), shown);
        }
        let secret = Secret("pass".to_owned());
        assert_eq!(format!("{secret:?}"), HIDDEN);
        assert_eq!(serde_json::to_string(&secret).expect("JSON"), "\"***\"");
    }

    #[test]
    fn letters_of_all_lengths_are_cut_where_they_end() {
        let forms = [
            "#=#",
            "#password=#",
            "password#=#",
            "#:#@#",
            "#://#:#@#",
            "://#",
            "#@#",
            "=#:#@#",
            "#authorization:#",
            "Authorization: #",
            "Authorization: Basic #",
            "digest #\"#",
        ];
        for letter in ["a", "\u{e9}", "\u{a528}", "\u{1f600}"] {
            for form in forms {
                let text = form.replace('#', letter);
                assert!(!masked(&text).is_empty() && !masked_address(&text).is_empty(), "{text}");
            }
        }
        assert_eq!(masked("class \u{a528}=x"), "class \u{a528}=x");
    }
}
