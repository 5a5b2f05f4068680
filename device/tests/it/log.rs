//! Log of the daemon.

use crate::served::{Daemon, OPEN, until};
use crate::setting::{Setting, finish};

#[test]
fn lines_of_the_log_have_a_time_and_success_is_no_warning() {
    let setting = Setting::new();
    let mut daemon = Daemon::start(&setting, OPEN);
    daemon.signal("HUP");
    let log = || std::fs::read_to_string(setting.path("log")).expect("a log");
    until("a word about it", || log().contains("the configuration was read anew"));
    daemon.signal("TERM");
    assert!(daemon.wait().success());
    for line in log().lines() {
        let time = line.split(' ').next().unwrap_or_default();
        assert!(time.len() > 19 && time.contains('T') && time.ends_with('Z'), "{line}");
        assert!(!line.contains("WARN"), "nothing is wrong: {line}");
    }
}

#[test]
fn the_journal_has_a_time_of_its_own() {
    let setting = Setting::new();
    let config = format!("device = \"cpu\"\n[camera]\nsource = \"synthetic://\"\n{OPEN}");
    let mut daemon = Daemon::start_with(&setting, &config, &[("JOURNAL_STREAM", "8:1234")]);
    daemon.signal("TERM");
    assert!(daemon.wait().success());
    let log = std::fs::read_to_string(setting.path("log")).expect("a log");
    assert!(log.lines().count() > 0);
    for line in log.lines() {
        assert!(line.trim_start().starts_with("INFO"), "{line}");
    }
}

#[test]
fn an_empty_variable_is_not_set() {
    let setting = Setting::new();
    let mut command = setting.command(&["status"]);
    command.env("FMLORA_BASE", "").env("FMLORA_STATE", "").env("FMLORA_DEVICE", "");
    let run = finish(&mut command);
    assert_eq!(run.code, 0, "{}", run.stderr);
}
