//! Where a repository of updates is, and how a file of it is fetched.

use std::fmt;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use fail::fail_point;
use thiserror::Error;
use ureq::Agent;
use url::Url;

/// How long a server may be silent, before its answer and in the middle of it.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a file may take as a whole.
const TIME: Duration = Duration::from_mins(5);

/// A repository: below an address of a web server, or in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    /// Ends with a slash.
    Web(Url),
    Folder(PathBuf),
}

/// Why a file of a repository is not to be had.
#[derive(Debug, Error)]
pub(crate) enum FetchError {
    #[error("{0}: there is no such file")]
    Missing(String),
    #[error("{file}: {why}")]
    Failed { file: String, why: String },
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
            // Nobody has to read a password that may be in it.
            Self::Web(url) => f.write_str(&crate::daemon::config::masked(url.as_str())),
            Self::Folder(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Location {
    /// Reads a file from byte `from` on, and not more than `most` bytes of it: whoever gets that many knows that it may
    /// be longer. Gives the bytes, and whether they begin at `from`; a server need not heed that.
    pub(crate) fn read(
        &self,
        file: &str,
        from: u64,
        most: u64,
    ) -> Result<(Vec<u8>, bool), FetchError> {
        let failed = |why: String| FetchError::Failed { file: file.to_owned(), why };
        match self {
            Self::Folder(folder) => {
                let path = folder.join(file);
                let error = |e: std::io::Error| match e.kind() {
                    ErrorKind::NotFound => FetchError::Missing(file.to_owned()),
                    _ => failed(e.to_string()),
                };
                // A pipe would keep whoever reads it waiting.
                if !std::fs::metadata(&path).map_err(error)?.is_file() {
                    return Err(failed("it is no file".to_owned()));
                }
                let mut opened = std::fs::File::open(&path).map_err(error)?;
                opened.seek(SeekFrom::Start(from)).map_err(error)?;
                let mut bytes = Vec::new();
                opened.take(most).read_to_end(&mut bytes).map_err(error)?;
                Ok((bytes, true))
            }
            Self::Web(url) => {
                let address = url.join(file).map_err(|e| failed(e.to_string()))?;
                let mut request = agent().get(address.as_str());
                if from > 0 {
                    request = request.header("range", format!("bytes={from}-"));
                }
                let response = request.call().map_err(|error| match error {
                    ureq::Error::StatusCode(403 | 404 | 410) => {
                        FetchError::Missing(file.to_owned())
                    }
                    // What was there is the whole file.
                    ureq::Error::StatusCode(416) => {
                        failed("the server has no more of it".to_owned())
                    }
                    error => failed(crate::daemon::config::masked(&error.to_string())),
                })?;
                let continued = from > 0 && response.status().as_u16() == 206;
                let mut bytes = Vec::new();
                let body = response.into_body().into_reader().take(most).read_to_end(&mut bytes);
                match body {
                    Ok(_) => Ok((bytes, from == 0 || continued)),
                    // What came before the line broke need not come again.
                    Err(_) if !bytes.is_empty() && (from == 0 || continued) => Ok((bytes, true)),
                    Err(error) => Err(failed(error.to_string())),
                }
            }
        }
    }
}

/// [`PATIENCE`], or what a test says, in milliseconds.
fn patience() -> Duration {
    fail_point!("update-patience", |time| {
        let time = time.and_then(|time| time.parse().ok());
        time.map_or(PATIENCE, Duration::from_millis)
    });
    PATIENCE
}

/// [`TIME`], or what a test says, in milliseconds.
fn whole() -> Duration {
    fail_point!("update-whole", |time| {
        let time = time.and_then(|time| time.parse().ok());
        time.map_or(TIME, Duration::from_millis)
    });
    TIME
}

fn agent() -> Agent {
    let patience = patience();
    let config = Agent::config_builder()
        .timeout_connect(Some(patience))
        .timeout_recv_response(Some(patience))
        .timeout_per_read(Some(patience))
        .timeout_global(Some(whole()))
        .build();
    Agent::new_with_config(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever read it would wait for ever.
    #[test]
    fn a_pipe_on_a_stick_is_no_file() {
        let stick = tempfile::TempDir::new().expect("a folder");
        let made = std::process::Command::new("mkfifo").arg(stick.path().join("pipe")).status();
        assert!(made.expect("mkfifo").success());
        let location = Location::Folder(stick.path().to_owned());
        let read = location.read("pipe", 0, 1).map_err(|error| error.to_string());
        assert_eq!(read, Err("pipe: it is no file".to_owned()));
        let missing = location.read("other", 0, 1).map_err(|error| error.to_string());
        assert_eq!(missing, Err("other: there is no such file".to_owned()));
    }

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
