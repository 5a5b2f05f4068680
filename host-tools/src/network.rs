//! Loads the network of a base onto the selected compute device.

use std::time::Duration;

use anyhow::Result;
use directories::ProjectDirs;
use fmlora_learner::format::Base;
use fmlora_learner::{Placement, place};
use fmlora_models::{
    Backbone, BackboneConfig, DeviceSpec, Hardware, VitWeights, keep_measurements_in,
};
use indicatif::{ProgressBar, ProgressDrawTarget};

/// Batch size of the parity check of a device.
const BATCH: usize = 32;

/// Builds the network of a base, split as `config` says. The side branches that a broad first task
/// left in the base are folded in: they are part of its features.
pub(crate) fn adapted_network(
    base: &Base<'_>,
    config: &BackboneConfig,
    device: &DeviceSpec,
) -> Result<Backbone> {
    let plain = network(&base.weights, config, device)?;
    let learned = base.adapter.as_ref().map(|adapter| adapter.side_branches(plain.device()));
    Ok(learned.map_or(plain.clone(), |branches| plain.folded(&branches)))
}

/// Builds the network. Reports on standard error a device that was refused, and a device other than
/// the processor.
pub(crate) fn network(
    weights: &VitWeights<'_>,
    config: &BackboneConfig,
    device: &DeviceSpec,
) -> Result<Backbone> {
    if let Some(platform) = ProjectDirs::from("", "", "fmlora") {
        keep_measurements_in(&platform.cache_dir().join("kernels"));
    }
    let bar = ProgressBar::hidden();
    let placed = place(weights, config, device, BATCH, &mut |hardware| {
        bar.set_draw_target(ProgressDrawTarget::stderr());
        bar.set_message(format!("checking {hardware} against the processor"));
        bar.enable_steady_tick(Duration::from_millis(200));
    });
    bar.finish_and_clear();
    let Placement { backbone, hardware, parity, refused } = placed?;
    if let Some(why) = refused {
        eprintln!("warning: {why}");
    }
    if let (Some(parity), false) = (parity, hardware == Hardware::Cpu) {
        let worst = parity.forward.max(parity.training);
        eprintln!("computing on {hardware}, which differs from the processor by {worst:.0e}");
    }
    Ok(backbone)
}
