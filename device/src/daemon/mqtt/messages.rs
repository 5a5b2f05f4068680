//! Topics and payloads of MQTT messages. Home Assistant's discovery:
//! <https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery>.

use serde_json::{Value, json};

use crate::daemon::config::MqttConfig;
use crate::daemon::shared::About;
use crate::daemon::smoothing::Answer;
use crate::daemon::updating::UpdateDto;
use crate::update::Phase;

/// Largest list of names in a message, in bytes: brokers have limits of their own, such as 128 KiB,
/// and so do subscribers.
const LONGEST_LIST: usize = 32 << 10;

/// A message to publish.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) payload: String,
    /// True if the broker retains the message for later subscribers.
    pub(super) retain: bool,
}

/// Topics of this box.
#[derive(Debug, Clone)]
pub(super) struct Topics {
    name: String,
    /// Prefix of all topics of this box.
    own: String,
    /// Prefix of Home Assistant's discovery topics; empty without discovery.
    discovery: String,
}

impl Topics {
    pub(super) fn new(config: &MqttConfig) -> Self {
        let name = config.name.clone();
        let topic = &config.topic;
        Self { own: format!("{topic}/{name}"), name, discovery: config.discovery.clone() }
    }

    /// Availability of the box; offline is also its last will.
    pub(super) fn availability(&self, online: bool) -> Message {
        self.message("availability", if online { "online" } else { "offline" }.to_owned())
    }

    /// State of the camera: ON if it is open.
    pub(super) fn source(&self, open: bool) -> Message {
        self.message("source", if open { "ON" } else { "OFF" }.to_owned())
    }

    /// Class that the camera shows.
    pub(super) fn state(&self, answer: &Answer, hide_names: bool) -> Message {
        let known = answer.class.as_deref().filter(|_| !answer.unknown);
        let class = match known {
            None => "unknown",
            Some(_) if hide_names => "known",
            Some(class) => class,
        };
        let state = json!({
            "class": class, "confidence": answer.confidence, "unknown": known.is_none(),
        });
        self.message("state", state.to_string())
    }

    /// Known classes. A list of names that is too long for a message is cut, and the number of
    /// missing names is added.
    pub(super) fn classes(&self, names: &[String], hide_names: bool) -> Message {
        let mut classes = json!({ "count": names.len() });
        if !hide_names {
            let shown = fitting(names, LONGEST_LIST);
            classes["names"] = json!(shown);
            if shown.len() < names.len() {
                classes["names_left_out"] = json!(names.len() - shown.len());
            }
        }
        self.message("classes", classes.to_string())
    }

    /// Status of updates. Names of adapters may reveal what the box sees, and reasons name classes,
    /// so both can be hidden.
    pub(super) fn update(&self, status: &UpdateDto, hide_names: bool) -> Message {
        let adapters = status.in_use.iter().map(|used| {
            let mut adapter = json!({ "release": used.release });
            if !hide_names {
                adapter["name"] = json!(used.name);
            }
            adapter
        });
        let refusal = status.last_refusal.as_ref().map(|refusal| {
            if hide_names {
                json!({})
            } else {
                json!({ "target": refusal.target, "why": refusal.why })
            }
        });
        let update = json!({
            "phase": status.phase,
            "feature_space": status.feature_space,
            "last_refusal": refusal,
            "in_use": adapters.collect::<Vec<Value>>(),
            "refused": status.quarantine.len(),
            "last_look": status.last_success.map(|at| at.to_string()),
        });
        self.message("update", update.to_string())
    }

    /// Topic of Home Assistant's birth message; `None` without discovery.
    pub(super) fn birth(&self) -> Option<String> {
        (!self.discovery.is_empty()).then(|| format!("{}/status", self.discovery))
    }

