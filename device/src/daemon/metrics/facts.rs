//! Facts that are no numbers, as series of the value 1 with labels.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::daemon::updating::UpdateDto;

/// Label of the feature space of the classes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FeatureSpaceLabels {
    feature_space: String,
}

/// Labels of an adapter in use.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AdapterLabels {
    adapter: String,
    release: u64,
}

/// Labels of an adapter that was meant for this box and is not used, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    target: String,
    reason: String,
}

/// Facts that change while the daemon runs.
#[derive(Debug, Default)]
pub(super) struct Facts {
    feature_space: Family<FeatureSpaceLabels, Gauge>,
    adapters: Family<AdapterLabels, Gauge>,
    refusals: Family<RefusalLabels, Gauge>,
}

impl Facts {
    pub(super) fn register(&self, r: &mut Registry) {
        r.register(
            "feature_space_info",
            "The features that the classes are about",
            self.feature_space.clone(),
        );
        r.register("update_adapter_info", "An adapter in use", self.adapters.clone());
        r.register(
            "update_refusal_info",
            "An adapter that was meant for this box and is not used, and why",
            self.refusals.clone(),
        );
    }

    /// Sets the feature space of the classes.
    pub(super) fn feature_space(&self, id: &str) {
        self.feature_space.clear();
        if !id.is_empty() {
            let labels = FeatureSpaceLabels { feature_space: id.to_owned() };
            self.feature_space.get_or_create(&labels).set(1);
        }
    }

    /// Sets the adapters in use and the refusals. Names of adapters may reveal what the box sees,
    /// and reasons name classes, so both can be hidden.
    pub(super) fn updated(&self, status: &UpdateDto, hide_names: bool) {
        self.adapters.clear();
        for used in &status.in_use {
            let adapter = if hide_names { super::HIDDEN.to_owned() } else { used.name.clone() };
            let labels = AdapterLabels { adapter, release: used.release };
            self.adapters.get_or_create(&labels).set(1);
        }
        self.refusals.clear();
        if hide_names {
            return;
        }
        let is_quarantined =
            |target| status.quarantine.iter().any(|refused| refused.target == target);
        let quarantined = status.quarantine.iter().map(|refused| (&refused.target, &refused.why));
        // The last check also refuses adapters in quarantine, with other words.
        let last = status.last_refusal.iter().filter(|refused| !is_quarantined(&*refused.target));
        let last = last.map(|refused| (&refused.target, &refused.why));
        for (target, why) in quarantined.chain(last) {
            let labels = RefusalLabels { target: target.clone(), reason: why.clone() };
            self.refusals.get_or_create(&labels).set(1);
        }
    }
}
