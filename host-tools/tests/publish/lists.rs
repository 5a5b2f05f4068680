//! Removals, withdrawals, and warnings about adapters that conflict.

use fmlora_learner::{BaseId, FeatureSpaceId};
use serde_json::{Value, json};

use super::site::{Run, Site};

fn base() -> FeatureSpaceId {
    BaseId::new([7; 32]).feature_space()
}

fn features(n: u8) -> FeatureSpaceId {
    BaseId::new([n; 32]).feature_space()
}

fn add(site: &Site, file: &str) -> Run {
    let done = site.run(&["add", file, "--percent", "100"]);
    done.done();
    done
}

/// Returns the warnings of `status`, which do not change its exit code.
fn warnings(site: &Site) -> Vec<String> {
    let (code, status) = site.status(&[]);
    assert_eq!(code, 0);
    let all = status["warnings"].as_array().expect("a list");
    all.iter().map(|one| one.as_str().expect("a text").to_owned()).collect()
}

#[test]
fn a_withdrawal_stands_beside_the_offer() {
    let site = Site::ready();
    for release in 1..=2 {
        let file = format!("birds-{release}.fmla");
        site.adapter(&file, "birds", release);
        add(&site, &file);
    }
    site.adapter_of("tools-3.fmla", "tools", 3, [base(), base()], "drill");
    site.run(&["add", "tools-3.fmla", "--percent", "100", "--channel", "beta"]).done();
    let (before, _) = site.target("birds-2.fmla");
    let reason = ["--reason", "takes sparrows for bats"];
    site.run(&[&["withdraw", "birds-2.fmla"][..], &reason].concat()).done();
    let (after, bytes) = site.target("birds-2.fmla");
    assert_eq!(after["withdrawn"], json!({ "reason": "takes sparrows for bats" }));
    assert_eq!(after["rollout"]["percent"], 0, "for programs that know no withdrawal");
    assert_eq!(after["rollout"]["salt"], before["rollout"]["salt"]);
    assert_eq!(bytes, site.read("birds-2.fmla"), "what was published stays");
    let said = site.host_tools(&["publish", "status", "--repo", "site"]);
    assert!(said.stdout.contains("withdrawn (takes sparrows for bats)"), "{}", said.stdout);
    for command in ["promote", "add"] {
        let again = site.run(&[command, "birds-2.fmla", "--percent", "5"]);
        again.refused(&["birds-2.fmla is withdrawn", "newer release"]);
    }
    // A name selects all its releases, a channel all its adapters.
    let is_withdrawn = |target: &str| site.target(target).0["withdrawn"] != Value::Null;
    assert!(!is_withdrawn("birds-1.fmla"));
    site.run(&["withdraw", "birds"]).done();
    assert!(is_withdrawn("birds-1.fmla") && !is_withdrawn("tools-3.fmla"));
    site.run(&["withdraw", "--all", "--channel", "beta"]).done();
    assert!(is_withdrawn("tools-3.fmla"));
    let versions = site.versions();
    site.run(&["withdraw", "nothing"]).refused(&["\"nothing\"", "known: birds-1.fmla"]);
    site.run(&["withdraw", "--all", "--channel", "gamma"]).refused(&["channel \"gamma\""]);
    site.run(&["withdraw", "birds", "--reason", &"x".repeat(201)]).refused(&["at most 200"]);
    for wrong in [&["withdraw"][..], &["withdraw", "--all"], &["withdraw", "a", "--all"]] {
        assert_eq!(site.run(wrong).code, 2, "{wrong:?}");
    }
    assert_eq!(site.versions(), versions);
    site.adapter("birds-3.fmla", "birds", 3);
    add(&site, "birds-3.fmla");
}

#[test]
fn a_removed_target_is_off_the_list_and_its_file_stays() {
    let site = Site::with_birds();
    let old = site.load().expect("a repository");
    let warned = site.run(&["remove", "birds-1.fmla"]);
    warned.done();
    assert!(warned.stderr.contains("publish withdraw comes before"), "{}", warned.stderr);
    assert!(site.load().expect("a repository").targets().signed.targets.is_empty());
    let target = old.targets().signed.targets.values().next().expect("a target");
    let json = serde_json::to_value(&target.hashes.sha256).expect("JSON");
    let hash = json.as_str().expect("a text");
    assert!(site.path(&format!("site/targets/{hash}.birds-1.fmla")).exists());
    let versions = site.versions();
    let again = site.run(&["remove", "birds-1.fmla"]);
    again.done();
    assert!(again.stderr.contains("birds-1.fmla is not on the list"), "{}", again.stderr);
    assert_eq!(site.versions(), versions);
    add(&site, "birds-1.fmla");
    let wrong = site.run(&["remove", "birds"]);
    assert_eq!(wrong.code, 1, "{}", wrong.stderr);
    assert!(wrong.stderr.contains("birds-1.fmla"), "{}", wrong.stderr);
    site.run(&["withdraw", "birds-1.fmla", "--reason", "takes sparrows for bats"]).done();
    // Without a new reason, the previous one is kept.
    site.run(&["withdraw", "birds-1.fmla"]).done();
    let published = site.load().expect("a repository");
    let target = published.targets().signed.targets.values().next().expect("a target");
    assert_eq!(target.custom["withdrawn"]["reason"], "takes sparrows for bats");
    assert_eq!(site.run(&["remove", "birds-1.fmla"]).stderr, "");
}

