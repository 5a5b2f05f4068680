//! File names that would lead out of their folder.

use fmlora_device::Thing;
use serde_json::Value;

use crate::update::scene::{Scene, applied};
use crate::update::site::Listed;
use crate::update::workshop::Workshop;

/// All names at once, beside a good adapter that is in use. Their files are never requested.
#[test]
fn a_name_that_is_a_path_is_left_alone() {
    let scene = &mut Scene::updated(Workshop::toy());
    let before = scene.files();
    let names: [&str; 14] = [
        "../x.fmla",
        "../../state/state.redb",
        "/etc/x.fmla",
        "a/../../x.fmla",
        "a/b.fmla",
        ".hidden.fmla",
        "a\\b.fmla",
        "c:x.fmla",
        "%2e%2e%2fx.fmla",
        "x?.fmla",
        "x y.fmla",
        "x\n.fmla",
        "ä.fmla",
        &"x".repeat(200),
    ];
    let box_2 = scene.workshop.rank_0("box", 2, &[("box", Thing::Box)]);
    let listed = names.map(|name| Listed { name: name.to_owned(), ..Listed::of(&box_2) });
    scene.site.publish_wrong(|next| next.listed.extend(listed));
    scene.server.asked();
    let run = scene.update();
    assert_eq!((run.code, applied(&run)), (0, String::new()), "{}", run.stderr);
    let asked = scene.server.asked();
    assert!(asked.iter().all(|asked| asked.path.starts_with("metadata/")), "{asked:?}");
    let answer: Value = serde_json::from_str(&run.stdout).expect("JSON");
    for name in names {
        let adapters = answer["adapters"].as_array().expect("a list");
        let seen = adapters.iter().find(|seen| seen["target"] == name).expect("it is listed");
        assert_eq!(seen["not_for_us"], "its name is no plain name of a file", "{name}");
    }
    scene.offer(3);
    scene.taken("garden-3.fmla");
    assert_eq!(scene.files(), before);
}
