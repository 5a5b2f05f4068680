//! URL of a camera, with the user name and password in it.

use percent_encoding::percent_decode_str;
use url::Url;

use crate::daemon::config::{Secret, masked_address};
use crate::tls_roots::Authorities;

/// URL of a camera, its login, and the certificate authorities that are trusted for it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HttpAddress {
    /// URL without user name, password and fragment.
    pub(super) url: Url,
    /// User name and password, if the URL holds them.
    pub(super) login: Option<Login>,
    pub(super) authorities: Authorities,
}

/// User name and password.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: Secret,
}

/// Hint for messages: percent escapes of characters that a URL cannot hold in a password.
const ESCAPES: &str = "in a user or password write / as %2F, \\ as %5C, ? as %3F, # as %23, @ as %40, : as %3A, % as %25";

impl HttpAddress {
    /// Parses `http://USER:PASSWORD@HOST/PATH`. User name and password may have percent escapes
    /// (`%40` for `@`). Unescaped characters are accepted where only one reading makes sense.
    ///
    /// # Errors
    ///
    /// A message without the password that says what is wrong.
    pub(crate) fn parse(text: &str, authorities: Authorities) -> Result<Self, String> {
        let mut url = match Url::parse(text) {
            Ok(url) if !is_misread(text, &url) => url,
            other => plain(text).ok_or_else(|| {
                let why = other.err().map_or_else(
                    || "its user or password holds a character that ends them".to_owned(),
                    |e| e.to_string(),
                );
                let hint = if text.contains('@') { format!("; {ESCAPES}") } else { String::new() };
                format!("{}: {why}{hint}", masked_address(text))
            })?,
        };
        let shown = masked_address(text);
        let decoded = |part: &str| {
            let decoded = percent_decode_str(part).decode_utf8().map(String::from);
            decoded.map_err(|_| format!("{shown}: the escapes in user or password are no UTF-8"))
        };
        let login = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => Some(Login {
                user: decoded(user)?,
                password: Secret::new(decoded(password.unwrap_or_default())?),
            }),
        };
        let cleared = url.set_username("").and_then(|()| url.set_password(None));
        cleared.map_err(|()| format!("{shown}: expected http://HOST/..."))?;
        url.set_fragment(None);
        Ok(Self { url, login, authorities })
    }

    /// Returns a hint for an unreachable URL that may have been meant differently: its path or
    /// query holds an `@`.
    pub(super) fn doubt(&self) -> Option<&'static str> {
        let behind = format!("{}?{}", self.url.path(), self.url.query().unwrap_or_default());
        behind.contains('@').then_some(ESCAPES)
    }
}

/// Returns true if the parsed URL is not the meant one. A host that ends in a colon, or holds a `\`
/// before an `@`, is a user name with the start of a password. A fragment is not sent to a camera;
/// a fragment with an `@` is the end of a password.
fn is_misread(text: &str, url: &Url) -> bool {
    if url.fragment().is_some_and(|fragment| fragment.contains('@')) {
        return true;
    }
    let before = text.split_once("://").and_then(|(_, rest)| rest.split_once('@'));
    let Some((before, _)) = before else { return false };
    let host = &before[..before.find(['/', '?', '#']).unwrap_or(before.len())];
    let is_whole = host.len() == before.len();
    host.contains('\\') || (!is_whole && host.ends_with(':'))
}

/// Parses a URL with unescaped characters in its user name or password that would end them: the
/// login is the text up to the only `@`.
fn plain(text: &str) -> Option<Url> {
    let (scheme, rest) = text.split_once("://")?;
    let (login, place) = rest.split_once('@').filter(|(_, place)| !place.contains('@'))?;
    let mut url = Url::parse(&format!("{scheme}://{place}")).ok()?;
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (login, None),
    };
    url.set_username(user).ok()?;
    url.set_password(password).ok()?;
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(text: &str) -> Option<(String, String, String)> {
        let address = HttpAddress::parse(text, Authorities::WebRoots).ok()?;
        let login = address.login?;
        Some((login.user, login.password.reveal().to_owned(), address.url.to_string()))
    }

    #[test]
    fn a_password_may_be_written_with_escapes_and_plainly() {
        let place = "http://box:8080/a?b=c@d";
        let cases = [
            ("p%40ss", "p@ss"),
            ("p@ss", "p@ss"),
            ("a%3Ab", "a:b"),
            ("a:b", "a:b"),
            ("a%2Fb", "a/b"),
            ("a%23b%3F", "a#b?"),
            ("a=b;c^d&e+f", "a=b;c^d&e+f"),
            ("%C3%B61", "\u{f6}1"),
            ("\u{f6}1", "\u{f6}1"),
            ("100%", "100%"),
            ("100%25", "100%"),
            ("a b\"<>", "a b\"<>"),
            ("", ""),
        ];
        for (written, meant) in cases {
            let read = login(&format!("http://ann:{written}@box:8080/a?b=c@d#e"));
            let expected = ("ann".to_owned(), meant.to_owned(), place.to_owned());
            assert_eq!(read, Some(expected), "{written}");
        }
        for written in [
            "a/b",
            "a//b",
            "a#b",
            "a?b",
            "1#b",
            "a\\b",
            "1\\b",
            "?",
            "/",
            "//1",
            "\\",
            "a/b#c?d%25",
        ] {
            let (_, password, url) = login(&format!("http://ann:{written}@box/a")).expect(written);
            assert_eq!((password, url.as_str()), (written.replace("%25", "%"), "http://box/a"));
        }
        let domain = login("http://DOM\\ann:a@box/").map(|(user, password, _)| (user, password));
        assert_eq!(domain, Some(("DOM\\ann".to_owned(), "a".to_owned())));
        assert_eq!(login("http://token@box/").map(|(user, ..)| user), Some("token".to_owned()));
        assert_eq!(login("http://box/"), None);
    }

    #[test]
    fn an_ambiguous_login_is_an_error_with_a_hint_on_escapes() {
        for text in ["http://ann:a/b@box/c@d", "http://ann:a@b/c#d@box", "http://ann:%FF@box/"] {
            let why = HttpAddress::parse(text, Authorities::WebRoots).expect_err(text);
            assert!(why.contains("%2F") || why.contains("UTF-8"), "{why}");
            assert!(!why.contains("ann"), "{why}");
        }
        for text in ["http://ann:1/b@box/", "http://ann:p@h:80/x@box/", "http://ann?b@box/"] {
            let doubtful = HttpAddress::parse(text, Authorities::WebRoots);
            assert!(doubtful.is_ok_and(|address| address.doubt().is_some()), "{text}");
        }
    }
}
