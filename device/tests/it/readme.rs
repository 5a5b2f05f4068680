//! Runs the commands of the README: every line of its shell blocks that calls the program.

use fmlora_device::Thing;

use crate::setting::{Setting, finish};

#[test]
fn every_command_of_the_readme_runs() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let readme = std::fs::read_to_string(readme).expect("the README");
    let setting = Setting::new();
    // The pictures that the examples use.
    setting.pictures("photos/cup", Thing::Mug, 3, 1);
    setting.pictures("photos/plant", Thing::Tree, 3, 1);
    setting.pictures("lamp-photos", Thing::Box, 3, 1);
    setting.class_folders("test-photos", &[Thing::Mug], 1, 2);
    let picture = setting.pictures("new", Thing::Mug, 1, 3).remove(0);
    std::fs::rename(picture, setting.path("what-is-this.jpg")).expect("the picture");
    let mut ran = 0;
    let mut in_shell = false;
    for line in readme.lines() {
        if line.starts_with("```") {
            in_shell = line == "```sh";
            continue;
        }
        let command = line.split(" #").next().unwrap_or(line).trim();
        let demo = command.strip_prefix("cargo run --release --locked -p fmlora-device -- ");
        let called = demo.or_else(|| command.strip_prefix("fmlora-edge "));
        let (true, Some(arguments)) = (in_shell, called) else { continue };
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        let run = finish(&mut setting.command(&arguments));
        assert_eq!(run.code, 0, "{command}: {}", run.stderr);
        assert!(!run.stdout.is_empty(), "{command} says nothing");
        ran += 1;
    }
    assert!(ran >= 8, "only {ran} commands were found in the README");
}
