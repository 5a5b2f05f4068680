//! A command that ends anywhere leaves a repository that devices can use, and can be run again.

use super::site::Site;

/// How a command ends early: by an error, or without any further step.
const ENDINGS: [&str; 2] = ["return", "return(kill)"];

/// Runs a command, ended after 0, 1, 2, ... steps until it comes through; then checks what it left, runs it
/// again and checks what that left.
fn end_everywhere(
    start: &Site,
    command: &[&str],
    between: impl Fn(&Site),
    after: impl Fn(&Site),
) -> usize {
    for ending in ENDINGS {
        for steps in 0..100 {
            let site = start.copy();
            let failure = format!("publish-step={steps}*off->{ending}");
            let arguments = [command, &["--unencrypted"]].concat();
            let done = site.run_with(&arguments, &[("FAILPOINTS", &failure)]);
            if done.code == 0 {
                after(&site);
                assert!(steps > 2, "the fail point was never met");
                if ending == ENDINGS[1] {
                    return steps;
                }
                break;
            }
            between(&site);
            let again = site.run(command);
            assert_eq!(again.code, 0, "{command:?} after {steps} steps: {}", again.stderr);
            after(&site);
        }
    }
    unreachable!("a command takes fewer than a hundred steps");
}

#[test]
fn init_can_be_run_again_wherever_it_ended() {
    let steps = end_everywhere(
        &Site::new(),
        &["init"],
        |_| {},
        |site| {
            assert_eq!(site.versions(), [1, 1, 1, 1]);
            // A start that ended early leaves no key that nobody knows.
            let keys = std::fs::read_dir(site.path("keys")).expect("keys").flatten();
            let pem = keys.filter(|key| key.path().extension().is_some_and(|e| e == "pem"));
            assert_eq!(pem.count(), 6);
        },
    );
    // Six keys and four files of metadata, three places each.
    assert_eq!(steps, 30);
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
    end_everywhere(&start, &command, between, |site| {
        assert_eq!(site.target("birds-1.fmla").1, site.read("birds-1.fmla"));
    });
}

#[test]
fn promote_and_refresh_leave_the_old_repository_or_the_new_one() {
    let start = Site::ready();
    start.adapter("birds-1.fmla", "birds", 1);
    assert_eq!(start.run(&["add", "birds-1.fmla", "--percent", "5"]).code, 0);
    let between = |site: &Site| {
        let percent = site.target("birds-1.fmla").0["rollout"]["percent"].clone();
        assert!(percent == 5 || percent == 100, "{percent}");
    };
    end_everywhere(&start, &["promote", "birds-1.fmla", "--percent", "100"], between, |site| {
        assert_eq!(site.target("birds-1.fmla").0["rollout"]["percent"], 100);
    });
    end_everywhere(&start, &["refresh", "--targets", "--root"], between, |site| {
        assert_eq!(site.target("birds-1.fmla").0["rollout"]["percent"], 5);
        assert!(site.versions()[0] >= 2);
    });
}

#[test]
fn rotate_leaves_a_repository_that_devices_follow() {
    let start = Site::ready();
    start.adapter("birds-1.fmla", "birds", 1);
    assert_eq!(start.run(&["add", "birds-1.fmla", "--percent", "5"]).code, 0);
    let sound = |site: &Site| {
        assert_eq!(site.target("birds-1.fmla").1, site.read("birds-1.fmla"));
    };
    for role in ["root", "targets", "snapshot", "timestamp"] {
        let old = start.key_ids(role);
        end_everywhere(&start, &["rotate", role], sound, |site| {
            sound(site);
            let new = site.key_ids(role);
            assert!(new.iter().all(|id| !old.contains(id)), "{role}: {old:?} {new:?}");
            assert_eq!(site.run(&["refresh", "--targets", "--root"]).code, 0);
            sound(site);
        });
    }
}

/// Without the old key there is a time in which devices find no update; running the command again, or a refresh,
/// ends it.
#[test]
fn a_rotation_without_the_old_key_can_be_run_again() {
    let start = Site::ready();
    for mend in [&["rotate", "timestamp", "--lost"][..], &["refresh"]] {
        for steps in 0..100 {
            let site = start.copy();
            let failure = format!("publish-step={steps}*off->return(kill)");
            let rotate = ["rotate", "timestamp", "--lost", "--unencrypted"];
            let done = site.run_with(&rotate, &[("FAILPOINTS", &failure)]);
            let again = site.run(mend);
            assert_eq!(again.code, 0, "{mend:?} after {steps} steps: {}", again.stderr);
            assert!(site.load().is_ok(), "{mend:?} after {steps} steps");
            if done.code == 0 {
                break;
            }
        }
    }
}
