//! Reads files of a repository from a directory or a web server.

use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use fail::fail_point;
use hyper_util::client::proxy::matcher::Matcher;
use thiserror::Error;
use ureq::{Agent, Proxy};
use url::Url;

use super::location::Location;
use crate::daemon::config::masked;
use crate::report::with_causes;
use crate::tls_roots::{Authorities, TlsConnector, distrust};

/// Time-out for a silent server, before its response and in the middle of it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Time-out for a whole file.
const TIME: Duration = Duration::from_mins(5);

/// Maximum length of the channel's name in the `User-Agent`.
const MAX_CHANNEL: usize = 64;

/// Message for an HTML page in place of a file.
const HTML: &str = "an HTML page came instead of the file: the login page of a network (a captive portal), or the wrong \
                    address of a repository";

/// Settings of the HTTP client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Client {
    /// Channel of the device, sent in the `User-Agent`.
    pub(crate) channel: String,
    /// Trusted certificates of servers.
    pub(crate) authorities: Authorities,
    /// Name of the setting that changes `authorities`.
    pub(crate) key: &'static str,
}

/// A repository, ready to be read.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    location: Location,
    /// `None` for a directory.
    agent: Option<Agent>,
    key: &'static str,
}

/// An error of reading a file of a repository. Names the file by its full address.
#[derive(Debug, Error)]
pub(crate) enum FetchError {
    #[error("{0}")]
    Missing(String),
    #[error("{file}: {why}")]
    Failed { file: String, why: String },
}

impl Origin {
    /// Loads the certificates and the environment's proxy. Does not connect yet.
    ///
    /// # Errors
    ///
    /// Names the unusable certificates or variable.
    pub(crate) fn new(location: Location, client: &Client) -> Result<Self, String> {
        let agent = match &location {
            Location::Folder(_) => None,
            Location::Web(url) => Some(agent(url, client)?),
        };
        Ok(Self { location, agent, key: client.key })
    }

    pub(crate) fn location(&self) -> &Location {
        &self.location
    }

    /// Reads a file from byte `from` on, at most `most` bytes. If it returns that many, the file
    /// may be longer. Also returns true if the bytes begin at `from`: a server may ignore the
    /// range.
    pub(super) fn read(
        &self,
        file: &str,
        from: u64,
        most: u64,
    ) -> Result<(Vec<u8>, bool), FetchError> {
        let (bytes, begins_there) = match (&self.location, &self.agent) {
            (Location::Web(url), Some(agent)) => self.read_web(agent, url, file, from, most)?,
            (Location::Web(_), None) => return Err(self.failed(file, "no connection".to_owned())),
            (Location::Folder(folder), _) => (self.read_folder(folder, file, from, most)?, true),
        };
        if is_json(file) && bytes.trim_ascii_start().starts_with(b"<") {
            return Err(self.failed(file, HTML.to_owned()));
        }
        Ok((bytes, begins_there))
    }

    fn failed(&self, file: &str, why: String) -> FetchError {
        FetchError::Failed { file: self.location.address(file), why }
    }

    fn read_folder(
        &self,
        folder: &Path,
        file: &str,
        from: u64,
        most: u64,
    ) -> Result<Vec<u8>, FetchError> {
        let path = folder.join(file);
        let error = |e: std::io::Error| match e.kind() {
            ErrorKind::NotFound => self.missing(file, "there is no such file"),
            _ => self.failed(file, e.to_string()),
        };
        // Reading a pipe would never end.
        if !std::fs::metadata(&path).map_err(error)?.is_file() {
            return Err(self.failed(file, "it is no file".to_owned()));
        }
        let mut opened = std::fs::File::open(&path).map_err(error)?;
        opened.seek(SeekFrom::Start(from)).map_err(error)?;
        let mut bytes = Vec::new();
        opened.take(most).read_to_end(&mut bytes).map_err(error)?;
        Ok(bytes)
    }

