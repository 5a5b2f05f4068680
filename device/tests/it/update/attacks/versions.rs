//! Replay of old metadata, and use of revoked keys.

use tough::schema::RoleType;

use crate::update::scene::{Attack, Scene, repelled};
use crate::update::server::Fault;
use crate::update::site::ROLES;
use crate::update::workshop::Workshop;

/// Lets the device see a newer state, and puts the present files back.
fn replay(scene: &mut Scene) {
    let old = scene.site.files();
    let next = scene.site.next();
    scene.site.write(&next);
    assert_eq!(scene.update().code, 0, "the newer state is sound");
    scene.site.put_all(&old);
}

/// Rotates all keys twice. The device follows.
fn rotate_twice(scene: &mut Scene) {
    let all = [RoleType::Root, RoleType::Targets, RoleType::Snapshot, RoleType::Timestamp];
    for roles in [&all[..], &all] {
        scene.site.rotate(roles);
        let run = scene.update();
        assert_eq!(run.code, 0, "the box follows a rotation: {}", run.stderr);
    }
}

/// Signs metadata of a new version by revoked keys.
fn signed_by_old_keys(scene: &mut Scene, hide_roots: bool) {
    let old_keys = scene.site.keys.clone();
    let old_root = scene.site.root.clone();
    rotate_twice(scene);
    let keys = scene.site.keys.clone();
    let root = scene.site.root.clone();
    scene.site.keys = old_keys;
    scene.site.root = old_root;
    let wrong = scene.site.next();
    scene.site.write(&wrong);
    scene.site.keys = keys;
    scene.site.root = root;
    if hide_roots {
        for version in [2, 3] {
            let path = format!("metadata/{version}.root.json");
            scene.server.fail(&path, Fault::Status(404));
        }
    }
}

#[test]
fn an_old_state_is_refused() {
    repelled(&[
        Attack {
            name: "all of it as it was",
            says: "timestamp has version 2, but version 3 was seen before",
            make: replay,
        },
        Attack {
            name: "an old snapshot under a new timestamp",
            says: "snapshot has version 1, but version 2 was seen before",
            make: |scene| {
                scene.site.publish_wrong(|next| {
                    next.snapshot.version = 1;
                    next.targets.version = 1;
                });
            },
        },
        Attack {
            name: "an old list of targets under a new snapshot",
            says: "targets has version 1, but version 2 was seen before",
            make: |scene| scene.site.publish_wrong(|next| next.targets.version = 1),
        },
        Attack {
            name: "the root before in place of the next",
            says: "Found version 1 of root metadata when we had previously fetched version 1",
            make: |scene| {
                let fault = Fault::Instead(scene.site.read("metadata/1.root.json"));
                scene.server.fail("metadata/2.root.json", fault);
            },
        },
        Attack {
            name: "the snapshot before in place of this one",
            says: "Hash mismatch",
            make: |scene| {
                let next = scene.site.next();
                scene.site.write(&next);
                let old = scene.site.read("metadata/2.snapshot.json");
                scene.site.put(
                    "metadata/3.snapshot.json",
                    &padded(old, scene.site.read("metadata/3.snapshot.json").len()),
                );
            },
        },
        Attack {
            name: "the list of targets before in place of this one",
            says: "Hash mismatch",
            make: |scene| {
                let next = scene.site.next();
                scene.site.write(&next);
                let old = scene.site.read("metadata/2.targets.json");
                scene.site.put(
                    "metadata/3.targets.json",
                    &padded(old, scene.site.read("metadata/3.targets.json").len()),
                );
            },
        },
        Attack {
            name: "the snapshot before, where only versions are named",
            says: "metadata version mismatch: fetched 2, expected 3",
            make: |scene| {
                scene.site.publish_wrong(|next| next.hashed = false);
                let old = scene.site.read("metadata/2.snapshot.json");
                scene.site.put("metadata/3.snapshot.json", &old);
            },
        },
        Attack {
            name: "the list of targets before, where only versions are named",
            says: "metadata version mismatch: fetched 2, expected 3",
            make: |scene| {
                scene.site.publish_wrong(|next| next.hashed = false);
                let old = scene.site.read("metadata/2.targets.json");
                scene.site.put("metadata/3.targets.json", &old);
            },
        },
    ]);
}

/// Pads to the same length, so that only the hash differs.
fn padded(mut bytes: Vec<u8>, length: usize) -> Vec<u8> {
    bytes.resize(length, b' ');
    bytes
}

