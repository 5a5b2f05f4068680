//! Devices for tests of learning: the same tests with the same bounds run on each of them.

use burn::tensor::Device;
use fmlora_models::{ComputeDevice, DeviceSpec, Hardware, adapters};

/// Returns the processor.
pub fn cpu() -> Option<Device> {
    Some(ComputeDevice::cpu().device)
}

/// Returns the processor through Burn's older backend.
///
/// # Panics
///
/// If this build does not have it.
pub fn ndarray() -> Option<Device> {
    Some(ComputeDevice::open(&DeviceSpec::NdArray).expect("a build with ndarray").device)
}

/// Returns a graphics adapter, in hardware if there is one, else in software. `None`, with a line
/// on stderr, on a machine without any.
///
/// # Panics
///
/// If there is none in CI, where one is installed, or if it cannot be opened.
pub fn graphics() -> Option<Device> {
    let Some(first) = adapters().into_iter().next() else {
        assert!(
            std::env::var_os("CI").is_none(),
            "no Vulkan device: is mesa-vulkan-drivers installed?"
        );
        eprintln!("skipped: this machine has no graphics adapter");
        return None;
    };
    let real = ComputeDevice::open(&DeviceSpec::Gpu);
    let opened = real
        .or_else(|_| ComputeDevice::open(&DeviceSpec::GpuAt(first.index)))
        .expect("an adapter that opens");
    assert!(matches!(opened.hardware, Hardware::Gpu(_)));
    Some(opened.device)
}

/// Defines tests from functions that take a device, one for each device of this build.
#[macro_export]
macro_rules! on_every_device {
    ($($test:ident),+ $(,)?) => {
        $crate::on_device!(cpu: $($test),+);
        #[cfg(feature = "ndarray")]
        $crate::on_device!(ndarray: $($test),+);
        #[cfg(feature = "wgpu")]
        $crate::on_device!(graphics: $($test),+);
    };
}

/// Defines the tests of one device.
#[macro_export]
macro_rules! on_device {
    ($device:ident: $($test:ident),+) => {
        mod $device {
            $(
                #[test]
                fn $test() {
                    if let Some(device) = $crate::devices::$device() {
                        super::$test(&device);
                    }
                }
            )+
        }
    };
}
