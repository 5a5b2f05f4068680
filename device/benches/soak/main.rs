//! The daemon under load: posted pictures at a steady rate, a class learned now and then, for minutes.
//!
//! `cargo bench --workspace --bench soak -- --seconds 600`

mod daemon;
mod load;
mod report;

use std::time::Duration;

use daemon::Daemon;
use load::Load;

/// Length of a run if nobody says otherwise: long enough to see that it works.
const SECONDS: u64 = 60;

fn main() {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--seconds");
    let seconds = arguments.nth(1).map_or(Ok(SECONDS), |text| text.parse());
    let seconds = seconds.expect("--seconds takes a whole number");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut daemon = Daemon::start(folder.path());
    let load = Load::run(&daemon, Duration::from_secs(seconds));
    let frames = daemon.end();
    report::print(&load, &frames);
    assert_eq!(load.failures, Vec::<String>::new(), "requests failed");
    assert_eq!(load.lost, 0, "what was acknowledged is not there");
}
