//! Damage of a repository on disk is found and named before anything is signed.

use std::fs::File;
use std::path::Path;

use serde_json::{Value, json};
use tough::schema::RoleType;

use super::forge::sign_as;
use super::site::Site;

/// Creates a repository with two roots, a list and an adapter.
fn rotated() -> Site {
    let site = Site::with_birds();
    site.run(&["rotate", "root"]).done();
    site
}

fn change(site: &Site, file: &str, with: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    std::fs::write(site.path(file), with(site.read(file))).expect("written");
}

fn remove(site: &Site, file: &str) {
    std::fs::remove_file(site.path(file)).expect("removed");
}

/// Copies a file to the path of the root of a version.
fn root_from(site: &Site, file: &str, version: u64) {
    let root = site.path(&format!("site/metadata/{version}.root.json"));
    std::fs::copy(site.path(file), root).expect("copied");
}

/// Changes the bytes of JSON, but neither its meaning nor its length.
fn respaced(mut bytes: Vec<u8>) -> Vec<u8> {
    let space = bytes.iter().position(|&byte| byte == b' ').expect("a space");
    bytes[space] = b'\t';
    bytes
}

type Damage = fn(&Site);

#[test]
fn damage_is_named_and_nothing_is_signed() {
    let start = rotated();
    let other = rotated();
    std::fs::copy(other.path("site/metadata/2.root.json"), start.path("other.root.json"))
        .expect("copied");
    let table: &[(Damage, &[&str])] = &[
        (
            |site| sign_as(site, RoleType::Timestamp, None),
            &["timestamp.json: signed by nobody, expected the key of timestamp that root 2 names"],
        ),
        (
            |site| sign_as(site, RoleType::Snapshot, None),
            &["2.snapshot.json: signed by nobody", "key of snapshot"],
        ),
        (
            |site| sign_as(site, RoleType::Targets, None),
            &["2.targets.json: signed by nobody", "key of targets"],
        ),
        (
            |site| change(site, "site/metadata/2.snapshot.json", respaced),
            &["2.snapshot.json: damaged"],
        ),
        (
            |site| change(site, "site/metadata/2.targets.json", respaced),
            &["2.targets.json: damaged"],
        ),
        (|site| root_from(site, "other.root.json", 2), &["2.root.json", "threshold"]),
        (
            |site| root_from(site, "site/metadata/2.root.json", 3),
            &["3.root.json: of version 2, expected 3"],
        ),
        (
            |site| root_from(site, "site/metadata/2.root.json", 4),
            &["3.root.json: missing, but 4.root.json is there"],
        ),
        (
            |site| remove(site, "site/metadata/1.root.json"),
            &["1.root.json: missing, but 2.root.json is there: copy it back from the server"],
        ),
        (
            |site| remove(site, "site/metadata/timestamp.json"),
            &["metadata/timestamp.json is missing", "copy it back from the server"],
        ),
    ];
    for (damage, words) in table {
        let site = start.copy();
        damage(&site);
        let before = site.all_files();
        for command in [
            &["refresh", "--targets", "--root"][..],
            &["promote", "birds-1.fmla", "--percent", "9"],
            &["rotate", "timestamp", "--lost"],
            &["init"],
        ] {
            site.run(command).refused(words);
            assert!(site.all_files() == before, "{command:?} {words:?}");
        }
        let status = site.host_tools(&["publish", "status", "--repo", "site"]);
        status.refused(words);
    }
}

#[test]
fn a_root_is_signed_by_two_keys_before_and_two_of_its_own() {
    let start = rotated();
    let first: Value =
        serde_json::from_slice(&start.read("site/metadata/1.root.json")).expect("JSON");
    let old = first["signed"]["roles"]["root"]["keyids"].as_array().expect("ids").clone();
    for keep_old in [true, false] {
        let site = start.copy();
        change(&site, "site/metadata/2.root.json", |bytes| {
            let mut root: Value = serde_json::from_slice(&bytes).expect("JSON");
            let kept = root["signatures"].as_array().expect("signatures").iter();
            let kept = kept.filter(|s| old.contains(&s["keyid"]) == keep_old).cloned();
            let kept: Vec<Value> = kept.collect();
            assert!(kept.len() >= 2);
            root["signatures"] = kept.into();
            serde_json::to_vec(&root).expect("JSON")
        });
        site.run(&["refresh"]).refused(&["2.root.json", "threshold"]);
    }
}

