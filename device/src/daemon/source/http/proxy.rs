//! Selects the proxy for a camera, by the usual environment variables.
//!
//! Cameras are mostly on the same network as the box, to which no proxy leads. So private addresses
//! and names of a local network are connected directly, like those of `no_proxy`.

use ureq::{Proxy, ProxyProtocol};
use url::{Host, Url};

/// Returns the proxy for a URL, `None` for a direct connection.
pub(super) fn proxy_for(url: &Url) -> Option<Proxy> {
    proxy_by(url, &|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

fn proxy_by(url: &Url, variable: &dyn Fn(&str) -> Option<String>) -> Option<Proxy> {
    let names = match url.scheme() {
        "https" => ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
        _ => ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"],
    };
    let proxy = names.into_iter().find_map(variable)?;
    let excepted = variable("no_proxy").or_else(|| variable("NO_PROXY")).unwrap_or_default();
    if is_local(url) || is_excepted(url.host_str()?, &excepted) {
        return None;
    }
    let read = Proxy::new(&proxy);
    let known =
        |proxy: &Proxy| matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https);
    let proxy = read.ok().filter(known);
    if proxy.is_none() {
        tracing::warn!(
            "the proxy of the environment is not used: expected http://HOST:PORT or https://HOST:PORT"
        );
    }
    proxy
}

/// Returns true if a host is on this machine or on a local network.
fn is_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        Some(Host::Ipv6(ip)) => {
            ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()
        }
        Some(Host::Domain(name)) => {
            name.split_once('.').is_none_or(|(_, domain)| domain == "local")
        }
        None => true,
    }
}

/// Returns true if a host is in a `no_proxy` list: `*`, domain names with their subdomains,
/// addresses.
fn is_excepted(host: &str, list: &str) -> bool {
    list.split([',', ' ']).filter(|entry| !entry.is_empty()).any(|entry| {
        let name = entry.trim_start_matches('*').trim_start_matches('.');
        let below =
            host.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        entry == "*" || (!name.is_empty() && below)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_taken_for_what_is_not_near() {
        let through = |url: &str, variables: &[(&str, &str)]| {
            let variable = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            let proxy = proxy_by(&Url::parse(url).expect("an address"), &variable);
            proxy.map(|proxy| proxy.host().to_owned())
        };
        let both = [("http_proxy", "http://plain:3128"), ("HTTPS_PROXY", "secret:3128")];
        let plain = Some("plain".to_owned());
        assert_eq!(through("http://cam.example/", &both), plain);
        assert_eq!(through("https://cam.example/", &both), Some("secret".to_owned()));
        assert_eq!(through("http://cam.example/", &both[1..]), None);
        assert_eq!(through("http://cam.example/", &[("all_proxy", "plain:1")]), plain);
        assert_eq!(through("http://cam.example/", &[("all_proxy", "socks5://plain:1")]), None);
        for near in [
            "192.168.1.9",
            "10.0.0.1:8080",
            "127.0.0.1",
            "[fe80::1]",
            "[fd00::1]",
            "cam",
            "cam.local",
        ] {
            assert_eq!(through(&format!("http://{near}/"), &both), None, "{near}");
        }
        for (list, expected) in [
            ("cam.example", None),
            ("other, .example", None),
            ("*.example", None),
            ("*", None),
            ("am.example", plain.clone()),
            ("", plain.clone()),
        ] {
            let all = [&both[..], &[("no_proxy", list)]].concat();
            assert_eq!(through("http://cam.example/", &all), expected, "{list}");
        }
    }
}
