//! The base network, embedded in the program or read from a file.

use std::path::Path;
use std::sync::Arc;

use fmlora_learner::format::{Base, BaseError, Provenance, decode_base};
use fmlora_learner::{Adapter, AdapterState, BaseId, Prior};
use fmlora_models::{DeviceSpec, Preprocess, VitConfig};

use crate::{EdgeError, Engine};

/// The embedded base. models/base/README.md describes its origin.
#[cfg(feature = "embedded-base")]
static EMBEDDED: Option<&[u8]> =
    Some(include_bytes!("../../models/base/vit_small6_patch14_140.fmlb"));
#[cfg(not(feature = "embedded-base"))]
static EMBEDDED: Option<&[u8]> = None;

/// A base with verified checksum and content. The network is built on demand.
#[derive(Debug)]
pub(crate) struct BaseFile {
    name: String,
    base: Arc<Base<'static>>,
    pub(crate) id: BaseId,
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
                let bytes = std::fs::read(path).map_err(fail)?;
                // Leaked: a process has one base and uses it until it ends, like the embedded one.
                (path.display().to_string(), &*Vec::leak(bytes))
            }
            (None, Some(bytes)) => ("(embedded)".to_owned(), bytes),
            (None, None) => return Err(EdgeError::NoBase),
        };
        let fail = |source: BaseError| EdgeError::Base { name: name.clone(), source };
        let (base, id) = decode_base(bytes).map_err(fail)?;
        Ok(Self { name, base: Arc::new(base), id })
    }

    /// Path of the base file, or "(embedded)".
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Origin of the network.
    pub(crate) fn provenance(&self) -> &Provenance {
        &self.base.provenance
    }

    /// The shape of the network.
    pub(crate) fn vit(&self) -> &VitConfig {
        self.base.weights.config()
    }

    /// Length of a feature vector.
    pub(crate) fn d_feature(&self) -> usize {
        self.base.backbone.feature.d_feature(self.vit())
    }

    /// Preprocessing of pictures.
    pub(crate) fn preprocess(&self) -> Preprocess {
        self.base.backbone.preprocess
    }

    /// Shared bases, if the base has any.
    pub(crate) fn adapter(&self) -> Option<&Adapter> {
        self.base.adapter.as_ref()
    }

    /// Statistics of generic pictures, if the base carries any.
    pub(crate) fn prior(&self) -> Option<&Prior> {
        self.base.prior.as_ref()
    }

    /// Builds the network with the adapter state that its tasks left, on the requested device.
    pub(crate) fn engine(
        &self,
        state: Option<&AdapterState>,
        spec: &DeviceSpec,
    ) -> Result<Engine, EdgeError> {
        Engine::new(self.base.clone(), state, spec)
    }
}
