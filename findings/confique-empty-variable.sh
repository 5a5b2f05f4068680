#!/usr/bin/env bash
# confique 0.4.0: an empty environment variable is "not set" for a number, a flag and a list, so that the default stays, but it
# is the value "" for a text. `PORT= HOST= program` therefore keeps the default port and loses the default host.
#
# Needs cargo and crates.io. Fails if the behaviour changes.
# Output seen (2026-11-27):
#   port 8080, host ""
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cargo init --quiet --name probe .
cargo add --quiet confique@=0.4.0 --no-default-features
cat > src/main.rs <<'RS'
use confique::Config;

#[derive(Config)]
struct Settings {
    #[config(env = "PROBE_PORT", default = 8080)]
    port: u16,
    #[config(env = "PROBE_HOST", default = "localhost")]
    host: String,
}

fn main() {
    let settings = Settings::builder().env().load().expect("both have a default");
    println!("port {}, host {:?}", settings.port, settings.host);
    assert_eq!((settings.port, settings.host.as_str()), (8080, ""));
}
RS
PROBE_PORT= PROBE_HOST= cargo run --quiet
