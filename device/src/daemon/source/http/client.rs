//! HTTP client for cameras: logs in by Basic or Digest, follows redirects, and has time-outs.

use std::io::ErrorKind;
use std::time::Duration;

use http_auth::digest::Algorithm;
use http_auth::{ChallengeParser, DigestClient, ParamValue, PasswordClient, PasswordParams};
use ureq::config::Config;
use ureq::http::{Response, StatusCode, header};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::Connector;
use ureq::{Agent, Body};
use url::{Position, Url};

use super::address::{HttpAddress, Login};
use super::proxy::proxy_for;
use super::tolerant::{TolerantConnector, USER};
use crate::daemon::source::SourceError;
use crate::report::with_causes;
use crate::tls_roots::{TlsConnector, distrust};

/// Configuration key of the certificate authorities for cameras.
const AUTHORITY: &str = "camera.authority";

/// Largest number of redirects of one request.
const MAX_REDIRECTS: usize = 5;

/// Digest algorithms in the spelling that `http-auth` requires in a challenge; cameras write them
/// in any case.
const ALGORITHMS: [&str; 6] =
    ["MD5", "MD5-sess", "SHA-256", "SHA-256-sess", "SHA-512-256", "SHA-512-256-sess"];

/// Largest number of times that a request is repeated with another response to a camera's
/// challenge.
const MAX_LOGINS: usize = 3;

/// Client of one camera.
pub(super) struct Client {
    agent: Agent,
    address: HttpAddress,
    timeout: Duration,
    /// Authentication challenge of the camera, answered with each later request.
    challenge: Option<Challenge>,
    connections: Connections,
    /// Host and port of the last request; a redirect may lead elsewhere.
    asked: String,
}

/// Authentication challenge of a camera.
#[derive(Debug)]
struct Challenge {
    client: PasswordClient,
    /// True if the camera reads user names as escaped UTF-8 (RFC 7616).
    utf8: bool,
}

/// State of the connection after a response.
#[derive(Clone, Copy, PartialEq)]
enum Connections {
    /// There was no connection yet.
    None,
    /// The next request reuses the connection, if the server keeps it open.
    Kept,
    /// The connection is closed: this server keeps connections open, but does not respond on them
    /// again.
    Closed,
}

impl Client {
    /// Creates a client for the camera at `address`; `timeout` limits each step of a request.
    ///
    /// # Errors
    ///
    /// [`SourceError::Open`] if the certificate authorities cannot be read.
    pub(super) fn new(address: &HttpAddress, timeout: Duration) -> Result<Self, SourceError> {
        let tls = address
            .authorities
            .client_config()
            .map_err(|error| SourceError::Open(format!("{AUTHORITY}: {}", with_causes(&error))))?;
        let limit = Some(timeout);
        let config = Config::builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(proxy_for(&address.url))
            .user_agent(concat!("fmlora-edge/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(limit)
            .timeout_connect(limit)
            .timeout_send_request(limit)
            .timeout_recv_response(limit)
            .timeout_per_read(limit)
            .timeout_per_write(limit)
            .build();
        let connector = TlsConnector::new(tls).connections().chain(TolerantConnector);
        let agent = Agent::with_parts(config, connector, DefaultResolver::default());
        Ok(Self {
            agent,
            asked: place_of(&address.url),
            address: address.clone(),
            timeout,
            challenge: None,
            connections: Connections::None,
        })
    }

    /// Returns the agent that sends the requests. Shutting it down ends them.
    pub(super) fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Sends a request and returns the response, if its status is a success.
    ///
    /// # Errors
    ///
    /// [`SourceError::Refused`] if the camera refuses user name and password,
    /// [`SourceError::Silent`] after a time-out of a read, else [`SourceError::Lost`].
    pub(super) fn ask(&mut self) -> Result<Response<Body>, SourceError> {
        let answer = match self.follow() {
            Err(Failed::Transport(_)) if self.connections == Connections::Kept => {
                self.connections = Connections::Closed;
                self.follow()
            }
            answer => answer,
        };
        let response = answer.map_err(|failed| match failed {
            Failed::Transport(error) => self.failure(error),
            Failed::Said(error) => error,
        })?;
        if self.connections == Connections::None {
            self.connections = Connections::Kept;
        }
        match response.status() {
            status if status.is_success() => Ok(response),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                Err(SourceError::Refused(self.refusal(status)))
            }
            status => Err(SourceError::Lost(format!("the camera answers {status}"))),
        }
    }

    /// Explains a refusal, by the user name and password that were sent.
    fn refusal(&self, status: StatusCode) -> String {
        if self.address.login.is_none() {
            let asked = &self.asked;
            return format!(
                "{asked} answers {status}; if it needs a user and a password, write USER:PASSWORD@ before the host in \
                 camera.source"
            );
        }
        if self.challenge.is_none() {
            let asked = &self.asked;
            return format!("{asked} answers {status} and asks for no user and password");
        }
        format!("the camera refuses user and password of camera.source ({status})")
    }

    /// Sends a request and follows redirects.
    fn follow(&mut self) -> Result<Response<Body>, Failed> {
        let mut url = self.address.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.logged_in(&url)?;
            let moved = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            let location = response.headers().get(header::LOCATION).filter(|_| moved);
            let Some(location) = location else { return Ok(response) };
            let text = String::from_utf8_lossy(location.as_bytes());
            url = match url.join(&text) {
                Ok(next) if matches!(next.scheme(), "http" | "https") => next,
                _ => {
                    let what =
                        format!("the camera redirects to {text}, expected http:// or https://");
                    return Err(Failed::Said(SourceError::Lost(what)));
                }
            };
        }
        let what = format!("the camera redirects more than {MAX_REDIRECTS} times");
        Err(Failed::Said(SourceError::Lost(what)))
    }

