//! Attacks by a thief of some keys, a man in the middle, or a broken publisher, and the responses
//! of a device.
//!
//! Each attack is made on a device of its own, over HTTP. It must be refused with a reason.
//! Classes, predictions and files must stay the same, and the next good update must be applied.

mod adapters;
mod names;
mod offers;
mod signatures;
mod time;
mod transfer;
mod versions;
