//! `*.fmlb`, the base file: a network, its configuration and its provenance.

use fmlora_models::{BackboneConfig, BackboneError, Resampling, VitWeights, WeightsError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::header::{FileKind, HeaderError, decode, open, seal};
use crate::{Adapter, AdapterError, BaseId, Prior, PriorError};

/// Origin and licence of a network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Name of the network.
    pub name: String,
    /// Author and training data.
    pub source: String,
    /// Licence, and restrictions from the training data.
    pub licence: String,
    /// SHA-256, in hex, of the checkpoint that the network was imported from.
    pub checkpoint_sha256: String,
    /// Change of the image size since training. `None` at the trained size, and if it is not known.
    pub resampling: Option<Resampling>,
}

/// [`Provenance`] in versions 1 and 2 of the content.
#[derive(Deserialize)]
struct OldProvenance {
    name: String,
    source: String,
    licence: String,
    checkpoint_sha256: String,
}

impl From<OldProvenance> for Provenance {
    fn from(old: OldProvenance) -> Self {
        let OldProvenance { name, source, licence, checkpoint_sha256 } = old;
        Self { name, source, licence, checkpoint_sha256, resampling: None }
    }
}

/// Content of a base file: everything that a device needs before it learns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Base<'a> {
    /// Origin and licence of the network.
    pub provenance: Provenance,
    /// Preprocessing, split into frozen and adapted blocks, and feature.
    pub backbone: BackboneConfig,
    /// Shared bases with the state of a broad first task. `None` for a base of which only the head
    /// adapts.
    pub adapter: Option<Adapter>,
    /// Statistics of generic pictures, in the features of the network with the adapter. `None` for
    /// a base without them.
    pub prior: Option<Prior>,
    /// The network, in f16.
    #[serde(borrow)]
    pub weights: VitWeights<'a>,
}

/// Version 1 of the content: no shared bases.
#[derive(Deserialize)]
struct Version1<'a> {
    provenance: OldProvenance,
    backbone: BackboneConfig,
    #[serde(borrow)]
    weights: VitWeights<'a>,
}

/// Version 2 of the content: no resampling.
#[derive(Deserialize)]
struct Version2<'a> {
    provenance: OldProvenance,
    backbone: BackboneConfig,
    adapter: Option<Adapter>,
    #[serde(borrow)]
    weights: VitWeights<'a>,
}

/// Version 3 of the content: no prior.
#[derive(Deserialize)]
struct Version3<'a> {
    provenance: Provenance,
    backbone: BackboneConfig,
    adapter: Option<Adapter>,
    #[serde(borrow)]
    weights: VitWeights<'a>,
}

/// Reason why a file is not a usable base.
#[derive(Debug, Error)]
pub enum BaseError {
    /// Not a base, of another version, truncated or damaged.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The checksum is right, but the content does not decode.
    #[error("the content of the base cannot be decoded")]
    Content(#[source] postcard::Error),
    /// Preprocessing, split or feature do not fit the network.
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    /// The shared bases do not fit the network.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// The prior does not fit the feature.
    #[error(transparent)]
    Prior(#[from] PriorError),
    /// A weight cannot be stored in f16.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

/// Decodes a base. The weights are borrowed from `file`.
///
/// # Errors
///
/// [`BaseError`].
pub fn decode_base(file: &[u8]) -> Result<(Base<'_>, BaseId), BaseError> {
    let opened = open(FileKind::Base, file)?;
    let base = match opened.version {
        1 => {
            let old: Version1<'_> = decode(opened.content).map_err(BaseError::Content)?;
            let Version1 { provenance, backbone, weights } = old;
            Base { provenance: provenance.into(), backbone, adapter: None, prior: None, weights }
        }
        2 => {
            let old: Version2<'_> = decode(opened.content).map_err(BaseError::Content)?;
            let Version2 { provenance, backbone, adapter, weights } = old;
            Base { provenance: provenance.into(), backbone, adapter, prior: None, weights }
        }
        3 => {
            let old: Version3<'_> = decode(opened.content).map_err(BaseError::Content)?;
            let Version3 { provenance, backbone, adapter, weights } = old;
            Base { provenance, backbone, adapter, prior: None, weights }
        }
        _ => decode(opened.content).map_err(BaseError::Content)?,
    };
    check(&base)?;
    Ok((base, BaseId::new(opened.sha256)))
}

/// Encodes a base, with weights in f16. The same base gives the same bytes.
///
/// # Errors
///
/// [`BaseError::Weights`] for a weight that f16 cannot hold, [`BaseError::Backbone`] if the parts
/// do not fit together.
pub fn encode_base(base: &Base<'_>) -> Result<Vec<u8>, BaseError> {
    check(base)?;
    let weights = base.weights.to_half()?;
    let half = Base {
        provenance: base.provenance.clone(),
        backbone: base.backbone.clone(),
        adapter: base.adapter.clone(),
        prior: base.prior.clone(),
        weights,
    };
    let content = postcard::to_stdvec(&half).map_err(BaseError::Content)?;
    Ok(seal(FileKind::Base, &content))
}

fn check(base: &Base<'_>) -> Result<(), BaseError> {
    base.backbone.check(base.weights.config())?;
    if let Some(adapter) = &base.adapter {
        adapter.check(base.backbone.first_adapted_block, base.weights.config())?;
    }
    if let Some(prior) = &base.prior {
        prior.check(base.backbone.feature.d_feature(base.weights.config()))?;
    }
    Ok(())
}
