//! Placement of a network: on the requested device after a check against the processor, else on the
//! processor.
//!
//! Drivers of graphics adapters are wrong more often than processors. A device is used only after
//! it has computed the same results as the processor, on this very network.

mod parity;

use std::panic::{AssertUnwindSafe, catch_unwind};

use fmlora_models::{
    Backbone, BackboneConfig, BackboneError, ComputeDevice, DeviceSpec, Hardware, OpenDeviceError,
    VitWeights,
};
use thiserror::Error;

pub use parity::{HALF_TOLERANCE, PARITY_TOLERANCE, Parity, ParityError, check_parity};

/// A network, its device, and the result of the check.
#[derive(Debug, Clone)]
pub struct Placement {
    /// The network.
    pub backbone: Backbone,
    /// The device that computes it.
    pub hardware: Hardware,
    /// Difference between the device and the processor. `None` on the processor.
    pub parity: Option<Parity>,
    /// Reason why the preferred device or precision is not used: a complete sentence for display.
    pub refused: Option<String>,
}

/// Reason why there is no network on any device.
#[derive(Debug, Error)]
pub enum PlacementError {
    /// The requested device is not there.
    #[error(transparent)]
    Open(#[from] OpenDeviceError),
    /// The network cannot be built.
    #[error(transparent)]
    Backbone(#[from] BackboneError),
}

/// Puts a network on a device and checks it there with batches of `batch` pictures, which also
/// compiles the device's kernels for them. Falls back to the processor if the check fails.
/// `checking` is called with the device before the check begins: the first check on an adapter
/// takes a while.
///
/// # Errors
///
/// [`PlacementError`] if there is no such device, or if the network cannot be built anywhere.
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
    let on_cpu = |refused| Placement {
        backbone: cpu.clone(),
        hardware: Hardware::Cpu,
        parity: None,
        refused,
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
            let backbone = Backbone::new(weights, config.clone(), &device.device)
                .map_err(|e| e.to_string())?;
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

/// Runs work on a device and turns a panic of its driver into an error.
///
/// # Errors
///
/// The error of the work, or the text of its panic.
pub fn contained<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(text.unwrap_or("the device's driver crashed").to_owned())
    })
}
