//! Prometheus counters and gauges, each registered here with its name and help text.

mod facts;
mod format;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::broker::BrokerHealth;
use super::config::LiveConfig;
use super::knowledge::Knowledge;
use super::shared::About;
use super::slot::SlotCounts;
use super::smoothing::Answer;
use super::source::SourceHealth;
use super::updating::UpdateDto;
use crate::update::Phase;
use facts::Facts;
pub(crate) use format::Format;

/// Label in place of a class's name if names are hidden.
const HIDDEN: &str = "hidden";

/// Label of the counter of answers: the class, empty if unknown.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SeenLabels {
    class: String,
}

/// Labels of the counter of requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    pub(crate) method: String,
    /// The route, not the path: paths hold names of classes.
    pub(crate) route: String,
    pub(crate) status: u16,
}

/// Label of the counter of operations.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    operation: &'static str,
}

/// All metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    config: Arc<LiveConfig>,
    frame_seconds: Histogram,
    /// Answered frames, and the sum of the microseconds from each frame to its answer.
    answered: AtomicU64,
    answer_micros: AtomicU64,
    seen: Family<SeenLabels, Counter>,
    operations: Family<OperationLabels, Counter>,
    /// Posted pictures that were answered.
    pub(crate) pictures: Counter,
    /// Failed logins.
    pub(crate) failed_logins: Counter,
    /// Answered requests.
    pub(crate) requests: Family<RequestLabels, Counter>,
    /// Duration of requests.
    pub(crate) request_seconds: Histogram,
    updates: Updates,
    facts: Facts,
    read: Mutex<Read>,
}

/// Label of the gauge of update phases.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    phase: &'static str,
}

/// Gauges of updates.
#[derive(Debug, Default)]
struct Updates {
    unusable: Gauge,
    phase: Family<PhaseLabels, Gauge>,
    in_use: Gauge,
    release: Gauge,
    refused: Gauge,
    last_success: Gauge,
}

/// Sources of the numbers that are read at each scrape.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sources<'a> {
    pub(crate) counts: SlotCounts,
    pub(crate) source: &'a SourceHealth,
    pub(crate) knowledge: &'a Knowledge,
    pub(crate) broker: Option<&'a BrokerHealth>,
    pub(crate) storage_writable: bool,
}

/// Metrics that are read at each scrape.
#[derive(Debug, Default)]
struct Read {
    frames: Counter,
    left_out: Counter,
    damaged: Counter,
    openings: Counter,
    source_open: Gauge,
    mqtt_connected: Gauge,
    classes: Gauge,
    shots: Gauge,
    state_bytes: Gauge,
    storage_writable: Gauge,
    resident_bytes: Gauge,
}

impl Metrics {
    /// Registers all metrics with the value zero; `about` holds facts that do not change.
    pub(crate) fn new(config: Arc<LiveConfig>, about: &About) -> Self {
        let mut registry = Registry::with_prefix("fmlora");
        let build = vec![
            ("version", about.version.to_owned()),
            ("base", about.base_id.clone()),
            ("network", about.network.clone()),
            ("device", about.device.clone()),
        ];
        registry.register("build", "Program, base and device", Info::new(build));
        let compute = vec![
            ("adapter", about.device.clone()),
            ("refused", about.refused.clone().unwrap_or_default()),
        ];
        let help = "Where the network computes, and why another device was not used";
        registry.register("compute", help, Info::new(compute));
        let metrics = Self {
            registry: Registry::default(),
            config,
            frame_seconds: Histogram::new(exponential_buckets(0.002, 2.0, 12)),
            answered: AtomicU64::new(0),
            answer_micros: AtomicU64::new(0),
            seen: Family::default(),
            operations: Family::default(),
            pictures: Counter::default(),
            failed_logins: Counter::default(),
            requests: Family::default(),
            request_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            updates: Updates::default(),
            facts: Facts::default(),
            read: Mutex::default(),
        };
        {
            let read = metrics.read.lock().unwrap_or_else(PoisonError::into_inner);
            let r = &mut registry;
            r.register_with_unit(
                "frame_answer",
                "From a frame to its answer",
                Unit::Seconds,
                metrics.frame_seconds.clone(),
            );
            r.register(
                "answers",
                "Answered frames by class; empty is unknown",
                metrics.seen.clone(),
            );
            r.register("operations", "Changes of what is known", metrics.operations.clone());
            r.register("pictures", "Posted pictures that were answered", metrics.pictures.clone());
            r.register("failed_logins", "Logins that failed", metrics.failed_logins.clone());
            r.register("http_requests", "Answered requests", metrics.requests.clone());
            r.register_with_unit(
                "http_request",
                "From a request to the head of its answer",
                Unit::Seconds,
                metrics.request_seconds.clone(),
            );
            r.register("frames", "Frames that the source gave", read.frames.clone());
            r.register("frames_left_out", "Frames that nobody looked at", read.left_out.clone());
            r.register("frames_damaged", "Damaged pictures of the source", read.damaged.clone());
            r.register("source_openings", "How often the source was opened", read.openings.clone());
            r.register("source_open", "Whether frames come", read.source_open.clone());
            r.register(
                "mqtt_connected",
                "Whether there is a connection to the MQTT broker",
                read.mqtt_connected.clone(),
            );
            r.register("classes", "Classes that are known", read.classes.clone());
            r.register("shots", "Pictures they were taught with", read.shots.clone());
            r.register_with_unit(
                "state",
                "Size of the state",
                Unit::Bytes,
                read.state_bytes.clone(),
            );
            r.register(
                "storage_writable",
                "Whether the state can be written; while it is 0, nothing can be taught or updated",
                read.storage_writable.clone(),
            );
            r.register_with_unit(
                "resident_memory",
                "Memory in use",
                Unit::Bytes,
                read.resident_bytes.clone(),
            );
        }
        metrics.updates.register(&mut registry);
        metrics.facts.register(&mut registry);
        Self { registry, ..metrics }
    }

