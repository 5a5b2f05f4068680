//! Signed offers of adapters for other devices.

use fmlora_device::Thing;
use fmlora_learner::BaseId;
use serde_json::Value;

use crate::update::scene::{Attack, Scene, repelled};
use crate::update::site::Listed;

/// Offers a sound adapter with a changed offer signed beside it.
fn offered(scene: &mut Scene, change: impl FnOnce(&mut Value)) {
    let mut listed = Listed::of(&scene.workshop.rank_0("box", 2, &[("box", Thing::Box)]));
    change(&mut listed.custom);
    scene.site.publish_wrong(|next| next.listed.push(listed));
}

/// Id of a base that does not exist.
const OTHER: [u8; 32] = [7; 32];

#[test]
fn an_adapter_for_somebody_else_is_left_alone() {
    repelled(&[
        Attack {
            name: "another base",
            says: "made for another base",
            make: |scene| {
                offered(scene, |custom| custom["base_id"] = BaseId::new(OTHER).to_string().into());
            },
        },
        Attack {
            name: "other features",
            says: "made for other features than this box has now",
            make: |scene| {
                let other = BaseId::new(OTHER).feature_space().to_string();
                offered(scene, |custom| custom["feature_space_before"] = other.into());
            },
        },
        Attack {
            name: "a newer format",
            says: "format 2, but this program reads format 1",
            make: |scene| offered(scene, |custom| custom["format"] = 2.into()),
        },
        Attack {
            name: "a newer program",
            says: "needs version 99.0.0",
            make: |scene| offered(scene, |custom| custom["min_daemon"] = "99.0.0".into()),
        },
        Attack {
            name: "another channel",
            says: "on channel \\\"beta\\\"",
            make: |scene| offered(scene, |custom| custom["channel"] = "beta".into()),
        },
        Attack {
            name: "nobody yet",
            says: "so far for 0 % of all boxes",
            make: |scene| offered(scene, |custom| custom["rollout"]["percent"] = 0.into()),
        },
        Attack {
            name: "no format",
            says: "it states no format",
            make: |scene| {
                offered(scene, |custom| {
                    custom.as_object_mut().expect("an object").remove("format");
                });
            },
        },
        Attack {
            name: "a release that is no number",
            says: "what is signed beside it cannot be read",
            make: |scene| offered(scene, |custom| custom["release"] = "two".into()),
        },
        Attack {
            name: "a name that is a path",
            says: "what is signed beside it cannot be read",
            make: |scene| offered(scene, |custom| custom["name"] = "../box".into()),
        },
        Attack {
            name: "whom another role lists",
            says: "lists of other roles are not read",
            make: |scene| {
                let listed = Listed::of(&scene.workshop.rank_0("box", 2, &[("box", Thing::Box)]));
                scene.site.publish_wrong(|next| next.delegated = Some(listed));
            },
        },
        Attack {
            name: "an older release than is in use",
            says: "release 1 of it is in use",
            make: |scene| {
                let adapter = scene.workshop.rank_0("garden", 0, &[("box", Thing::Box)]);
                scene.site.publish_wrong(|next| next.listed.push(Listed::of(&adapter)));
            },
        },
    ]);
}

/// The file and the repository both state the facts of an adapter. A difference is refused.
#[test]
fn an_adapter_that_is_not_what_was_offered_is_refused() {
    repelled(&[
        Attack {
            name: "another release",
            says: "the repository says release 3, the adapter says 2",
            make: |scene| offered(scene, |custom| custom["release"] = 3.into()),
        },
        Attack {
            name: "another name",
            says: "the repository says name cage, the adapter says box",
            make: |scene| offered(scene, |custom| custom["name"] = "cage".into()),
        },
        Attack {
            name: "an older program that suffices",
            says: "the repository says least daemon 0.0.1, the adapter says 0.1.0",
            make: |scene| offered(scene, |custom| custom["min_daemon"] = "0.0.1".into()),
        },
        Attack {
            name: "other features after it",
            says: "the repository says feature space after",
            make: |scene| {
                let other = BaseId::new(OTHER).feature_space().to_string();
                offered(scene, |custom| custom["feature_space_after"] = other.into());
            },
        },
        Attack {
            name: "another base",
            says: "the repository says base",
            make: |scene| {
                let mut adapter = scene.workshop.rank_0("box", 2, &[("box", Thing::Box)]);
                let sound = adapter.facts.clone();
                adapter.facts.base_id = BaseId::new(OTHER);
                let file = fmlora_learner::format::encode_adapter(&adapter).expect("encoded");
                let listed = Listed::with_file(&sound, file);
                scene.site.publish_wrong(|next| next.listed.push(listed));
            },
        },
        Attack {
            name: "other features before it",
            says: "the repository says feature space before",
            make: |scene| {
                let mut adapter = scene.workshop.rank_0("box", 2, &[("box", Thing::Box)]);
                let sound = adapter.facts.clone();
                let other = BaseId::new(OTHER).feature_space();
                adapter.facts.space_before = other;
                adapter.facts.space_after = other;
                let file = fmlora_learner::format::encode_adapter(&adapter).expect("encoded");
                let listed = Listed::with_file(&sound, file);
                scene.site.publish_wrong(|next| next.listed.push(listed));
            },
        },
    ]);
}
