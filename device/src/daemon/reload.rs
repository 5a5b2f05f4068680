//! Applies a changed configuration to a running daemon.

use super::config::DaemonConfig;

/// Configuration of the daemon after a reload.
#[derive(Debug)]
pub(super) struct Reloaded {
    pub(super) config: DaemonConfig,
    /// True if the source must be reopened.
    pub(super) camera: bool,
    /// Changed keys that keep their old values until the next start.
    pub(super) kept: Vec<&'static str>,
}

/// Takes all new values except those that need a restart.
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
