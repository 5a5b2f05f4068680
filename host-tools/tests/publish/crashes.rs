//! Interrupted commands: devices can use the repository, and the command can be run again.

use std::cell::Cell;
use std::path::Path;

use serde_json::json;

use super::site::{Run, Site};

/// Ways to interrupt a command: by an error, or by an abort.
const ENDINGS: [&str; 2] = ["return", "return(kill)"];

/// Runs a command that is interrupted after 0, 1, 2, ... steps, until it completes. After each
/// interruption, calls `between`, runs the command again, and calls `after` with the result of
/// `between`. Returns the number of steps of the command.
fn end_everywhere<T>(
    start: &Site,
    command: &[&str],
    between: impl Fn(&Site) -> T,
    after: impl Fn(&Site, Option<T>),
) -> usize {
    for ending in ENDINGS {
        for steps in 0..100 {
            let site = start.copy();
            let done = end_after(&site, command, steps, ending);
            if done.code == 0 {
                after(&site, None);
                assert!(steps > 2, "the fail point was never met");
                if ending == ENDINGS[1] {
                    return steps;
                }
                break;
            }
            let seen = between(&site);
            let again = site.run(command);
            assert_eq!(again.code, 0, "{command:?} after {steps} steps: {}", again.stderr);
            after(&site, Some(seen));
        }
    }
    unreachable!("a command takes fewer than a hundred steps");
}

/// Runs a command that is interrupted after `steps` steps, if it has as many.
fn end_after(site: &Site, command: &[&str], steps: usize, ending: &str) -> Run {
    let failure = format!("publish-step={steps}*off->{ending}");
    site.run_with(&[command, &["--unencrypted"]].concat(), &[("FAILPOINTS", &failure)])
}

#[test]
fn init_can_be_run_again_wherever_it_ended() {
    let roots_left = Cell::new(0);
    let steps = end_everywhere(
        &Site::new(),
        &["init"],
        |site| std::fs::read(site.path("site/metadata/1.root.json")).ok(),
        |site, left| {
            assert_eq!(site.versions(), [1, 1, 1, 1]);
            // An interrupted start leaves no unknown key, and no note.
            let keys = std::fs::read_dir(site.path("keys")).expect("keys").flatten();
            let pem = keys.filter(|key| key.path().extension().is_some_and(|e| e == "pem"));
            assert_eq!(pem.count(), 6);
            assert!(!site.path("site/.publish.new-keys").exists());
            // Devices may trust the root already.
            if let Some(root) = left.flatten() {
                assert_eq!(root, site.read("site/metadata/1.root.json"));
                roots_left.set(roots_left.get() + 1);
            }
        },
    );
    // The note of six keys, the keys and four files of metadata have five fail points each; the
    // removal of the note has two.
    assert_eq!(steps, 11 * 5 + 2);
    // For both endings: the last fail point of the root, and all that come after it.
    assert_eq!(roots_left.get(), 2 * (1 + 3 * 5 + 2));
}

#[test]
fn add_leaves_the_old_repository_or_the_new_one() {
    let start = Site::ready();
    start.adapter("birds-1.fmla", "birds", 1);
    let command = ["add", "birds-1.fmla", "--percent", "5"];
    let between = |site: &Site| {
        let found = site.load().expect("a repository");
        if !found.targets().signed.targets.is_empty() {
            assert_eq!(site.target("birds-1.fmla").1, site.read("birds-1.fmla"));
        }
    };
    end_everywhere(&start, &command, between, |site, _| {
        assert_eq!(site.target("birds-1.fmla").1, site.read("birds-1.fmla"));
    });
}

#[test]
fn promote_and_refresh_leave_the_old_repository_or_the_new_one() {
    let start = Site::with_birds();
    let between = |site: &Site| {
        let percent = site.target("birds-1.fmla").0["rollout"]["percent"].clone();
        assert!(percent == 5 || percent == 100, "{percent}");
    };
    end_everywhere(&start, &["promote", "birds-1.fmla", "--percent", "100"], between, |site, _| {
        assert_eq!(site.target("birds-1.fmla").0["rollout"]["percent"], 100);
    });
    end_everywhere(&start, &["refresh", "--targets", "--root"], between, |site, _| {
        assert_eq!(site.target("birds-1.fmla").0["rollout"]["percent"], 5);
        assert!(site.versions()[0] >= 2);
    });
}

