//! Documents match the program: `docs/openapi.json`, and the examples of docs/http-api.md.

use std::path::Path;
use std::process::Command;

use fmlora_device::Thing;
use serde_json::{Value, json};

use crate::served::{Daemon, OPEN, jpegs};
use crate::setting::Setting;

#[test]
fn the_openapi_document_in_docs_is_the_one_that_is_served() {
    let setting = Setting::new();
    let mut daemon = Daemon::start(&setting, OPEN);
    let (_, served) = daemon.get("/openapi.json");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    if std::env::var_os("FMLORA_WRITE_DOCS").is_some() {
        let text = serde_json::to_string_pretty(&served).expect("JSON") + "\n";
        std::fs::write(&path, text).expect("a file");
    }
    let documented = std::fs::read(&path).expect("docs/openapi.json");
    let documented: Value = serde_json::from_slice(&documented).expect("JSON");
    assert!(
        documented == served,
        "docs/openapi.json is not up to date: run this test with FMLORA_WRITE_DOCS=1"
    );
}

#[test]
fn every_curl_line_of_the_http_document_works() {
    let setting = Setting::new();
    for (i, name) in ["cup", "cup1", "cup2", "what"].iter().enumerate() {
        let picture = jpegs(Thing::Mug, 1, i as u64).remove(0);
        std::fs::write(setting.path(&format!("{name}.jpg")), picture).expect("a file");
    }
    for (i, name) in ["plant1", "plant2"].iter().enumerate() {
        let picture = jpegs(Thing::Ball, 1, i as u64).remove(0);
        std::fs::write(setting.path(&format!("{name}.jpg")), picture).expect("a file");
    }
    let mut daemon = Daemon::start(&setting, "");
    let login = daemon.line("login");
    let password = login["password"].as_str().expect("a password");
    let document = include_str!("../../../docs/http-api.md");
    let examples = document.lines().filter(|line| line.starts_with("curl "));
    let mut token = String::new();
    let mut ran = 0;
    for example in examples {
        let line = example
            .replacen("curl ", "curl --silent --show-error --fail-with-body ", 1)
            .replace("http://127.0.0.1:8321", &daemon.url)
            .replace("\"password\": \"...\"", &format!("\"password\": \"{password}\""))
            // Endless streams are read for 2 s.
            .replace(" -N ", " -N --max-time 2 ");
        let mut shell = Command::new("sh");
        shell.args(["-c", &line]).current_dir(setting.path("")).env("TOKEN", &token);
        let ran_so = shell.output().expect("a shell");
        let said = String::from_utf8_lossy(&ran_so.stdout);
        let errors = String::from_utf8_lossy(&ran_so.stderr);
        let endless = example.contains(" -N ");
        let well = ran_so.status.success() || endless && ran_so.status.code() == Some(28);
        assert!(well, "{example}\n{}: {said}{errors}", ran_so.status);
        assert!(!endless || said.contains("event: prediction"), "{example}\n{said}");
        if example.contains("/api/v1/tokens") {
            let made: Value = serde_json::from_str(&said).expect("JSON");
            made["token"].as_str().expect("a token").clone_into(&mut token);
        }
        ran += 1;
    }
    assert!(ran >= 12, "{ran} examples");
    assert_eq!(daemon.json("POST", "/api/v1/login", &json!(login)).0, 200);
}
