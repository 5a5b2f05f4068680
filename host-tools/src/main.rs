//! `host-tools`: see `host-tools --help`.

use std::process::ExitCode;

/// A training asks for the same large buffers again and again: docs/performance.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    fmlora_host_tools::run(std::env::args_os())
}