#[test]
fn rotate_leaves_a_repository_that_devices_follow() {
    end_rotations(&["root", "targets"]);
}

#[test]
fn rotate_of_what_is_online_leaves_a_repository_that_devices_follow() {
    end_rotations(&["snapshot", "timestamp"]);
}

fn end_rotations(roles: &[&str]) {
    let start = Site::with_birds();
    let sound = |site: &Site| {
        assert_eq!(site.target("birds-1.fmla").1, site.read("birds-1.fmla"));
    };
    for role in roles {
        let old = start.key_ids(role);
        end_everywhere(&start, &["rotate", role], sound, |site, _| {
            sound(site);
            let new = site.key_ids(role);
            assert!(new.iter().all(|id| !old.contains(id)), "{role}: {old:?} {new:?}");
            assert!(!site.path("site/.publish.new-keys").exists(), "{role}");
            site.run(&["refresh", "--targets", "--root"]).done();
            sound(site);
        });
    }
}

/// Without the old key, devices find no update until the rotation is complete. `status` reports
/// this state. Running the command again, or a refresh, completes the rotation, and neither makes a
/// further root.
#[test]
fn a_rotation_without_the_old_key_can_be_run_again() {
    let start = Site::with_birds();
    for role in ["timestamp", "snapshot", "targets"] {
        let rotate = ["rotate", role, "--lost"];
        let refresh: &[&str] =
            if role == "targets" { &["refresh", "--targets"] } else { &["refresh"] };
        for mend in [&rotate[..], refresh] {
            let mut without_update = 0;
            for steps in 0..100 {
                let site = start.copy();
                let done = end_after(&site, &rotate, steps, "return(kill)");
                let what = format!("{mend:?} after {steps} steps");
                if done.code == 0 {
                    assert!(steps > 2 && site.load().is_ok(), "{what}");
                    break;
                }
                let rotated = site.path("site/metadata/2.root.json").exists();
                let (code, status) = site.status(&[]);
                let sound = site.load().is_ok();
                if sound {
                    assert_eq!((code, &status["unaccepted"]), (0, &json!([])), "{what}");
                } else {
                    assert!(rotated, "{what}");
                    assert_eq!((code, &status["unaccepted"]), (3, &json!([role])), "{what}");
                    without_update += 1;
                }
                let again = site.run(mend);
                assert_eq!(again.code, 0, "{what}: {}", again.stderr);
                assert_eq!(site.target("birds-1.fmla").1, site.read("birds-1.fmla"), "{what}");
                let root = match (mend[0], rotated) {
                    ("refresh", false) => 1,
                    // Only a completed rotation begins again.
                    ("rotate", true) if sound => 3,
                    _ => 2,
                };
                assert_eq!(site.versions()[0], root, "{what}");
            }
            assert!(without_update > 5, "{mend:?}: {without_update}");
        }
    }
}

/// Uploads in the order of docs/updates.md. A device may look after any part of an upload.
#[test]
fn an_upload_leaves_the_old_repository_or_the_new_one() {
    let site = Site::ready();
    let server = site.copy();
    site.adapter("birds-1.fmla", "birds", 1);
    for command in [
        &["add", "birds-1.fmla", "--percent", "5"][..],
        &["promote", "birds-1.fmla", "--percent", "100"],
        &["refresh", "--targets", "--root"],
        &["rotate", "timestamp"],
        &["rotate", "snapshot", "targets"],
        &["rotate", "root"],
    ] {
        site.run(command).done();
        let is_root = |path: &Path| path.to_string_lossy().ends_with(".root.json");
        let is_timestamp = |path: &Path| path.ends_with("timestamp.json");
        let rest = |path: &Path| !is_root(path) && !is_timestamp(path);
        let parts: [&dyn Fn(&Path) -> bool; 3] = [&rest, &is_timestamp, &is_root];
        for part in parts {
            let files = site.all_files().into_iter().filter(|(path, _)| path.starts_with("site"));
            for (path, bytes) in files.filter(|(path, _)| part(path)) {
                let place = server.path(&path.to_string_lossy());
                std::fs::create_dir_all(place.parent().expect("a folder")).expect("made");
                std::fs::write(place, bytes).expect("written");
            }
            assert!(server.load().is_ok(), "{command:?}");
        }
        assert_eq!(server.versions(), site.versions(), "{command:?}");
    }
}
