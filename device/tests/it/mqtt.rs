//! MQTT messages for Home Assistant and others, by a real broker: mosquitto.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fmlora_device::Thing;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rumqttc::{Client, Event, MqttOptions, Packet, QoS, TlsConfiguration, Transport};
use serde_json::{Value, json};

use crate::served::{Daemon, OPEN, jpegs, until};
use crate::setting::{Setting, text};
use crate::tls::certificate;

/// A broker process that is killed on drop.
struct Broker {
    child: Child,
    port: u16,
}

impl Broker {
    /// Starts mosquitto, on a free port by default. Returns `None` if it is not installed, which is
    /// a failure in CI.
    fn start(setting: &Setting, port: Option<u16>, more: &str) -> Option<Self> {
        let free = || TcpListener::bind("127.0.0.1:0")?.local_addr().map(|address| address.port());
        let port = port.unwrap_or_else(|| free().expect("a port"));
        let config = setting.path("mosquitto.conf");
        std::fs::write(&config, format!("listener {port} localhost\nuser root\n{more}"))
            .expect("a file");
        let spawn = |program: &str| {
            let mut command = Command::new(program);
            command.args(["-c", text(&config)]).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
        };
        let child = spawn("mosquitto").or_else(|_| spawn("/usr/sbin/mosquitto"));
        let Ok(child) = child else {
            assert!(std::env::var_os("CI").is_none(), "mosquitto is not installed");
            eprintln!("not tested: mosquitto is not installed");
            return None;
        };
        let broker = Self { child, port };
        until("the broker", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(broker)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client that subscribes to all topics, and keeps the last payload of each.
#[derive(Clone)]
struct Listener(Arc<Mutex<BTreeMap<String, String>>>);

impl Listener {
    fn start(options: MqttOptions) -> Self {
        let (client, mut connection) = Client::new(options, 64);
        let heard = Arc::new(Mutex::new(BTreeMap::new()));
        let listener = Self(heard.clone());
        std::thread::spawn(move || {
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        client.subscribe("#", QoS::AtLeastOnce).expect("a subscription");
                    }
                    Ok(Event::Incoming(Packet::Publish(said))) => {
                        let payload = String::from_utf8_lossy(&said.payload).into_owned();
                        heard.lock().expect("no panic").insert(said.topic.clone(), payload);
                    }
                    Ok(_) => {}
                    Err(_) => std::thread::sleep(Duration::from_millis(200)),
                }
            }
        });
        listener
    }

    fn text(&self, topic: &str) -> String {
        self.0.lock().expect("no panic").get(topic).cloned().unwrap_or_default()
    }

    fn json(&self, topic: &str) -> Value {
        serde_json::from_str(&self.text(topic)).unwrap_or_default()
    }

    fn wait_for(&self, topic: &str, payload: &str) {
        until(&format!("{topic} {payload}"), || self.text(topic) == payload);
    }

    fn forget(&self) {
        self.0.lock().expect("no panic").clear();
    }
}

fn config(broker: &str, more: &str) -> String {
    format!("{OPEN}[mqtt]\nbroker = \"{broker}\"\nname = \"hall\"\n{more}")
}

#[test]
fn home_assistant_finds_the_box_sees_what_it_sees_and_that_it_is_gone() {
    let setting = Setting::new();
    let open = "allow_anonymous true\n";
    let Some(broker) = Broker::start(&setting, None, open) else { return };
    let port = broker.port;
    let heard = Listener::start(MqttOptions::new("listener", "127.0.0.1", port));
    let mut daemon = Daemon::start(&setting, &config(&format!("mqtt://127.0.0.1:{port}"), ""));

    heard.wait_for("fmlora/hall/availability", "online");
    heard.wait_for("fmlora/hall/source", "ON");
    for entity in [
        "sensor/fmlora_hall/class",
        "sensor/fmlora_hall/confidence",
        "binary_sensor/fmlora_hall/camera",
        "sensor/fmlora_hall/update",
    ] {
        let topic = format!("homeassistant/{entity}/config");
        until(&topic, || heard.json(&topic).is_object());
        let entity = heard.json(&topic);
        assert_eq!(entity["availability_topic"], "fmlora/hall/availability", "{entity}");
        assert_eq!(entity["device"]["identifiers"], json!(["fmlora_hall"]), "{entity}");
        let state = entity["state_topic"].as_str().expect("a topic");
        assert!(state.starts_with("fmlora/hall/"), "{entity}");
        assert!(entity["unique_id"].is_string(), "{entity}");
    }

    until("updates", || heard.json("fmlora/hall/update")["phase"] == "idle");
    let update = heard.json("fmlora/hall/update");
    assert!(update["feature_space"].is_string() && update["last_refusal"].is_null(), "{update}");
    for thing in [Thing::Ball, Thing::Mug] {
        for picture in jpegs(thing, 3, 1) {
            let path = format!("/api/v1/classes/{}/shots", thing.name());
            assert_eq!(daemon.post_picture(&path, &picture).0, 201);
        }
    }
    until("both classes", || {
        heard.json("fmlora/hall/classes") == json!({ "count": 2, "names": ["ball", "mug"] })
    });
    let state = "fmlora/hall/state";
    until("an answer", || heard.json(state)["class"].is_string());
    let confidence = heard.json(state)["confidence"].as_f64();
    assert!(confidence.is_some_and(|c| (0.0..=1.0).contains(&c)), "{}", heard.text(state));

    // A restarted broker has lost all messages, and receives them again.
    drop(broker);
    heard.forget();
    let _broker = Broker::start(&setting, Some(port), open).expect("it started before");
    heard.wait_for("fmlora/hall/availability", "online");
    until("both classes again", || heard.json("fmlora/hall/classes")["count"] == 2);

    // After a power cut, the broker publishes the last will.
    daemon.kill();
    heard.wait_for("fmlora/hall/availability", "offline");
    let daemon = Daemon::start(&setting, &config(&format!("mqtt://127.0.0.1:{port}"), ""));
    heard.wait_for("fmlora/hall/availability", "online");
    daemon.signal("TERM");
    heard.wait_for("fmlora/hall/availability", "offline");
}

