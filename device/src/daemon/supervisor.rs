//! The supervisor: starts all parts of the daemon, monitors them, and shuts them down in order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{self, Receiver};
use tokio::task::JoinHandle;

use super::access::{Configured, Gate};
use super::answering::{Answering, Parts};
use super::broker::SharedBroker;
use super::config::{ConfigError, DaemonConfig, LiveConfig};
use super::http::{self, Server};
use super::knowledge::{Knowledge, SharedKnowledge};
use super::metrics::Metrics;
#[cfg(feature = "mqtt")]
use super::mqtt::Mqtt;
use super::reload::{Reloaded, reload};
use super::shared::{About, Ending, Shared};
use super::signals::{Signal, Signals};
use super::slot::Slot;
use super::source::{Keeper, SharedHealth, SourceHealth};
use super::systemd::Systemd;
use super::teaching::{Listeners, Teaching};
use super::training::Training;
use super::updating::Updater;
use super::{Event, RunReport, Told, keeping};
use crate::report::with_causes;
use crate::{EdgeError, Session};

/// Period of the checks on all parts.
const ROUND: Duration = Duration::from_millis(100);

/// Event queue length of a slow listener.
const EVENTS: usize = 256;

/// Time limit of the shutdown: requests, last MQTT messages and the running operation.
const LAST_OPERATION: Duration = Duration::from_secs(8);

/// Time limit for the running step of a training.
const LAST_STEP: Duration = Duration::from_secs(2);

