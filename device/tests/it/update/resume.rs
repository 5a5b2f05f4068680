//! Adapters that are downloaded in parts.

use super::scene::Scene;
use super::server::Fault;
use super::site::Listed;
use super::workshop::Workshop;

const PART: &str = "state/update.part";

/// Returns a device and a release after one round in which the release's file was cut off half-way.
fn cut_half_way() -> (Scene, Listed) {
    let mut scene = Scene::updated(Workshop::toy());
    scene.offer(2);
    let listed = scene.site.listed[1].clone();
    scene.server.fail(&listed.path(), Fault::CutAfter(listed.file.len() / 2));
    let known = scene.exported();
    let run = scene.update();
    let half = listed.file.len() / 2;
    let all = listed.file.len();
    let says = format!("{half} of {all} bytes came; the rest is asked for the next time");
    assert!(run.code == 1 && run.stderr.contains(&says), "{}", run.stderr);
    assert_eq!(scene.exported(), known);
    assert!(scene.files().contains(&PART.to_owned()), "{:?}", scene.files());
    scene.server.heal();
    scene.server.asked();
    (scene, listed)
}

/// Returns the first byte that each request for a file asked for.
fn asked_for(scene: &Scene, listed: &Listed) -> Vec<Option<u64>> {
    let asked = scene.server.asked().into_iter().filter(|asked| asked.path == listed.path());
    asked.map(|asked| asked.from).collect()
}

#[test]
fn the_rest_of_a_file_is_asked_for() {
    let (scene, listed) = cut_half_way();
    scene.taken("garden-2.fmla");
    let from = Some(listed.file.len() as u64 / 2);
    assert_eq!(asked_for(&scene, &listed), [from]);
    assert!(!scene.files().contains(&PART.to_owned()), "{:?}", scene.files());
}

#[test]
fn many_pieces_make_a_whole() {
    let (scene, listed) = cut_half_way();
    scene.server.fail(&listed.path(), Fault::CutAfter(listed.file.len() / 8));
    let more = scene.update();
    let says = "bytes came; the rest is asked for the next time";
    assert!(more.code == 1 && more.stderr.contains(says), "{}", more.stderr);
    scene.server.fail(&listed.path(), Fault::Drips);
    scene.taken("garden-2.fmla");
    let from = |part: usize| Some(part as u64);
    let half = listed.file.len() / 2;
    let eighth = listed.file.len() / 8;
    let asked: Vec<Option<u64>> = asked_for(&scene, &listed);
    assert_eq!(asked, [from(half), from(half + eighth)]);
}

#[test]
fn a_server_that_knows_no_ranges_begins_anew() {
    let (scene, listed) = cut_half_way();
    scene.server.fail(&listed.path(), Fault::NoRanges);
    scene.taken("garden-2.fmla");
    assert!(!scene.files().contains(&PART.to_owned()), "{:?}", scene.files());
}

/// A wrong first half costs two rounds, and no more.
#[test]
fn a_wrong_beginning_is_thrown_away() {
    let mut scene = Scene::updated(Workshop::toy());
    scene.offer(2);
    let listed = scene.site.listed[1].clone();
    scene.server.fail(&listed.path(), Fault::Instead(vec![9; listed.file.len() / 2]));
    assert_eq!(scene.update().code, 1);
    scene.server.heal();
    let run = scene.update();
    assert!(run.code == 1 && run.stderr.contains("its SHA-256 is"), "{}", run.stderr);
    assert!(!scene.files().contains(&PART.to_owned()), "{:?}", scene.files());
    scene.taken("garden-2.fmla");
}

/// The part of one file is not used for another one.
#[test]
fn another_file_is_fetched_whole() {
    let (mut scene, _) = cut_half_way();
    scene.offer(3);
    scene.taken("garden-3.fmla");
    let third = scene.site.listed[2].clone();
    assert_eq!(asked_for(&scene, &third), [None]);
    assert!(!scene.files().contains(&PART.to_owned()), "{:?}", scene.files());
}
