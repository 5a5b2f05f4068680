//! Over-the-air adapters: sound repositories, hostile ones, and power cuts.

mod attacks;
mod connection;
mod crashes;
mod exact;
mod fleet;
mod key;
mod resume;
pub(crate) mod scene;
pub(crate) mod server;
pub(crate) mod site;
mod withdrawn;
pub(crate) mod workshop;
