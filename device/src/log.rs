//! The log, written to standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Default verbosity of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The result is on standard output. Only warnings and errors are logged.
    Command,
    /// Runs for months. Its actions are logged, with the time.
    Daemon,
}

/// Starts the log.
pub(crate) fn start(kind: Kind, verbose: u8) {
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(levels(kind, verbose)))
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .with_target(verbose > 1);
    // A second call in one process (tests) keeps the first log.
    let _ = if kind == Kind::Daemon && !is_journal() {
        log.try_init()
    } else {
        log.without_time().try_init()
    };
}

/// Levels of this program and of its libraries.
fn levels(kind: Kind, verbose: u8) -> String {
    let own = match (kind, verbose) {
        (_, 2..) => return "trace".to_owned(),
        (Kind::Command, 0) => return "warn".to_owned(),
        (Kind::Command, 1) | (Kind::Daemon, 0) => "info",
        (Kind::Daemon, 1) => "debug",
    };
    let crates = ["fmlora_device", "fmlora_learner", "fmlora_models"];
    let own: Vec<String> = crates.iter().map(|name| format!("{name}={own}")).collect();
    format!("warn,{}", own.join(","))
}

/// Returns true if systemd's journal reads standard error, as it adds the time to each line. At a
/// terminal, the variable is inherited from the desktop and does not count.
fn is_journal() -> bool {
    std::env::var_os("JOURNAL_STREAM").is_some() && !std::io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_says_what_it_does_and_libraries_only_what_is_wrong() {
        assert_eq!(levels(Kind::Command, 0), "warn");
        assert!(levels(Kind::Daemon, 0).starts_with("warn,fmlora_device=info,"));
        assert!(levels(Kind::Daemon, 1).contains("fmlora_device=debug"));
        assert_eq!(levels(Kind::Daemon, 2), "trace");
        for (kind, verbose) in [(Kind::Command, 1), (Kind::Daemon, 0), (Kind::Daemon, 3)] {
            assert!(EnvFilter::try_new(levels(kind, verbose)).is_ok());
        }
    }
}