#[test]
fn a_broker_with_tls_and_a_password_hears_no_names_that_are_hidden() {
    let setting = Setting::new();
    certificate(&setting);
    let chain = setting.path("certificate.pem");
    let key = setting.path("key.pem");
    let passwords = setting.path("passwords");
    let made = Command::new("mosquitto_passwd")
        .args(["-c", "-b", text(&passwords), "box", "brokersecret"])
        .status();
    if made.is_err() && std::env::var_os("CI").is_none() {
        eprintln!("not tested: mosquitto is not installed");
        return;
    }
    assert!(made.expect("mosquitto_passwd").success());
    let secured = format!(
        "certfile {}\nkeyfile {}\nallow_anonymous false\npassword_file {}\n",
        text(&chain),
        text(&key),
        text(&passwords)
    );
    let Some(broker) = Broker::start(&setting, None, &secured) else { return };
    let mut options = MqttOptions::new("listener", "localhost", broker.port);
    options.set_credentials("box", "brokersecret");
    let ca = std::fs::read(&chain).expect("the certificate");
    // TLS provider of this test's client; the daemon brings its own.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let tls = TlsConfiguration::Simple { ca, alpn: None, client_auth: None };
    options.set_transport(Transport::tls_with_config(tls));
    let heard = Listener::start(options);

    let secrets = format!(
        "user = \"box\"\npassword = \"brokersecret\"\nauthority = \"{}\"\n[privacy]\nhide_names = true\n",
        text(&chain)
    );
    let address = format!("mqtts://localhost:{}", broker.port);
    let mut daemon = Daemon::start(&setting, &config(&address, &secrets));
    heard.wait_for("fmlora/hall/availability", "online");
    let picture = jpegs(Thing::Mug, 1, 1).remove(0);
    assert_eq!(daemon.post_picture("/api/v1/classes/Rosebud/shots", &picture).0, 201);
    until("a class", || heard.json("fmlora/hall/classes") == json!({ "count": 1 }));
    until("an answer", || heard.json("fmlora/hall/state")["class"].is_string());
    let all = heard.0.lock().expect("no panic");
    assert!(all.values().all(|payload| !payload.contains("Rosebud")), "{all:?}");
}

/// A certificate as `openssl req -x509` makes it: self-signed, and marked as an authority.
#[test]
fn a_brokers_own_certificate_is_asked_for_and_then_trusted() {
    let setting = Setting::new();
    let mut params = CertificateParams::new(vec!["another.name".to_owned()]).expect("a name");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let made = params.self_signed(&key).expect("a certificate");
    let chain = setting.path("certificate.pem");
    let own_key = setting.path("key.pem");
    std::fs::write(&chain, made.pem()).expect("a file");
    std::fs::write(&own_key, key.serialize_pem()).expect("a file");
    let secured =
        format!("certfile {}\nkeyfile {}\nallow_anonymous true\n", text(&chain), text(&own_key));
    let Some(broker) = Broker::start(&setting, None, &secured) else { return };
    let address = format!("mqtts://localhost:{}", broker.port);
    let other = Setting::new();
    certificate(&other);
    let authority = |path: &Path| config(&address, &format!("authority = \"{}\"\n", text(path)));
    let mut daemon = Daemon::start(&setting, &authority(&other.path("certificate.pem")));
    let health = |daemon: &mut Daemon| daemon.get("/api/v1/info").1["mqtt"].take();
    until("the trouble", || health(&mut daemon)["trouble"].is_string());
    let told = health(&mut daemon);
    let trouble = told["trouble"].as_str().expect("a text");
    assert!(trouble.contains("unknown issuer") && trouble.contains("mqtt.authority"), "{told}");
    drop(daemon);
    let mut daemon = Daemon::start(&setting, &authority(&chain));
    until("the broker", || health(&mut daemon)["connected"] == true);
}

