//! Selection, creation and replacement of keys.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::site::Site;

/// Returns the full ids of the keys that a root names for a role.
fn ids(site: &Site, root: &str, role: &str) -> Vec<String> {
    let root: Value = serde_json::from_slice(&site.read(root)).expect("JSON");
    let ids = root["signed"]["roles"][role]["keyids"].as_array().expect("ids").iter();
    ids.map(|id| id.as_str().expect("a text").to_owned()).collect()
}

/// Returns the file of a role's only key.
fn file_of(site: &Site, role: &str) -> String {
    format!("keys/{role}-{}.pem", site.key_ids(role)[0])
}

fn pass(site: &Site, file: &str, text: &str) {
    std::fs::write(site.path(file), text).expect("written");
}

#[test]
fn a_second_repository_gets_keys_of_its_own() {
    let site = Site::ready();
    let second = ["publish", "init", "--repo", "second", "--keys", "keys", "--unencrypted"];
    let done = site.host_tools(&second);
    done.done();
    assert!(!done.stdout.contains("takes up"), "{}", done.stdout);
    let keys = |repository: &str| -> BTreeSet<String> {
        let root = format!("{repository}/metadata/1.root.json");
        let roles = ["root", "targets", "snapshot", "timestamp"];
        roles.iter().flat_map(|role| ids(&site, &root, role)).collect()
    };
    assert_eq!((keys("site").len(), keys("second").len()), (6, 6));
    assert!(keys("site").is_disjoint(&keys("second")));
}

/// A key that was planted in the folder is not used as a new key, whatever its name.
#[test]
fn only_a_key_that_a_command_has_written_down_is_taken_up() {
    let site = Site::ready();
    let thief = Site::ready();
    let dropped = file_of(&thief, "timestamp");
    std::fs::copy(thief.path(&dropped), site.path(&dropped)).expect("copied");
    let done = site.run(&["rotate", "timestamp", "--lost"]);
    done.done();
    assert!(!done.stdout.contains("takes up"), "{}", done.stdout);
    assert_ne!(file_of(&site, "timestamp"), dropped);
    // An interrupted command leaves a note and the key. An unencrypted key is reused only on
    // request.
    let id = &ids(&thief, "site/metadata/1.root.json", "timestamp")[0];
    pass(&site, "site/.publish.new-keys", &format!("{id}\n"));
    let before = site.all_files();
    let env = [("FMLORA_KEY_PASSPHRASE", "test")];
    site.run_with(&["rotate", "timestamp"], &env).refused(&[&dropped, "not encrypted"]);
    // The name of the file alone is not enough.
    std::fs::copy(site.path(&file_of(&site, "snapshot")), site.path(&dropped)).expect("copied");
    let rotate = ["rotate", "timestamp"];
    site.run(&rotate).refused(&[&dropped, "not the key that an interrupted command made"]);
    std::fs::copy(thief.path(&dropped), site.path(&dropped)).expect("copied");
    assert!(site.all_files() == before);
    let done = site.run(&rotate);
    done.done();
    assert!(done.stdout.contains(&format!("takes up {dropped}")), "{}", done.stdout);
    assert_eq!(file_of(&site, "timestamp"), dropped);
    assert!(!site.path("site/.publish.new-keys").exists());
}

#[cfg(unix)]
#[test]
fn only_its_owner_may_read_a_key() {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::ready();
    site.run(&["rotate", "timestamp", "--new-key", "new.pem"]).done();
    let keys = std::fs::read_dir(site.path("keys")).expect("keys").flatten();
    let all: Vec<_> = keys.map(|key| key.path()).chain([site.path("new.pem")]).collect();
    assert_eq!(all.len(), 7);
    for key in all {
        let mode = std::fs::metadata(&key).expect("a key").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", key.display());
    }
}

/// A role's key may be named as a single file, which must exist.
#[test]
fn keys_are_named_one_by_one() {
    let site = Site::new();
    let online = ["--key", "timestamp=online/t.pem", "--key", "snapshot=online/s.pem"];
    let with = |command: &[&str]| site.run(&[command, &online].concat());
    // Their folder is not created: it may be a medium that is not mounted.
    with(&["init"]).refused(&["online/", "there is no folder online"]);
    with(&["init", "--dry-run"]).refused(&["there is no folder online"]);
    assert!(!site.path("online").exists() && !site.path("keys").exists());
    std::fs::create_dir(site.path("online")).expect("made");
    with(&["init"]).done();
    assert!(
        site.path("online/t.pem").exists() && !site.path(&file_of(&site, "timestamp")).exists()
    );
    site.run(&["refresh"])
        .refused(&["snapshot needs 1 of its keys, 0 at hand", "--key snapshot=FILE"]);
    with(&["refresh"]).done();
    std::fs::rename(site.path("online/t.pem"), site.path("online/x.pem")).expect("renamed");
    with(&["refresh"]).refused(&["online/t.pem: there is no such file, named for timestamp"]);
    site.run(&["rotate", "root", "--root-key", "absent.pem"]).refused(&["absent.pem"]);
    std::fs::rename(site.path("online/x.pem"), site.path("online/t.pem")).expect("renamed");
    with(&["rotate", "timestamp", "--new-key", "far/n.pem"]).refused(&["there is no folder far"]);
    with(&["rotate", "timestamp", "--new-key", "online/n.pem"]).done();
    let renewed = ["--key", "timestamp=online/n.pem", "--key", "snapshot=online/s.pem"];
    site.run(&[&["refresh"][..], &renewed].concat()).done();
    with(&["refresh"]).refused(&["timestamp needs 1 of its keys"]);
}