    fn read_web(
        &self,
        agent: &Agent,
        url: &Url,
        file: &str,
        from: u64,
        most: u64,
    ) -> Result<(Vec<u8>, bool), FetchError> {
        let address = url.join(file).map_err(|e| self.failed(file, e.to_string()))?;
        let mut request = agent.get(address.as_str());
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        let response = request.call().map_err(|error| self.refused(file, &error))?;
        if response.body().mime_type() == Some("text/html") {
            return Err(self.failed(file, HTML.to_owned()));
        }
        let continued = from > 0 && response.status().as_u16() == 206;
        let mut bytes = Vec::new();
        let body = response.into_body().into_reader().take(most).read_to_end(&mut bytes);
        match body {
            Ok(_) => Ok((bytes, from == 0 || continued)),
            // Bytes received before the connection broke need not be sent again.
            Err(_) if !bytes.is_empty() && (from == 0 || continued) => Ok((bytes, true)),
            Err(error) => Err(self.failed(file, error.to_string())),
        }
    }

    fn missing(&self, file: &str, why: &str) -> FetchError {
        FetchError::Missing(format!("{}: {why}", self.location.address(file)))
    }

    /// Converts an error of a request, with the reason in words.
    fn refused(&self, file: &str, error: &ureq::Error) -> FetchError {
        let why = match error {
            ureq::Error::StatusCode(404 | 410) => return self.missing(file, "there is no such file"),
            ureq::Error::StatusCode(403) => {
                let why = "the server refuses it (status 403), or says so of files that are not there";
                return self.missing(file, why);
            }
            // The part received before is as long as the whole file.
            ureq::Error::StatusCode(416) => "the server has no more of it".to_owned(),
            ureq::Error::StatusCode(407) => {
                "the proxy asks for a login: name it in the proxy's address, as in http://USER:PASSWORD@HOST:PORT".to_owned()
            }
            ureq::Error::StatusCode(511) => {
                "the network asks for a login (status 511): log in, or use another network".to_owned()
            }
            error => distrust(error, self.key).unwrap_or_else(|| masked(&error.to_string())),
        };
        self.failed(file, why)
    }
}

fn is_json(file: &str) -> bool {
    Path::new(file).extension().is_some_and(|end| end == "json")
}

fn agent(url: &Url, client: &Client) -> Result<Agent, String> {
    let tls = client
        .authorities
        .client_config()
        .map_err(|error| format!("{}: {}", client.key, with_causes(&error)))?;
    let patience = patience();
    let config = Agent::config_builder()
        .timeout_connect(Some(patience))
        .timeout_recv_response(Some(patience))
        .timeout_per_read(Some(patience))
        .timeout_global(Some(whole()))
        // A redirect must not leave https.
        .https_only(url.scheme() == "https")
        .user_agent(user_agent(&client.channel))
        .proxy(proxy(url, &|name| std::env::var(name).ok())?)
        .build();
    Ok(TlsConnector::new(tls).agent(config))
}

/// Returns the `User-Agent`: program, version and channel of the device.
fn user_agent(channel: &str) -> String {
    let plain = |c: &char| c.is_ascii_graphic() && !"()\\".contains(*c);
    let channel: String = channel.chars().filter(plain).take(MAX_CHANNEL).collect();
    format!("fmlora-edge/{} (channel {channel})", env!("CARGO_PKG_VERSION"))
}

