//! Attacks on the bytes by a server, or by a man in the middle.

use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::update::scene::{Attack, Scene, repelled};
use crate::update::server::Fault;
use crate::update::site::Listed;
use crate::update::workshop::Workshop;

/// Publishes the next release honestly, and serves its file with a fault.
fn serve_target(scene: &mut Scene, fault: impl FnOnce(&[u8]) -> Fault) {
    scene.offer(2);
    let listed = scene.site.listed.pop().expect("the release");
    scene.server.fail(&listed.path(), fault(&listed.file));
}

/// Publishes honestly, and serves one file of the metadata with a fault.
fn serve_metadata(scene: &mut Scene, name: &str, fault: impl FnOnce(&[u8]) -> Fault) {
    scene.offer(2);
    scene.site.listed.pop();
    let path = format!("metadata/{name}");
    let bytes = std::fs::read(scene.site.folder().join(&path)).unwrap_or_default();
    scene.server.fail(&path, fault(&bytes));
}

fn half(bytes: &[u8]) -> Fault {
    Fault::CutAfter(bytes.len() / 2)
}

#[test]
fn metadata_that_never_ends_is_refused() {
    repelled(&[
        Attack {
            name: "endless root",
            says: "Maximum size 1048576",
            make: |scene| serve_metadata(scene, "2.root.json", |_| Fault::Endless),
        },
        Attack {
            name: "endless timestamp",
            says: "Maximum size 1048576",
            make: |scene| serve_metadata(scene, "timestamp.json", |_| Fault::Endless),
        },
        Attack {
            name: "endless snapshot",
            says: "(specified by timestamp.json) exceeded",
            make: |scene| serve_metadata(scene, "3.snapshot.json", |_| Fault::Endless),
        },
        Attack {
            name: "endless list of targets",
            says: "(specified by snapshot.json) exceeded",
            make: |scene| serve_metadata(scene, "3.targets.json", |_| Fault::Endless),
        },
    ]);
}

#[test]
fn metadata_that_ends_too_soon_is_refused() {
    repelled(&[
        Attack {
            name: "timestamp cut off",
            says: "Failed to parse timestamp metadata",
            make: |scene| serve_metadata(scene, "timestamp.json", half),
        },
        Attack {
            name: "snapshot cut off",
            says: "Hash mismatch",
            make: |scene| serve_metadata(scene, "3.snapshot.json", half),
        },
        Attack {
            name: "list of targets cut off",
            says: "Hash mismatch",
            make: |scene| serve_metadata(scene, "3.targets.json", half),
        },
    ]);
}

#[test]
fn a_server_that_sends_something_else_or_nothing_is_told() {
    repelled(&[
        Attack {
            name: "brackets within brackets",
            says: "recursion limit exceeded",
            make: |scene| {
                let deep = br#"{"signatures":[],"signed":{"_type":"timestamp","x":"#.to_vec();
                let deep = [deep, b"[".repeat(100_000)].concat();
                serve_metadata(scene, "timestamp.json", |_| Fault::Instead(deep));
            },
        },
        Attack {
            name: "no timestamp",
            says: "timestamp.json: there is no such file",
            make: |scene| serve_metadata(scene, "timestamp.json", |_| Fault::Status(404)),
        },
        Attack {
            name: "a server that fails",
            says: "500",
            make: |scene| serve_metadata(scene, "timestamp.json", |_| Fault::Status(500)),
        },
        Attack {
            name: "a server that says nothing",
            says: "timestamp.json",
            make: |scene| {
                serve_metadata(scene, "timestamp.json", |_| Fault::Silent);
                scene.failpoints = "update-patience=return(100)".to_owned();
            },
        },
    ]);
}

#[test]
fn an_adapter_of_other_bytes_than_were_signed_is_refused() {
    repelled(&[
        Attack {
            name: "endless",
            says: "bytes that were signed",
            make: |scene| serve_target(scene, |_| Fault::Endless),
        },
        Attack {
            name: "cut off",
            says: "bytes came; the rest is asked for the next time",
            make: |scene| serve_target(scene, half),
        },
        Attack {
            name: "shorter than was signed",
            says: "bytes came; the rest is asked for the next time",
            make: |scene| serve_target(scene, |file| Fault::Instead(file[1..].to_vec())),
        },
        Attack {
            name: "longer than was signed",
            says: "bytes that were signed",
            make: |scene| serve_target(scene, |file| Fault::Instead([file, &[0]].concat())),
        },
        Attack {
            name: "of the right length",
            says: "its SHA-256 is",
            make: |scene| serve_target(scene, |file| Fault::Instead(vec![7; file.len()])),
        },
    ]);
}

#[test]
fn an_adapter_that_does_not_come_is_told() {
    repelled(&[
        Attack {
            name: "missing",
            says: "there is no such file",
            make: |scene| serve_target(scene, |_| Fault::Status(404)),
        },
        Attack {
            name: "a server that says nothing",
            says: "garden-2.fmla",
            make: |scene| {
                serve_target(scene, |_| Fault::Silent);
                scene.failpoints = "update-patience=return(100)".to_owned();
            },
        },
        Attack {
            name: "longer than any adapter, by what is signed",
            says: "expected at most 16777216",
            make: |scene| {
                let mut huge = Listed::of(&scene.workshop.rank_0(
                    "huge",
                    2,
                    &[("x", fmlora_device::Thing::Box)],
                ));
                huge.length = (16 << 20) + 1;
                scene.site.publish_wrong(|next| next.listed.push(huge));
            },
        },
        Attack {
            name: "signed with another hash",
            says: "its SHA-256 is",
            make: |scene| {
                let mut other = Listed::of(&scene.workshop.rank_0(
                    "other",
                    2,
                    &[("x", fmlora_device::Thing::Box)],
                ));
                other.sha256 = Sha256::digest(b"something else").into();
                scene.site.publish_wrong(|next| next.listed.push(other));
            },
        },
    ]);
}

/// A server cannot keep a device waiting without limit.
#[test]
fn a_server_that_stops_in_the_middle_is_given_up() {
    let mut scene = Scene::updated(Workshop::toy());
    scene.offer(2);
    let file = scene.site.listed[1].path();
    let silence = "update-patience=return(300)";
    let whole = "update-whole=return(1000)";
    for (path, fault, time, says) in [
        ("metadata/timestamp.json", Fault::Stalls, silence, "Failed to parse timestamp metadata"),
        (file.as_str(), Fault::Stalls, silence, "bytes came; the rest is asked for the next time"),
        (file.as_str(), Fault::Crawls, whole, "bytes came; the rest is asked for the next time"),
    ] {
        time.clone_into(&mut scene.failpoints);
        scene.server.fail(path, fault.clone());
        let started = Instant::now();
        scene.not_taken(says);
        // Far more than needed, and far less than the time-out of a whole file.
        assert!(started.elapsed() < Duration::from_mins(1), "{path}, {fault:?}");
        scene.server.heal();
    }
    scene.failpoints.clear();
    scene.taken("garden-2.fmla");
}
