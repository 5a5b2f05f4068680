//! Keeps the connection to the broker, with a back-off, and detects another client with the same
//! client id.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rumqttc::{
    ConnectReturnCode, ConnectionError, Event as Happened, EventLoop, Outgoing, Packet, StateError,
};
use tokio::sync::watch;

use crate::daemon::broker::BrokerHealth;
use crate::daemon::shared::Shared;
use crate::report::with_causes;
use crate::tls_roots::distrust;

/// First and longest pause of the back-off between two attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Time after which a connection counts as stable. It is longer than the longest pause: two boxes
/// of one name end each other's connection once per pause.
const STEADY: Duration = Duration::from_mins(2);

/// Number of consecutive connections that end soon after they were made, from which another client
/// with the same client id is assumed.
const CUT_SHORT: u32 = 3;

/// State of the connection for the publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Link {
    /// True while connected.
    pub(super) up: bool,
    /// Number of times that all retained messages had to be published: after each connection, and
    /// when Home Assistant has started.
    pub(super) introductions: u64,
}

/// State of the back-off.
#[derive(Debug)]
struct Pauses {
    next: Duration,
    connected_at: Option<Instant>,
    cut_short: u32,
}

/// Consequence of a lost connection or a failed attempt.
#[derive(Debug, PartialEq, Eq)]
struct Lost {
    pause: Duration,
    /// True if another client probably takes the connection over each time.
    taken_over: bool,
}

impl Pauses {
    fn new() -> Self {
        Self { next: FIRST_PAUSE, connected_at: None, cut_short: 0 }
    }

    fn connected(&mut self, now: Instant) {
        self.connected_at = Some(now);
    }

    fn lost(&mut self, now: Instant) -> Lost {
        match self.connected_at.take().map(|since| now.saturating_duration_since(since)) {
            Some(lasted) if lasted >= STEADY => *self = Self::new(),
            Some(_) => self.cut_short += 1,
            // A broker that is away accepts no connection, so none was taken over.
            None => self.cut_short = 0,
        }
        let pause = self.next;
        self.next = (2 * pause).min(LONGEST_PAUSE);
        Lost { pause, taken_over: self.cut_short >= CUT_SHORT }
    }
}

/// Keeps the connection until this side ends it.
pub(super) async fn keep(mut events: EventLoop, link: watch::Sender<Link>, shared: Arc<Shared>) {
    let client_id = events.mqtt_options.client_id();
    let mut pauses = Pauses::new();
    // Last logged trouble, so that it is not logged again and again.
    let mut logged = None;
    let mut taken_over = false;
    loop {
        match events.poll().await {
            Ok(Happened::Incoming(Packet::ConnAck(_))) => {
                pauses.connected(Instant::now());
                if !taken_over {
                    logged = None;
                    shared.broker.set(BrokerHealth { connected: true, trouble: None });
                    tracing::info!("broker: connected");
                }
                link.send_modify(|link| {
                    *link = Link { up: true, introductions: link.introductions + 1 };
                });
            }
            // Home Assistant has started, without the messages that the broker does not retain.
            Ok(Happened::Incoming(Packet::Publish(said))) if &said.payload[..] == b"online" => {
                link.send_modify(|link| link.introductions += 1);
            }
            Ok(Happened::Outgoing(Outgoing::Disconnect)) => return,
            Ok(_) => {}
            Err(error) => {
                link.send_modify(|link| link.up = false);
                let lost = pauses.lost(Instant::now());
                taken_over = lost.taken_over;
                let trouble = if taken_over { same_name(&client_id) } else { words(&error) };
                if logged.as_ref() != Some(&trouble) {
                    let seconds = lost.pause.as_secs();
                    tracing::warn!("broker: {trouble}; next try in {seconds} s");
                    logged = Some(trouble.clone());
                }
                shared.broker.set(BrokerHealth { connected: false, trouble: Some(trouble) });
                tokio::time::sleep(lost.pause).await;
            }
        }
    }
}

