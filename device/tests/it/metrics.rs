//! Metrics in the format that a scraper asks for.

use crate::served::{Daemon, OPEN};
use crate::setting::Setting;

#[test]
fn metrics_come_in_the_format_that_is_asked_for() {
    let setting = Setting::new();
    let daemon = Daemon::start(&setting, OPEN);
    let get = |accept: &str| daemon.ask("GET", "/metrics", &["Host: localhost", accept], "");
    let plain = get("Accept: */*");
    let text = String::from_utf8_lossy(&plain.body).into_owned();
    let kind = plain.header("content-type").expect("a kind");
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    assert!(text.contains("# TYPE fmlora_frames_total counter"), "{text}");
    assert!(!text.contains("# EOF"), "{text}");
    for fact in ["fmlora_build_info{", "fmlora_compute_info{adapter=", "fmlora_feature_space_info{"]
    {
        assert!(text.contains(fact), "{fact} is not in:\n{text}");
    }
    let open = get("Accept: application/openmetrics-text; version=1.0.0, text/plain; q=0.5");
    let kind = open.header("content-type").expect("a kind");
    assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
    let text = String::from_utf8_lossy(&open.body).into_owned();
    assert!(text.contains("# TYPE fmlora_frames counter") && text.contains("# EOF"), "{text}");
}
