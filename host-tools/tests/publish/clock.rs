//! Expired metadata, metadata that expires soon, and wrong clocks.

use serde_json::json;

use super::site::Site;

/// Devices refuse everything once one role has expired, so no other role is signed.
#[test]
fn nothing_is_signed_beside_what_has_expired() {
    let start = Site::with_birds();
    start.adapter("more-2.fmla", "more", 2);
    let targets = ["targets 2 expired at", "host-tools publish refresh --repo site --targets"];
    let root = ["root 1 expired at", "host-tools publish refresh --repo site --root"];
    let both =
        ["root 1 expired at", "targets 2 expired at", "refresh --repo site --targets --root"];
    let add = ["add", "more-2.fmla", "--percent", "9"];
    let promote = ["promote", "birds-1.fmla", "--percent", "9"];
    for (days, command, words) in [
        (91, &["refresh"][..], Some(&targets[..])),
        (91, &["refresh", "--root"], Some(&targets)),
        (91, &["rotate", "timestamp"], Some(&targets)),
        (91, &["rotate", "root"], Some(&["targets 2 expired at", "timestamp 2 expired at"])),
        (91, &add, None),
        (91, &promote, None),
        (91, &["refresh", "--targets"], None),
        (366, &["refresh"], Some(&both)),
        (366, &add, Some(&root)),
        (366, &promote, Some(&root)),
        (366, &["refresh", "--targets", "--root"], None),
        // Without the lost key, expired metadata cannot be signed again first.
        (91, &["rotate", "timestamp", "--lost"], None),
    ] {
        let site = start.copy();
        let before = site.all_files();
        let done = site.run_in_days(days, command);
        match words {
            Some(words) => {
                done.refused(words);
                assert!(site.all_files() == before, "{command:?}");
            }
            None => done.done(),
        }
    }
}

#[test]
fn an_early_expiry_is_warned_of_with_the_command_that_mends_it() {
    let start = Site::with_birds();
    for (days, command, warns) in [
        (70, &["refresh"][..], None),
        (80, &["refresh"], Some("targets 2 expires at")),
        (80, &["refresh", "--targets"], None),
        (91, &["rotate", "timestamp", "--lost"], Some("targets 2 expired at")),
        (340, &["refresh", "--targets"], Some("root 1 expires at")),
        (340, &["refresh", "--targets", "--root"], None),
    ] {
        let site = start.copy();
        let done = site.run_in_days(days, command);
        done.done();
        match warns {
            Some(words) => assert!(
                done.stderr.starts_with("warning: ") && done.stderr.contains(words),
                "{days} {command:?}: {}",
                done.stderr
            ),
            None => assert_eq!(done.stderr, "", "{days} {command:?}"),
        }
    }
    // Long before expiry, then with each role's own limit.
    let well = start.status(&[]);
    assert_eq!((well.0, &well.1["expiring"], &well.1["mend"]), (0, &json!([]), &json!(null)));
    start
        .run(&["refresh", "--targets", "--root", "--expires", "targets=13", "--expires", "root=29"])
        .done();
    let (code, soon) = start.status(&[]);
    assert_eq!((code, &soon["expiring"]), (3, &json!(["root", "targets"])));
    assert_eq!(soon["mend"], "host-tools publish refresh --repo site --targets --root");
    let told = start.host_tools(&["publish", "status", "--repo", "site"]);
    assert_eq!(told.code, 3);
    assert!(told.stdout.contains("host-tools publish refresh --repo site --targets --root signs"));
    assert_eq!(start.status(&["--within", "5"]).0, 0);
    let (code, soon) = start.status(&["--within", "8"]);
    assert_eq!((code, &soon["mend"]), (3, &json!("host-tools publish refresh --repo site")));
}

/// Devices take the signing time of the timestamp as the earliest possible present.
#[test]
fn the_time_of_signing_never_goes_back() {
    let site = Site::ready();
    let issued = || -> jiff::Timestamp {
        let found = site.load().expect("a repository");
        let issued = found.timestamp().signed._extra["issued"].as_str().expect("a text").to_owned();
        issued.parse().expect("a time")
    };
    let before = jiff::Timestamp::now();
    site.run(&["refresh"]).done();
    assert!(before <= issued() && issued() <= jiff::Timestamp::now(), "{}", issued());
    let all = site.all_files();
    for command in [&["refresh"][..], &["rotate", "snapshot"], &["rotate", "timestamp"]] {
        let signed = issued().to_string();
        let done = site.run_by_clock(-3600, command);
        done.refused(&["by the clock of this machine", "timestamp 2 was signed at", &signed]);
    }
    // By a clock that is far ahead, some metadata has expired.
    site.run_in_days(100, &["refresh"]).refused(&["targets 1 expired at"]);
    assert!(site.all_files() == all);
    // The clocks of two machines may differ by some seconds.
    site.run_by_clock(-20, &["refresh"]).done();
    // After a signature by a wrong clock, devices forget the time with the key.
    site.run_in_days(3, &["refresh"]).done();
    site.run(&["refresh"]).refused(&["publish rotate timestamp --lost"]);
    site.run(&["rotate", "timestamp", "--lost"]).done();
    site.run(&["refresh"]).done();
    assert!(issued() <= jiff::Timestamp::now());
}

#[test]
fn lives_have_limits() {
    let site = Site::ready();
    for (expires, code) in [
        ("timestamp=1", 0),
        ("timestamp=3650", 0),
        ("timestamp=0", 2),
        ("timestamp=3651", 2),
        ("timestamp=-1", 2),
        ("timestamp=week", 2),
        ("timestamp", 2),
        ("mirrors=7", 2),
    ] {
        let done = site.run(&["refresh", "--expires", expires]);
        assert_eq!(done.code, code, "{expires}: {}", done.stderr);
    }
}
