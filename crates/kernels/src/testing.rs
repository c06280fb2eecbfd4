//! Helpers for the tests of every crate: the test device, its tolerance, and the paths that it took.
//!
//! They are part of the library so that tests and library share its statics.

use burn::{prelude::*, tensor::DType};

use crate::{device, use_plain_operations};

/// Makes the CPU take the GPU paths for the rest of the process.
pub fn use_gpu_paths_on_cpu() {
    device::use_gpu_paths_on_cpu();
}

/// The number of operations that have taken a GPU path in this process, so that tests can check that they did.
pub fn n_gpu_paths() -> usize {
    device::n_gpu_paths()
}

/// The test device: the one that `KINDLING_TEST_DEVICE` names, else the CPU. `cpu-plain` is the CPU [without fused
/// operations](crate::use_plain_operations), `cpu-as-gpu` the CPU [with the GPU paths](use_gpu_paths_on_cpu).
///
/// The tests of every crate call this, so that the same tests run on each backend that is compiled in. On a machine
/// without the device, they run on the CPU and print a line on stderr.
///
/// # Panics
///
/// If the variable names a device that is not compiled in.
pub fn test_device() -> Device {
    let name = std::env::var("KINDLING_TEST_DEVICE").unwrap_or_else(|_| "cpu".to_owned());
    match name.as_str() {
        "cpu" => Device::flex(),
        "cpu-as-gpu" => {
            use_gpu_paths_on_cpu();
            Device::flex()
        }
        "cpu-plain" => {
            use_plain_operations(true);
            Device::flex()
        }
        #[cfg(feature = "cuda")]
        "cuda" => device_or_cpu(&name, "cuda:0", || crate::check_cuda(0).map(|()| Device::cuda(0))),
        #[cfg(feature = "vulkan")]
        "vulkan" => device_or_cpu(&name, "its best device", || crate::GraphicsApi::Vulkan.device(None)),
        #[cfg(feature = "metal")]
        "metal" => device_or_cpu(&name, "its best device", || crate::GraphicsApi::Metal.device(None)),
        #[cfg(feature = "wgpu")]
        "wgpu" => device_or_cpu(&name, "its best device", || crate::GraphicsApi::Wgpu.device(None)),
        _ => panic!("KINDLING_TEST_DEVICE is {name:?}, which is not compiled in"),
    }
}

/// The tolerance of products on the [test device](test_device), given the tolerance `on_cpu`.
///
/// On NVIDIA GPUs it is 1024 times larger: they may round operands to TF32, which has 13 fewer bits of mantissa, and
/// `on_cpu` is already several times the rounding of f32. On other GPUs it is 64 times larger: their `exp` and similar
/// functions may be off by some ulp, and their order of summation differs.
pub fn test_tolerance(on_cpu: f32) -> f32 {
    let device = test_device();
    #[cfg(feature = "cuda")]
    if device == Device::cuda(0) {
        return 1024.0 * on_cpu;
    }
    if device == Device::flex() { on_cpu } else { 64.0 * on_cpu }
}

/// Whether the [test device](test_device) supports bf16. If not, prints on stderr that a test is skipped.
#[expect(clippy::print_stderr, reason = "tests have no other way to report that they skipped")]
pub fn test_device_has_bf16() -> bool {
    let has_bf16 = test_device().supports_dtype(DType::BF16);
    if !has_bf16 {
        eprintln!("the test device does not support bf16; this test is skipped");
    }
    has_bf16
}

/// Opens the device, or falls back to the CPU. Prints once per test binary which one it is; `cargo xtask device-check`
/// reads that line.
#[cfg(feature = "gpu")]
#[expect(clippy::print_stderr, reason = "tests have no other way to report on which device they ran")]
fn device_or_cpu<E: std::fmt::Display>(
    name: &str,
    there: &str,
    open: impl Fn() -> Result<Device, E>,
) -> Device {
    static OPENED: std::sync::OnceLock<Device> = std::sync::OnceLock::new();
    let first = || {
        crate::use_shipped_settings();
        let (device, outcome) = match open() {
            Ok(device) => (device, format!("; the tests run on {there}")),
            Err(error) => (Device::flex(), format!(", and {error}; the tests run on the CPU")),
        };
        eprintln!("KINDLING_TEST_DEVICE is {name:?}{outcome}");
        device
    };
    OPENED.get_or_init(first).clone()
}
