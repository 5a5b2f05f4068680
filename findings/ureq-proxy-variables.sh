#!/usr/bin/env bash
# ureq 3.5.2 (`Proxy::try_from_env`) reads the proxy variables of the environment in another way than curl:
# - one proxy serves all addresses: the first of ALL_PROXY, HTTPS_PROXY and HTTP_PROXY, then in lower case. https_proxy alone
#   also takes http addresses, and all_proxy wins over the variable of the scheme, which curl asks first;
# - no_proxy names hosts exactly: "localhost" does not cover "cdn.localhost", and the blank of "a.example, localhost" belongs to
#   the second name, which then never matches. curl covers sub-domains and drops the blank.
# A program that moves from curl to ureq sends requests past, or to, another proxy.
#
# Needs cargo, curl and crates.io. Ports 1 to 4 of this machine are asked, where nothing listens: the message of curl names the
# one that it tried. Fails if the behaviour changes.
# Output seen (2026-11-27, curl 7.88.1):
#   http, https_proxy alone: ureq asks the proxy, curl the host
#   http, all_proxy and http_proxy: ureq asks all_proxy's, curl http_proxy's
#   http://cdn.localhost, no_proxy=localhost: ureq asks the proxy, curl the host
#   http://localhost, no_proxy="a.example, localhost": ureq asks the proxy, curl the host
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cargo init --quiet --name probe .
cargo add --quiet ureq@=3.5.2 --no-default-features
cat > src/main.rs <<'RS'
use ureq::{Proxy, http::Uri};

/// Prints the port that ureq would connect to for an address.
fn main() {
    let address: Uri = std::env::args().nth(1).expect("an address").parse().expect("an address");
    let proxy = Proxy::try_from_env().filter(|proxy| !proxy.is_no_proxy(&address));
    let port = proxy.map_or_else(|| address.port_u16().expect("a port"), |proxy| proxy.port());
    println!("{port}");
}
RS
cargo build --quiet

# compare ADDRESS VARIABLE=VALUE...: the ports that ureq and curl connect to.
compare() {
    local address=$1
    shift
    local clean=(env -u ALL_PROXY -u HTTPS_PROXY -u HTTP_PROXY -u NO_PROXY -u all_proxy -u https_proxy -u http_proxy -u no_proxy "$@")
    local curl_says
    curl_says=$(LC_ALL=C "${clean[@]}" curl --silent --show-error "$address" 2>&1 || true)
    echo "$("${clean[@]}" target/debug/probe "$address") $(sed -n 's/.* port \([0-9]*\).*/\1/p' <<<"$curl_says" | head -1)"
}

# expect WHAT PORTS ADDRESS VARIABLE=VALUE...
expect() {
    local what=$1 ports=$2 found
    shift 2
    found=$(compare "$@")
    [ "$found" = "$ports" ] || { echo "$what: ports $found, expected $ports"; exit 1; }
    echo "$what"
}

expect "http, https_proxy alone: ureq asks the proxy, curl the host" \
    "1 4" http://localhost:4/ https_proxy=http://127.0.0.1:1
expect "http, all_proxy and http_proxy: ureq asks all_proxy's, curl http_proxy's" \
    "1 2" http://localhost:4/ all_proxy=http://127.0.0.1:1 http_proxy=http://127.0.0.1:2
expect "http://cdn.localhost, no_proxy=localhost: ureq asks the proxy, curl the host" \
    "2 4" http://cdn.localhost:4/ http_proxy=http://127.0.0.1:2 no_proxy=localhost
expect "http://localhost, no_proxy=\"a.example, localhost\": ureq asks the proxy, curl the host" \
    "2 4" http://localhost:4/ http_proxy=http://127.0.0.1:2 "no_proxy=a.example, localhost"
