//! Wrong pictures, names and folders: a clear error, exit code 1 (2 for usage), state unchanged.

use std::path::PathBuf;

use fmlora_device::Thing;

use crate::setting::{Setting, text};

/// Writes a PNG just above the limit of pixels: small as a file, large when decoded.
fn bomb(setting: &Setting) -> PathBuf {
    let path = setting.path("bomb.png");
    image::GrayImage::new(8001, 8001).save(&path).expect("a PNG file");
    path
}

#[test]
fn pictures_that_cannot_be_read_are_named() {
    let setting = Setting::new();
    setting.teach(Thing::Ball, 2);
    let before = setting.exported();
    let good = setting.pictures("good", Thing::Mug, 1, 5).remove(0);
    let bytes = std::fs::read(&good).expect("the picture");
    std::fs::write(setting.path("cut.jpg"), &bytes[..bytes.len() / 3]).expect("a file");
    std::fs::write(setting.path("empty.jpg"), b"").expect("a file");
    std::fs::write(setting.path("text.jpg"), b"no picture at all").expect("a file");
    std::fs::create_dir(setting.path("hollow")).expect("a folder");
    let bomb = bomb(&setting);
    let long = "x".repeat(65);
    let cases: [(&[&str], i32, &str); 19] = [
        (&["teach", "--class", "mug", "absent.jpg"], 1, "absent.jpg: cannot be read"),
        (&["teach", "--class", "mug", "cut.jpg"], 1, "cut off"),
        (&["teach", "--class", "mug", "empty.jpg"], 1, "the file is empty"),
        (&["teach", "--class", "mug", "text.jpg"], 1, "not a picture: expected JPEG"),
        (&["teach", "--class", "mug", text(&bomb)], 1, "64 megapixels"),
        (&["teach", "--class", "mug", "hollow"], 1, "no picture in this folder"),
        (&["teach", "--class", "a/b", text(&good)], 1, "path separators"),
        (&["teach", "--class", "a\nb", text(&good)], 1, "control characters"),
        (&["teach", "--class", "", text(&good)], 1, "a class name is empty"),
        (&["teach", "--class", &long, text(&good)], 1, "at most 64"),
        (&["classify", "text.jpg", "empty.jpg"], 1, "none of the 2 pictures"),
        (&["learn", "absent"], 1, "absent: cannot read the folder"),
        (&["learn", "hollow"], 1, "one folder of pictures per class"),
        (&["forget", "mug"], 1, "no class \"mug\"; known: ball"),
        (&["rename", "mug", "cup"], 1, "no class \"mug\""),
        (&["--device", "gpu:99", "classify", text(&good)], 1, "graphics adapter"),
        (&["teach", text(&good)], 2, "--class"),
        (&["demo", "--headless", "--listen", "127.0.0.1:0"], 2, "--listen"),
        (&["teech"], 2, "teach"),
    ];
    for (arguments, code, words) in cases {
        let run = setting.run(arguments);
        assert_eq!(run.code, code, "{arguments:?}: {}", run.stderr);
        assert!(run.stderr.contains(words), "{arguments:?} should say {words:?}: {}", run.stderr);
        assert!(!run.stderr.contains("panicked"), "{arguments:?}: {}", run.stderr);
    }
    assert_eq!(setting.exported(), before, "nothing of this changed the state");
}

#[test]
fn one_bad_picture_is_skipped_and_counted() {
    let setting = Setting::new();
    setting.pictures("mugs", Thing::Mug, 2, 1);
    std::fs::write(setting.path("mugs/broken.png"), b"\x89PNG\r\n\x1a\nand no more")
        .expect("a file");
    std::fs::write(setting.path("mugs/notes.txt"), b"not meant as a picture").expect("a file");
    let taught = setting.json(&["teach", "--class", "mug", "mugs"]);
    assert_eq!(taught["added"], 2);
    let skipped = taught["skipped"].as_array().expect("a list");
    assert_eq!(skipped.len(), 1, "{taught}");
    assert!(skipped[0]["path"].as_str().is_some_and(|p| p.ends_with("broken.png")));
    let left_out = taught["left_out"].as_array().expect("a list");
    let named = |name| {
        left_out.iter().any(|file| file["path"].as_str().is_some_and(|path| path.ends_with(name)))
    };
    assert!(left_out.len() == 2 && named("broken.png") && named("notes.txt"), "{taught}");
    let run = setting.run(&["--json", "classify", "mugs"]);
    assert_eq!((run.code, run.stdout.lines().count()), (0, 4), "a line a file: {}", run.stdout);
    assert_eq!(run.stdout.matches("\"error\"").count(), 2, "{}", run.stdout);
}

