//! Folders that cameras upload into.

use std::io::Write;
use std::path::Path;

use fmlora_device::Thing;

use super::{check, info, number};
use crate::served::{Daemon, OPEN, jpegs, until};
use crate::setting::{Setting, text};

fn config(folder: &Path, settings: &str) -> String {
    let source =
        format!("[camera]\nsource = \"dir://{}?fps=20&{settings}\"\nfps = 20.0\n", text(folder));
    format!("device = \"cpu\"\n{source}[predict]\nsmoothing_frames = 1\n{OPEN}")
}

/// Waits until the daemon recognises a thing.
fn see(daemon: &mut Daemon, thing: Thing) {
    until(thing.name(), || daemon.line("class") == thing.name());
}

#[test]
fn pictures_that_come_later_are_seen_when_they_are_complete() {
    let setting = Setting::new();
    let things = [Thing::ALL[0], Thing::ALL[1], Thing::ALL[2]];
    for thing in things {
        setting.teach(thing, 8);
    }
    let [first, second, third] = things.map(|thing| jpegs(thing, 1, 9).remove(0));
    let folder = setting.path("in");
    std::fs::create_dir(&folder).expect("a folder");
    let mut daemon = Daemon::start_with(&setting, &config(&folder, "loop=0"), &[]);
    let trouble = daemon.line("source")["trouble"].to_string();
    assert!(trouble.contains("holds no pictures yet"), "{trouble}");

    let day = folder.join("2026-01-02");
    std::fs::create_dir(&day).expect("a folder");
    std::fs::write(day.join("0001.jpg"), &first).expect("a file");
    see(&mut daemon, things[0]);

    // A slow upload.
    let half = second.len() / 2;
    let mut upload = std::fs::File::create(day.join("0002.jpg")).expect("a file");
    upload.write_all(&second[..half]).expect("a file");
    upload.sync_all().expect("a file");
    let before = number(&info(&mut daemon), "/frames");
    until("a look", || number(&info(&mut daemon), "/frames") > before + 1);
    upload.write_all(&second[half..]).expect("a file");
    see(&mut daemon, things[1]);

    // An upload that is renamed when it is complete.
    std::fs::write(folder.join("0003.part"), &third).expect("a file");
    std::fs::rename(folder.join("0003.part"), folder.join("0003.jpg")).expect("a file");
    see(&mut daemon, things[2]);

    // A file that is overwritten.
    std::fs::write(folder.join("0003.jpg"), &first).expect("a file");
    see(&mut daemon, things[0]);
    let seen = info(&mut daemon);
    assert_eq!(number(&seen, "/source/openings"), 1, "{seen}");
}

#[test]
fn a_bad_file_is_warned_of_once_and_hides_none() {
    let setting = Setting::new();
    let thing = Thing::ALL[0];
    let other = Thing::ALL[1];
    setting.teach(thing, 8);
    setting.teach(other, 8);
    setting.pictures("in", thing, 2, 9);
    let folder = setting.path("in");
    std::fs::write(folder.join("a-broken.jpg"), b"no picture").expect("a file");
    let mut daemon = Daemon::start_with(&setting, &config(&folder, "loop=1"), &[]);
    until("the bad file was given up", || number(&info(&mut daemon), "/source/damaged") > 0);
    let before = number(&info(&mut daemon), "/frames");
    until("more rounds", || number(&info(&mut daemon), "/frames") > before + 20);
    let log = std::fs::read_to_string(setting.path("log")).expect("a log");
    assert_eq!(log.matches("a-broken.jpg").count(), 1, "{log}");

    // Once mended, it is read like any other picture.
    std::fs::write(folder.join("a-broken.jpg"), &jpegs(other, 1, 9)[0]).expect("a file");
    see(&mut daemon, other);
}

#[test]
fn a_folder_that_comes_later_is_waited_for() {
    let setting = Setting::new();
    let thing = Thing::ALL[0];
    setting.teach(thing, 8);
    setting.teach(Thing::ALL[1], 8);
    let folder = setting.path("share");
    let source = format!("dir://{}", text(&folder));
    let (code, said) = check(&setting, &source, "");
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("camera.source") && said.contains("no such folder"), "{said}");

    let mut daemon = Daemon::start_with(&setting, &config(&folder, "loop=1"), &[]);
    let trouble = daemon.line("source")["trouble"].to_string();
    assert!(trouble.contains("no such folder"), "{trouble}");
    setting.pictures("share", thing, 2, 9);
    see(&mut daemon, thing);
}

#[test]
fn pictures_are_known_by_their_content_and_unread_ones_are_warned_of() {
    let setting = Setting::new();
    let thing = Thing::ALL[0];
    setting.teach(thing, 8);
    setting.teach(Thing::ALL[1], 8);
    let folder = setting.path("in");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("a.heic"), b"\0\0\0\x18ftypheic and more").expect("a file");
    std::fs::write(folder.join("note.txt"), b"no picture").expect("a file");
    let mut daemon = Daemon::start_with(&setting, &config(&folder, "loop=1"), &[]);
    until("a word about the folder", || {
        info(&mut daemon)["source"]["trouble"].to_string().contains("none of its 1 pictures")
    });
    until("the picture was given up", || number(&info(&mut daemon), "/source/damaged") > 0);
    std::fs::write(folder.join("frame"), &jpegs(thing, 1, 9)[0]).expect("a file");
    see(&mut daemon, thing);
    let log = std::fs::read_to_string(setting.path("log")).expect("a log");
    assert_eq!(log.matches("a.heic: HEIC is not read").count(), 1, "{log}");
    assert!(!log.contains("note.txt"), "{log}");
}
