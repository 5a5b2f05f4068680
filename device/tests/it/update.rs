//! Adapters over the air, as a box meets them: sound repositories, hostile ones, and power cuts.

mod attacks;
mod crashes;
mod exact;
mod fleet;
mod key;
mod resume;
pub(crate) mod scene;
pub(crate) mod server;
pub(crate) mod site;
pub(crate) mod workshop;
