//! Allowed dependencies between crates: models <- learner <- {device, host-tools}; tests may use
//! all.

use std::collections::BTreeSet;

use cargo_metadata::{DependencyKind, MetadataCommand};

#[test]
fn crates_depend_only_downwards() {
    let metadata = MetadataCommand::new().no_deps().exec().expect("cargo metadata");
    let found: BTreeSet<(String, String)> = metadata
        .packages
        .iter()
        .flat_map(|package| {
            let ours = package.dependencies.iter().filter(|d| d.name.starts_with("fmlora-"));
            let used = ours.filter(|d| d.kind == DependencyKind::Normal);
            used.map(|d| (package.name.to_string(), d.name.clone())).collect::<Vec<_>>()
        })
        .collect();
    let allowed = [
        ("fmlora-learner", "fmlora-models"),
        ("fmlora-device", "fmlora-learner"),
        ("fmlora-device", "fmlora-models"),
        ("fmlora-host-tools", "fmlora-learner"),
        ("fmlora-host-tools", "fmlora-models"),
        ("fmlora-tests", "fmlora-learner"),
        ("fmlora-tests", "fmlora-models"),
    ];
    let allowed: BTreeSet<(String, String)> =
        allowed.into_iter().map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
    let forbidden: Vec<_> = found.difference(&allowed).collect();
    assert!(forbidden.is_empty(), "forbidden dependencies: {forbidden:?}");
    // Guards the test itself: without any dependency found, it would always pass.
    assert!(found.contains(&("fmlora-device".to_owned(), "fmlora-learner".to_owned())));
}

/// Checks that `learner` uses no file, clock, socket, environment or thread.
#[test]
fn the_learner_is_pure() {
    let sources = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../learner/src");
    let mut folders = vec![sources];
    let mut read = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("the learner's sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("a source file");
            for forbidden in
                ["std::fs", "std::net", "std::env", "std::thread", "std::time", "std::process"]
            {
                assert!(!text.contains(forbidden), "{} uses {forbidden}", path.display());
            }
            read += 1;
        }
    }
    assert!(read > 10, "only {read} files were looked at");
}
