//! Configuration, sources and end of the daemon.

use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use fmlora_device::{SyntheticCamera, Thing};
use serde_json::Value;

use crate::served::Daemon;
use crate::setting::{Run, Setting, finish, text};

/// Writes a configuration, and returns its path.
fn configured(setting: &Setting, content: &str) -> String {
    let path = setting.path("fmlora.toml");
    std::fs::write(&path, content).expect("a file");
    text(&path).to_owned()
}

/// Runs the daemon for some seconds, and returns its lines of output.
fn run_for(setting: &Setting, content: &str, seconds: &str) -> (Run, Vec<Value>) {
    let config = configured(setting, content);
    let arguments = ["--json", "--device", "cpu", "run", "--config", &config, "--seconds", seconds];
    let run = setting.run(&arguments);
    let lines = run.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    (run, lines)
}

/// Returns the last line, which is the report of the run.
fn ended(lines: &[Value]) -> &Value {
    &lines.last().expect("a report")["ended"]
}

fn jpeg(thing: Thing, seed: u64) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let frame = SyntheticCamera::new(seed).frame(thing);
    frame.write_to(&mut bytes, image::ImageFormat::Jpeg).expect("a JPEG");
    bytes.into_inner()
}

#[test]
fn all_mistakes_are_said_at_once_with_their_places() {
    let setting = Setting::new();
    let config = configured(
        &setting,
        "devise = \"cpu\"\n[camera]\nfps = \"fast\"\nsorce = \"synthetic://\"\n[predict]\nsmoothing_frames = -1\n",
    );
    let mut command = setting.command(&["check", "--config", &config]);
    let run = finish(command.env("FMLORA_CAMERA_TIMEOUT_SECONDS", "soon"));
    assert_eq!(run.code, 1, "{}", run.stderr);
    for expected in [
        "6 mistakes",
        "line 1: unknown key `devise`, did you mean `device`?",
        "line 3: `camera.fps`",
        "line 4: unknown key `camera.sorce`, did you mean `source`?",
        "line 6: `predict.smoothing_frames`",
        "FMLORA_CAMERA_TIMEOUT_SECONDS: `camera.timeout_seconds`",
        "camera.source: missing",
    ] {
        assert!(run.stderr.contains(expected), "{expected:?} is not in:\n{}", run.stderr);
    }
}

#[test]
fn a_file_that_is_no_toml_is_told_by_its_line_alone() {
    let setting = Setting::new();
    let config = configured(&setting, "[camera]\nsource = synthetic\n");
    let run = setting.run(&["check", "--config", &config]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("1 mistake\n  line 2:"), "{}", run.stderr);
}

#[test]
fn values_that_fit_no_box_are_refused() {
    let setting = Setting::new();
    let config = configured(
        &setting,
        "[camera]\nsource = \"dir://no/such/folder\"\nfps = 1000.0\ntimeout_seconds = -1\n[predict]\nsmoothing_frames = 0\n",
    );
    for command in ["check", "run"] {
        let run = setting.run(&[command, "--config", &config]);
        assert_eq!(run.code, 1, "{}", run.stderr);
        assert!(run.stderr.contains("4 mistakes"), "each once: {}", run.stderr);
        let keys = ["camera.source", "camera.fps", "camera.timeout_seconds"];
        for key in [&keys[..], &["predict.smoothing_frames"]].concat() {
            assert!(run.stderr.contains(key), "{key} is not in:\n{}", run.stderr);
        }
    }
    let wrong = [
        "rtsp://box",
        "synthetic://?speed=3",
        "camera://front",
        "camera://0?speed=3",
        "exec:",
        "nothing",
    ];
    for source in wrong {
        let config = configured(&setting, &format!("[camera]\nsource = \"{source}\"\n"));
        let run = setting.run(&["check", "--config", &config]);
        assert!(run.stderr.contains("camera.source"), "{source}: {}", run.stderr);
    }
}

/// Configuration of a camera with a number that no machine has.
const NO_CAMERA: &str = "[camera]\nsource = \"camera://65000\"\nretry_seconds = 0.5\n";

#[cfg(not(feature = "camera"))]
#[test]
fn without_cameras_it_says_how_to_get_them() {
    let setting = Setting::new();
    let run = setting.run(&["check", "--config", &configured(&setting, NO_CAMERA)]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    for expected in ["camera.source", "--features camera", "libclang", "exec:"] {
        assert!(run.stderr.contains(expected), "{expected:?} is not in:\n{}", run.stderr);
    }
}

#[cfg(feature = "camera")]
#[test]
fn a_camera_that_is_not_there_is_asked_for_again_and_again() {
    let setting = Setting::new();
    let checked = setting.run(&["check", "--config", &configured(&setting, NO_CAMERA)]);
    assert_eq!(checked.code, 1, "{}", checked.stderr);
    let said = "there is no camera 65000";
    assert!(checked.stderr.contains(said), "{}", checked.stderr);
    let (run, lines) = run_for(&setting, NO_CAMERA, "2");
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.matches(said).count() >= 2, "{}", run.stderr);
    let trouble = lines.iter().find_map(|line| line["source"]["trouble"].as_str());
    assert!(trouble.is_some_and(|why| why.contains(said)), "{trouble:?}");
}

