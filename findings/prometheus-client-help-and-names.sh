#!/usr/bin/env bash
# prometheus-client 0.26.0 writes the help of a metric as it is: a line break in it breaks the exposition, where the text format
# asks for \n. A name that is registered twice is written twice, with two TYPE lines, and no call fails; Prometheus refuses
# such a scrape as a whole.
#
# Needs cargo and crates.io. Fails if the behaviour changes.
# Output seen (2026-11-27), after the exposition itself:
#   a raw line break in HELP: true; TYPE lines of one name: 2
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cargo init --quiet --name probe .
cargo add --quiet prometheus-client@=0.26.0
cat > src/main.rs <<'RS'
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

fn main() {
    let mut registry = Registry::default();
    registry.register("disk", "free space\nin bytes", Gauge::<i64>::default());
    registry.register("disk", "the same name again", Gauge::<i64>::default());
    let mut text = String::new();
    encode(&mut text, &registry).expect("text");
    print!("{text}");
    let raw = text.contains("\nin bytes");
    let types = text.matches("# TYPE disk gauge").count();
    println!("a raw line break in HELP: {raw}; TYPE lines of one name: {types}");
    assert!(raw && types == 2);
}
RS
cargo run --quiet
