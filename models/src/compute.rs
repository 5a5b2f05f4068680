//! Compute devices: the processor and graphics adapters.
//!
//! The device is selected at run time, among the backends that the program was built with.

#[cfg(feature = "wgpu")]
mod gpu;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use burn::tensor::Device;
use serde::Serialize;
use thiserror::Error;

/// Device requested by the user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DeviceSpec {
    /// The first graphics adapter in hardware, else the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The first graphics adapter in hardware.
    Gpu,
    /// The graphics adapter with this index in [`adapters`], in hardware or software.
    GpuAt(usize),
    /// The graphics adapter with this text in its name, in hardware or software.
    Named(String),
    /// The processor, tensor by tensor like every other device; for comparison.
    Flex,
    /// The processor, through Burn's older backend; for comparison.
    NdArray,
    /// NVIDIA's CUDA, for workstations.
    Cuda,
}

/// Kind of a graphics adapter's hardware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AdapterKind {
    /// A card with its own memory.
    Discrete,
    /// A device that shares the processor's memory.
    Integrated,
    /// A part of a card, assigned to a virtual machine.
    Virtual,
    /// A driver that computes on the processor.
    Software,
    /// Not reported by the driver.
    Other,
}

/// A graphics adapter of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GpuAdapter {
    /// Index among the adapters: `gpu:0` is the first.
    pub index: usize,
    /// Name from the driver.
    pub name: String,
    /// Kind of its hardware.
    pub kind: AdapterKind,
    /// Graphics API: Vulkan, Metal or Dx12.
    pub api: String,
    /// Name and version of the driver.
    pub driver: String,
    /// Largest single allocation in bytes. The graphics APIs do not report the size of the whole
    /// memory.
    pub max_buffer_bytes: u64,
    /// True if it computes in f16.
    pub f16: bool,
}

/// An open device.
#[derive(Debug, Clone)]
pub struct ComputeDevice {
    /// Handle for tensors.
    pub device: Device,
    /// Description of the device.
    pub hardware: Hardware,
}

/// Description of a [`ComputeDevice`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hardware {
    /// The processor, through packed blocks.
    Cpu,
    /// The processor, tensor by tensor.
    Flex,
    /// The processor, through Burn's older backend.
    NdArray,
    /// A graphics adapter.
    Gpu(GpuAdapter),
    /// NVIDIA's CUDA.
    Cuda,
}

/// Reason why a device cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OpenDeviceError {
    /// The program was built without the backend.
    #[error("no device {asked:?}: this program was built without {what} (feature `{feature}`)")]
    NotBuilt {
        /// The device requested.
        asked: String,
        /// The missing backend.
        what: &'static str,
        /// The Cargo feature that adds it.
        feature: &'static str,
    },
    /// No adapter matches the request.
    #[error("there is no graphics adapter {asked:?}; found: {found}")]
    NoAdapter {
        /// The device requested.
        asked: String,
        /// The adapters found.
        found: String,
    },
    /// The adapter exists but cannot be used.
    #[error("{adapter} cannot be used: {reason}")]
    Refused {
        /// Name of the adapter.
        adapter: String,
        /// Message of the driver.
        reason: String,
    },
}

impl FromStr for DeviceSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.trim().to_lowercase();
        if let Some(index) = lower.strip_prefix("gpu:") {
            let index =
                index.parse().map_err(|_| format!("expected gpu:NUMBER, found {text:?}"))?;
            return Ok(Self::GpuAt(index));
        }
        match lower.as_str() {
            "" => Err("expected auto, cpu, gpu, gpu:NUMBER or the name of an adapter".to_owned()),
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu),
            "flex" => Ok(Self::Flex),
            "ndarray" => Ok(Self::NdArray),
            "cuda" => Ok(Self::Cuda),
            _ => Ok(Self::Named(lower)),
        }
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu => f.write_str("gpu"),
            Self::GpuAt(index) => write!(f, "gpu:{index}"),
            Self::Named(name) => f.write_str(name),
            Self::Flex => f.write_str("flex"),
            Self::NdArray => f.write_str("ndarray"),
            Self::Cuda => f.write_str("cuda"),
        }
    }
}

impl fmt::Display for Hardware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => {
                let threads = std::thread::available_parallelism().map_or(1, usize::from);
                write!(f, "cpu, {threads} threads")
            }
            Self::Flex => f.write_str("cpu, tensor by tensor"),
            Self::NdArray => f.write_str("cpu by ndarray"),
            Self::Gpu(adapter) => write!(f, "{adapter}"),
            Self::Cuda => f.write_str("cuda"),
        }
    }
}

impl fmt::Display for GpuAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let software = if self.kind == AdapterKind::Software { ", software" } else { "" };
        write!(f, "gpu:{} {} ({}{software})", self.index, self.name, self.api)
    }
}

impl ComputeDevice {
    /// Returns the processor.
    pub fn cpu() -> Self {
        Self { device: Device::flex(), hardware: Hardware::Cpu }
    }

    /// Returns true for the processor with packed blocks, which every machine has.
    pub fn is_cpu(&self) -> bool {
        self.hardware == Hardware::Cpu
    }

    /// Opens a device.
    ///
    /// # Errors
    ///
    /// [`OpenDeviceError`]. Never for [`DeviceSpec::Auto`] and [`DeviceSpec::Cpu`] if there is no
    /// graphics adapter.
    pub fn open(spec: &DeviceSpec) -> Result<Self, OpenDeviceError> {
        match spec {
            DeviceSpec::Cpu => Ok(Self::cpu()),
            DeviceSpec::Flex => Ok(Self { device: Device::flex(), hardware: Hardware::Flex }),
            DeviceSpec::NdArray => ndarray(),
            DeviceSpec::Cuda => cuda(),
            DeviceSpec::Auto => match choose(spec, adapters()) {
                Ok(adapter) => open_gpu(&adapter),
                Err(_) => Ok(Self::cpu()),
            },
            DeviceSpec::Gpu | DeviceSpec::GpuAt(_) | DeviceSpec::Named(_) => {
                if cfg!(not(feature = "wgpu")) {
                    return Err(not_built(&spec.to_string(), "graphics adapters", "wgpu"));
                }
                open_gpu(&choose(spec, adapters())?)
            }
        }
    }
}

