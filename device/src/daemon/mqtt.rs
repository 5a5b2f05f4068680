//! Publishes state and answers by MQTT, for Home Assistant and other clients.
//!
//! All retained messages are published again with each connection, so that a broker is up to date
//! after an outage or a loss of its data. Nothing waits for the broker: messages that it cannot
//! take are dropped.

mod connection;
mod messages;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rumqttc::{
    AsyncClient, ConnectionError, Event as Happened, LastWill, MqttOptions, Outgoing, Packet, QoS,
    TlsConfiguration, Transport,
};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use url::Url;

use super::Event;
use super::broker::BrokerHealth;
use super::config::{ConfigError, Mistake, MqttConfig};
use super::shared::Shared;
use crate::EdgeError;
use crate::report::with_causes;
use connection::{Link, keep, words};
use messages::{Message, Topics};

/// Keep-alive interval: the broker publishes the last will after one and a half times this silence.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Capacity of the queue of messages to the broker.
const WAITING: usize = 64;

/// Largest packet in either direction, in bytes. rumqttc loses the packets that wait behind a
/// larger one; its own limit is 10 KiB.
const MAX_PACKET: usize = 256 << 10;

/// Largest message that is published, in bytes: the packet around it fits too.
const MAX_MESSAGE: usize = MAX_PACKET - (4 << 10);

/// An answer is published when it changes, and again after this time.
const AGAIN: Duration = Duration::from_secs(10);

/// Longest wait for the last messages at the end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Longest wait of `check` for the broker's response.
const CHECK_TIME: Duration = Duration::from_secs(10);

/// The connection to the broker.
pub(super) struct Mqtt {
    talking: JoinHandle<()>,
    publishing: JoinHandle<()>,
}

impl Mqtt {
    /// Connects to the broker, if there is one, and reconnects.
    ///
    /// # Errors
    ///
    /// [`EdgeError::Config`] for an invalid address, an unreadable password or an unreadable
    /// certificate.
    pub(super) fn start(
        config: &MqttConfig,
        shared: &Arc<Shared>,
    ) -> Result<Option<Self>, EdgeError> {
        let Some(broker) = &config.broker else { return Ok(None) };
        let topics = Topics::new(config);
        let mut options = options(broker, config, client_id(config))?;
        let Message { topic, payload, .. } = topics.availability(false);
        options.set_last_will(LastWill::new(topic, payload, QoS::AtLeastOnce, true));
        let (client, events) = AsyncClient::new(options, WAITING);
        let (tell, link) = watch::channel(Link::default());
        shared.broker.set(BrokerHealth::default());
        let publisher = Publisher {
            client: client.clone(),
            topics,
            shared: shared.clone(),
            shown: None,
            up: false,
            too_large: BTreeSet::new(),
        };
        Ok(Some(Self {
            talking: tokio::spawn(keep(events, tell, shared.clone())),
            publishing: tokio::spawn(publisher.run(link)),
        }))
    }

    /// Returns true if the connection or the publisher has ended without [`Mqtt::end`].
    pub(super) fn is_over(&self) -> bool {
        self.talking.is_finished() || self.publishing.is_finished()
    }

    /// Publishes that the box is offline, and closes the connection.
    pub(super) async fn end(self) {
        let _ = tokio::time::timeout(LAST_WORDS, self.publishing).await;
        let talking = self.talking.abort_handle();
        let _ = tokio::time::timeout(LAST_WORDS, self.talking).await;
        talking.abort();
    }
}

/// Checks that the broker is reachable and accepts the login. Uses another client id than the
/// daemon: with the same one, the broker would close the daemon's connection.
///
/// # Errors
///
/// The mistake, with its key.
pub(crate) async fn try_broker(config: &MqttConfig) -> Result<(), Mistake> {
    let Some(broker) = &config.broker else { return Ok(()) };
    let wrong = |place: &str, what: String| Mistake { place: place.to_owned(), what };
    let options = options(broker, config, format!("{}-check", client_id(config)))
        .map_err(|error| wrong("mqtt.broker", with_causes(&error)))?;
    let (client, mut events) = AsyncClient::new(options, WAITING);
    let connected = tokio::time::timeout(CHECK_TIME, async {
        loop {
            match events.poll().await {
                Ok(Happened::Incoming(Packet::ConnAck(_))) => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
    });
    match connected.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            let place = match &error {
                ConnectionError::ConnectionRefused(_) => "mqtt.user",
                _ => "mqtt.broker",
            };
            return Err(wrong(place, format!("{broker}: {}", words(&error))));
        }
        Err(_) => {
            let seconds = CHECK_TIME.as_secs();
            return Err(wrong("mqtt.broker", format!("{broker}: no answer within {seconds} s")));
        }
    }
    // A lost DISCONNECT does no harm.
    let _ = tokio::time::timeout(LAST_WORDS, async {
        let _ = client.disconnect().await;
        while !matches!(events.poll().await, Err(_) | Ok(Happened::Outgoing(Outgoing::Disconnect)))
        {
        }
    })
    .await;
    Ok(())
}

