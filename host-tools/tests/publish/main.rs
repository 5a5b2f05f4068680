//! Tests of `publish`: the program writes a repository, and tough reads it.

mod clock;
mod crashes;
mod damage;
mod forge;
mod keys;
mod lists;
mod site;

use fmlora_learner::BaseId;
use serde_json::Value;
use site::Site;

/// From an empty folder to an adapter for all devices, with keys under a passphrase.
#[test]
fn an_adapter_is_published_and_promoted() {
    let site = Site::new();
    let env = [("FMLORA_KEY_PASSPHRASE", "test")];
    let publish = |arguments: &[&str]| site.run_with(arguments, &env);
    assert_eq!(publish(&["init"]).code, 0);
    assert_eq!(site.load().expect("a repository").targets().signed.targets.len(), 0);
    for entry in std::fs::read_dir(site.path("keys")).expect("keys") {
        let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("a key");
        assert!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
    }
    site.adapter("birds-1.fmla", "birds", 1);
    let added = publish(&["add", "birds-1.fmla", "--channel", "stable", "--percent", "5"]);
    assert_eq!(added.code, 0, "{}", added.stderr);
    let (custom, bytes) = site.target("birds-1.fmla");
    assert_eq!(bytes, site.read("birds-1.fmla"), "what tough fetches is the file");
    let keys: Vec<&str> =
        custom.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "base_id",
            "channel",
            "feature_space_after",
            "feature_space_before",
            "format",
            "min_daemon",
            "name",
            "release",
            "rollout"
        ]
    );
    let facts = (&custom["format"], &custom["name"], &custom["release"], &custom["min_daemon"]);
    assert_eq!(facts, (&1.into(), &"birds".into(), &1.into(), &"0.1.0".into()));
    assert_eq!(custom["base_id"], "07".repeat(32));
    assert_eq!(custom["rollout"]["percent"], 5);
    assert_eq!(custom["rollout"]["salt"].as_str().map(str::len), Some(32));
    // Every rollout begins with other devices, because every release has its own salt.
    site.adapter("birds-2.fmla", "birds", 2);
    publish(&["add", "birds-2.fmla", "--percent", "5"]).done();
    assert_ne!(site.target("birds-2.fmla").0["rollout"]["salt"], custom["rollout"]["salt"]);
    assert_eq!(publish(&["promote", "birds-1.fmla", "--percent", "100"]).code, 0);
    let (promoted, _) = site.target("birds-1.fmla");
    assert_eq!(promoted["rollout"]["percent"], 100);
    assert_eq!(promoted["rollout"]["salt"], custom["rollout"]["salt"]);
    assert_eq!(site.versions(), [1, 4, 4, 4]);
    assert_eq!(publish(&["refresh"]).code, 0);
    assert_eq!(site.versions(), [1, 4, 5, 5]);
    assert_eq!(publish(&["refresh", "--targets", "--root"]).code, 0);
    assert_eq!(site.versions(), [2, 5, 6, 6]);
    let wrong = [("FMLORA_KEY_PASSPHRASE", "other")];
    let refused = site.run_with(&["refresh"], &wrong);
    assert!(refused.code == 1 && refused.stderr.contains("no passphrase"), "{}", refused.stderr);
    assert_eq!(site.versions(), [2, 5, 6, 6]);
}

#[test]
fn a_wrong_adapter_is_refused_by_name_and_changes_nothing() {
    let site = Site::ready();
    site.adapter("birds-2.fmla", "birds", 2);
    site.adapter("birds-1.fmla", "birds", 1);
    site.adapter("again-2.fmla", "again", 2);
    // Devices keep release 2 of a name, even if the other release 2 is for other features.
    let other_features = BaseId::new([8; 32]).feature_space();
    site.adapter_for("name-2.fmla", "birds", 2, other_features);
    site.adapter_for("features-2.fmla", "features", 2, other_features);
    std::fs::create_dir(site.path("other")).expect("made");
    site.adapter("other/birds-2.fmla", "birds", 3);
    site.adapter("birds.bin", "birds", 7);
    std::fs::write(site.path("text.fmla"), "no adapter").expect("a file");
    let add = |file, channel| site.run(&["add", file, "--channel", channel, "--percent", "5"]);
    assert_eq!(add("birds-2.fmla", "stable").code, 0);
    let before = site.versions();
    for (file, channel, words) in [
        ("birds-1.fmla", "stable", "release 1 is not larger than release 2 of birds-2.fmla"),
        ("again-2.fmla", "stable", "which is for the same devices"),
        ("name-2.fmla", "stable", "which has the same name, channel and base"),
        ("other/birds-2.fmla", "stable", "there is another birds-2.fmla already"),
        ("birds.bin", "stable", "NAME.fmla"),
        ("text.fmla", "stable", "not an adapter"),
        ("absent.fmla", "stable", "absent.fmla"),
        ("birds-1.fmla", "No Channel", "expected 1 to 32"),
        ("birds-2.fmla", "beta", "published for channel \"stable\" already"),
    ] {
        let done = add(file, channel);
        assert_eq!(done.code, 1, "{file} {channel}");
        assert!(done.stderr.contains(words), "{file} {channel}: {}", done.stderr);
    }
    let unknown = site.run(&["promote", "nothing.fmla", "--percent", "5"]);
    assert!(unknown.code == 1 && unknown.stderr.contains("known: birds-2.fmla"));
    assert_eq!(site.run(&["promote", "birds-2.fmla", "--percent", "101"]).code, 2);
    assert_eq!(site.versions(), before);
    let made = site.run(&["init"]);
    assert!(made.code == 1 && made.stderr.contains("in use"), "{}", made.stderr);
    // Another channel counts its releases separately, and the same file may be added again.
    assert_eq!(add("again-2.fmla", "beta").code, 0);
    add("features-2.fmla", "stable").done();
    let versions = site.versions();
    assert_eq!(add("birds-2.fmla", "stable").code, 0);
    assert_eq!(site.versions(), versions);
}

