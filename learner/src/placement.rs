//! A network on the device that was asked for, proven there against the processor, or on the processor.
//!
//! Drivers of graphics adapters are wrong more often than processors: a device is used only after it has
//! computed, on this very network, what the processor computes.

mod parity;

use std::panic::{AssertUnwindSafe, catch_unwind};

use fmlora_models::{
    Backbone, BackboneConfig, BackboneError, ComputeDevice, DeviceSpec, Hardware, OpenDeviceError,
    VitWeights,
};
use thiserror::Error;

pub use parity::{HALF_TOLERANCE, PARITY_TOLERANCE, Parity, ParityError, check_parity};

/// A network, where it computes, and how that was decided.
#[derive(Debug, Clone)]
pub struct Placement {
    /// The network.
    pub backbone: Backbone,
    /// Where it computes.
    pub hardware: Hardware,
    /// How far the device is from the processor; `None` on the processor.
    pub parity: Option<Parity>,
    /// What would have been used first and why it is not; whole, for a person to read.
    pub refused: Option<String>,
}

/// Why there is no network on any device.
#[derive(Debug, Error)]
pub enum PlacementError {
    /// The device asked for is not there.
    #[error(transparent)]
    Open(#[from] OpenDeviceError),
    /// The network cannot be built.
    #[error(transparent)]
    Backbone(#[from] BackboneError),
}

/// Puts a network on a device, checks it there with batches of `batch` pictures, which also compiles what the
/// device needs for them, and falls back to the processor if it fails. `checking` is told what is being checked
/// before that begins: the first time on an adapter it takes a while.
///
/// # Errors
///
/// [`PlacementError`]: no such device, or a network that cannot be built anywhere.
pub fn place(
    weights: &VitWeights<'_>,
    config: &BackboneConfig,
    spec: &DeviceSpec,
    batch: usize,
    checking: &mut dyn FnMut(&Hardware),
) -> Result<Placement, PlacementError> {
    let device = match contained(|| Ok(ComputeDevice::open(spec))) {
        Ok(Err(error)) if *spec != DeviceSpec::Auto => return Err(error.into()),
        Ok(opened) => opened.map_err(|error| error.to_string()),
        Err(crash) => Err(crash),
    };
    let cpu = Backbone::new(weights, config.clone(), &ComputeDevice::cpu().device)?;
    let on_cpu = |refused| {
        let (backbone, hardware) = (cpu.clone(), Hardware::Cpu);
        Placement { backbone, hardware, parity: None, refused }
    };
    let device = match device {
        Ok(device) if device.is_cpu() => return Ok(on_cpu(None)),
        Ok(device) => device,
        Err(why) => {
            return Ok(on_cpu(Some(format!("{why}: the processor is used instead"))));
        }
    };
    let proven = |halved: bool| {
        contained(|| {
            let backbone = Backbone::new(weights, config.clone(), &device.device);
            let backbone = backbone.map_err(|e| e.to_string())?;
            let backbone = if halved { backbone.halved() } else { backbone.unpacked() };
            let parity = check_parity(&cpu, &backbone, batch).map_err(|e| e.to_string())?;
            Ok((backbone, parity))
        })
    };
    let hardware = device.hardware.clone();
    checking(&hardware);
    let mut refused = None;
    if matches!(&hardware, Hardware::Gpu(adapter) if adapter.f16) {
        match proven(true) {
            Ok((backbone, parity)) => {
                return Ok(Placement { backbone, hardware, parity: Some(parity), refused });
            }
            Err(why) => refused = Some(format!("{hardware} in f16: {why}: f32 is used instead")),
        }
    }
    Ok(match proven(false) {
        Ok((backbone, parity)) => Placement { backbone, hardware, parity: Some(parity), refused },
        Err(why) => on_cpu(Some(format!("{hardware}: {why}: the processor is used instead"))),
    })
}

/// Runs what computes on a device. A driver that panics has failed like one that says so.
///
/// # Errors
///
/// What the work says, or the text of its panic.
pub fn contained<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(text.unwrap_or("the device's driver crashed").to_owned())
    })
}