    /// Sends a request to one URL, with user name and password if they belong to it.
    fn logged_in(&mut self, url: &Url) -> Result<Response<Body>, Failed> {
        let refused = |what: String| Failed::Said(SourceError::Refused(what));
        let login = self.address.login.clone();
        let login = login.filter(|_| is_same_camera(&self.address.url, url));
        let mut answered = 0;
        loop {
            let authorization = match (&login, &mut self.challenge) {
                (Some(login), Some(challenge)) => {
                    Some(respond(challenge, login, url).map_err(refused)?)
                }
                _ => None,
            };
            let response = self.send(url, authorization.as_deref())?;
            if response.status() != StatusCode::UNAUTHORIZED {
                return Ok(response);
            }
            if login.is_none() {
                let host = place_of(url);
                let elsewhere =
                    if *url == self.address.url { "" } else { ", to which the camera redirects," };
                return Err(refused(format!(
                    "{host}{elsewhere} asks for a user and a password; write USER:PASSWORD@ before the host in camera.source"
                )));
            }
            let asked: Vec<String> = response
                .headers()
                .get_all(header::WWW_AUTHENTICATE)
                .iter()
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
                .collect();
            let challenge = challenge_of(&asked).map_err(refused)?;
            let again = answered == 0 || is_stale(&challenge.client) && answered < MAX_LOGINS;
            self.challenge = Some(challenge);
            if !again {
                return Ok(response);
            }
            answered += 1;
        }
    }

    fn send(&mut self, url: &Url, authorization: Option<&str>) -> Result<Response<Body>, Failed> {
        self.asked = place_of(url);
        let mut request = self.agent.get(url.as_str());
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let limit = match self.connections {
            Connections::None => self.timeout,
            // Leaves time to try again on a new connection.
            Connections::Kept => self.timeout / 2,
            Connections::Closed => {
                request = request.header(header::CONNECTION, "close");
                self.timeout
            }
        };
        let request = request.config().timeout_recv_response(Some(limit)).build();
        request.call().map_err(Failed::Transport)
    }

    /// Describes why a request, or reading its response, failed.
    pub(super) fn failure(&self, error: ureq::Error) -> SourceError {
        if let Some(why) = distrust(&error, AUTHORITY) {
            return SourceError::Lost(why);
        }
        let host = &self.asked;
        let doubt = self.address.doubt().map(|doubt| format!("; {doubt}")).unwrap_or_default();
        SourceError::Lost(match error {
            ureq::Error::Timeout(ureq::Timeout::PerRead | ureq::Timeout::RecvBody) => {
                return SourceError::Silent { time: self.timeout, note: None };
            }
            ureq::Error::Timeout(what) => {
                format!(
                    "{host} takes too long ({what}), more than {:.1} s{doubt}",
                    self.timeout.as_secs_f64()
                )
            }
            ureq::Error::HostNotFound => format!("there is no host {host}{doubt}"),
            ureq::Error::ConnectProxyFailed(why) => format!(
                "the proxy of the environment does not lead to {host}: {why}; without a proxy for it, name it in no_proxy"
            ),
            ureq::Error::Protocol(why) => {
                format!("{host} answers with something that is no HTTP: {why}")
            }
            ureq::Error::Io(why) if why.kind() == ErrorKind::UnexpectedEof => {
                format!("{host} closes the connection within an answer")
            }
            ureq::Error::Io(why) => format!("{host}: {why}{doubt}"),
            other => format!("{host}: {other}{doubt}"),
        })
    }
}

