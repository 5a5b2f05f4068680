//! Where a network computes: the processor, or a graphics adapter.
//!
//! Which one is decided while the program runs, never by what it was built with: a build without a backend
//! only has fewer to choose from.

#[cfg(feature = "wgpu")]
mod gpu;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use burn::tensor::Device;
use serde::Serialize;
use thiserror::Error;

/// What a user asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DeviceSpec {
    /// The first graphics adapter that is no software, else the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The first graphics adapter that is no software.
    Gpu,
    /// The graphics adapter with this place in [`adapters`], software or not.
    GpuAt(usize),
    /// The graphics adapter that has this in its name, software or not.
    Named(String),
    /// The processor, tensor by tensor as every other device computes, for comparison.
    Flex,
    /// The processor through Burn's older backend, for comparison.
    NdArray,
    /// NVIDIA's own interface, for workstations.
    Cuda,
}

/// What kind of hardware an adapter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AdapterKind {
    /// A card with memory of its own.
    Discrete,
    /// Shares the processor's memory.
    Integrated,
    /// A part of a card, lent to a virtual machine.
    Virtual,
    /// No hardware: the processor pretends to be one.
    Software,
    /// The driver does not say.
    Other,
}

/// A graphics adapter that this machine has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GpuAdapter {
    /// Its place: `gpu:0` is the first.
    pub index: usize,
    /// As its driver calls it.
    pub name: String,
    /// What it is.
    pub kind: AdapterKind,
    /// Vulkan, Metal or Dx12.
    pub api: String,
    /// Name and version of the driver.
    pub driver: String,
    /// Largest block of memory that it gives at once, in bytes; the interfaces do not tell its memory as a whole.
    pub max_buffer_bytes: u64,
    /// Whether it computes in f16.
    pub f16: bool,
}

/// A device that was opened.
#[derive(Debug, Clone)]
pub struct ComputeDevice {
    /// For tensors.
    pub device: Device,
    /// What it is.
    pub hardware: Hardware,
}

/// What a [`ComputeDevice`] is.
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
    /// NVIDIA's own interface.
    Cuda,
}

/// Why there is no such device.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OpenDeviceError {
    /// The program was built without it.
    #[error("no device {asked:?}: this program was built without {what} (feature `{feature}`)")]
    NotBuilt {
        /// What was asked for.
        asked: String,
        /// What is missing.
        what: &'static str,
        /// The Cargo feature that brings it.
        feature: &'static str,
    },
    /// No adapter is what was asked for.
    #[error("there is no graphics adapter {asked:?}; found: {found}")]
    NoAdapter {
        /// What was asked for.
        asked: String,
        /// Adapters that are there.
        found: String,
    },
    /// The adapter is there and cannot be used.
    #[error("{adapter} cannot be used: {reason}")]
    Refused {
        /// Name of the adapter.
        adapter: String,
        /// What its driver says.
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
    /// The processor.
    pub fn cpu() -> Self {
        Self { device: Device::flex(), hardware: Hardware::Cpu }
    }

    /// Whether it is the processor by the path that every machine has.
    pub fn is_cpu(&self) -> bool {
        self.hardware == Hardware::Cpu
    }

    /// Opens what was asked for.
    ///
    /// # Errors
    ///
    /// [`OpenDeviceError`]; never for [`DeviceSpec::Auto`] and [`DeviceSpec::Cpu`] when there is no graphics
    /// adapter at all.
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

/// The graphics adapters of this machine; none if the program was built without.
pub fn adapters() -> Vec<GpuAdapter> {
    #[cfg(feature = "wgpu")]
    return gpu::adapters();
    #[cfg(not(feature = "wgpu"))]
    Vec::new()
}

/// The adapter that is meant: software only where it is named.
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

/// Keeps what graphics adapters measure about their kernels in a folder, so that the next start need not measure
/// again. Only before the first adapter is opened, and only in a build with `autotune`, does it have an effect; a
/// folder that cannot be written costs time, nothing else.
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
        let (name, api) = (name.to_owned(), "Vulkan".to_owned());
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
    fn software_is_taken_only_where_it_is_named() {
        assert_eq!(chosen("auto"), Ok(1));
        assert_eq!(chosen("gpu"), Ok(1));
        assert_eq!(chosen("LLVMpipe"), Ok(0));
        assert_eq!(chosen("gpu:0"), Ok(0));
        let software_alone = || machine().into_iter().take(1).collect::<Vec<_>>();
        assert!(choose(&DeviceSpec::Gpu, software_alone()).is_err());
        assert!(choose(&DeviceSpec::Auto, software_alone()).is_err(), "auto means the processor");
    }

    #[test]
    fn a_missing_adapter_is_named_with_those_that_are_there() {
        let error = chosen("gpu:7").expect_err("there are two").to_string();
        assert!(error.contains("gpu:7") && error.contains("NVIDIA Orin"), "{error}");
        assert!("gpu:x".parse::<DeviceSpec>().is_err());
        assert!(" ".parse::<DeviceSpec>().is_err());
    }

    #[test]
    fn what_is_asked_for_reads_as_it_is_written() {
        for text in ["auto", "cpu", "gpu", "gpu:3", "flex", "ndarray", "cuda", "rtx 4090"] {
            assert_eq!(text.parse::<DeviceSpec>().expect("a device").to_string(), text);
        }
    }
}