/// Client id of this box at the broker.
fn client_id(config: &MqttConfig) -> String {
    format!("fmlora-{}", config.name)
}

fn options(broker: &str, config: &MqttConfig, client_id: String) -> Result<MqttOptions, EdgeError> {
    let wrong = |what: String| {
        let mistake = Mistake { place: "mqtt.broker".to_owned(), what };
        EdgeError::Config(ConfigError::one("configuration", mistake))
    };
    let url = Url::parse(broker).map_err(|e| wrong(e.to_string()))?;
    let host = url.host_str().ok_or_else(|| wrong("names no host".to_owned()))?;
    // An IPv6 address has brackets in a URL, and none elsewhere.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let tls = url.scheme() == "mqtts";
    let port = url.port().unwrap_or(if tls { 8883 } else { 1883 });
    let mut options = MqttOptions::new(client_id, host, port);
    options.set_keep_alive(KEEP_ALIVE).set_request_channel_capacity(WAITING);
    options.set_max_packet_size(MAX_PACKET, MAX_PACKET);
    if let Some(user) = &config.user {
        let password = config
            .password()
            .map_err(|mistake| EdgeError::Config(ConfigError::one("configuration", mistake)))?;
        options.set_credentials(user, password.unwrap_or_default());
    }
    if tls {
        let trusted = config.authorities().client_config().map_err(|error| {
            let mistake = Mistake { place: "mqtt.authority".to_owned(), what: with_causes(&error) };
            EdgeError::Config(ConfigError::one("configuration", mistake))
        })?;
        let configuration = TlsConfiguration::Rustls(Arc::new(trusted));
        options.set_transport(Transport::tls_with_config(configuration));
    }
    Ok(options)
}

/// Publishes the daemon's events.
struct Publisher {
    client: AsyncClient,
    topics: Topics,
    shared: Arc<Shared>,
    /// Class of the camera that was published last, and the time.
    shown: Option<(Option<String>, Instant)>,
    /// True while the broker is connected. Otherwise nothing is queued: all retained messages are
    /// published again later.
    up: bool,
    /// Topics with a message that was too large, each logged once.
    too_large: BTreeSet<String>,
}

impl Publisher {
    async fn run(mut self, mut link: watch::Receiver<Link>) {
        let mut introduced = 0;
        let mut events = self.shared.events.subscribe();
        let ending = self.shared.ending.clone();
        loop {
            tokio::select! {
                () = ending.wait() => break,
                changed = link.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let now = *link.borrow_and_update();
                    self.up = now.up;
                    if now.up && now.introductions != introduced {
                        introduced = now.introductions;
                        self.introduce();
                    }
                }
                event = events.recv() => match event {
                    Ok(event) => self.tell(&event),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => break,
                },
            }
        }
        self.publish(self.topics.availability(false));
        // A broker that is away does not receive the message, but has the last will.
        let _ = self.client.disconnect().await;
    }

    /// Publishes all retained messages.
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
            | Event::Trained(_)
            | Event::Missed { .. } => {}
        }
    }

    fn classes(&mut self) {
        let names: Vec<String> =
            self.shared.knowledge.get().classes.iter().map(|class| class.name.clone()).collect();
        self.publish(self.topics.classes(&names, self.hide_names()));
    }

    fn hide_names(&self) -> bool {
        self.shared.config.get().privacy.hide_names
    }

    fn publish(&mut self, message: Message) {
        let Message { topic, payload, retain } = message;
        if !self.up {
            return;
        }
        if topic.len() + payload.len() > MAX_MESSAGE {
            if self.too_large.insert(topic.clone()) {
                let bytes = payload.len();
                tracing::warn!(
                    "broker: the message of {topic} is left out: {bytes} bytes, at most {MAX_MESSAGE} are sent"
                );
            }
            return;
        }
        // A message that does not fit into the queue is published again with the next connection or
        // change.
        let _ = self.client.try_publish(topic, QoS::AtLeastOnce, retain, payload);
    }
}