#[test]
fn classes_that_two_adapters_bring_are_told() {
    let site = Site::ready();
    site.adapter_of("birds-1.fmla", "birds", 1, [base(), base()], "robin");
    assert_eq!(add(&site, "birds-1.fmla").stderr, "");
    // No warning: releases of one adapter, another class, another channel.
    site.adapter_of("birds-2.fmla", "birds", 2, [base(), base()], "robin");
    assert_eq!(add(&site, "birds-2.fmla").stderr, "");
    site.adapter_of("tools-3.fmla", "tools", 3, [base(), base()], "drill");
    assert_eq!(add(&site, "tools-3.fmla").stderr, "");
    site.adapter_of("garden-4.fmla", "garden", 4, [base(), base()], "ROBIN");
    let beta = site.run(&["add", "garden-4.fmla", "--percent", "100", "--channel", "beta"]);
    assert_eq!(beta.stderr, "");
    assert_eq!(warnings(&site), [""; 0]);
    site.adapter_of("birds-new-5.fmla", "birds-new", 5, [base(), base()], "ROBIN");
    let says = "birds-2.fmla and birds-new-5.fmla both bring ROBIN";
    let dry = site.run(&["add", "birds-new-5.fmla", "--percent", "100", "--dry-run"]);
    assert!(dry.stderr.contains(says), "{}", dry.stderr);
    let said = add(&site, "birds-new-5.fmla").stderr;
    assert!(said.contains(says) && said.contains("--name birds"), "{said}");
    assert!(warnings(&site).iter().any(|warning| warning.contains(says)));
    site.run(&["withdraw", "birds-new"]).done();
    assert_eq!(warnings(&site), [""; 0]);
}

#[test]
fn adapters_that_no_device_can_use_together_are_told() {
    let site = Site::ready();
    let moved = features(1);
    let elsewhere = features(2);
    site.adapter_of("tools-1.fmla", "tools", 1, [base(), base()], "drill");
    site.adapter_of("birds-2.fmla", "birds", 2, [base(), moved], "robin");
    site.adapter_of("nests-3.fmla", "nests", 3, [moved, moved], "nest");
    for file in ["tools-1.fmla", "birds-2.fmla", "nests-3.fmla"] {
        assert_eq!(add(&site, file).stderr, "", "{file}: a chain goes together");
    }
    // For devices that learned a task of their own.
    site.adapter_of("special-4.fmla", "special", 4, [elsewhere, elsewhere], "gear");
    assert_eq!(add(&site, "special-4.fmla").stderr, "");
    site.adapter_of("saws-5.fmla", "saws", 5, [base(), base()], "saw");
    let said = add(&site, "saws-5.fmla").stderr;
    assert!(said.contains("devices that have it cannot use saws-5.fmla"), "{said}");
    assert_eq!(warnings(&site).len(), 1);
    let words = site.host_tools(&["publish", "status", "--repo", "site"]).stdout;
    assert!(words.contains("warning: saws-5.fmla begins with features"), "{words}");
    // An adapter continues a release that is replaced by one with other features.
    let other = Site::ready();
    other.adapter_of("birds-1.fmla", "birds", 1, [base(), moved], "robin");
    other.adapter_of("nests-2.fmla", "nests", 2, [moved, moved], "nest");
    other.adapter_of("birds-3.fmla", "birds", 3, [base(), elsewhere], "robin");
    assert_eq!(add(&other, "birds-1.fmla").stderr, "");
    assert_eq!(add(&other, "nests-2.fmla").stderr, "");
    assert!(add(&other, "birds-3.fmla").stderr.contains("nests-2.fmla begins with features"));
    // A second adapter moves from the same features; then the first one is withdrawn.
    site.adapter_of("moths-6.fmla", "moths", 6, [base(), features(3)], "moth");
    assert!(add(&site, "moths-6.fmla").stderr.contains("cannot use moths-6.fmla"));
    site.run(&["withdraw", "birds", "nests"]).done();
    assert_eq!(warnings(&site), [""; 0]);
}

#[test]
fn metadata_of_another_type_is_told() {
    let site = Site::with_birds();
    let snapshot = site.read("site/metadata/2.snapshot.json");
    std::fs::write(site.path("site/metadata/timestamp.json"), snapshot).expect("written");
    let says = "timestamp.json: its _type is \"snapshot\", expected \"timestamp\"";
    site.run(&["refresh"]).refused(&[says]);
}