/// First bytes of a phone's picture in HEIC.
const HEIC: &[u8] = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic";

#[test]
fn pictures_count_by_content_and_all_others_are_named() {
    let setting = Setting::new();
    let shots = setting.pictures("task/mug", Thing::Mug, 3, 1);
    setting.pictures("task/ball", Thing::Ball, 3, 1);
    setting.pictures("task/mug/day2/evening", Thing::Mug, 1, 2);
    let copy = |name: &str| {
        std::fs::copy(&shots[0], setting.path(name)).expect("a copy");
    };
    copy("task/mug/down.jfif");
    copy("task/mug/called.png");
    copy("task/loose.jpg");
    let others = ["task/mug/IMG_1.HEIC", "task/mug/day2/IMG_2.heic"];
    for name in others {
        std::fs::write(setting.path(name), HEIC).expect("a file");
    }
    for hidden in ["task/mug/._0.jpg", "task/mug/.DS_Store", "task/Thumbs.db", "task/.hidden"] {
        std::fs::write(setting.path(hidden), b"for systems").expect("a file");
    }
    for folder in ["task/$RECYCLE.BIN", "task/System Volume Information", "task/lost+found"] {
        std::fs::create_dir(setting.path(folder)).expect("a folder");
        std::fs::write(setting.path(&format!("{folder}/0.dat")), b"for systems").expect("a file");
    }
    std::fs::create_dir(setting.path("task/hollow")).expect("a folder");
    let learned = setting.json(&["learn", "task"]);
    assert_eq!(learned["shots"], 9, "{learned}");
    let taught = setting.json(&["teach", "--class", "mug", "task/mug"]);
    assert_eq!(taught["added"], 6, "{taught}");
    let evaluated = setting.json(&["evaluate", "task"]);
    assert_eq!(evaluated["images"], 9, "{evaluated}");
    for (report, loose) in [(&learned, true), (&taught, false), (&evaluated, true)] {
        let text = report["left_out"].to_string();
        let expected = others.iter().all(|name| text.contains(name));
        assert!(expected && text.contains("HEIC is not read"), "{text}");
        assert_eq!(text.contains("loose.jpg"), loose, "{text}");
        assert_eq!(text.contains("hollow"), loose, "{text}");
        assert!(
            !text.contains("DS_Store") && !text.contains("._0") && !text.contains(".dat"),
            "{text}"
        );
    }
    let run = setting.run(&["teach", "--class", "mug", "task/mug"]);
    assert!(
        run.stderr.contains("left out task/mug/IMG_1.HEIC: HEIC is not read"),
        "{}",
        run.stderr
    );
    let run = setting.run(&["classify", "task/mug"]);
    assert!(run.stderr.contains("left out task/mug/day2/IMG_2.heic"), "{}", run.stderr);
    assert_eq!(run.stdout.lines().count(), 6, "{}", run.stdout);
}

#[test]
fn the_parts_of_a_data_set_are_no_classes() {
    let setting = Setting::new();
    setting.class_folders("data/train", &[Thing::Mug, Thing::Ball], 1, 1);
    setting.class_folders("data/test", &[Thing::Mug, Thing::Ball], 1, 2);
    let run = setting.run(&["learn", "data"]);
    assert_eq!(run.code, 1, "{}", run.stdout);
    assert!(run.stderr.contains("parts of a data set"), "{}", run.stderr);
}

#[test]
fn a_task_is_learned_whole_or_not_at_all() {
    let setting = Setting::new();
    setting.pictures("task/ball", Thing::Ball, 2, 1);
    std::fs::create_dir_all(setting.path("task/star")).expect("a folder");
    std::fs::write(setting.path("task/star/1.jpg"), b"broken").expect("a file");
    let run = setting.run(&["learn", "task"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("class star"), "{}", run.stderr);
    std::fs::remove_dir_all(setting.path("task/star")).expect("the folder");
    setting.pictures("task/BALL", Thing::Ball, 2, 2);
    let run = setting.run(&["learn", "task"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("name the same class"), "{}", run.stderr);
    assert_eq!(setting.json(&["status"])["state"]["classes"], 0);
}