fn same_name(client_id: &str) -> String {
    format!(
        "the connection ends again and again soon after it began: another box or program has the client id {client_id} too \
         (give each box its own mqtt.name), or the broker takes smaller messages or packets than those of some hundred bytes \
         that Home Assistant's discovery needs"
    )
}

/// Message for a connection that the broker has closed. Depending on timing, the system reports it
/// in several ways.
const CLOSED: &str = "the broker closed the connection";

fn is_closed(kind: ErrorKind) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// Returns the system error among the causes of another one.
fn io_cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    match error.downcast_ref() {
        Some(found) => Some(found),
        None => io_cause(error.source()?),
    }
}

/// Describes why a connection failed.
pub(super) fn words(error: &ConnectionError) -> String {
    if let Some(why) = distrust(error, "mqtt.authority") {
        return why;
    }
    match error {
        ConnectionError::MqttState(StateError::ConnectionAborted) => CLOSED.to_owned(),
        ConnectionError::MqttState(_) | ConnectionError::Io(_) => match io_cause(error) {
            Some(cause) if is_closed(cause.kind()) => CLOSED.to_owned(),
            Some(cause) => with_causes(cause),
            None => with_causes(error),
        },
        ConnectionError::NetworkTimeout | ConnectionError::FlushTimeout => {
            "no answer in time".to_owned()
        }
        ConnectionError::ConnectionRefused(code) => match code {
            ConnectReturnCode::BadUserNamePassword => {
                "user or password is wrong (mqtt.user, mqtt.password)".to_owned()
            }
            ConnectReturnCode::NotAuthorized => {
                "the broker refuses this login (mqtt.user, mqtt.password)".to_owned()
            }
            ConnectReturnCode::BadClientId => {
                "the broker refuses the client id (mqtt.name)".to_owned()
            }
            ConnectReturnCode::ServiceUnavailable => "the broker is not ready".to_owned(),
            ConnectReturnCode::RefusedProtocolVersion | ConnectReturnCode::Success => {
                "the broker does not speak MQTT 3.1.1".to_owned()
            }
        },
        ConnectionError::NotConnAck(_) => "what answers is no MQTT broker".to_owned(),
        ConnectionError::Tls(error) => format!("TLS: {}", with_causes(error)),
        ConnectionError::RequestsDone => with_causes(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_a_connection_was_good() {
        let mut pauses = Pauses::new();
        let now = Instant::now();
        let tries: Vec<u64> = (0..9).map(|_| pauses.lost(now).pause.as_secs()).collect();
        assert_eq!(tries, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        pauses.connected(now);
        assert_eq!(pauses.lost(now + STEADY / 2).pause, LONGEST_PAUSE, "it did not last");
        pauses.connected(now);
        assert_eq!(pauses.lost(now + STEADY), Lost { pause: FIRST_PAUSE, taken_over: false });
    }

    #[test]
    fn connections_that_end_at_once_again_and_again_are_taken_over() {
        let mut pauses = Pauses::new();
        let now = Instant::now();
        let mut cut_short = |refused: bool| {
            if !refused {
                pauses.connected(now);
            }
            pauses.lost(now + LONGEST_PAUSE).taken_over
        };
        assert!(![false, false].map(&mut cut_short).contains(&true));
        assert!(!cut_short(true), "a broker that starts anew refuses in between");
        assert_eq!([false, false, false, false].map(&mut cut_short), [false, false, true, true]);
    }

    #[test]
    fn errors_are_told_in_words() {
        let refused = ConnectionError::ConnectionRefused(ConnectReturnCode::BadUserNamePassword);
        assert!(words(&refused).contains("mqtt.password"));
        let state = |kind: ErrorKind| ConnectionError::MqttState(StateError::Io(kind.into()));
        assert_eq!(
            words(&state(ErrorKind::PermissionDenied)),
            "permission denied",
            "no debug form"
        );
        // The broker closes a connection; timing decides how the system reports it.
        let closed = [
            ConnectionError::MqttState(StateError::ConnectionAborted),
            state(ErrorKind::ConnectionReset),
            ConnectionError::Io(ErrorKind::UnexpectedEof.into()),
        ];
        for error in closed {
            assert_eq!(words(&error), CLOSED);
        }
    }
}