#[test]
fn every_role_gets_a_new_key_and_devices_follow() {
    let site = Site::ready();
    site.adapter("birds-1.fmla", "birds", 1);
    assert_eq!(site.run(&["add", "birds-1.fmla", "--percent", "5"]).code, 0);
    let mut version = 1;
    for role in ["targets", "snapshot", "timestamp", "root", "root"] {
        let before = site.key_ids(role);
        let done = site.run(&["rotate", role]);
        assert_eq!(done.code, 0, "{role}: {}", done.stderr);
        version += 1;
        let after = site.key_ids(role);
        assert!(after.iter().all(|id| !before.contains(id)), "{role}: {before:?} {after:?}");
        assert_eq!(site.versions()[0], version);
        assert_eq!(site.target("birds-1.fmla").1, site.read("birds-1.fmla"));
        // Later commands need the new keys.
        assert_eq!(site.run(&["refresh", "--targets", "--root"]).code, 0, "{role}");
        version += 1;
        assert_eq!(site.versions()[0], version);
    }
    let id = site.key_ids("root")[1].clone();
    let whole: Value =
        serde_json::from_slice(&site.read(&format!("site/metadata/{version}.root.json")))
            .expect("JSON");
    let whole = whole["signed"]["roles"]["root"]["keyids"][1].as_str().expect("an id").to_owned();
    let one = site.run(&["rotate", "root", "--replace", &whole]);
    assert_eq!(one.code, 0, "{}", one.stderr);
    let after = site.key_ids("root");
    assert!(after.len() == 3 && !after.contains(&id), "{after:?}");
}

/// Two of three root keys are enough, from any folders; one is not.
#[test]
fn root_keys_may_lie_in_different_places() {
    let site = Site::new();
    let places = ["a/root.pem", "b/root.pem", "c/root.pem"];
    let named = |places: &[&str]| -> Vec<String> {
        places.iter().flat_map(|place| ["--root-key".to_owned(), (*place).to_owned()]).collect()
    };
    let run = |command: &[&str], places: &[&str]| {
        let named = named(places);
        let mut all = command.to_vec();
        all.extend(named.iter().map(String::as_str));
        site.run(&all)
    };
    for place in ["a", "b", "c"] {
        std::fs::create_dir(site.path(place)).expect("made");
    }
    assert_eq!(run(&["init"], &places[..2]).code, 1, "two of three places");
    assert_eq!(run(&["init"], &places).code, 0);
    assert!(places.iter().all(|place| site.path(place).exists()));
    let alone = run(&["rotate", "timestamp"], &places[..1]);
    assert!(alone.code == 1 && alone.stderr.contains("root needs 2 of its keys, 1 at hand"));
    assert_eq!(run(&["rotate", "timestamp"], &places[1..]).code, 0);
    assert_eq!(site.versions(), [2, 1, 2, 2]);
}

/// A key that must not sign any more: the root comes first.
#[test]
fn a_lost_key_is_replaced_without_it() {
    let site = Site::ready();
    for (i, role) in ["timestamp", "snapshot", "targets"].into_iter().enumerate() {
        let id = &site.key_ids(role)[0];
        std::fs::remove_file(site.path(&format!("keys/{role}-{id}.pem"))).expect("lost");
        let refused = site.run(&["rotate", role]);
        assert!(refused.code == 1 && refused.stderr.contains(role), "{}", refused.stderr);
        let done = site.run(&["rotate", role, "--lost"]);
        assert_eq!(done.code, 0, "{}", done.stderr);
        assert_eq!(site.versions()[0], i as u64 + 2);
        assert!(site.load().is_ok(), "{role}");
    }
}

