//! Parts of a class: the part taught on this device, and the parts brought by adapters.
//!
//! They have tables of their own, so that the rows of classes keep their former format. Each row
//! names its class by a fingerprint. A row left behind by a program without these tables does not
//! match, and is ignored.

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
    /// Returns the parts of a class; `None` if no adapter brought shots of it.
    pub(crate) fn of(class: &Class) -> Option<Self> {
        let parts = class.parts.as_deref()?.clone();
        Some(Self { of: fingerprint(class), parts })
    }

    /// Returns the class with these parts, if its fingerprint matches.
    pub(crate) fn attached_to(self, class: Class) -> Class {
        if self.of == fingerprint(&class) {
            Class { parts: Some(Box::new(self.parts)), ..class }
        } else {
            class
        }
    }
}

/// SHA-256 of the statistics of a class. The name is not included.
pub(crate) fn fingerprint(class: &Class) -> [u8; 32] {
    // Encoding does not fail for classes that the store can hold.
    let bytes = postcard::to_stdvec(&class.modes).unwrap_or_default();
    Sha256::digest(bytes).into()
}
