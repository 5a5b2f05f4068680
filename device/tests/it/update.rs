//! Adapters over the air, as a box meets them: sound repositories, hostile ones, and power cuts.

mod attacks;
mod crashes;
mod exact;
mod key;
mod resume;
mod scene;
mod server;
mod site;
mod workshop;