/// Two keys are lost with a machine. Each would be needed to replace the other one.
#[test]
fn lost_keys_are_replaced_together() {
    let site = Site::with_birds();
    for role in ["snapshot", "timestamp"] {
        let id = &site.key_ids(role)[0];
        std::fs::remove_file(site.path(&format!("keys/{role}-{id}.pem"))).expect("lost");
    }
    site.run(&["rotate", "timestamp", "--lost"]).refused(&["snapshot needs 1 of its keys"]);
    for (roles, words) in [
        (["root", "timestamp"], "expected root alone, or others"),
        (["timestamp", "timestamp"], "a role is named twice"),
    ] {
        site.run(&[&["rotate"], &roles[..]].concat()).refused(&[words]);
    }
    let lost = site.run(&["rotate", "snapshot", "timestamp", "--lost"]);
    lost.done();
    assert_eq!(site.target("birds-1.fmla").1, site.read("birds-1.fmla"));
    assert_eq!(site.versions(), [2, 2, 3, 3]);
    site.run(&["rotate", "timestamp", "targets", "snapshot"]).done();
    site.run(&["refresh", "--targets", "--root"]).done();
    assert_eq!(site.versions(), [4, 4, 5, 5]);
}

#[test]
fn a_dry_run_writes_nothing() {
    let site = Site::new();
    let done = site.run(&["init", "--dry-run"]);
    assert!(done.code == 0 && done.stdout.contains("would write"), "{}", done.stderr);
    assert!(!site.path("site").exists() && !site.path("keys").exists());
    let site = Site::with_birds();
    site.adapter("more-2.fmla", "more", 2);
    std::fs::remove_file(site.path("site/.publish.lock")).expect("the lock");
    let before = site.all_files();
    for command in [
        &["promote", "birds-1.fmla", "--percent", "9", "--dry-run"][..],
        &["add", "more-2.fmla", "--percent", "9", "--dry-run"],
        &["refresh", "--targets", "--root", "--dry-run"],
        &["rotate", "root", "--dry-run"],
        &["rotate", "timestamp", "--dry-run"],
        &["rotate", "timestamp", "--lost", "--dry-run"],
    ] {
        let done = site.run(command);
        assert!(
            done.code == 0 && done.stdout.contains("would write"),
            "{command:?}: {}",
            done.stderr
        );
        assert_eq!(site.all_files(), before, "{command:?}");
    }
}

#[test]
fn status_says_what_is_there_and_what_expires() {
    let site = Site::with_birds();
    let (code, all) = site.status(&["--within", "6"]);
    assert_eq!(code, 0, "{all}");
    assert_eq!(all["roles"][0]["threshold"], 2);
    assert_eq!(all["roles"][3]["role"], "timestamp");
    assert_eq!(all["targets"][0]["custom"]["name"], "birds");
    let (code, all) = site.status(&["--within", "8"]);
    assert_eq!((code, &all["expiring"]), (3, &serde_json::json!(["timestamp"])));
    assert_eq!(site.run(&["refresh", "--expires", "timestamp=1"]).code, 0);
    assert_eq!(site.status(&["--within", "2"]).0, 3);
    let damaged = std::fs::read_dir(site.path("site/targets")).expect("targets").next();
    std::fs::write(damaged.expect("a target").expect("an entry").path(), b"x").expect("written");
    site.host_tools(&["publish", "status", "--repo", "site"]).refused(&["damaged"]);
}

/// A lost report is no failure of a completed write: a script would run the command again.
#[cfg(target_os = "linux")]
#[test]
fn a_report_that_cannot_be_written_is_no_failure() {
    let site = Site::ready();
    let run = |more: &[&str]| {
        let full = std::fs::File::create("/dev/full").expect("a device that is full");
        let mut command = site.program();
        command.args(["publish", "rotate", "timestamp", "--repo", "site", "--keys", "keys"]);
        let output = command.arg("--unencrypted").args(more).stdout(full).output();
        let output = output.expect("the program starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, stderr) = run(&[]);
    assert!(code == Some(0) && stderr.contains("warning: done, but"), "{stderr}");
    assert_eq!(site.versions()[0], 2);
    assert_eq!(run(&["--dry-run"]).0, Some(1), "a report is all that a dry run is for");
}

#[test]
fn the_help_has_an_example_and_all_exit_codes() {
    let site = Site::new();
    let help = |command: &[&str]| site.host_tools(&[command, &["--help"]].concat()).stdout;
    for command in [&["publish"][..], &["publish", "init"], &["publish", "refresh"]] {
        assert!(help(command).contains("Example"), "{command:?}");
    }
    assert!(help(&[]).contains("3 what is published expires soon"));
}
