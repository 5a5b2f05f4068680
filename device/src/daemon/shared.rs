//! State shared by all interfaces of the daemon.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use fmlora_models::{Preprocess, variant_of};
use serde::Serialize;
use tokio::sync::{broadcast, watch};
use utoipa::ToSchema;

use super::access::Gate;
use super::answering::Answers;
use super::broker::SharedBroker;
use super::config::LiveConfig;
use super::event::Event;
use super::knowledge::SharedKnowledge;
use super::metrics::Metrics;
use super::slot::Slot;
use super::source::SharedHealth;
use super::teaching::Teacher;
use super::training::Trainer;
use super::updating::Updater;
use crate::store::Storage;
use crate::{EdgeError, Session};

/// What the program, its network and its device are.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct About {
    pub(crate) version: &'static str,
    /// SHA-256 of the base.
    pub(crate) base_id: String,
    pub(crate) base: String,
    /// The kind of network.
    pub(crate) network: String,
    /// Where the network computes.
    pub(crate) device: String,
    /// Why another device was not used.
    pub(crate) refused: Option<String>,
}

/// Shared state that requests use.
pub(crate) struct Shared {
    pub(crate) about: About,
    pub(crate) config: Arc<LiveConfig>,
    pub(crate) preprocess: Preprocess,
    pub(crate) slot: Arc<Slot>,
    pub(crate) source: Arc<SharedHealth>,
    pub(crate) answers: Answers,
    pub(crate) teacher: Teacher,
    pub(crate) trainer: Trainer,
    pub(crate) knowledge: Arc<SharedKnowledge>,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) broker: SharedBroker,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) gate: Gate,
    pub(crate) updater: Updater,
    pub(crate) ending: Ending,
    /// Storage of the state, which knows whether it can be written.
    pub(crate) storage: Arc<Storage>,
    /// Random id of this device, generated once.
    pub(crate) device: String,
    pub(crate) started: Instant,
}

/// Shutdown signal for threads and tasks.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    flag: Arc<AtomicBool>,
    watch: Arc<watch::Sender<bool>>,
}

impl About {
    /// Returns the description of a session's network. Builds the network.
    pub(crate) fn of(session: &mut Session) -> Result<Self, EdgeError> {
        let engine = session.engine()?;
        let device = engine.hardware().to_string();
        let refused = engine.refused().map(str::to_owned);
        let base = session.base();
        Ok(Self {
            version: env!("CARGO_PKG_VERSION"),
            base_id: base.id.to_string(),
            base: base.provenance().name.clone(),
            network: variant_of(base.vit()).unwrap_or("unnamed").to_owned(),
            device,
            refused,
        })
    }
}

impl Ending {
    /// Returns a signal that is not set.
    pub(crate) fn new() -> Self {
        Self { flag: Arc::default(), watch: Arc::new(watch::channel(false).0) }
    }

    /// Sets the signal: the daemon shuts down.
    pub(crate) fn begin(&self) {
        self.flag.store(true, Ordering::Release);
        self.watch.send_replace(true);
    }

    /// Returns true if the shutdown has begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.flag.load(Ordering::Acquire)
    }

    /// Waits until the shutdown begins.
    pub(crate) async fn wait(&self) {
        // Waiting cannot fail: the sender lives as long as `self`.
        let _ = self.watch.subscribe().wait_for(|ending| *ending).await;
    }
}
