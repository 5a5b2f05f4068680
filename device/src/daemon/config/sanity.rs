//! Checks that go beyond the type of a value: ranges, files that must exist, keys that need each
//! other.

use std::path::Path;

use fmlora_models::DeviceSpec;
use url::Url;

use super::{DaemonConfig, HttpConfig, Mistake, MqttConfig, UpdateConfig};
use crate::daemon::source::SourceSpec;
use crate::report::with_causes;
use crate::tls_roots::Authorities;
use crate::update::{Trusted, read_root};

/// Longest name of this box at the broker in letters, and longest first part of topics in bytes.
const LONGEST_NAME: usize = 64;
const LONGEST_TOPIC: usize = 1024;

/// Returns all mistakes of a configuration with readable keys.
pub(crate) fn check(config: &DaemonConfig) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let mut wrong = |key: &str, what: String| {
        mistakes.push(Mistake { place: key.to_owned(), what });
    };
    if let Err(why) = config.device.parse::<DeviceSpec>() {
        wrong("device", why);
    }
    let camera = &config.camera;
    // A missing directory is no mistake: the source waits for it, as it does for a camera.
    if let Err(why) = SourceSpec::of(camera) {
        wrong("camera.source", why);
    }
    let authorities = camera.authority.as_deref().map(|value| Authorities::from_value(Some(value)));
    if let Some(Err(error)) = authorities.map(|authorities| authorities.client_config()) {
        wrong("camera.authority", with_causes(&error));
    }
    let ranges = [
        ("camera.fps", camera.fps, 0.1, 60.0),
        ("camera.timeout_seconds", camera.timeout_seconds, 0.5, 300.0),
        ("camera.retry_seconds", camera.retry_seconds, 0.5, 3600.0),
        ("predict.smoothing_frames", config.predict.smoothing_frames as f64, 1.0, 100.0),
        ("http.max_body_mib", config.http.max_body_mib as f64, 1.0, 1024.0),
        ("http.requests_per_second", f64::from(config.http.requests_per_second), 1.0, 100_000.0),
        ("http.max_connections", config.http.max_connections as f64, 1.0, 65_536.0),
        ("login.session_hours", f64::from(config.login.session_hours), 1.0, 8_760.0),
    ];
    for (key, value, least, most) in ranges {
        if !(least..=most).contains(&value) {
            wrong(key, format!("is {value}, expected {least} to {most}"));
        }
    }
    if let Some(why) = config.base.as_deref().and_then(unreadable) {
        wrong("base", why);
    }
    http(&config.http, &mut wrong);
    if config.http.enabled && !config.login.enabled && !config.http.listen.ip().is_loopback() {
        let what = "can be turned off only where http.listen is 127.0.0.1 or [::1]";
        wrong("login.enabled", what.to_owned());
    }
    if let Err(accounts) = config.login.accounts() {
        for mistake in accounts {
            wrong(&mistake.place, mistake.what);
        }
    }
    mqtt(&config.mqtt, &mut wrong);
    update(&config.update, &mut wrong);
    mistakes
}

fn http(config: &HttpConfig, wrong: &mut dyn FnMut(&str, String)) {
    for (key, path) in [("http.certificate", &config.certificate), ("http.key", &config.key)] {
        if let Some(why) = path.as_deref().and_then(unreadable) {
            wrong(key, why);
        }
    }
    if config.certificate.is_some() != config.key.is_some() {
        wrong("http", "certificate and key belong together, but one of them is missing".to_owned());
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~' | '/');
    let base_path = &config.base_path;
    let is_path = base_path.starts_with('/')
        && !base_path.ends_with('/')
        && !base_path.contains("//")
        && base_path.chars().all(plain);
    if !base_path.is_empty() && !is_path {
        let what = format!(
            "is {base_path:?}, expected a path such as \"/box1\": letters, digits, -, _, ., ~, and no / at its end"
        );
        wrong("http.base_path", what);
    }
}

fn update(config: &UpdateConfig, wrong: &mut dyn FnMut(&str, String)) {
    if let Err(why) = config.location() {
        wrong("update.from", why);
    }
    if let Some(path) = &config.root {
        let root = read_root(path).map_err(|error| with_causes(&error));
        let trusted = root.and_then(|root| Trusted::new(root).map_err(|e| with_causes(&e)));
        if let Err(why) = trusted {
            wrong("update.root", why);
        }
    }
    if config.channel.is_empty() {
        wrong("update.channel", "is empty".to_owned());
    }
    for (key, value) in [
        ("update.poll_seconds", config.poll_seconds),
        ("update.trial_seconds", config.trial_seconds),
    ] {
        if value > 31 * 86_400 {
            wrong(key, format!("is {value}, expected 0 to {}", 31 * 86_400));
        }
    }
}

fn mqtt(config: &MqttConfig, wrong: &mut dyn FnMut(&str, String)) {
    let Some(broker) = &config.broker else { return };
    if !cfg!(feature = "mqtt") {
        wrong("mqtt.broker", "this program was built without MQTT".to_owned());
    }
    let expected = "expected mqtt://HOST:PORT or mqtts://HOST:PORT";
    match Url::parse(broker) {
        Err(error) => wrong("mqtt.broker", format!("{error}; {expected}")),
        Ok(url) if !matches!(url.scheme(), "mqtt" | "mqtts") || !url.has_host() => {
            wrong("mqtt.broker", expected.to_owned());
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            wrong(
                "mqtt.broker",
                "user and password stand in mqtt.user and mqtt.password".to_owned(),
            );
        }
        Ok(_) => {}
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !(1..=LONGEST_NAME).contains(&config.name.len()) || !config.name.chars().all(plain) {
        let what =
            format!("is {:?}, expected 1 to {LONGEST_NAME} letters, digits, - and _", config.name);
        wrong("mqtt.name", what);
    }
    match config.password() {
        Ok(Some(_)) if config.user.is_none() => {
            wrong("mqtt.user", "is missing, but mqtt.password is set".to_owned());
        }
        Ok(_) => {}
        Err(mistake) => wrong(&mistake.place, mistake.what),
    }
    for (key, topic) in [("mqtt.topic", &config.topic), ("mqtt.discovery", &config.discovery)] {
        if topic.contains(['#', '+', '\0']) || topic.starts_with('/') || topic.ends_with('/') {
            wrong(key, format!("is {topic:?}, expected a topic without #, +, / at the ends"));
        }
        if topic.len() > LONGEST_TOPIC {
            let bytes = topic.len();
            wrong(key, format!("has {bytes} bytes, expected at most {LONGEST_TOPIC}"));
        }
    }
    if config.topic.is_empty() {
        wrong("mqtt.topic", "is empty".to_owned());
    }
    if config.authority.is_some()
        && let Err(error) = config.authorities().client_config()
    {
        wrong("mqtt.authority", with_causes(&error));
    }
}

fn unreadable(path: &Path) -> Option<String> {
    std::fs::File::open(path).err().map(|error| format!("{}: {error}", path.display()))
}
