//! The devices that learning is tested on: the same tests with the same bounds on each.

use burn::tensor::Device;
use fmlora_models::{ComputeDevice, DeviceSpec, Hardware, adapters};

/// The processor.
pub fn cpu() -> Option<Device> {
    Some(ComputeDevice::cpu().device)
}

/// The processor through Burn's older backend.
///
/// # Panics
///
/// If this build has none.
pub fn ndarray() -> Option<Device> {
    Some(ComputeDevice::open(&DeviceSpec::NdArray).expect("a build with ndarray").device)
}

/// A graphics adapter: a real one if there is one, else one in software. `None`, and a line that says so, on a
/// machine without any.
///
/// # Panics
///
/// If there is none in CI, where one is installed, and if it cannot be opened.
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
    let opened = real.or_else(|_| ComputeDevice::open(&DeviceSpec::GpuAt(first.index)));
    let opened = opened.expect("an adapter that opens");
    assert!(matches!(opened.hardware, Hardware::Gpu(_)));
    Some(opened.device)
}

/// Makes tests of functions that take a device, one for each device that this build has.
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

/// The tests of one device.
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