/// Error of a request.
enum Failed {
    /// The connection failed.
    Transport(ureq::Error),
    /// The camera's response is of no use.
    Said(SourceError),
}

/// Returns true if user name and password of the camera at `own` may be sent to `url`: to no other
/// host or port, and to no less secure scheme. A redirect of a camera from http to its own https is
/// allowed.
fn is_same_camera(own: &Url, url: &Url) -> bool {
    let same =
        own.scheme() == url.scheme() && own.port_or_known_default() == url.port_or_known_default();
    let secured = own.scheme() == "http"
        && url.scheme() == "https"
        && own.port().is_none()
        && url.port().is_none();
    own.host() == url.host() && (same || secured)
}

/// Host and port of a URL.
fn place_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port_or_known_default().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Parses the authentication challenge of a refused request. Some cameras send none; Basic is
/// assumed then.
fn challenge_of(asked: &[String]) -> Result<Challenge, String> {
    let mut found = PasswordClient::builder();
    let mut utf8 = false;
    for asked in asked {
        // The builder reports challenges that cannot be parsed, and takes the first one that it
        // supports.
        for mut challenge in ChallengeParser::new(asked).map_while(Result::ok) {
            for (name, value) in &mut challenge.params {
                if name.eq_ignore_ascii_case("algorithm") {
                    *value = as_known(value);
                }
                utf8 |= name.eq_ignore_ascii_case("charset");
            }
            found = found.challenge(&challenge);
        }
        found = found.challenges(asked);
    }
    let basic = || PasswordClient::builder().challenges("Basic realm=\"\"").build();
    let names_basic = |asked: &String| asked.trim().to_ascii_lowercase().starts_with("basic");
    let client = found.build().or_else(|why| {
        if asked.is_empty() || asked.iter().any(names_basic) {
            return basic();
        }
        let asked = asked.join(", ");
        Err(format!("the camera asks for a login that is not known here: {asked} ({why}); known are Basic and Digest"))
    });
    client.map(|client| Challenge { client, utf8 })
}

/// Converts the name of an algorithm to the spelling in `ALGORITHMS`.
fn as_known<'a>(value: &ParamValue<'a>) -> ParamValue<'a> {
    let written = value.to_unescaped();
    let known = ALGORITHMS.into_iter().find(|known| known.eq_ignore_ascii_case(written.trim()));
    let known = known.and_then(|known| ParamValue::try_from_escaped(known).ok());
    known.unwrap_or(*value)
}

fn is_stale(challenge: &PasswordClient) -> bool {
    matches!(challenge, PasswordClient::Digest(digest) if digest.stale())
}

/// Value of `Authorization`.
fn respond(challenge: &mut Challenge, login: &Login, url: &Url) -> Result<String, String> {
    let params = PasswordParams {
        username: &login.user,
        password: login.password.reveal(),
        uri: &url[Position::BeforePath..Position::AfterQuery],
        method: "GET",
        body: None,
    };
    let digest = match &mut challenge.client {
        PasswordClient::Digest(digest) => digest,
        other => return other.respond(&params),
    };
    // Few cameras ask for the integrity of bodies (`auth-int`), and fewer compute it correctly.
    let answer = digest.respond(&params).or_else(|_| {
        let hash = hash_of_nothing(digest);
        digest.respond(&PasswordParams { body: Some(hash.as_bytes()), ..params })
    })?;
    let is_text = !login.user.chars().any(char::is_control);
    Ok(if challenge.utf8 || !is_text {
        answer
    } else {
        answer.replacen("username*=UTF-8''", USER, 1)
    })
}