/// Returns the proxy for a URL, from the same variables as curl: `https_proxy` or `http_proxy` by
/// the URL's scheme, else `all_proxy`, unless `no_proxy` names the host.
fn proxy(url: &Url, variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Proxy>, String> {
    let either = |name: String| {
        let lower = variable(&name).map(|value| (name.clone(), value));
        lower.or_else(|| variable(&name.to_uppercase()).map(|value| (name.to_uppercase(), value)))
    };
    let named = |(_, value): &(String, String)| !value.trim().is_empty();
    let of_scheme = either(format!("{}_proxy", url.scheme())).filter(named);
    let Some((name, value)) = of_scheme.or_else(|| either("all_proxy".to_owned()).filter(named))
    else {
        return Ok(None);
    };
    let except = either("no_proxy".to_owned()).map(|(_, hosts)| hosts).unwrap_or_default();
    let wrong = || format!("{name} is {:?}, expected http://HOST:PORT", masked(&value));
    let proxy = Proxy::new(value.trim()).map_err(|_| wrong())?;
    let host = proxy.host();
    let port = proxy.port();
    let matcher = Matcher::builder().all(format!("http://{host}:{port}")).no(except).build();
    let asked =
        url.as_str().parse().map_err(|_| format!("{}: no address", masked(url.as_str())))?;
    Ok(matcher.intercept(&asked).map(|_| proxy))
}

/// Returns [`PATIENCE`], or the milliseconds that a test's fail point sets.
fn patience() -> Duration {
    fail_point!("update-patience", |time| {
        let time = time.and_then(|time| time.parse().ok());
        time.map_or(PATIENCE, Duration::from_millis)
    });
    PATIENCE
}

/// Returns [`TIME`], or the milliseconds that a test's fail point sets.
fn whole() -> Duration {
    fail_point!("update-whole", |time| {
        let time = time.and_then(|time| time.parse().ok());
        time.map_or(TIME, Duration::from_millis)
    });
    TIME
}

#[cfg(test)]
impl Origin {
    /// Creates an origin in a directory.
    pub(super) fn folder(path: &Path) -> Self {
        Self { location: Location::Folder(path.to_owned()), agent: None, key: "update.authority" }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn read(folder: &TempDir, file: &str) -> Result<Vec<u8>, String> {
        let read = Origin::folder(folder.path()).read(file, 0, 100);
        let place = format!("{}/", folder.path().display());
        read.map(|(bytes, _)| bytes).map_err(|error| error.to_string().replace(&place, ""))
    }

    /// Reading a pipe would never end.
    #[test]
    fn a_pipe_on_a_stick_is_no_file() {
        let stick = TempDir::new().expect("a folder");
        let made = std::process::Command::new("mkfifo").arg(stick.path().join("pipe")).status();
        assert!(made.expect("mkfifo").success());
        assert_eq!(read(&stick, "pipe"), Err("pipe: it is no file".to_owned()));
        assert_eq!(read(&stick, "other"), Err("other: there is no such file".to_owned()));
    }

    #[test]
    fn a_page_is_told_from_json() {
        let stick = TempDir::new().expect("a folder");
        std::fs::write(stick.path().join("a.json"), "\n <!doctype html>").expect("written");
        std::fs::write(stick.path().join("a.fmla"), "<").expect("written");
        assert!(read(&stick, "a.json").is_err_and(|why| why.contains("an HTML page")));
        assert_eq!(read(&stick, "a.fmla"), Ok(b"<".to_vec()), "an adapter may begin so");
    }

    #[test]
    fn a_server_is_told_program_version_and_channel() {
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(user_agent("stable"), format!("fmlora-edge/{version} (channel stable)"));
        assert_eq!(user_agent("a\r\nb(c)\u{e4}"), format!("fmlora-edge/{version} (channel abc)"));
    }

    #[test]
    fn a_proxy_is_taken_as_curl_takes_it() {
        let found = |address: &str, variables: &[(&str, &str)]| {
            let variable = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            let url = Url::parse(address).expect("an address");
            let proxy = proxy(&url, &variable)?;
            Ok::<_, String>(proxy.map(|proxy| format!("{}:{}", proxy.host(), proxy.port())))
        };
        let http = "http://updates.example/";
        let https = "https://updates.example/";
        let both = [("http_proxy", "http://one:3128"), ("HTTPS_PROXY", "http://u:p@two:8080")];
        assert_eq!(found(http, &both), Ok(Some("one:3128".to_owned())));
        assert_eq!(found(https, &both), Ok(Some("two:8080".to_owned())));
        assert_eq!(found(https, &both[..1]), Ok(None), "it is for http alone");
        assert_eq!(found(https, &[("all_proxy", "three:1")]), Ok(Some("three:1".to_owned())));
        for except in ["example", ".example", "other, updates.example", "*"] {
            assert_eq!(found(http, &[both[0], ("no_proxy", except)]), Ok(None), "{except}");
        }
        let network = [both[0], ("no_proxy", "10.0.0.0/8")];
        assert_eq!(found("http://10.1.2.3/", &network), Ok(None));
        let wrong = found(https, &[("https_proxy", "http://")]);
        assert!(wrong.is_err_and(|why| why.starts_with("https_proxy is ")));
    }
}
