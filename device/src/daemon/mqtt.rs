//! State and answers by MQTT, for Home Assistant and whoever else listens.
//!
//! Everything that lasts is published again with each connection: a broker that was away, or has forgotten, knows all
//! when it is back. Nothing waits for a broker: what it cannot take is left out.

mod messages;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rumqttc::{
    AsyncClient, Event as Happened, EventLoop, LastWill, MqttOptions, Packet, QoS,
    TlsConfiguration, Transport,
};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use url::Url;

use super::Event;
use super::config::{ConfigError, Mistake, MqttConfig};
use super::shared::Shared;
use crate::EdgeError;
use messages::{Message, Topics};

/// How often the broker hears from us at least; it says our last words after half as long again.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Messages that may wait for the broker.
const WAITING: usize = 64;

/// Pauses between two tries to reach the broker.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// An answer is published when it changes, and again after this time.
const AGAIN: Duration = Duration::from_secs(10);

/// How long the last words may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The connection to the broker.
pub(super) struct Mqtt {
    talking: JoinHandle<()>,
    publishing: JoinHandle<()>,
}

impl Mqtt {
    /// Connects to the broker, if there is one, and keeps connecting.
    ///
    /// # Errors
    ///
    /// [`EdgeError::Config`] for an address that is none, [`EdgeError::File`] for a certificate that cannot be read.
    pub(super) fn start(
        config: &MqttConfig,
        shared: &Arc<Shared>,
    ) -> Result<Option<Self>, EdgeError> {
        let Some(broker) = &config.broker else { return Ok(None) };
        let topics = Topics::new(config);
        let (client, events) = AsyncClient::new(options(broker, config, &topics)?, WAITING);
        let (tell, connected) = watch::channel(0);
        let publisher =
            Publisher { client: client.clone(), topics, shared: shared.clone(), shown: None };
        Ok(Some(Self {
            talking: tokio::spawn(talk(events, tell)),
            publishing: tokio::spawn(publisher.run(connected)),
        }))
    }

    /// Whether it is over though nobody asked it to end.
    pub(super) fn is_over(&self) -> bool {
        self.talking.is_finished() || self.publishing.is_finished()
    }

    /// Says that the box goes, and closes the connection.
    pub(super) async fn end(self) {
        let _ = tokio::time::timeout(LAST_WORDS, self.publishing).await;
        let talking = self.talking.abort_handle();
        let _ = tokio::time::timeout(LAST_WORDS, self.talking).await;
        talking.abort();
    }
}

fn options(broker: &str, config: &MqttConfig, topics: &Topics) -> Result<MqttOptions, EdgeError> {
    let wrong = |what: String| {
        let mistake = Mistake { place: "mqtt.broker".to_owned(), what };
        EdgeError::Config(ConfigError::one("configuration", mistake))
    };
    let url = Url::parse(broker).map_err(|e| wrong(e.to_string()))?;
    let host = url.host_str().ok_or_else(|| wrong("names no host".to_owned()))?;
    let tls = url.scheme() == "mqtts";
    let port = url.port().unwrap_or(if tls { 8883 } else { 1883 });
    let mut options = MqttOptions::new(format!("fmlora-{}", config.name), host, port);
    options.set_keep_alive(KEEP_ALIVE).set_request_channel_capacity(WAITING);
    let Message { topic, payload, .. } = topics.availability(false);
    options.set_last_will(LastWill::new(topic, payload, QoS::AtLeastOnce, true));
    if let Some(user) = &config.user {
        let password = config.password.as_ref().map_or("", |password| password.reveal());
        options.set_credentials(user, password);
    }
    if tls {
        let configuration = match &config.authority {
            None => TlsConfiguration::default(),
            Some(path) => {
                let what = "read the broker's authority";
                let fail = |source| EdgeError::File { path: path.clone(), what, source };
                let ca = std::fs::read(path).map_err(fail)?;
                TlsConfiguration::Simple { ca, alpn: None, client_auth: None }
            }
        };
        options.set_transport(Transport::tls_with_config(configuration));
    }
    Ok(options)
}

