//! Expired metadata, with clocks that are right and clocks that are wrong.

use tough::schema::RoleType;

use crate::update::scene::{Attack, Scene, repelled};
use crate::update::server::Fault;
use crate::update::site::{ROLES, in_days};
use crate::update::workshop::Workshop;

fn expired(scene: &mut Scene, role: RoleType) {
    scene.site.publish_wrong(|next| next.sheet(role).expires = in_days(-1));
}

/// Sets the clock of the device to this time.
fn at(scene: &mut Scene, time: &str) {
    scene.failpoints = format!("update-clock=return({time})");
}

#[test]
fn what_expired_is_refused() {
    repelled(&[
        Attack {
            name: "timestamp",
            says: "timestamp expired at",
            make: |scene| expired(scene, RoleType::Timestamp),
        },
        Attack {
            name: "snapshot",
            says: "snapshot expired at",
            make: |scene| expired(scene, RoleType::Snapshot),
        },
        Attack {
            name: "targets",
            says: "targets expired at",
            make: |scene| expired(scene, RoleType::Targets),
        },
        Attack {
            name: "root",
            says: "root expired at",
            make: |scene| {
                let (mut root, signers) = scene.site.next_root(&[]);
                root.expires = in_days(-1);
                scene.site.put_root(&root, &signers);
                assert!(scene.update().stderr.contains("root expired at"));
                // The publisher mends it by the next root, which is hidden until the attack is
                // over.
                let (root, signers) = scene.site.next_root(&[]);
                scene.site.put_root(&root, &signers);
                scene.server.fail("metadata/3.root.json", Fault::Status(404));
            },
        },
    ]);
}

#[test]
fn a_clock_that_is_wrong_lets_nothing_old_in_and_nothing_good_stay_out_for_long() {
    repelled(&[
        Attack {
            name: "the clock is back, and what is shown expired before what was seen was signed",
            says: "timestamp expired at",
            make: |scene| {
                expired(scene, RoleType::Timestamp);
                at(scene, "2020-01-01T00:00:00Z");
            },
        },
        Attack {
            name: "the clock is far ahead",
            says: "and it is 2099-01-01T00:00:00Z",
            make: |scene| at(scene, "2099-01-01T00:00:00Z"),
        },
    ]);
}

/// The signed time is a lower bound for the clock. A thief must not raise it for good.
#[test]
fn a_thief_who_signs_for_a_far_time_is_outlived() {
    let mut scene = Scene::updated(Workshop::toy());
    scene.site.publish_wrong(|next| next.issued = in_days(3000));
    assert_eq!(scene.update().code, 0);
    scene.offer(2);
    // A time after the expiry of its own metadata does not count.
    scene.taken("garden-2.fmla");
    scene.site.publish_wrong(|next| {
        for role in ROLES {
            next.sheet(role).expires = in_days(3000);
        }
        next.issued = in_days(300);
    });
    assert_eq!(scene.update().code, 0, "the thief has the key");
    scene.offer(3);
    let refused = scene.update();
    assert!(refused.stderr.contains("timestamp expired at"), "{}", refused.stderr);
    scene.site.rotate(&[RoleType::Timestamp]);
    scene.taken("garden-3.fmla");
}

/// The clock of a device without a battery starts in 1970, or at the time of its build.
#[test]
fn a_clock_that_is_back_keeps_no_good_update_away() {
    let mut scene = Scene::updated(Workshop::toy());
    for (release, time) in [(2, "1970-01-01T00:00:00Z"), (3, "2020-01-01T00:00:00Z")] {
        at(&mut scene, time);
        scene.offer(release);
        scene.taken(&format!("garden-{release}.fmla"));
    }
}
