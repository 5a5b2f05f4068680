//! Health of the connection to the MQTT broker.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use utoipa::ToSchema;

/// The connection to the MQTT broker.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, ToSchema)]
pub(crate) struct BrokerHealth {
    pub(crate) connected: bool,
    /// Why there is no connection, or why it does not last.
    pub(crate) trouble: Option<String>,
}

/// Latest health of the connection, shared between threads; `None` without a broker.
#[derive(Debug, Default)]
pub(crate) struct SharedBroker(Mutex<Option<BrokerHealth>>);

impl SharedBroker {
    /// Returns the current health.
    pub(crate) fn get(&self) -> Option<BrokerHealth> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the health.
    #[cfg(feature = "mqtt")]
    pub(crate) fn set(&self, health: BrokerHealth) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(health);
    }
}
