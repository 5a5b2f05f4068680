//! `host-tools`: see `host-tools --help`.

use std::process::ExitCode;

/// A training allocates the same large buffers again and again: docs/performance.md.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    fmlora_host_tools::run(std::env::args_os())
}
