//! `host-tools`: see `host-tools --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    fmlora_host_tools::run(std::env::args_os())
}
