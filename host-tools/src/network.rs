//! The network of a base on the device that was asked for.

use anyhow::Result;
use fmlora_learner::{Placement, place};
use fmlora_models::{Backbone, BackboneConfig, DeviceSpec, Hardware, VitWeights};

/// Pictures of a forward pass: what the check of a device is made with.
const BATCH: usize = 32;

/// Builds the network, and says where it computes if that is not the processor or not what was asked for.
pub(crate) fn network(
    weights: &VitWeights<'_>,
    config: &BackboneConfig,
    device: &DeviceSpec,
) -> Result<Backbone> {
    let Placement { backbone, hardware, parity, refused } = place(weights, config, device, BATCH)?;
    if let Some(why) = refused {
        eprintln!("warning: {why}: the processor is used instead");
    }
    if let (Some(parity), false) = (parity, hardware == Hardware::Cpu) {
        let worst = parity.forward.max(parity.training);
        eprintln!("computing on {hardware}, which differs from the processor by {worst:.0e}");
    }
    Ok(backbone)
}
