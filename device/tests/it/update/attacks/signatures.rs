//! Metadata signed by wrong keys.

use serde_json::Value;
use tough::schema::{RoleType, Root};

use crate::update::key::{Key, signed, written};
use crate::update::scene::{Attack, Scene, repelled};
use crate::update::server::Fault;

fn signed_by_unknown_key(scene: &mut Scene, role: RoleType) {
    scene.site.publish_wrong(|next| next.sheet(role).keys = vec![Key::new()]);
}

/// Returns the next root as the publisher would make it, and the root keys before and after. The
/// honest repository stays unchanged.
fn next_root(scene: &mut Scene, roles: &[RoleType]) -> (Root, Vec<Key>, Vec<Key>) {
    let keys = scene.site.keys.clone();
    let root = scene.site.root.clone();
    let (next, _) = scene.site.next_root(roles);
    let new = std::mem::replace(&mut scene.site.keys, keys);
    scene.site.root = root;
    (next, scene.site.keys[&RoleType::Root].clone(), new[&RoleType::Root].clone())
}

/// Serves this root for requests of the next root.
fn show_root(scene: &Scene, root: &Root, signers: &[Key]) {
    let fault = Fault::Instead(written(&signed(root, signers)));
    scene.server.fail("metadata/2.root.json", fault);
}

/// Changes signed metadata, and leaves the signature.
fn alter(scene: &Scene, path: &str, change: impl FnOnce(&mut Value)) {
    let mut role: Value = serde_json::from_slice(&scene.site.read(path)).expect("JSON");
    change(&mut role);
    scene.site.put(path, role.to_string().as_bytes());
}

#[test]
fn metadata_that_the_right_keys_did_not_sign_is_refused() {
    repelled(&[
        Attack {
            name: "timestamp signed by another key",
            says: "timestamp metadata: Signature threshold of 1 not met",
            make: |scene| signed_by_unknown_key(scene, RoleType::Timestamp),
        },
        Attack {
            name: "snapshot signed by another key",
            says: "snapshot metadata: Signature threshold of 1 not met",
            make: |scene| signed_by_unknown_key(scene, RoleType::Snapshot),
        },
        Attack {
            name: "targets signed by another key",
            says: "targets metadata: Signature threshold of 1 not met",
            make: |scene| signed_by_unknown_key(scene, RoleType::Targets),
        },
        Attack {
            name: "targets signed by the key of the timestamp",
            says: "targets metadata: Signature threshold of 1 not met",
            make: |scene| {
                scene.site.publish_wrong(|next| next.targets.keys = next.timestamp.keys.clone());
            },
        },
        Attack {
            name: "not signed at all",
            says: "timestamp metadata: Signature threshold of 1 not met",
            make: |scene| scene.site.publish_wrong(|next| next.timestamp.keys.clear()),
        },
        Attack {
            name: "signed twice by one key",
            says: "Duplicate key ID",
            make: |scene| {
                scene.site.publish_wrong(|next| {
                    let key = next.timestamp.keys[0].clone();
                    next.timestamp.keys.push(key);
                });
            },
        },
        Attack {
            name: "changed after it was signed",
            says: "timestamp metadata: Signature threshold of 1 not met",
            make: |scene| {
                alter(scene, "metadata/timestamp.json", |role| {
                    role["signed"]["version"] = 9.into();
                });
            },
        },
        Attack {
            name: "a snapshot in place of the timestamp",
            says: r#"timestamp.json: its _type is \"snapshot\", expected \"timestamp\""#,
            make: |scene| {
                let snapshot = scene.site.read("metadata/2.snapshot.json");
                scene.site.put("metadata/timestamp.json", &snapshot);
            },
        },
    ]);
}

#[test]
fn a_root_that_two_of_its_keys_did_not_sign_is_refused() {
    repelled(&[
        Attack {
            name: "root of other keys",
            says: "root metadata: Signature threshold of 2 not met",
            make: |scene| {
                let (root, _, new) = next_root(scene, &[RoleType::Root, RoleType::Timestamp]);
                show_root(scene, &root, &new);
            },
        },
        Attack {
            name: "root signed by one of two keys",
            says: "root metadata: Signature threshold of 2 not met",
            make: |scene| {
                let (root, old, _) = next_root(scene, &[RoleType::Timestamp]);
                show_root(scene, &root, &old[..1]);
            },
        },
        Attack {
            name: "root signed twice by one key",
            says: "Duplicate key ID",
            make: |scene| {
                let (root, old, _) = next_root(scene, &[RoleType::Timestamp]);
                show_root(scene, &root, &[old[0].clone(), old[0].clone()]);
            },
        },
        Attack {
            name: "root that names one key twice, to sign for two",
            says: "root metadata: Signature threshold of 2 not met",
            make: |scene| {
                let (mut root, old, _) = next_root(scene, &[]);
                let of_root = root.roles.get_mut(&RoleType::Root).expect("a role");
                of_root.keyids = vec![old[0].id.clone(), old[0].id.clone()];
                show_root(scene, &root, &old[..2]);
            },
        },
        Attack {
            name: "root of new keys that only the old ones signed",
            says: "root metadata: Signature threshold of 2 not met",
            make: |scene| {
                let (root, old, _) = next_root(scene, &[RoleType::Root]);
                show_root(scene, &root, &old);
            },
        },
        Attack {
            name: "root with keys that are not those of their ids",
            says: "Invalid key ID",
            make: |scene| {
                let (mut root, old, _) = next_root(scene, &[]);
                let mut public: Vec<_> = root.keys.values().cloned().collect();
                public.rotate_left(1);
                root.keys.values_mut().zip(public).for_each(|(key, other)| *key = other);
                show_root(scene, &root, &old);
            },
        },
    ]);
}