#[test]
fn the_example_is_a_configuration_and_stands_in_the_documents() {
    let setting = Setting::new();
    let example = setting.run(&["check", "--example"]).stdout;
    let documented = include_str!("../../../docs/config.md");
    assert!(documented.contains(example.trim()), "docs/config.md is not up to date:\n{example}");
    let mut command = setting.command(&["--json", "check", "--config"]);
    let command = command.arg(configured(&setting, &example));
    let run = finish(command.env("FMLORA_CAMERA_SOURCE", "synthetic://?seed=1"));
    assert_eq!(run.code, 0, "{}", run.stderr);
    let checked: Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(checked["frame"]["width"], 320, "{checked}");
}

#[test]
fn a_taught_class_is_seen_in_a_folder_of_frames() {
    let setting = Setting::new();
    setting.teach(Thing::ALL[0], 8);
    setting.teach(Thing::ALL[1], 8);
    setting.pictures("frames", Thing::ALL[1], 4, 9);
    let frames = setting.path("frames");
    let source = format!("[camera]\nsource = \"dir://{}?fps=20\"\nfps = 20.0\n", text(&frames));
    let mut daemon = Daemon::start_with(&setting, &format!("device = \"cpu\"\n{source}"), &[]);
    let seen: Vec<Value> = (0..10).map(|_| daemon.line("class")).collect();
    let right = seen.iter().filter(|class| *class == Thing::ALL[1].name()).count();
    assert!(right >= 9, "{seen:?}");
}

#[test]
fn without_frames_it_says_why_and_ends_in_time() {
    let setting = Setting::new();
    let refused = "device = \"cpu\"\n[camera]\nsource = \"http://127.0.0.1:9/\"\n";
    let mut daemon = Daemon::start_with(&setting, refused, &[]);
    let source = daemon.line("source");
    assert_eq!(source["open"], false, "{source}");
    assert!(source["trouble"].is_string(), "{source}");
    daemon.signal("TERM");
    assert!(daemon.wait().success());
}

#[test]
fn a_program_that_ends_is_started_again() {
    let setting = Setting::new();
    let picture = setting.path("frame.jpg");
    std::fs::write(&picture, jpeg(Thing::ALL[0], 1)).expect("a file");
    let source = format!(
        "[camera]\nsource = \"exec:\"\ncommand = [\"cat\", \"{}\"]\nretry_seconds = 0.5\n",
        text(&picture)
    );
    let (run, lines) = run_for(&setting, &source, "3");
    assert_eq!(run.code, 0, "{}", run.stderr);
    let report = ended(&lines);
    let openings = report["openings"].as_u64().expect("a number");
    assert!((3..=8).contains(&openings), "with pauses of half a second: {report}");
    assert_eq!(report["frames"], openings, "a frame of each: {report}");
    // While frames come within the time-out, the output has no line about trouble. The log has the
    // reason for each restart of the program.
    assert!(lines.iter().all(|line| line["source"]["open"] != false), "{lines:?}");
    assert!(run.stderr.contains("writes no more pictures"), "{}", run.stderr);
}

#[test]
fn a_program_that_hangs_is_ended_and_started_again() {
    let setting = Setting::new();
    let picture = setting.path("frame.jpg");
    std::fs::write(&picture, jpeg(Thing::ALL[0], 1)).expect("a file");
    let script = format!("echo $$ >> pids; cat {}; exec sleep 1000", text(&picture));
    let source = format!(
        "[camera]\nsource = \"exec:\"\ncommand = [\"sh\", \"-c\", \"{script}\"]\ntimeout_seconds = 0.5\nretry_seconds = 0.5\n"
    );
    let hanging = source.replace("cat ", "true ");
    let checked = setting.run(&["check", "--config", &configured(&setting, &hanging)]);
    assert_eq!(checked.code, 1, "{}", checked.stderr);
    assert!(checked.stderr.contains("no frame for"), "{}", checked.stderr);
    let (run, lines) = run_for(&setting, &source, "4");
    assert_eq!(run.code, 0, "{}", run.stderr);
    let report = ended(&lines);
    assert!(report["openings"].as_u64() >= Some(2), "{report}");
    assert!(lines.iter().any(|line| {
        line["source"]["trouble"].as_str().is_some_and(|why| why.contains("no frame for"))
    }));
    let pids = std::fs::read_to_string(setting.path("pids")).expect("programs were started");
    for pid in pids.lines() {
        let alive = std::path::Path::new("/proc").join(pid).join("stat").exists();
        assert!(!alive, "program {pid} was left running");
    }
}

#[test]
fn it_ends_in_good_order_when_told() {
    let setting = Setting::new();
    let config = configured(&setting, "[camera]\nsource = \"synthetic://\"\n");
    let mut command = setting.command(&["--json", "--device", "cpu", "run", "--config", &config]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the program starts");
    std::thread::sleep(Duration::from_secs(2));
    let told = Instant::now();
    let pid = child.id().to_string();
    let killed = std::process::Command::new("kill").args(["-TERM", &pid]).status();
    assert!(killed.expect("kill").success());
    let mut output = String::new();
    let stdout = child.stdout.as_mut().expect("its output");
    stdout.read_to_string(&mut output).expect("text");
    assert!(child.wait().expect("an end").success());
    assert!(told.elapsed() < Duration::from_secs(10));
    let last = output.lines().last().expect("a report");
    assert!(last.contains("\"ended\""), "{last}");
}
