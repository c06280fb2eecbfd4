//! Where an operation runs, and the one place where tests take their device from.

use std::sync::atomic::{AtomicBool, Ordering};

use burn::{prelude::*, tensor::DType};

static PLAIN: AtomicBool = AtomicBool::new(false);
static AS_ON_GPUS: AtomicBool = AtomicBool::new(false);

/// Has every operation run by its definition in tensor operations, or not, from here on in this process, on the
/// CPU as well. For comparisons: results agree, times do not.
pub fn use_plain_operations(plain: bool) {
    PLAIN.store(plain, Ordering::Relaxed);
}

/// Has the CPU do what GPUs do, from here on in this process: for tests.
pub fn work_as_on_gpus() {
    AS_ON_GPUS.store(true, Ordering::Relaxed);
}

#[cfg(test)]
thread_local! {
    static PLAINLY: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Runs `f`, on this thread, by the definitions in tensor operations.
#[cfg(test)]
pub(crate) fn plainly<R>(f: impl FnOnce() -> R) -> R {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            PLAINLY.set(false);
        }
    }
    let _reset = Reset;
    PLAINLY.set(true);
    f()
}

/// Whether the fused operations of this crate serve a device: the CPU, unless it is told to do
/// [without](use_plain_operations). Where they don't, work is handed to the device and done later.
pub fn has_fused_operations(device: &Device) -> bool {
    !is_plain() && !AS_ON_GPUS.load(Ordering::Relaxed) && device.clone().inner() == Device::flex()
}

/// Whether a device adds up tensors with others of its kind by itself, without the host: an NVIDIA GPU, where NCCL is
/// installed.
#[cfg(feature = "cuda")]
pub fn has_collectives(device: &Device) -> bool {
    let device = device.clone().inner();
    crate::cuda::has_nccl()
        && (0..crate::n_cuda_devices().unwrap_or(0)).any(|idx| device == Device::cuda(idx))
}

/// Whether a device adds up tensors with others of its kind by itself, without the host: none that is compiled in.
#[cfg(not(feature = "cuda"))]
pub fn has_collectives(_device: &Device) -> bool {
    false
}

/// Whether the fused operations of this crate serve a tensor.
pub(crate) fn is_fused<const D: usize>(x: &Tensor<D>) -> bool {
    has_fused_operations(&x.device()) && x.dtype() == DType::F32
}

/// Whether a tensor's operations are done as GPUs do them, where that differs from the definition: where none is fused, unless
/// the definition is asked for.
pub(crate) fn is_on_gpu<const D: usize>(x: &Tensor<D>) -> bool {
    let is_there = AS_ON_GPUS.load(Ordering::Relaxed) || x.device().inner() != Device::flex();
    is_there && !is_plain() && x.dtype() == DType::F32
}

fn is_plain() -> bool {
    #[cfg(test)]
    if PLAINLY.get() {
        return true;
    }
    PLAIN.load(Ordering::Relaxed)
}

/// The device that tests run on: the one `KINDLING_TEST_DEVICE` names, else the CPU. `cpu-plain` is the CPU
/// [without fused operations](use_plain_operations), `cpu-as-gpu` [as GPUs work](work_as_on_gpus).
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
            work_as_on_gpus();
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
