//! What of a changed configuration a running daemon takes over.

use super::config::DaemonConfig;

/// A configuration as a running daemon can have it.
#[derive(Debug)]
pub(super) struct Reloaded {
    pub(super) config: DaemonConfig,
    /// Whether the source is to be opened anew.
    pub(super) camera: bool,
    /// Keys that would change, but stay as they were until the next start.
    pub(super) kept: Vec<&'static str>,
}

/// Everything new but what needs another start.
pub(super) fn reload(old: &DaemonConfig, new: DaemonConfig) -> Reloaded {
    let mut config = new;
    let camera = config.camera != old.camera;
    let mut kept = Vec::new();
    macro_rules! keep {
        ($($name:literal: $($key:ident).+;)+) => {$(
            if config.$($key).+ != old.$($key).+ {
                kept.push($name);
                config.$($key).+ = old.$($key).+.clone();
            }
        )+};
    }
    keep! {
        "base": base;
        "state": state;
        "device": device;
        "http.enabled": http.enabled;
        "http.listen": http.listen;
        "http.certificate": http.certificate;
        "http.key": http.key;
        "http.max_body_mib": http.max_body_mib;
        "http.requests_per_second": http.requests_per_second;
        "http.max_connections": http.max_connections;
        "http.trusted_proxies": http.trusted_proxies;
        "http.base_path": http.base_path;
        "mqtt": mqtt;
    }
    Reloaded { config, camera, kept }
}