/// Lists the graphics adapters of this machine. Empty if the program was built without `wgpu`.
pub fn adapters() -> Vec<GpuAdapter> {
    #[cfg(feature = "wgpu")]
    return gpu::adapters();
    #[cfg(not(feature = "wgpu"))]
    Vec::new()
}

/// Chooses the requested adapter. Adapters in software are chosen only by index or name.
fn choose(spec: &DeviceSpec, adapters: Vec<GpuAdapter>) -> Result<GpuAdapter, OpenDeviceError> {
    let wanted = |adapter: &GpuAdapter| match spec {
        DeviceSpec::GpuAt(index) => adapter.index == *index,
        DeviceSpec::Named(name) => adapter.name.to_lowercase().contains(name),
        _ => adapter.kind != AdapterKind::Software,
    };
    let found: Vec<String> = adapters.iter().map(ToString::to_string).collect();
    let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
    let chosen = adapters.into_iter().find(wanted);
    chosen.ok_or_else(|| OpenDeviceError::NoAdapter { asked: spec.to_string(), found })
}

/// Caches the kernel measurements of graphics adapters in a folder, so that the next start need not
/// repeat them. It has an effect only before the first adapter is opened, and only in a build with
/// `autotune`. If the folder cannot be written, only time is lost.
pub fn keep_measurements_in(folder: &Path) {
    #[cfg(feature = "wgpu")]
    gpu::keep_measurements_in(folder);
    #[cfg(not(feature = "wgpu"))]
    let _ = folder;
}

fn open_gpu(adapter: &GpuAdapter) -> Result<ComputeDevice, OpenDeviceError> {
    #[cfg(feature = "wgpu")]
    return gpu::open(adapter);
    #[cfg(not(feature = "wgpu"))]
    {
        Err(not_built(&adapter.to_string(), "graphics adapters", "wgpu"))
    }
}

fn not_built(asked: &str, what: &'static str, feature: &'static str) -> OpenDeviceError {
    OpenDeviceError::NotBuilt { asked: asked.to_owned(), what, feature }
}

#[cfg(feature = "ndarray")]
#[allow(
    deprecated,
    reason = "Burn keeps this backend for one more release; it is here to compare with"
)]
#[allow(clippy::unnecessary_wraps, reason = "a build without it has an error here")]
fn ndarray() -> Result<ComputeDevice, OpenDeviceError> {
    Ok(ComputeDevice { device: Device::ndarray(), hardware: Hardware::NdArray })
}

#[cfg(not(feature = "ndarray"))]
fn ndarray() -> Result<ComputeDevice, OpenDeviceError> {
    Err(not_built("ndarray", "Burn's ndarray backend", "ndarray"))
}

#[cfg(feature = "cuda")]
#[allow(clippy::unnecessary_wraps, reason = "a build without it has an error here")]
fn cuda() -> Result<ComputeDevice, OpenDeviceError> {
    Ok(ComputeDevice { device: Device::cuda(0_usize), hardware: Hardware::Cuda })
}

#[cfg(not(feature = "cuda"))]
fn cuda() -> Result<ComputeDevice, OpenDeviceError> {
    Err(not_built("cuda", "CUDA", "cuda"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(index: usize, name: &str, kind: AdapterKind) -> GpuAdapter {
        let name = name.to_owned();
        let api = "Vulkan".to_owned();
        let driver = String::new();
        GpuAdapter { index, name, kind, api, driver, max_buffer_bytes: 1 << 30, f16: false }
    }

    fn machine() -> Vec<GpuAdapter> {
        let software = adapter(0, "llvmpipe (LLVM 15)", AdapterKind::Software);
        vec![software, adapter(1, "NVIDIA Orin", AdapterKind::Integrated)]
    }

    fn chosen(spec: &str) -> Result<usize, OpenDeviceError> {
        let spec: DeviceSpec = spec.parse().expect("a device");
        choose(&spec, machine()).map(|adapter| adapter.index)
    }

    #[test]
    fn software_is_chosen_only_by_name_or_index() {
        assert_eq!(chosen("auto"), Ok(1));
        assert_eq!(chosen("gpu"), Ok(1));
        assert_eq!(chosen("LLVMpipe"), Ok(0));
        assert_eq!(chosen("gpu:0"), Ok(0));
        let software_alone = || machine().into_iter().take(1).collect::<Vec<_>>();
        assert!(choose(&DeviceSpec::Gpu, software_alone()).is_err());
        assert!(choose(&DeviceSpec::Auto, software_alone()).is_err(), "auto means the processor");
    }

    #[test]
    fn the_error_for_a_missing_adapter_lists_those_found() {
        let error = chosen("gpu:7").expect_err("there are two").to_string();
        assert!(error.contains("gpu:7") && error.contains("NVIDIA Orin"), "{error}");
        assert!("gpu:x".parse::<DeviceSpec>().is_err());
        assert!(" ".parse::<DeviceSpec>().is_err());
    }

    #[test]
    fn a_device_spec_survives_parsing_and_display() {
        for text in ["auto", "cpu", "gpu", "gpu:3", "flex", "ndarray", "cuda", "rtx 4090"] {
            assert_eq!(text.parse::<DeviceSpec>().expect("a device").to_string(), text);
        }
    }
}
