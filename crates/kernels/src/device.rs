//! Which implementation of an operation runs on a device.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use burn::{prelude::*, tensor::DType};

static PLAIN: AtomicBool = AtomicBool::new(false);
static GPU_PATHS_ON_CPU: AtomicBool = AtomicBool::new(false);
static N_GPU_PATHS: AtomicUsize = AtomicUsize::new(0);

/// Switches all operations of this process to their reference implementations (plain tensor operations), or back. For
/// comparisons: results agree, speed differs.
pub fn use_plain_operations(plain: bool) {
    PLAIN.store(plain, Ordering::Relaxed);
}

/// Makes the CPU take the GPU paths for the rest of the process, for tests.
pub(crate) fn use_gpu_paths_on_cpu() {
    GPU_PATHS_ON_CPU.store(true, Ordering::Relaxed);
}

/// Counts an operation that takes a GPU path.
pub(crate) fn count_gpu_path() {
    N_GPU_PATHS.fetch_add(1, Ordering::Relaxed);
}

/// The number of operations that have taken a GPU path in this process.
pub(crate) fn n_gpu_paths() -> usize {
    N_GPU_PATHS.load(Ordering::Relaxed)
}

#[cfg(test)]
thread_local! {
    static PLAIN_ON_THREAD: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Runs `f` on this thread with the reference implementations.
#[cfg(test)]
pub(crate) fn with_plain_operations<R>(f: impl FnOnce() -> R) -> R {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            PLAIN_ON_THREAD.set(false);
        }
    }
    let _reset = Reset;
    PLAIN_ON_THREAD.set(true);
    f()
}

/// Whether a device runs the fused operations of this crate: the CPU, unless [`use_plain_operations`] is on. Devices
/// without them compute asynchronously.
pub fn has_fused_operations(device: &Device) -> bool {
    !is_plain() && !GPU_PATHS_ON_CPU.load(Ordering::Relaxed) && device.clone().inner() == Device::flex()
}

/// Runs a part of a training step: for the CPU [on the pool](cpu::on_pool), for other devices on this thread. A GPU has a
/// stream of work for each thread, and tensors that change threads make streams wait for each other.
pub fn on_device_thread<T: Send>(device: &Device, work: impl FnOnce() -> T + Send) -> T {
    if has_fused_operations(device) { cpu::on_pool(work) } else { work() }
}

/// Whether a device can all-reduce tensors with others of its kind without the host: NVIDIA GPUs, if NCCL is installed.
#[cfg(feature = "cuda")]
pub fn has_collectives(device: &Device) -> bool {
    crate::cuda::has_nccl() && cuda_index(device).is_some()
}

/// The index of an NVIDIA GPU; `None` for other devices.
#[cfg(feature = "cuda")]
pub(crate) fn cuda_index(device: &Device) -> Option<usize> {
    let device = device.clone().inner();
    (0..crate::n_cuda_devices().unwrap_or(0)).find(|&idx| device == Device::cuda(idx))
}

/// Whether a device can all-reduce tensors with others of its kind without the host: no device of this build.
#[cfg(not(feature = "cuda"))]
pub fn has_collectives(_device: &Device) -> bool {
    false
}

/// Whether a tensor takes the fused operations of this crate.
pub(crate) fn is_fused<const D: usize>(x: &Tensor<D>) -> bool {
    has_fused_operations(&x.device()) && x.dtype() == DType::F32
}

/// Whether a tensor takes the GPU paths of operations that have one, rather than the reference implementation.
pub(crate) fn is_on_gpu<const D: usize>(x: &Tensor<D>) -> bool {
    has_gpu_paths(x) && x.dtype() == DType::F32
}

/// As [`is_on_gpu`], for operations that also take operands of products in bf16.
pub(crate) fn is_operand_on_gpu<const D: usize>(x: &Tensor<D>) -> bool {
    has_gpu_paths(x) && matches!(x.dtype(), DType::F32 | DType::BF16)
}

fn has_gpu_paths<const D: usize>(x: &Tensor<D>) -> bool {
    let is_gpu = GPU_PATHS_ON_CPU.load(Ordering::Relaxed) || x.device().inner() != Device::flex();
    is_gpu && !is_plain()
}

fn is_plain() -> bool {
    #[cfg(test)]
    if PLAIN_ON_THREAD.get() {
        return true;
    }
    PLAIN.load(Ordering::Relaxed)
}
