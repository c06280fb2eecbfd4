//! What the tests of every crate share: their device, how precise it is, and which paths it took.
//!
//! It is part of the library so that tests and library have one copy of its statics.

use burn::{prelude::*, tensor::DType};

use crate::{device, use_plain_operations};

/// Has the CPU take the paths of GPUs, from here on in this process.
pub fn use_gpu_paths_on_cpu() {
    device::use_gpu_paths_on_cpu();
}

/// Operations that have taken the path of GPUs in this process. A test that means to test them looks here.
pub fn n_gpu_paths() -> usize {
    device::n_gpu_paths()
}

/// The device that tests run on: the one `KINDLING_TEST_DEVICE` names, else the CPU. `cpu-plain` is the CPU
/// [without fused operations](crate::use_plain_operations), `cpu-as-gpu` [by the paths of GPUs](use_gpu_paths_on_cpu).
///
/// Every crate's tests call this, so the same tests run on each backend that is compiled in. On a machine without the
/// device, they run on the CPU and a line on stderr says so.
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
        "cuda" => there_or_cpu(&name, "cuda:0", || crate::check_cuda(0).map(|()| Device::cuda(0))),
        #[cfg(feature = "vulkan")]
        "vulkan" => there_or_cpu(&name, "its best device", || crate::Graphics::Vulkan.device(None)),
        #[cfg(feature = "metal")]
        "metal" => there_or_cpu(&name, "its best device", || crate::Graphics::Metal.device(None)),
        #[cfg(feature = "wgpu")]
        "wgpu" => there_or_cpu(&name, "its best device", || crate::Graphics::Wgpu.device(None)),
        _ => panic!("KINDLING_TEST_DEVICE is {name:?}, which is not compiled into these tests"),
    }
}

/// How far results of products may be from exact ones on the [device that tests run on](test_device), `on_cpu` on a CPU.
///
/// On an NVIDIA GPU a thousand times that, since it may round the factors of f32 to TF32, which has 13 bits less of mantissa; what a
/// test allows is several times the rounding of f32 as it is. On other GPUs 64 times, since their `exp` and its like may be
/// off by some units in the last place and their sums are taken in another order each.
pub fn test_tolerance(on_cpu: f32) -> f32 {
    let device = test_device();
    #[cfg(feature = "cuda")]
    if device == Device::cuda(0) {
        return 1024.0 * on_cpu;
    }
    if device == Device::flex() { on_cpu } else { 64.0 * on_cpu }
}

/// Whether the [device that tests run on](test_device) has numbers of bf16. If not, a line on stderr says that a test is
/// skipped.
#[expect(clippy::print_stderr, reason = "tests have no other way to say that they did nothing")]
pub fn test_device_has_bf16() -> bool {
    let has_bf16 = test_device().supports_dtype(DType::BF16);
    if !has_bf16 {
        eprintln!("the device that tests run on has no bf16; this test is skipped");
    }
    has_bf16
}

/// The device, or without one the CPU; and a line for the person who runs tests, once in a program of them, says which.
/// `cargo xtask device-check` reads it.
#[cfg(feature = "gpu")]
#[expect(
    clippy::print_stderr,
    reason = "tests have no other way to say whether they ran where they were told"
)]
fn there_or_cpu<E: std::fmt::Display>(
    name: &str,
    there: &str,
    open: impl Fn() -> Result<Device, E>,
) -> Device {
    static OPENED: std::sync::OnceLock<Device> = std::sync::OnceLock::new();
    let first = || {
        crate::use_shipped_settings();
        let (device, where_they_run) = match open() {
            Ok(device) => (device, format!("; the tests run on {there}")),
            Err(error) => (Device::flex(), format!(", and {error}; the tests run on the CPU")),
        };
        eprintln!("KINDLING_TEST_DEVICE is {name:?}{where_they_run}");
        device
    };
    OPENED.get_or_init(first).clone()
}
