//! `fmlora-edge`: see `fmlora-edge --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    fmlora_device::run(std::env::args_os())
}
