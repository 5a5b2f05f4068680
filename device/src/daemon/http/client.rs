//! Client of a request: the peer of the connection, or the address that a trusted proxy states.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;

use super::Api;
use crate::daemon::config::HttpConfig;

/// The client of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Client {
    /// IP address; an IPv4 address that came as IPv6 is an IPv4 address.
    pub(super) address: IpAddr,
    /// True if the client uses TLS, with this server or with the proxy.
    pub(super) encrypted: bool,
    /// True if the request came through a trusted proxy.
    pub(super) proxied: bool,
    /// Host and port of the URL in the browser.
    pub(super) host: Option<String>,
}

impl Client {
    /// Determines the client of a request; `from` is the peer of the connection.
    fn of(from: IpAddr, headers: &HeaderMap, config: &HttpConfig) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let peer = from.to_canonical();
        let direct = Self {
            address: peer,
            encrypted: config.certificate.is_some(),
            proxied: false,
            host: text(header::HOST.as_str()).map(str::to_owned),
        };
        if !config.trusts(peer) {
            return direct;
        }
        let scheme = text("x-forwarded-proto").and_then(first);
        Self {
            address: forwarded_for(headers, config).unwrap_or(peer),
            encrypted: scheme
                .map_or(direct.encrypted, |scheme| scheme.eq_ignore_ascii_case("https")),
            proxied: true,
            host: text("x-forwarded-host").and_then(first).map(str::to_owned).or(direct.host),
        }
    }
}

/// First value of a comma-separated list.
fn first(values: &str) -> Option<&str> {
    values.split(',').next().map(str::trim).filter(|value| !value.is_empty())
}

/// Address of the client by X-Forwarded-For. Each proxy appends the address that it saw, so the
/// last address that is no trusted proxy is the client; the values before it can be forged.
fn forwarded_for(headers: &HeaderMap, config: &HttpConfig) -> Option<IpAddr> {
    let values = headers.get_all("x-forwarded-for").into_iter().filter_map(|v| v.to_str().ok());
    let hops: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
    let mut client = None;
    for hop in hops.into_iter().rev() {
        let Some(address) = address(hop) else { break };
        client = Some(address);
        if !config.trusts(address) {
            break;
        }
    }
    client
}

/// Parses an address with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let plain = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let address = plain.or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()));
    address.ok().map(|address| address.to_canonical())
}

/// Middleware that adds the [`Client`] to a request.
pub(super) async fn identified(
    State(api): State<Api>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let client = Client::of(from.ip(), request.headers(), &api.shared.config.get().http);
    request.extensions_mut().insert(client);
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::config;

    fn config(trusted: &str) -> HttpConfig {
        let text =
            format!("[camera]\nsource = \"synthetic://\"\n[http]\ntrusted_proxies = {trusted}\n");
        config::load("test", &text, &|_| None).expect("a configuration").http
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().expect("a value"));
        }
        headers
    }

    #[test]
    fn the_last_address_that_is_no_trusted_proxy_is_the_client() {
        let trusted = config("[\"127.0.0.1\", \"10.0.0.0/8\"]");
        for (from, forwarded, client) in [
            ("127.0.0.1", vec!["192.0.2.7"], "192.0.2.7"),
            ("::ffff:127.0.0.1", vec!["192.0.2.7"], "192.0.2.7"),
            ("127.0.0.1", vec!["198.51.100.1, 192.0.2.7, 10.1.1.1"], "192.0.2.7"),
            ("127.0.0.1", vec!["198.51.100.1", "192.0.2.7:4711"], "192.0.2.7"),
            ("127.0.0.1", vec!["[2001:db8::1]:4711"], "2001:db8::1"),
            ("127.0.0.1", vec!["192.0.2.7, invented"], "127.0.0.1"),
            ("127.0.0.1", vec!["10.0.0.2"], "10.0.0.2"),
            ("127.0.0.1", vec![], "127.0.0.1"),
            ("192.0.2.9", vec!["198.51.100.1"], "192.0.2.9"),
        ] {
            let pairs: Vec<_> = forwarded.iter().map(|hops| ("x-forwarded-for", *hops)).collect();
            let from = from.parse().expect("an address");
            let found = Client::of(from, &headers(&pairs), &trusted).address;
            assert_eq!(found.to_string(), client, "{from} {forwarded:?}");
        }
    }

    #[test]
    fn scheme_and_host_are_believed_of_trusted_proxies_alone() {
        let said = headers(&[
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "cam.lan"),
            ("host", "127.0.0.1:8321"),
        ]);
        let from = "127.0.0.1".parse().expect("an address");
        let client = Client::of(from, &said, &config("[\"127.0.0.1\"]"));
        assert!(client.encrypted && client.proxied);
        assert_eq!(client.host.as_deref(), Some("cam.lan"));
        let client = Client::of(from, &said, &config("[]"));
        assert!(!client.encrypted && !client.proxied);
        assert_eq!(client.host.as_deref(), Some("127.0.0.1:8321"));
    }
}
