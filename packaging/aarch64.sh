#!/usr/bin/env bash
# Builds fmlora-edge for 64-bit ARM (Jetson, Raspberry Pi) on an x86-64 Debian or Ubuntu. Needs nothing but Rust by
# rustup and the distribution's cross compiler:
#
#     sudo apt-get install gcc-aarch64-linux-gnu
#     packaging/aarch64.sh [further arguments of cargo build]
#
# The program runs on every system whose glibc is at least as new as that of the machine it was built on: build on the
# oldest that you serve.
set -euo pipefail
cd "$(dirname "$0")/.."

target=aarch64-unknown-linux-gnu
rustup target add "$target"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
cargo build --release --locked --target "$target" --package fmlora-device "$@"
echo "built: ${CARGO_TARGET_DIR:-target}/$target/release/fmlora-edge"
