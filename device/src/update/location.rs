//! Location of an update repository.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use url::Url;

/// A repository: below a URL of a web server, or in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    /// Ends with a slash.
    Web(Url),
    Folder(PathBuf),
}

impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match Url::parse(text) {
            Ok(mut url) if matches!(url.scheme(), "http" | "https") => {
                if url.query().is_some() || url.fragment().is_some() {
                    return Err(format!("{text:?}: expected an address without ? and #"));
                }
                if !url.path().ends_with('/') {
                    let path = format!("{}/", url.path());
                    url.set_path(&path);
                }
                Ok(Self::Web(url))
            }
            // One letter is a drive, not a scheme.
            Ok(url) if url.scheme().len() > 1 && text.contains("://") => {
                Err(format!("{text:?}: expected http://, https:// or a directory"))
            }
            _ if text.is_empty() => Err("expected http://, https:// or a directory".to_owned()),
            _ => Ok(Self::Folder(PathBuf::from(text))),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Masks a password in the URL.
            Self::Web(url) => f.write_str(&crate::daemon::config::masked(url.as_str())),
            Self::Folder(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Location {
    /// Returns the address of a file of the repository, without a password.
    pub(super) fn address(&self, file: &str) -> String {
        match self {
            Self::Web(_) => format!("{self}{file}"),
            Self::Folder(folder) => folder.join(file).display().to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_ends_with_a_slash_and_everything_else_is_a_directory() {
        let web = |text: &str| match text.parse() {
            Ok(Location::Web(url)) => url.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(web("https://updates.example/fleet"), "https://updates.example/fleet/");
        assert_eq!(web("http://127.0.0.1:8000"), "http://127.0.0.1:8000/");
        let folder = "/media/stick/updates";
        assert_eq!(folder.parse(), Ok(Location::Folder(PathBuf::from(folder))));
        for wrong in ["", "ftp://updates.example/", "https://updates.example/?a=b"] {
            assert!(wrong.parse::<Location>().is_err(), "{wrong}");
        }
    }
}
