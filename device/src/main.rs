//! `fmlora-edge`: see `fmlora-edge --help`.

use std::process::ExitCode;

/// A daemon runs for months, and what learning frees has to go back to the system: docs/performance.md has several
/// allocators measured.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    fmlora_device::run(std::env::args_os())
}