/// Hash of the request's body, which is empty. `http-auth` takes the given body for its hash.
fn hash_of_nothing(digest: &DigestClient) -> &'static str {
    match digest.algorithm() {
        Algorithm::Sha256 => "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        Algorithm::Sha512Trunc256 => {
            "c672b8d1ef56ed28ab87c3622c5114069bdd3ad7b8f9737498d0c01ecef0967a"
        }
        _ => "d41d8cd98f00b204e9800998ecf8427e",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::config::Secret;
    use sha2::{Digest, Sha256};

    #[test]
    fn a_password_stays_with_its_camera() {
        let same = |own: &str, url: &str| {
            is_same_camera(
                &Url::parse(own).expect("an address"),
                &Url::parse(url).expect("an address"),
            )
        };
        for (own, url, expected) in [
            ("http://box/a", "http://box/b?c", true),
            ("http://box/a", "http://box:80/b", true),
            ("http://box/a", "https://box/a", true),
            ("https://box/a", "http://box/a", false),
            ("http://box/a", "http://box:8080/a", false),
            ("http://box/a", "https://box:8443/a", false),
            ("http://box/a", "http://box.example/a", false),
            ("https://box/a", "https://other/a", false),
        ] {
            assert_eq!(same(own, url), expected, "{own} {url}");
        }
    }

    #[test]
    fn a_challenge_is_understood_however_it_is_written() {
        let digest = "Digest realm=\"cam\", nonce=\"1\", qop=\"auth\"";
        let of = |asked: &[&str]| {
            let asked: Vec<String> = asked.iter().map(|text| (*text).to_owned()).collect();
            challenge_of(&asked)
        };
        for asked in [&[digest][..], &["Basic realm=\"cam\"", digest], &["Negotiate", digest]] {
            assert!(
                matches!(of(asked).map(|c| c.client), Ok(PasswordClient::Digest(_))),
                "{asked:?}"
            );
        }
        for asked in [&[][..], &["Basic"], &["basic realm=cam"]] {
            assert!(
                matches!(of(asked).map(|c| c.client), Ok(PasswordClient::Basic(_))),
                "{asked:?}"
            );
        }
        let why = of(&["Bearer realm=\"x\""]).expect_err("not known");
        assert!(why.contains("Bearer") && why.contains("Digest"), "{why}");
    }

    fn answer(asked: &str, user: &str) -> String {
        let login = Login { user: user.to_owned(), password: Secret::new("hush".to_owned()) };
        let url = Url::parse("http://box/a?b=c").expect("an address");
        let mut challenge = challenge_of(&[asked.to_owned()]).expect("a challenge");
        respond(&mut challenge, &login, &url).expect("an answer")
    }

    fn value<'a>(answer: &'a str, name: &str) -> &'a str {
        let found = answer.split([',', ' ']).find_map(|part| part.strip_prefix(name));
        found.and_then(|value| value.strip_prefix('=')).expect(name).trim_matches('"')
    }

    fn sha256(text: &str) -> String {
        Sha256::digest(text).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    }

    #[test]
    fn the_integrity_of_a_missing_body_is_that_of_an_empty_one() {
        let asked = "Digest realm=\"cam\", nonce=\"1\", algorithm=sha-256, qop=\"auth-int\"";
        let answer = answer(asked, "ann");
        let counted = format!("{}:{}", value(&answer, "nc"), value(&answer, "cnonce"));
        let user = sha256("ann:cam:hush");
        let request = sha256(&format!("GET:/a?b=c:{}", sha256("")));
        let expected = sha256(&format!("{user}:1:{counted}:auth-int:{request}"));
        assert_eq!(value(&answer, "response"), expected, "{answer}");
    }

    #[test]
    fn an_algorithm_is_known_in_any_case() {
        for algorithm in ["md5", "Md5-Sess", "sha-256", "\"MD5\"", "sha-512-256-sess"] {
            let asked =
                format!("Digest realm=\"cam\", nonce=\"1\", qop=\"auth\", algorithm={algorithm}");
            let written = algorithm.trim_matches('"');
            let answer = answer(&asked, "ann");
            assert!(value(&answer, "algorithm").eq_ignore_ascii_case(written), "{answer}");
        }
        let why = challenge_of(&["Digest realm=\"\", nonce=\"1\", algorithm=x".to_owned()]);
        assert!(why.expect_err("not known").contains("algorithm"));
    }

    #[test]
    fn a_user_name_is_escaped_only_for_cameras_that_say_so() {
        let asked = "Digest realm=\"cam\", nonce=\"1\", qop=\"auth\"";
        let with = format!("{asked}, charset=UTF-8");
        assert!(answer(asked, "\u{e4}d").starts_with(&format!("Digest {USER}%C3%A4d, ")));
        assert!(answer(&with, "\u{e4}d").starts_with("Digest username*=UTF-8''%C3%A4d, "));
        assert!(answer(asked, "ann").starts_with("Digest username=\"ann\", "));
    }
}
