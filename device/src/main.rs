//! `fmlora-edge`: see `fmlora-edge --help`.

use std::process::ExitCode;

/// Returns memory to the system after learning, because a daemon runs for months.
/// docs/performance.md compares several allocators.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    fmlora_device::run(std::env::args_os())
}