/// A broker that accepts each connection and closes it at once, like a broker with another client
/// of the same name.
struct Fickle {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Fickle {
    /// Starts the broker. With `greets`, it acknowledges a connection before it closes it.
    fn start(greets: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                counted.fetch_add(1, Ordering::SeqCst);
                // Unread data would end the connection with another error.
                let _ = stream.read(&mut [0; 1024]);
                if greets {
                    // CONNACK: accepted.
                    let _ = stream.write_all(&[0x20, 2, 0, 0]);
                }
            }
        });
        Self { port, connections }
    }

    fn config(&self) -> String {
        config(&format!("mqtt://127.0.0.1:{}", self.port), "")
    }
}

#[test]
fn another_box_of_the_same_name_is_told_by_its_key() {
    let setting = Setting::new();
    let broker = Fickle::start(true);
    let mut daemon = Daemon::start(&setting, &broker.config());
    let trouble = |daemon: &mut Daemon| {
        let (_, info) = daemon.get("/api/v1/info");
        info["mqtt"]["trouble"].as_str().unwrap_or_default().to_owned()
    };
    until("the trouble", || trouble(&mut daemon).contains("mqtt.name"));
    assert!(trouble(&mut daemon).contains("fmlora-hall"));
    // Three connections in a row, with growing pauses: not a fight.
    let connections = broker.connections.load(Ordering::SeqCst);
    assert!((3..=4).contains(&connections), "{connections}");
    let log = std::fs::read_to_string(setting.path("log")).expect("a log");
    assert_eq!(log.matches("mqtt.name").count(), 1, "{log}");
}

#[test]
fn a_broker_that_refuses_is_asked_again_after_pauses() {
    let setting = Setting::new();
    let broker = Fickle::start(false);
    let source = "device = \"cpu\"\n[camera]\nsource = \"synthetic://\"\n";
    std::fs::write(setting.path("mqtt.toml"), format!("{source}{}", broker.config()))
        .expect("a file");
    let run = setting.run(&["run", "--config", "mqtt.toml", "--seconds", "2"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    // Connections at once, after 1 s, and after 2 s more.
    let connections = broker.connections.load(Ordering::SeqCst);
    assert!((1..=3).contains(&connections), "{connections}");
    let said = run.stderr.matches("broker: ").count();
    assert_eq!(said, 1, "the same is said once: {}", run.stderr);
    assert!(!run.stderr.contains("Custom"), "no debug form: {}", run.stderr);
}

#[test]
fn many_long_names_of_classes_do_not_end_the_connection() {
    let setting = Setting::new();
    let Some(broker) = Broker::start(&setting, None, "allow_anonymous true\n") else { return };
    let mut options = MqttOptions::new("listener", "127.0.0.1", broker.port);
    options.set_max_packet_size(1 << 20, 1 << 20);
    let heard = Listener::start(options);
    let address = format!("mqtt://127.0.0.1:{}", broker.port);
    // A slow camera leaves the processor to the teaching.
    let camera = "device = \"cpu\"\n[camera]\nsource = \"synthetic://?fps=0.1\"\n";
    let config = format!("{camera}{}", config(&address, ""));
    let mut daemon = Daemon::start_with(&setting, &config, &[]);
    heard.wait_for("fmlora/hall/availability", "online");
    // 250 bytes per name: together, they are larger than the largest packet of rumqttc by default.
    let smile = "%F0%9F%98%80".repeat(62);
    let picture = jpegs(Thing::Mug, 1, 1).remove(0);
    for i in 10..52 {
        let path = format!("/api/v1/classes/{smile}{i}/shots");
        assert_eq!(daemon.post_picture(&path, &picture).0, 201);
    }
    until("all names", || heard.json("fmlora/hall/classes")["count"] == 42);
    assert_eq!(heard.json("fmlora/hall/classes")["names"].as_array().map(Vec::len), Some(42));
    let (_, info) = daemon.get("/api/v1/info");
    assert_eq!(info["mqtt"], json!({ "connected": true, "trouble": null }));
}
