//! `[http]`: address, proxies and limits of the page.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use confique::Config;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `[http]`
#[allow(clippy::doc_link_with_quotes, reason = "these texts go into a TOML file too")]
#[derive(Debug, Clone, PartialEq, Serialize, Config)]
pub(crate) struct HttpConfig {
    /// Whether there is a page at all.
    #[config(env = "FMLORA_HTTP_ENABLED", default = true)]
    pub(crate) enabled: bool,
    /// Address and port; 0.0.0.0 is every network of the box, port 0 any that is free.
    #[config(env = "FMLORA_HTTP_LISTEN", default = "127.0.0.1:8321")]
    pub(crate) listen: SocketAddr,
    /// Certificate chain for TLS: a path of a PEM file. Without it, nothing is encrypted.
    #[config(env = "FMLORA_HTTP_CERTIFICATE")]
    pub(crate) certificate: Option<PathBuf>,
    /// Private key of the certificate: a path of a PEM file.
    #[config(env = "FMLORA_HTTP_KEY")]
    pub(crate) key: Option<PathBuf>,
    /// Largest request in MiB: a picture, or all pictures of a task.
    #[config(env = "FMLORA_HTTP_MAX_BODY_MIB", default = 32)]
    pub(crate) max_body_mib: usize,
    /// Requests a second of one address, and four times as many at once.
    #[config(env = "FMLORA_HTTP_REQUESTS_PER_SECOND", default = 50)]
    pub(crate) requests_per_second: u32,
    /// Connections at a time, half of them of one address; more are told to come again.
    #[config(env = "FMLORA_HTTP_MAX_CONNECTIONS", default = 512)]
    pub(crate) max_connections: usize,
    /// Proxies whose X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Host are believed: addresses or networks, such as
    /// ["127.0.0.1", "10.1.0.0/16"].
    #[config(env = "FMLORA_HTTP_TRUSTED_PROXIES", default = [])]
    pub(crate) trusted_proxies: Vec<Network>,
    /// Path below which a proxy shows the page, such as "/box1"; empty: at its root. Needed only where the proxy passes
    /// the path on, or where the cookie is to be sent to no other path.
    #[config(env = "FMLORA_HTTP_BASE_PATH", default = "")]
    pub(crate) base_path: String,
    /// Names by which browsers may call this box while no login is asked for, besides localhost: those of a proxy that
    /// asks for its own login.
    #[config(env = "FMLORA_HTTP_HOSTS", default = [])]
    pub(crate) hosts: Vec<String>,
}

impl HttpConfig {
    /// Path of the page, for its cookie.
    pub(crate) fn cookie_path(&self) -> &str {
        if self.base_path.is_empty() { "/" } else { &self.base_path }
    }

    /// Returns true if this address is a trusted proxy.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(address))
    }
}

/// An address, or a network in CIDR notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network(IpNet);

impl Network {
    /// Returns true if the network holds the address; an IPv4 address that is written as IPv6
    /// counts as IPv4.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = text.parse::<IpAddr>().map(IpNet::from);
        let network = address.or_else(|_| text.parse::<IpNet>());
        network.map(Self).map_err(|_| {
            format!("{text:?} is no address: expected one such as 192.168.1.5, or a network such as 10.0.0.0/8")
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_an_address_or_a_range() {
        for (network, inside, outside) in [
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("10.1.0.0/16", "::ffff:10.1.2.3", "10.2.0.1"),
            ("fd00::/8", "fd12::1", "fe80::1"),
            ("::1", "::1", "127.0.0.1"),
        ] {
            let parsed: Network = network.parse().expect("a network");
            let [inside, outside] = [inside, outside].map(|a| a.parse().expect("an address"));
            assert!(parsed.contains(inside), "{network} {inside}");
            assert!(!parsed.contains(outside), "{network} {outside}");
        }
        for wrong in ["", "box", "10.0.0.0/33", "10.0.0"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }
}
