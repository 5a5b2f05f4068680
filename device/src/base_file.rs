//! The base: embedded in the program, or a file.

use std::borrow::Cow;
use std::path::Path;

use fmlora_learner::format::{Base, BaseError, Provenance, decode_base};
use fmlora_learner::{AdapterState, BaseId};
use fmlora_models::VitConfig;

use crate::{EdgeError, Engine};

/// The base that works without any file; see models/base/README.md for where it comes from.
#[cfg(feature = "embedded-base")]
static EMBEDDED: Option<&[u8]> =
    Some(include_bytes!("../../models/base/vit_small6_patch14_112.fmlb"));
#[cfg(not(feature = "embedded-base"))]
static EMBEDDED: Option<&[u8]> = None;

/// A base whose checksum and content were checked; its network is built when it is needed.
#[derive(Debug)]
pub(crate) struct BaseFile {
    name: String,
    bytes: Cow<'static, [u8]>,
    pub(crate) id: BaseId,
    pub(crate) provenance: Provenance,
    pub(crate) vit: VitConfig,
    pub(crate) d_feature: usize,
}

impl BaseFile {
    /// Opens the file, or the embedded base.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, EdgeError> {
        let (name, bytes) = match (path, EMBEDDED) {
            (Some(path), _) => {
                let fail = |source| EdgeError::File {
                    path: path.to_owned(),
                    what: "read the base",
                    source,
                };
                (path.display().to_string(), Cow::Owned(std::fs::read(path).map_err(fail)?))
            }
            (None, Some(bytes)) => ("(embedded)".to_owned(), Cow::Borrowed(bytes)),
            (None, None) => return Err(EdgeError::NoBase),
        };
        let (base, id) = decode(&name, &bytes)?;
        let (provenance, vit) = (base.provenance.clone(), base.weights.config().clone());
        let d_feature = base.backbone.feature.d_feature(&vit);
        drop(base);
        Ok(Self { name, bytes, id, provenance, vit, d_feature })
    }

    /// Where the base came from: a path or "(embedded)".
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Builds the network with what tasks have left in it.
    pub(crate) fn engine(&self, state: Option<&AdapterState>) -> Result<Engine, EdgeError> {
        let (base, _) = decode(&self.name, &self.bytes)?;
        Engine::new(&base, state)
    }
}

fn decode<'a>(name: &str, bytes: &'a [u8]) -> Result<(Base<'a>, BaseId), EdgeError> {
    let fail = |source: BaseError| EdgeError::Base { name: name.to_owned(), source };
    decode_base(bytes).map_err(fail)
}
