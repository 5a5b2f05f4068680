//! Programs that write pictures, or report why they cannot.

use std::time::Duration;

use super::{check, number};
use crate::served::{Daemon, OPEN, jpegs, until};
use crate::setting::{Setting, text};
use fmlora_device::Thing;

fn command(script: &str) -> String {
    format!(
        "command = [\"sh\", \"-c\", '''{script}''']\ntimeout_seconds = 0.5\nretry_seconds = 0.5\n"
    )
}

#[test]
fn the_last_words_of_a_program_are_told_without_passwords() {
    let setting = Setting::new();
    let fails = "echo first >&2; echo 'rtsp://ann:secret@box/1: 401 Unauthorized' >&2; exit 8";
    let hangs = "echo 'waits for rtsp://ann:secret@box/1' >&2; exec sleep 1000";
    let closes = "exec 1>&-; sleep 0.05; echo 'it has no picture of rtsp://ann:secret@box/1' >&2";
    let query = "echo 'http://box/1?pwd=secret: refused' >&2";
    let writes = "printf 'no frame'; exit 0";
    let lasts = "printf 'no frame'; exec sleep 1000";
    for (script, expected) in [
        (fails, &["exit status: 8", "first", "rtsp://***@box/1: 401 Unauthorized"][..]),
        (hangs, &["no frame for", "waits for rtsp://***@box/1"][..]),
        (closes, &["it has no picture of rtsp://***@box/1"][..]),
        (query, &["http://box/1?pwd=***: refused"][..]),
        (writes, &["wrote 8 bytes without a JPEG", "the text \"no frame\"", "exit status: 0"][..]),
        (lasts, &["no frame for", "wrote 8 bytes without a JPEG"][..]),
    ] {
        let (code, said) = check(&setting, "exec:", &command(script));
        assert_eq!(code, 1, "{said}");
        for text in expected {
            assert!(said.contains(text), "{text:?} is not in {said}");
        }
        assert!(!said.contains("secret"), "{said}");
    }
    let config =
        format!("device = \"cpu\"\n[camera]\nsource = \"exec:\"\n{}{OPEN}", command(fails));
    let mut daemon = Daemon::start_with(&setting, &config, &[]);
    let trouble = daemon.line("source")["trouble"].to_string();
    assert!(trouble.contains("401 Unauthorized") && !trouble.contains("secret"), "{trouble}");
}

/// A program may leave behind processes that hold its output and are in no group that could be
/// killed.
#[test]
fn processes_that_a_program_leaves_behind_keep_no_reader() {
    let setting = Setting::new();
    let picture = setting.path("frame.jpg");
    std::fs::write(&picture, &jpegs(Thing::ALL[0], 1, 1)[0]).expect("a file");
    let script = format!(
        "cat {}; echo . >> starts; setsid sh -c \"echo \\$\\$ >> left; exec sleep 1000\" & exec sleep 1000",
        text(&picture)
    );
    let config =
        format!("device = \"cpu\"\n[camera]\nsource = \"exec:\"\n{}{OPEN}", command(&script));
    let mut daemon = Daemon::start_with(&setting, &config, &[]);
    until("it is started again and again", || {
        let openings = number(&super::info(&mut daemon), "/source/openings");
        std::thread::sleep(Duration::from_millis(50));
        openings >= 7
    });
    drop(daemon);
    let left = std::fs::read_to_string(setting.path("left")).expect("programs that are left");
    for pid in left.lines() {
        // It may have ended already.
        let _ = std::process::Command::new("kill").arg(pid).status();
    }
}
