//! Graphics adapters through wgpu, with the platform's native API: Vulkan, Metal or Direct3D 12.

use std::path::Path;
use std::sync::{LazyLock, Mutex, PoisonError};

use burn::cubecl::config::cache::CacheConfig;
use burn::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use burn::tensor::wgpu::{WgpuBackend, wgpu};
use burn::tensor::{Device, DeviceKind};

use super::{AdapterKind, ComputeDevice, GpuAdapter, Hardware, OpenDeviceError};

/// Native graphics API of the platform. Adapters have the same order in all calls that use it.
const API: (WgpuBackend, wgpu::Backends) = if cfg!(target_vendor = "apple") {
    (WgpuBackend::Metal, wgpu::Backends::METAL)
} else if cfg!(windows) {
    (WgpuBackend::Dx12, wgpu::Backends::DX12)
} else {
    (WgpuBackend::Vulkan, wgpu::Backends::VULKAN)
};

/// Open adapters, by index. The runtime allows each to be opened once a process.
static OPENED: Mutex<Vec<(usize, Device)>> = Mutex::new(Vec::new());

/// All adapters, in the order of the driver. Queried once a process.
static FOUND: LazyLock<Vec<GpuAdapter>> = LazyLock::new(find);

pub(super) fn adapters() -> Vec<GpuAdapter> {
    FOUND.clone()
}

fn find() -> Vec<GpuAdapter> {
    let described = |(index, adapter): (usize, &wgpu::Adapter)| {
        let info = adapter.get_info();
        let driver = format!("{} {}", info.driver, info.driver_info);
        GpuAdapter {
            index,
            name: info.name,
            kind: match info.device_type {
                wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
                wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
                wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
                wgpu::DeviceType::Cpu => AdapterKind::Software,
                wgpu::DeviceType::Other => AdapterKind::Other,
            },
            api: info.backend.to_string(),
            driver: driver.trim().to_owned(),
            max_buffer_bytes: adapter.limits().max_buffer_size,
            f16: adapter.features().contains(wgpu::Features::SHADER_F16),
        }
    };
    let descriptor = wgpu::InstanceDescriptor {
        backends: API.1,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    };
    let instance = wgpu::Instance::new(descriptor);
    let found = burn::cubecl::future::block_on(instance.enumerate_adapters(API.1));
    found.iter().enumerate().map(described).collect()
}

pub(super) fn keep_measurements_in(folder: &Path) {
    let mut config = CubeClRuntimeConfig::default();
    config.environment.path = CacheConfig::Directory(folder.to_owned());
    // Set once a process. This also prevents a file in the working directory from configuring the
    // runtime.
    CubeClRuntimeConfig::try_set(config);
}

/// Opens an adapter.
pub(super) fn open(adapter: &GpuAdapter) -> Result<ComputeDevice, OpenDeviceError> {
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    let known = opened.iter().find(|(index, _)| *index == adapter.index);
    let device = if let Some((_, device)) = known {
        device.clone()
    } else {
        let options = Device::wgpu_options().graphics_api(API.0).device_kind(kind(adapter));
        let (device, _) = options.init_with_setup().map_err(|error| OpenDeviceError::Refused {
            adapter: adapter.to_string(),
            reason: error.to_string(),
        })?;
        opened.push((adapter.index, device.clone()));
        device
    };
    Ok(ComputeDevice { device, hardware: Hardware::Gpu(adapter.clone()) })
}

/// Returns the adapter in the runtime's numbering, which counts each kind separately.
fn kind(adapter: &GpuAdapter) -> DeviceKind {
    let before = FOUND.iter().filter(|a| a.index < adapter.index);
    let place = before.filter(|a| a.kind == adapter.kind).count();
    match adapter.kind {
        AdapterKind::Discrete => DeviceKind::DiscreteGpu(place),
        AdapterKind::Integrated => DeviceKind::IntegratedGpu(place),
        AdapterKind::Virtual => DeviceKind::VirtualGpu(place),
        AdapterKind::Software => DeviceKind::Cpu,
        AdapterKind::Other => DeviceKind::DefaultDevice,
    }
}