    /// Discovery messages, by which Home Assistant shows the box without further settings.
    pub(super) fn discovery(&self, about: &About) -> Vec<Message> {
        if self.discovery.is_empty() {
            return Vec::new();
        }
        let state = format!("{}/state", self.own);
        let update = format!("{}/update", self.own);
        [
            ("sensor", "class", json!({
                "name": "Sees", "state_topic": state, "value_template": "{{ value_json.class }}",
                "icon": "mdi:eye",
            })),
            ("sensor", "confidence", json!({
                "name": "Confidence", "state_topic": state,
                "value_template": "{{ (value_json.confidence * 100) | round }}",
                "unit_of_measurement": "%", "state_class": "measurement",
                "entity_category": "diagnostic",
            })),
            ("binary_sensor", "camera", json!({
                "name": "Camera", "state_topic": format!("{}/source", self.own),
                "device_class": "connectivity", "entity_category": "diagnostic",
            })),
            ("sensor", "classes", json!({
                "name": "Classes", "state_topic": format!("{}/classes", self.own),
                "value_template": "{{ value_json.count }}", "entity_category": "diagnostic",
            })),
            ("sensor", "update", json!({
                "name": "Update", "state_topic": update, "json_attributes_topic": update,
                "value_template": "{{ value_json.phase }}", "device_class": "enum",
                "options": Phase::NAMES, "icon": "mdi:package-up", "entity_category": "diagnostic",
            })),
        ]
        .into_iter()
        .map(|(component, entity, config)| self.entity(component, entity, config, about))
        .collect()
    }

    fn entity(&self, component: &str, entity: &str, mut config: Value, about: &About) -> Message {
        let Self { name, own, discovery } = self;
        config["unique_id"] = json!(format!("fmlora_{name}_{entity}"));
        config["availability_topic"] = json!(format!("{own}/availability"));
        config["device"] = json!({
            "identifiers": [format!("fmlora_{name}")], "name": name, "manufacturer": "fmlora",
            "model": about.network, "sw_version": about.version,
        });
        config["origin"] = json!({ "name": "fmlora-edge", "sw_version": about.version });
        let topic = format!("{discovery}/{component}/fmlora_{name}/{entity}/config");
        Message { topic, payload: config.to_string(), retain: true }
    }

    fn message(&self, topic: &str, payload: String) -> Message {
        Message { topic: format!("{}/{topic}", self.own), payload, retain: true }
    }
}

/// Returns the first names that take at most `bytes` bytes as JSON.
fn fitting(names: &[String], bytes: usize) -> &[String] {
    let mut left = bytes;
    for (i, name) in names.iter().enumerate() {
        let taken = json!(name).to_string().len() + 1;
        let Some(rest) = left.checked_sub(taken) else { return &names[..i] };
        left = rest;
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics() -> Topics {
        let own = "fmlora/hall".to_owned();
        Topics { name: "hall".to_owned(), own, discovery: "homeassistant".to_owned() }
    }

    #[test]
    fn hidden_names_appear_nowhere() {
        let answer = |unknown| Answer {
            class: Some("Rosebud".to_owned()),
            confidence: 0.5,
            unknown,
            frames: 1,
        };
        for unknown in [false, true] {
            let state = topics().state(&answer(unknown), true);
            assert!(!state.payload.contains("Rosebud"), "{}", state.payload);
        }
        let names = ["Rosebud".to_owned()];
        assert!(!topics().classes(&names, true).payload.contains("Rosebud"));
        assert!(topics().classes(&names, false).payload.contains("Rosebud"));
        assert!(topics().state(&answer(false), false).payload.contains("Rosebud"));
        assert!(!topics().state(&answer(true), false).payload.contains("Rosebud"));
    }

    #[test]
    fn a_list_of_names_that_is_too_long_ends_early_and_says_so() {
        let few = ["cup".to_owned(), "plant".to_owned()];
        let classes = |names: &[String]| -> Value {
            let message = topics().classes(names, false);
            assert!(message.payload.len() < LONGEST_LIST + 1024, "{}", message.payload.len());
            serde_json::from_str(&message.payload).expect("JSON")
        };
        assert_eq!(classes(&few), json!({ "count": 2, "names": few }));
        // Four bytes per letter, and quotation marks that JSON writes as two bytes.
        let many: Vec<String> =
            (0..2000).map(|i| format!("{}\"{i}", "\u{1f600}".repeat(50))).collect();
        let told = classes(&many);
        let shown = told["names"].as_array().expect("names").len();
        assert!((100..200).contains(&shown), "{shown}");
        assert_eq!(told["names_left_out"], 2000 - shown);
        assert_eq!(told["count"], 2000);
    }
}