/// Receiver of the daemon's messages.
type Tell<'a> = &'a mut dyn FnMut(Told<'_>) -> Result<(), EdgeError>;

/// All threads and tasks, and their shared state.
pub(super) struct Daemon {
    shared: Arc<Shared>,
    keeper: Option<Keeper>,
    answering: Answering,
    teaching: Teaching,
    training: Training,
    server: Option<Server>,
    #[cfg(feature = "mqtt")]
    mqtt: Option<Mqtt>,
    /// The task that looks for updates.
    looking: JoinHandle<()>,
    systemd: Systemd,
}

impl Daemon {
    pub(super) async fn start(
        config: DaemonConfig,
        mut session: Session,
        tell: Tell<'_>,
    ) -> Result<(Self, Receiver<Event>), EdgeError> {
        let started = Instant::now();
        let ending = Ending::new();
        // First, because it may change the adapter in use, which all other parts need.
        let updater = Updater::start(&mut session)?;
        let about = About::of(&mut session)?;
        let config = Arc::new(LiveConfig::new(config));
        let metrics = Arc::new(Metrics::new(config.clone(), &about));
        let (events, listening) = broadcast::channel(EVENTS);
        let slot = Arc::new(Slot::default());
        let source = Arc::new(SharedHealth::default());
        let knowledge = Arc::new(SharedKnowledge::default());
        // The first requests see all classes; the thread that learns adds the estimate.
        knowledge.set(Knowledge::without_estimate(&session)?);
        let preprocess = session.engine()?.preprocess();
        let (answering, answers) = Answering::start(Parts {
            engine: session.engine()?.twin(),
            predictor: session.predictor()?.clone(),
            slot: slot.clone(),
            config: config.clone(),
            events: events.clone(),
            metrics: metrics.clone(),
            ends: updater.ends().clone(),
        })?;
        let storage = session.store().storage().clone();
        let accounts = configured(&config.get())?;
        let opened = Gate::open(session.store().record("accounts")?, accounts);
        let gate = opened.map_err(|error| EdgeError::Access(with_causes(&error)))?;
        // The page is served without the id of the device, too.
        let device =
            updater.status(&config.get().update).map_or_else(|_| String::new(), |s| s.device);
        let listeners = Listeners {
            answers: answers.clone(),
            knowledge: knowledge.clone(),
            events: events.clone(),
            metrics: metrics.clone(),
            ending: ending.clone(),
        };
        let (teaching, teacher) = Teaching::start(session, listeners)?;
        let (training, trainer) =
            Training::start(teacher.clone(), answers.clone(), events.clone(), ending.clone())?;
        let keeper = keep(&config.get(), &slot, &source)?;
        let shared = Arc::new(Shared {
            about,
            config,
            preprocess,
            slot,
            source,
            answers,
            teacher,
            trainer,
            knowledge,
            events,
            broker: SharedBroker::default(),
            metrics,
            gate,
            updater,
            ending,
            storage,
            device,
            started,
        });
        let config = shared.config.get();
        let server = if config.http.enabled { Some(http::serve(&shared).await?) } else { None };
        if let Some(server) = &server {
            tell(Told::Page(&server.url()))?;
        }
        tell_first_password(&shared, tell)?;
        #[cfg(feature = "mqtt")]
        let mqtt = Mqtt::start(&config.mqtt, &shared)?;
        let looking = Updater::keep_looking(&shared);
        let systemd = Systemd::ready();
        let daemon = Self {
            shared,
            keeper: Some(keeper),
            answering,
            teaching,
            training,
            server,
            #[cfg(feature = "mqtt")]
            mqtt,
            looking,
            systemd,
        };
        Ok((daemon, listening))
    }

    /// Monitors all parts until a signal or the time limit ends the daemon, or a part fails.
    pub(super) async fn watch(
        &mut self,
        mut events: Receiver<Event>,
        mut signals: Signals,
        until: Option<Instant>,
        reread: &dyn Fn() -> Result<DaemonConfig, EdgeError>,
        tell: Tell<'_>,
    ) -> Result<(), EdgeError> {
        let mut round = tokio::time::interval(ROUND);
        let mut source = SourceHealth::default();
        let mut trouble: Option<String> = None;
        loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Signal::End => return Ok(()),
                    Signal::Reload => {
                        self.reload(reread).await;
                        if let Err(error) = tell_first_password(&self.shared, tell) {
                            tracing::error!("{}", with_causes(&error));
                        }
                    }
                },
                event = events.recv() => match event {
                    Ok(event) => tell(Told::Event(&event))?,
                    Err(RecvError::Lagged(events)) => tell(Told::Event(&Event::Missed { events }))?,
                    Err(RecvError::Closed) => return Ok(()),
                },
                _ = round.tick() => {
                    if until.is_some_and(|until| Instant::now() >= until) {
                        return Ok(());
                    }
                    self.all_live()?;
                    self.systemd.look(self.shared.metrics.answered().0);
                    source = self.look_at_source(&source);
                    trouble = self.look_at_storage(trouble.as_deref());
                }
            }
        }
    }

    /// Sends an event when the source fails or recovers.
    fn look_at_source(&self, before: &SourceHealth) -> SourceHealth {
        let now = self.shared.source.get();
        if (now.open, now.trouble.is_some()) != (before.open, before.trouble.is_some()) {
            // Sending fails only without listeners.
            let _ = self.shared.events.send(Event::Source(now.clone()));
        }
        now
    }

    /// Sends an event when the storage fails or recovers.
    fn look_at_storage(&self, before: Option<&str>) -> Option<String> {
        let trouble = self.shared.storage.trouble();
        if trouble.is_some() != before.is_some() {
            let event = Event::Storage { writable: trouble.is_none(), trouble: trouble.clone() };
            // Sending fails only without listeners.
            let _ = self.shared.events.send(event);
        }
        trouble
    }

    fn all_live(&self) -> Result<(), EdgeError> {
        #[cfg(feature = "mqtt")]
        let broker = self.mqtt.as_ref().is_some_and(Mqtt::is_over);
        #[cfg(not(feature = "mqtt"))]
        let broker = false;
        let over = [
            ("speaks with the broker", broker),
            ("answers frames", self.answering.is_over()),
            ("learns", self.teaching.is_over()),
            ("trains", self.training.is_over()),
            ("looks for updates", self.looking.is_finished()),
            ("serves the page", self.server.as_ref().is_some_and(Server::is_over)),
        ];
        match over.into_iter().find(|(_, over)| *over) {
            Some((part, _)) => Err(EdgeError::Part { part }),
            None => Ok(()),
        }
    }

    /// Reloads the configuration, as far as it can change in a running daemon. An invalid one
    /// changes nothing.
    async fn reload(&mut self, reread: &dyn Fn() -> Result<DaemonConfig, EdgeError>) {
        self.systemd.reloading();
        let reloaded = reread().map(|new| reload(&self.shared.config.get(), new));
        let outcome = match reloaded {
            Ok(Reloaded { config, camera, kept }) => self.take_over(config, camera, &kept).await,
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            tracing::error!("the configuration stays as it was: {}", with_causes(&error));
        }
        self.systemd.reloaded();
    }

    async fn take_over(
        &mut self,
        config: DaemonConfig,
        camera: bool,
        kept: &[&str],
    ) -> Result<(), EdgeError> {
        let accounts = configured(&config)?;
        for key in kept {
            tracing::warn!("{key} changes with the next start only");
        }
        if let Some(server) = &self.server {
            server.reload(&config.http).await?;
        }
        if camera {
            // The old source is closed first, because a camera can be open only once.
            self.keeper = None;
            self.keeper = Some(keep(&config, &self.shared.slot, &self.shared.source)?);
        }
        self.shared.gate.configure(accounts);
        self.shared.config.set(config);
        tracing::info!("the configuration was read anew");
        Ok(())
    }

    /// Shuts down all parts: first the interfaces, last the threads that do the work. A requested
    /// end does not count as a crash.
    pub(super) async fn end(mut self, asked_for: bool) -> RunReport {
        let until = Instant::now() + LAST_OPERATION;
        if asked_for {
            self.shared.updater.ends().told_to_end();
        }
        self.systemd.stopping();
        self.shared.ending.begin();
        if let Some(server) = self.server.take() {
            server.shutdown().await;
        }
        #[cfg(feature = "mqtt")]
        if let Some(mqtt) = self.mqtt.take() {
            mqtt.end().await;
        }
        // A pending download is abandoned; a store transaction is committed or rolled back as a
        // whole.
        self.looking.abort();
        while !self.teaching.is_over() && Instant::now() < until {
            tokio::time::sleep(ROUND / 10).await;
        }
        // The result of a training is lost in any case, so only the running step is awaited.
        let until = until.min(Instant::now() + LAST_STEP);
        while !self.training.is_over() && Instant::now() < until {
            tokio::time::sleep(ROUND / 10).await;
        }
        self.keeper = None;
        let shared = &self.shared;
        let counts = shared.slot.counts();
        let (answered, time) = shared.metrics.answered();
        let source = shared.source.get();
        RunReport {
            frames: counts.frames + counts.too_soon,
            left_out: counts.replaced + counts.too_soon,
            answered,
            damaged: source.damaged,
            openings: source.openings,
            seconds: shared.started.elapsed().as_secs_f64(),
            milliseconds: 1e3 * time.as_secs_f64(),
        }
    }
}

fn keep(
    config: &DaemonConfig,
    slot: &Arc<Slot>,
    source: &Arc<SharedHealth>,
) -> Result<Keeper, EdgeError> {
    let keeper = Keeper::start(keeping(config)?, slot.clone(), source.clone());
    keeper.map_err(|source| EdgeError::System { what: "start a thread", source })
}

/// Returns the accounts and tokens of the configuration.
fn configured(config: &DaemonConfig) -> Result<Configured, EdgeError> {
    config.login.accounts().map_err(|mistakes| {
        let source_name = "configuration".to_owned();
        EdgeError::Config(ConfigError { source_name, mistakes })
    })
}

/// Generates the administrator's password if logins are enabled and none is set, and reports it
/// once.
fn tell_first_password(shared: &Shared, tell: Tell<'_>) -> Result<(), EdgeError> {
    let config = shared.config.get();
    if !config.http.enabled || !config.login.enabled {
        return Ok(());
    }
    let made = shared.gate.first_password();
    match made.map_err(|error| EdgeError::Access(with_causes(&error)))? {
        Some(password) => tell(Told::Password(&password)),
        None => Ok(()),
    }
}
