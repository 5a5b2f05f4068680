//! What of a class was taught here and what adapters brought, beside the classes.
//!
//! Tables of their own, so that rows of classes are what they were before there was such a thing. Each row names the class
//! that it belongs to by a fingerprint: one that a program without these tables left behind counts for nothing.

use fmlora_learner::{Class, ClassParts};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The parts of one class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parts {
    /// Fingerprint of the class.
    of: [u8; 32],
    parts: ClassParts,
}

impl Parts {
    /// Those of a class; `None` if no adapter brought shots of it.
    pub(crate) fn of(class: &Class) -> Option<Self> {
        let parts = class.parts.as_deref()?.clone();
        Some(Self { of: fingerprint(class), parts })
    }

    /// The class with its parts, if these are its own.
    pub(crate) fn attached_to(self, class: Class) -> Class {
        if self.of == fingerprint(&class) {
            Class { parts: Some(Box::new(self.parts)), ..class }
        } else {
            class
        }
    }
}

/// SHA-256 of the statistics of a class; its name does not count.
pub(crate) fn fingerprint(class: &Class) -> [u8; 32] {
    // What the store holds can be written; if it could not, no class would be taken for another one that was not changed.
    let bytes = postcard::to_stdvec(&class.modes).unwrap_or_default();
    Sha256::digest(bytes).into()
}