/// Signatures of a replaced key are accepted only if an interrupted rotation may have left them.
#[test]
fn a_key_that_was_taken_away_signs_nothing_that_counts() {
    let start = Site::with_birds();
    start.run(&["rotate", "timestamp"]).done();
    start.run(&["rotate", "targets"]).done();
    start.run(&["rotate", "snapshot"]).done();
    for (role, file) in
        [(RoleType::Timestamp, "timestamp.json"), (RoleType::Targets, "targets.json")]
    {
        let site = start.copy();
        sign_as(&site, role, Some(1));
        let key = format!("expected the key of {role}");
        site.run(&["refresh", "--targets"]).refused(&[file, &key, "that root 4 names"]);
    }
    // Signatures of the previous root: an interrupted rotation. A list is signed again only on
    // request.
    let start = Site::with_birds();
    start.run(&["rotate", "targets"]).done();
    sign_as(&start, RoleType::Targets, Some(1));
    let (code, status) = start.status(&[]);
    assert_eq!((code, &status["unaccepted"]), (3, &json!(["targets"])));
    let command = "host-tools publish refresh --repo site --targets";
    assert_eq!(status["mend"], command);
    start.adapter("more-2.fmla", "more", 2);
    let before = start.all_files();
    for refused in [
        &["refresh"][..],
        &["promote", "birds-1.fmla", "--percent", "9"],
        &["add", "more-2.fmla", "--percent", "9"],
        &["rotate", "timestamp"],
        &["rotate", "targets"],
    ] {
        start.run(refused).refused(&["interrupted", "targets", command]);
        assert!(start.all_files() == before, "{refused:?}");
    }
    let mended = start.run(&["refresh", "--targets"]);
    mended.done();
    assert!(mended.stdout.contains("birds-1.fmla: birds release 1"), "{}", mended.stdout);
    assert_eq!(start.status(&[]).0, 0);
}

/// `init` continues only an interrupted `init`.
#[test]
fn init_destroys_no_repository_that_has_lost_its_timestamp() {
    let without_list = |site: &Site| {
        remove(site, "site/metadata/2.targets.json");
        remove(site, "site/metadata/2.snapshot.json");
    };
    let without_targets = |site: &Site| {
        std::fs::remove_dir_all(site.path("site/targets")).expect("removed");
    };
    let in_use = Site::with_birds();
    let rotated = Site::ready();
    rotated.run(&["rotate", "root"]).done();
    for (what, start, damage) in [
        ("an adapter", &in_use, &without_list as &dyn Fn(&Site)),
        ("a later version", &in_use, &without_targets),
        ("a second root", &rotated, &|_| ()),
        ("a list without a root", &Site::ready(), &|site| {
            remove(site, "site/metadata/1.root.json");
        }),
    ] {
        let site = start.copy();
        remove(&site, "site/metadata/timestamp.json");
        damage(&site);
        let before = site.all_files();
        for command in ["init", "refresh"] {
            site.run(&[command]).refused(&["timestamp.json", "copy it back from the server"]);
            assert!(site.all_files() == before, "{what}");
        }
    }
}

#[test]
fn one_command_at_a_time_works_on_a_repository() {
    let site = Site::with_birds();
    let lock = File::open(site.path("site/.publish.lock")).expect("a lock");
    lock.lock().expect("taken");
    let before = site.all_files();
    for command in [
        &["init"][..],
        &["add", "birds-1.fmla", "--percent", "5"],
        &["promote", "birds-1.fmla", "--percent", "9"],
        &["refresh"],
        &["refresh", "--dry-run"],
        &["rotate", "root"],
    ] {
        site.run(command).refused(&["another command works on this repository"]);
    }
    assert!(site.all_files() == before);
    lock.unlock().expect("given back");
    site.run(&["refresh"]).done();
}

/// `add` of a published adapter restores a lost file.
#[test]
fn a_target_that_was_lost_or_damaged_is_put_back() {
    let site = Site::with_birds();
    let entry = std::fs::read_dir(site.path("site/targets")).expect("targets").next();
    let target = entry.expect("a target").expect("an entry").path();
    let add = ["add", "birds-1.fmla", "--percent", "5"];
    let versions = site.versions();
    let mended = |spoil: &dyn Fn(&Path)| {
        spoil(&target);
        let done = site.run(&add);
        done.done();
        assert_eq!(std::fs::read(&target).expect("a file"), site.read("birds-1.fmla"));
        done.stdout
    };
    assert!(mended(&|path| std::fs::remove_file(path).expect("removed")).contains("wrote"));
    assert!(mended(&|path| std::fs::write(path, "x").expect("written")).contains("wrote"));
    // An intact file is not written again, and not reported.
    let nothing = mended(&|_| ());
    assert!(!nothing.contains("wrote") && nothing.contains("published already"), "{nothing}");
    site.run(&["add", "birds-1.fmla", "--percent", "6"]).refused(&[
        "birds-1.fmla is published for 5 % already",
        "publish promote birds-1.fmla --percent 6",
    ]);
    assert_eq!(site.versions(), versions);
}
