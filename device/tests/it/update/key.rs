//! Keys and signatures, so that a test can sign anything.

use std::sync::Arc;

use aws_lc_rs::signature::Ed25519KeyPair;
use serde::Serialize;
use tough::schema::decoded::{Decoded, Hex};
use tough::schema::key::Key as Public;
use tough::schema::{Role, Signature, Signed};
use tough::sign::Sign;

/// A fresh Ed25519 key.
#[derive(Clone)]
pub(crate) struct Key {
    pair: Arc<Ed25519KeyPair>,
    pub(crate) public: Public,
    pub(crate) id: Decoded<Hex>,
}

impl Key {
    pub(crate) fn new() -> Self {
        let pair = Ed25519KeyPair::generate().expect("random numbers");
        let public = pair.tuf_key();
        let id = public.key_id().expect("every key has an id");
        Self { pair: Arc::new(pair), public, id }
    }

    fn sign(&self, bytes: &[u8]) -> Signature {
        let sig = self.pair.sign(bytes).as_ref().to_vec().into();
        Signature { keyid: self.id.clone(), sig }
    }
}

/// Signs a role by each of these keys, as often as the key is listed.
pub(crate) fn signed<T: Role + Clone>(role: &T, keys: &[Key]) -> Signed<T> {
    let bytes = role.canonical_form().expect("JSON");
    let signatures = keys.iter().map(|key| key.sign(&bytes)).collect();
    Signed { signed: role.clone(), signatures }
}

/// Encodes signed metadata as a file.
pub(crate) fn written<T: Serialize>(signed: &Signed<T>) -> Vec<u8> {
    serde_json::to_vec_pretty(signed).expect("JSON")
}