    /// Counts an answered frame.
    pub(crate) fn frame_answered(&self, answer: &Answer, took: Duration) {
        self.frame_seconds.observe(took.as_secs_f64());
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.answer_micros.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
        let known = answer.class.as_ref().filter(|_| !answer.unknown);
        let class = match known {
            None => String::new(),
            Some(_) if self.config.get().privacy.hide_names => HIDDEN.to_owned(),
            Some(class) => class.clone(),
        };
        self.seen.get_or_create(&SeenLabels { class }).inc();
    }

    /// Counts an operation. Those that may remove or rename a class clear the counters of seen
    /// classes.
    pub(crate) fn operated(&self, operation: &'static str) {
        self.operations.get_or_create(&OperationLabels { operation }).inc();
        if matches!(operation, "forget" | "rename" | "undo" | "update" | "rollback") {
            self.seen.clear();
        }
    }

    /// Sets the gauges of updates.
    pub(crate) fn updated(&self, status: &UpdateDto) {
        let updates = &self.updates;
        for phase in Phase::NAMES {
            let phase_now = updates.phase.get_or_create(&PhaseLabels { phase });
            phase_now.set(i64::from(phase == status.phase));
        }
        let releases = status.in_use.iter().map(|used| used.release);
        updates.release.set(releases.max().map_or(0, as_gauge));
        updates.in_use.set(status.in_use.len() as i64);
        updates.refused.set(status.quarantine.len() as i64);
        let adapters = status.last_look.iter().flat_map(|look| &look.adapters);
        updates.unusable.set(adapters.filter(|adapter| adapter.refused).count() as i64);
        updates.last_success.set(status.last_success.map_or(0, Timestamp::as_second));
        self.facts.updated(status, self.config.get().privacy.hide_names);
    }

    /// Number of answered frames, and their mean answer time.
    pub(crate) fn answered(&self) -> (u64, Duration) {
        let n = self.answered.load(Ordering::Relaxed);
        (n, Duration::from_micros(self.answer_micros.load(Ordering::Relaxed) / n.max(1)))
    }

    /// Encodes all metrics as text.
    pub(crate) fn text(
        &self,
        format: Format,
        sources: Sources<'_>,
    ) -> Result<String, std::fmt::Error> {
        let Sources { counts, source, knowledge, broker, storage_writable } = sources;
        // Held to the end, so that two scrapes at a time do not count an increase twice.
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let catch_up = |counter: &Counter, now: u64| {
            counter.inc_by(now.saturating_sub(counter.get()));
        };
        catch_up(&read.frames, counts.frames + counts.too_soon);
        catch_up(&read.left_out, counts.replaced + counts.too_soon);
        catch_up(&read.damaged, source.damaged);
        catch_up(&read.openings, source.openings);
        read.source_open.set(i64::from(source.open));
        read.classes.set(knowledge.classes.len() as i64);
        read.shots.set(knowledge.classes.iter().map(|class| i64::from(class.shots)).sum());
        read.state_bytes.set(knowledge.state_bytes as i64);
        read.storage_writable.set(i64::from(storage_writable));
        read.resident_bytes.set(resident_bytes().unwrap_or(0) as i64);
        read.mqtt_connected.set(i64::from(broker.is_some_and(|broker| broker.connected)));
        self.facts.feature_space(&knowledge.feature_space);
        let mut text = String::new();
        match format {
            Format::Prometheus => {
                prometheus_client::encoding::prometheus_text::encode(&mut text, &self.registry)?;
            }
            Format::OpenMetrics => {
                prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
            }
        }
        Ok(text)
    }
}