/// Keeps the connection going; `connected` counts how often there was a new one, or somebody wants to hear all again.
async fn talk(mut events: EventLoop, connected: watch::Sender<u64>) {
    let mut pause = FIRST_PAUSE;
    loop {
        match events.poll().await {
            Ok(Happened::Incoming(Packet::ConnAck(_))) => {
                pause = FIRST_PAUSE;
                tracing::info!("the broker is there");
                connected.send_modify(|n| *n += 1);
            }
            // Home Assistant starts, and has forgotten what cannot be kept.
            Ok(Happened::Incoming(Packet::Publish(said))) if &said.payload[..] == b"online" => {
                connected.send_modify(|n| *n += 1);
            }
            Ok(Happened::Outgoing(rumqttc::Outgoing::Disconnect)) => return,
            Ok(_) => {}
            Err(error) => {
                tracing::warn!("broker: {error}; next try in {:.0} s", pause.as_secs_f64());
                tokio::time::sleep(pause).await;
                pause = (2 * pause).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Publishes what happens.
struct Publisher {
    client: AsyncClient,
    topics: Topics,
    shared: Arc<Shared>,
    /// What was published last of the camera's answers, and when.
    shown: Option<(Option<String>, Instant)>,
}

impl Publisher {
    async fn run(mut self, mut connected: watch::Receiver<u64>) {
        let mut events = self.shared.events.subscribe();
        let ending = self.shared.ending.clone();
        loop {
            tokio::select! {
                () = ending.wait() => break,
                _ = connected.changed() => self.introduce(),
                event = events.recv() => match event {
                    Ok(event) => self.tell(&event),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => break,
                },
            }
        }
        self.publish(self.topics.availability(false));
        // A broker that is away does not hear it, but has our last words.
        let _ = self.client.disconnect().await;
    }

    /// Everything that lasts.
    fn introduce(&mut self) {
        for message in self.topics.discovery(&self.shared.about) {
            self.publish(message);
        }
        if let Some(topic) = self.topics.birth()
            && let Err(error) = self.client.try_subscribe(topic, QoS::AtLeastOnce)
        {
            tracing::warn!("broker: {error}");
        }
        self.publish(self.topics.availability(true));
        self.publish(self.topics.source(self.shared.source.get().open));
        self.classes();
        let config = self.shared.config.get();
        match self.shared.updater.status(&config.update) {
            Ok(status) => self.publish(self.topics.update(&status, self.hide_names())),
            Err(error) => tracing::warn!("broker: nothing is told of updates: {error}"),
        }
        self.shown = None;
    }

    fn tell(&mut self, event: &Event) {
        match event {
            Event::Prediction(seen) => {
                let answer = &seen.answer;
                let now = answer.class.clone().filter(|_| !answer.unknown);
                let fresh = |(before, at): &(_, Instant)| *before == now && at.elapsed() < AGAIN;
                if !self.shown.as_ref().is_some_and(fresh) {
                    self.shown = Some((now, Instant::now()));
                    self.publish(self.topics.state(answer, self.hide_names()));
                }
            }
            Event::Source(health) => self.publish(self.topics.source(health.open)),
            Event::Classes { .. } => self.classes(),
            Event::Update(status) => {
                self.publish(self.topics.update(status, self.hide_names()));
            }
            Event::Storage { .. }
            | Event::Shot { .. }
            | Event::Training { .. }
            | Event::Missed { .. } => {}
        }
    }

    fn classes(&self) {
        let names: Vec<String> =
            self.shared.knowledge.get().classes.iter().map(|class| class.name.clone()).collect();
        self.publish(self.topics.classes(&names, self.hide_names()));
    }

    fn hide_names(&self) -> bool {
        self.shared.config.get().privacy.hide_names
    }

    fn publish(&self, message: Message) {
        let Message { topic, payload, retain } = message;
        // All of it is published again with the next connection.
        let _ = self.client.try_publish(topic, QoS::AtLeastOnce, retain, payload);
    }
}