#[test]
fn init_with_keys_that_cannot_be_writes_nothing() {
    let site = Site::new();
    site.run(&["init"]).done();
    let key = file_of(&site, "timestamp");
    let one = format!("timestamp={key}");
    let other = format!("snapshot={key}");
    let twice = ["--root-key", "x.pem", "--root-key", "x.pem", "--root-key", "x.pem"];
    let shared = ["--key", &one, "--key", &other];
    let before = site.all_files();
    for (more, words) in [
        (&twice[..], &["x.pem: named for two keys"][..]),
        (&shared, &[&key, "named twice"]),
        (&twice[..4], &["2 keys of root are named, expected 3 or none"]),
    ] {
        for dry_run in [&[][..], &["--dry-run"]] {
            let init = ["publish", "init", "--repo", "second", "--keys", "keys", "--unencrypted"];
            site.host_tools(&[&init[..], more, dry_run].concat()).refused(words);
        }
        // Only the folder and its lock exist.
        let mut after = site.all_files();
        after.remove(Path::new("second/.publish.lock"));
        assert!(after == before, "{words:?}");
    }
    // A second run needs the keys of the first.
    site.run(&["init"]).done();
    std::fs::remove_file(site.path(&key)).expect("lost");
    site.run(&["init"]).refused(&["timestamp needs 1 of its keys", &key]);
}

#[test]
fn passphrases_come_from_files_and_the_environment() {
    let site = Site::new();
    pass(&site, "a", "first\nof two lines\n");
    pass(&site, "b", "second\n");
    pass(&site, "empty", "\nnot this line\n");
    let run = |command: &[&str], environment: &[(&str, &str)]| site.run_with(command, environment);
    run(&["init"], &[]).refused(&["new keys are encrypted"]);
    run(&["init", "--passphrase-file", "absent"], &[]).refused(&["absent"]);
    run(&["init", "--passphrase-file", "empty"], &[]).refused(&["empty: its first line is empty"]);
    run(&["init"], &[("FMLORA_KEY_PASSPHRASE", "")]).refused(&["FMLORA_KEY_PASSPHRASE is empty"]);
    assert!(!site.path("keys").exists());
    // New keys are encrypted with the first passphrase.
    let both = ["--passphrase-file", "a", "--passphrase-file", "b"];
    run(&[&["init"], &both[..]].concat(), &[]).done();
    run(&["refresh", "--passphrase-file", "b"], &[]).refused(&["no passphrase that was given"]);
    run(&["refresh", "--passphrase-file", "a"], &[]).done();
    run(&["refresh"], &[("FMLORA_KEY_PASSPHRASE", "first")]).done();
    // Each passphrase is tried.
    run(&["refresh", "--passphrase-file", "b", "--passphrase-file", "a"], &[]).done();
    run(&["refresh", "--passphrase-file", "b"], &[("FMLORA_KEY_PASSPHRASE", "first")]).done();
}

/// Two of three keys are enough, even if the third is damaged.
#[test]
fn a_root_key_that_cannot_be_opened_is_one_that_is_missing() {
    let site = Site::ready();
    let files: Vec<String> =
        site.key_ids("root").iter().map(|id| format!("keys/root-{id}.pem")).collect();
    pass(&site, &files[0], "damaged");
    site.run(&["rotate", "timestamp"]).done();
    // Another key than the name of the file says.
    std::fs::copy(site.path(&file_of(&site, "targets")), site.path(&files[1])).expect("copied");
    site.run(&["rotate", "timestamp"]).refused(&[
        "root needs 2 of its keys, 1 at hand",
        &format!("{}: no key in PEM", files[0]),
        &format!("{}: another key than its name says", files[1]),
    ]);
    std::fs::remove_file(site.path(&files[1])).expect("removed");
    site.run(&["rotate", "timestamp"]).refused(&[&format!("expected {}", files[1])]);
}

#[test]
fn a_rotation_that_cannot_be_is_named_and_changes_nothing() {
    let site = Site::ready();
    let old = file_of(&site, "timestamp");
    site.run(&["rotate", "timestamp"]).done();
    let root = site.key_ids("root");
    let present = file_of(&site, "snapshot");
    let before = site.all_files();
    let named = ["--new-key", "n.pem", "--new-key", "m.pem"];
    let one = ["rotate", "root", "--replace", &root[0]];
    for (command, words) in [
        (
            &["rotate", "root", "--replace", "zz"][..],
            &["--replace zz: 0 keys begin with it", "the keys of root are", &root[2]][..],
        ),
        (&["rotate", "root", "--replace", ""], &["3 keys begin with it, expected one"]),
        (&[&one[..], &["--replace", &root[0][..6]]].concat(), &["named twice"]),
        (&[&one[..], &named].concat(), &["2 new keys are named, 1 are replaced"]),
        (&[&["rotate", "root"], &named[..]].concat(), &["2 new keys are named, 3 are replaced"]),
        (&["rotate", "root", "--lost"], &["--lost is for targets, snapshot and timestamp"]),
        // A key of an earlier root, and one of another role.
        (&["rotate", "timestamp", "--new-key", &old], &[&old, "is or was in a root"]),
        (&["rotate", "timestamp", "--new-key", &present], &[&present, "is or was in a root"]),
    ] {
        site.run(command).refused(words);
        assert!(site.all_files() == before, "{command:?}");
    }
    let two = ["rotate", "root", "--replace", &root[0], "--replace", &root[2]];
    site.run(&[&two[..], &named].concat()).done();
    let after = site.key_ids("root");
    assert!(after[1] == root[1] && !after.contains(&root[0]) && !after.contains(&root[2]));
}
