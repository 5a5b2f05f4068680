//! What a thief of some keys, a liar on the line, or a broken publisher can try, and what a box says to it.
//!
//! Each attack is made on a box of its own, over HTTP. It must be refused with a reason; classes, predictions and files
//! must be what they were, and the next good update must be taken.

mod adapters;
mod names;
mod offers;
mod signatures;
mod time;
mod transfer;
mod versions;