#[test]
fn keys_that_were_taken_away_stay_away() {
    repelled(&[
        Attack {
            name: "two rotations, then metadata of the first keys",
            says: "timestamp metadata: Signature threshold of 1 not met",
            make: |scene| signed_by_old_keys(scene, false),
        },
        Attack {
            name: "the same with the newer roots hidden",
            says: "timestamp metadata: Signature threshold of 1 not met",
            make: |scene| signed_by_old_keys(scene, true),
        },
        Attack {
            name: "two rotations, then the repository as it was before them",
            says: "timestamp metadata: Signature threshold of 1 not met",
            make: |scene| {
                let old = scene.site.files();
                rotate_twice(scene);
                scene.site.put_all(&old);
            },
        },
    ]);
}

/// A thief of the three keys below root raises the versions to the maximum, so that nothing newer
/// can follow. With the keys that replace them, the versions begin anew.
#[test]
fn a_thief_who_counts_to_the_end_is_outlived() {
    let mut scene = Scene::updated(Workshop::toy());
    scene.site.publish_wrong(|next| {
        for role in ROLES {
            next.sheet(role).version = u64::MAX - 1;
        }
    });
    assert_eq!(scene.update().code, 0, "the thief has the keys");
    scene.offer(2);
    let refused = scene.update();
    let says = "timestamp has version 4, but version 18446744073709551614 was seen before";
    assert!(refused.stderr.contains(says), "{}", refused.stderr);
    scene.site.rotate(&ROLES);
    scene.taken("garden-2.fmla");
}

/// Replaces keys of roles. Nothing is signed by the new keys yet.
fn next_root(scene: &mut Scene, roles: &[RoleType]) {
    let (root, signers) = scene.site.next_root(roles);
    scene.site.put_root(&root, &signers);
}

/// Makes the root of this version the one that the operator gives.
fn give(scene: &Scene, version: u64) {
    let root = scene.site.read(&format!("metadata/{version}.root.json"));
    std::fs::write(scene.setting.path("root.json"), root).expect("a file");
}

/// An older root from the operator does not bring back a revoked key, and a newer one does not
/// bring back an old state.
#[test]
fn a_root_of_the_same_line_takes_nothing_back() {
    let mut scene = Scene::updated(Workshop::toy());
    scene.site.rotate(&[RoleType::Targets]);
    let stolen = scene.site.keys[&RoleType::Targets].clone();
    scene.site.rotate(&[RoleType::Targets]);
    assert_eq!(scene.update().code, 0, "the box follows both");
    scene.server.fail("metadata/3.root.json", Fault::Status(404));
    scene.offer(2);
    scene.site.publish_wrong(|next| next.targets.keys = stolen);
    give(&scene, 2);
    scene.not_taken("targets metadata: Signature threshold of 1 not met");
    scene.server.heal();

    let mut scene = Scene::updated(Workshop::toy());
    scene.offer(2);
    scene.taken("garden-2.fmla");
    // The snapshot has other keys. The versions seen of the other roles count.
    next_root(&mut scene, &[RoleType::Snapshot]);
    give(&scene, 2);
    scene.site.publish_wrong(|next| next.timestamp.version = 2);
    scene.not_taken("timestamp has version 2, but version 3 was seen before");
}

/// After the loss of two root keys, the operator starts anew, with the keys below root that are
/// still good.
#[test]
fn a_root_of_other_root_keys_begins_anew() {
    let mut scene = Scene::updated(Workshop::toy());
    scene.site.rotate(&[RoleType::Snapshot]);
    scene.offer(2);
    scene.taken("garden-2.fmla");
    scene.site.begin_anew();
    scene.not_taken("");
    give(&scene, 1);
    scene.offer(3);
    scene.taken("garden-3.fmla");
}

#[test]
fn a_box_follows_so_many_roots_a_round_and_keeps_those_that_it_has_seen() {
    let mut scene = Scene::updated(Workshop::toy());
    (0..64).for_each(|_| next_root(&mut scene, &[]));
    let old = scene.site.files();
    scene.site.rotate(&[RoleType::Timestamp]);
    scene.not_taken("64");
    // The rest of this round fails, but its root is stored.
    scene.server.fail("metadata/timestamp.json", Fault::Status(500));
    scene.not_taken("500");
    scene.server.heal();
    scene.server.fail("metadata/66.root.json", Fault::Status(404));
    scene.site.put_all(&old);
    scene.not_taken("timestamp metadata: Signature threshold of 1 not met");
    scene.server.heal();
    scene.offer(2);
    scene.taken("garden-2.fmla");
}

#[test]
fn a_root_that_is_larger_than_any_is_not_read() {
    let scene = Scene::new(Workshop::toy());
    std::fs::write(scene.setting.path("root.json"), vec![b' '; (1 << 20) + 1]).expect("a file");
    scene.not_taken("larger than 1048576 bytes");
}
