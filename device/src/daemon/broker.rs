//! How the connection to the MQTT broker stands.

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

/// The newest word of it; `None` without a broker.
#[derive(Debug, Default)]
pub(crate) struct SharedBroker(Mutex<Option<BrokerHealth>>);

impl SharedBroker {
    /// As it is now.
    pub(crate) fn get(&self) -> Option<BrokerHealth> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the place of what was known before.
    #[cfg(feature = "mqtt")]
    pub(crate) fn set(&self, health: BrokerHealth) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(health);
    }
}