impl Updates {
    fn register(&self, r: &mut Registry) {
        r.register(
            "update_phase",
            "Where an update stands: 1 for the phase it is in",
            self.phase.clone(),
        );
        r.register("update_adapters", "Adapters in use", self.in_use.clone());
        r.register("update_release", "Largest release in use", self.release.clone());
        r.register("update_refused", "Adapters that are not tried again", self.refused.clone());
        r.register(
            "update_unusable",
            "Adapters of the last look that were meant for this box, which cannot use them",
            self.unusable.clone(),
        );
        r.register_with_unit(
            "update_last_look_timestamp",
            "When the repository was last believed, since 1970; 0 is not since the start",
            Unit::Seconds,
            self.last_success.clone(),
        );
    }
}

/// Converts a number that may be larger than a gauge holds.
fn as_gauge(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Resident memory of the process in bytes, if the system reports it.
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::daemon::config;

    fn metrics() -> Metrics {
        let text = "[camera]\nsource = \"synthetic://\"\n";
        let config = config::load("test", text, &|_| None).expect("a configuration");
        let about = About {
            version: "1.0.0",
            base_id: "0123".to_owned(),
            base: "base".to_owned(),
            network: "vit".to_owned(),
            device: "cpu".to_owned(),
            refused: Some("a \"graphics\" adapter\nwith \\".to_owned()),
        };
        Metrics::new(Arc::new(LiveConfig::new(config)), &about)
    }

    fn text(metrics: &Metrics, format: Format) -> String {
        let sources = Sources {
            counts: SlotCounts::default(),
            source: &SourceHealth::default(),
            knowledge: &Knowledge { feature_space: "4567".to_owned(), ..Knowledge::default() },
            broker: None,
            storage_writable: true,
        };
        metrics.text(format, sources).expect("text")
    }

    /// The library writes help texts unchanged, and a name that is registered twice is written
    /// twice.
    #[test]
    fn each_name_is_registered_once_with_a_help_text_of_one_line() {
        let metrics = metrics();
        // A family is written as soon as it has a series.
        metrics.operated("teach");
        let answer = Answer { class: None, confidence: 0.5, unknown: true, frames: 1 };
        metrics.frame_answered(&answer, Duration::from_millis(1));
        let request =
            RequestLabels { method: "GET".to_owned(), route: "/".to_owned(), status: 200 };
        metrics.requests.get_or_create(&request).inc();
        for format in [Format::Prometheus, Format::OpenMetrics] {
            let text = text(&metrics, format);
            let mut typed = BTreeSet::new();
            let mut helped = BTreeSet::new();
            for line in text.lines() {
                if let Some(rest) = line.strip_prefix("# TYPE ") {
                    let name = rest.split(' ').next().expect("a name");
                    assert!(typed.insert(name.to_owned()), "{name} twice");
                } else if let Some(rest) = line.strip_prefix("# HELP ") {
                    let (name, help) = rest.split_once(' ').expect("a help text");
                    assert!(!help.is_empty() && !help.contains('\\'), "{line}");
                    helped.insert(name.to_owned());
                } else {
                    let is_known = line.starts_with("fmlora_")
                        || line.starts_with("# UNIT ")
                        || line == "# EOF";
                    assert!(is_known, "{line}");
                }
            }
            assert_eq!(typed, helped);
            assert!(typed.len() > 20, "{typed:?}");
        }
    }

    #[test]
    fn facts_are_labels_and_labels_are_escaped() {
        let metrics = metrics();
        let prometheus = text(&metrics, Format::Prometheus);
        let refused = "fmlora_compute_info{adapter=\"cpu\",refused=\"a \\\"graphics\\\" adapter\\nwith \\\\\"} 1";
        assert!(prometheus.contains(refused), "{prometheus}");
        assert!(prometheus.contains("fmlora_feature_space_info{feature_space=\"4567\"} 1"));
        assert!(!prometheus.contains("# EOF"));
        assert!(prometheus.contains("# TYPE fmlora_frames_total counter"), "{prometheus}");
        let open = text(&metrics, Format::OpenMetrics);
        assert!(open.ends_with("# EOF\n") && open.contains("# TYPE fmlora_frames counter"));
    }
}
