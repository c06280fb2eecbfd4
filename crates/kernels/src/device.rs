//! Where an operation runs.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use burn::{prelude::*, tensor::DType};

static PLAIN: AtomicBool = AtomicBool::new(false);
static AS_ON_GPUS: AtomicBool = AtomicBool::new(false);
static GPU_PATHS: AtomicUsize = AtomicUsize::new(0);

/// Has every operation run by its definition in tensor operations, or not, from here on in this process, on the
/// CPU as well. For comparisons: results agree, times do not.
pub fn use_plain_operations(plain: bool) {
    PLAIN.store(plain, Ordering::Relaxed);
}

/// Has the CPU take the paths of GPUs, from here on in this process: for tests.
pub(crate) fn use_gpu_paths_on_cpu() {
    AS_ON_GPUS.store(true, Ordering::Relaxed);
}

/// Counts an operation that takes the path of GPUs.
pub(crate) fn count_gpu_path() {
    GPU_PATHS.fetch_add(1, Ordering::Relaxed);
}

/// Operations that have taken the path of GPUs in this process.
pub(crate) fn n_gpu_paths() -> usize {
    GPU_PATHS.load(Ordering::Relaxed)
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
