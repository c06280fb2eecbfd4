//! Groups of NVIDIA GPUs.

use std::{
    ffi::c_char,
    fmt,
    sync::{Mutex, PoisonError},
};

use burn::{
    backend::{BackendTensor, DispatchTensorKind},
    prelude::*,
    tensor::FloatDType,
};
use burn_cubecl::{CubeBackend, cubecl::cuda::CudaRuntime, kernel::into_contiguous, tensor::CubeTensor};
use cubecl_runtime::runtime::Runtime;
use cudarc::{
    driver::CudaContext,
    nccl::{Comm, Id, ReduceOp},
};

use super::GpuGroupError;
use crate::{cuda::has_nccl, device::cuda_index};

type Server = <CudaRuntime as Runtime>::Server;

/// The bytes of NCCL's identifier of a group.
const ID_LEN: usize = 128;

/// The identity of an NVIDIA GPU, equal in all processes. `None` for other devices, or if NCCL is not installed.
pub fn gpu_uuid(device: &Device) -> Option<[u8; 16]> {
    let idx = cuda_index(device).filter(|_| has_nccl())?;
    let uuid = CudaContext::new(idx).and_then(|context| context.uuid()).ok()?;
    Some(uuid.bytes.map(|byte| byte as u8))
}

/// The membership of a GPU in a group of GPUs, each of another process or thread.
///
/// [`mean`](Self::mean) waits for all members. If one has failed, the others wait forever, so something else must end them.
pub struct GpuGroup {
    device: Device,
    member: Mutex<Member>,
}

struct Member(Comm);

#[expect(unsafe_code, reason = "the communicator has a pointer")]
// SAFETY: NCCL lets any thread use a communicator, one at a time, and a mutex sees to that.
unsafe impl Send for Member {}

impl GpuGroup {
    /// A new group, which all members join with these bytes.
    ///
    /// # Errors
    ///
    /// If NCCL finds no network interface.
    pub fn new_id() -> Result<Vec<u8>, GpuGroupError> {
        let id = Id::new().map_err(|error| failed("start a group", error.0))?;
        Ok(id.internal().iter().map(|&byte| byte as u8).collect())
    }

    /// Joins as member `index` of `size`, and waits until all have joined.
    ///
    /// # Errors
    ///
    /// If the members can't connect, or share a GPU.
    ///
    /// # Panics
    ///
    /// If `id` is not from [`Self::new_id`], or the device is not an NVIDIA GPU.
    pub fn join(id: &[u8], index: usize, size: usize, device: &Device) -> Result<Self, GpuGroupError> {
        let id: [u8; ID_LEN] = id.try_into().expect("an identifier of NCCL");
        let id = Id::uninit(id.map(|byte| byte as c_char));
        let gpu = cuda_index(device).expect("an NVIDIA GPU");
        let stream = CudaContext::new(gpu).and_then(|context| context.new_stream());
        let stream = stream.map_err(|error| failed("open a GPU", error))?;
        let member = Comm::from_rank(stream, index, size, id);
        let member = member.map_err(|error| failed("join a group", error.0))?;
        Ok(Self { device: device.clone().inner(), member: Mutex::new(Member(member)) })
    }

    /// The mean of `x`, `[N]`, over all members, as f32. All must call this with as many elements, in the same order. The bits are equal
    /// on all members; the order of addition is NCCL's.
    ///
    /// # Errors
    ///
    /// If a kernel has failed before, or NCCL fails.
    pub fn mean(&self, x: Tensor<1>) -> Result<Tensor<1>, GpuGroupError> {
        let mean = Tensor::empty(x.shape(), &self.device);
        let len = x.shape().num_elements();
        let (source, destination) = (resolved(x), resolved(mean.clone()));
        let memory = |tensor: &CubeTensor| {
            let memory = tensor.client.get_resource::<Server>(tensor.handle.clone());
            memory.map_err(|error| failed("find a tensor", error))
        };
        let (source_memory, destination_memory) = (memory(&source)?, memory(&destination)?);
        // CubeCL computes on streams of its own.
        self.device.sync().map_err(|error| failed("wait for a GPU", error))?;

        let member = self.member.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = member.0.stream();
        #[expect(unsafe_code, reason = "cudarc exchanges memory of CubeCL")]
        // SAFETY: both are allocations of `len` f32 on this GPU, and stay where they are while `source_memory` and
        // `destination_memory` live. No kernel uses them meanwhile: those that wrote `source` ran on the stream that was waited
        // for, `destination` is new, and this thread, which has the only handles, starts no kernel before NCCL's stream has been
        // waited for. `leak` leaves the memory to CubeCL.
        let (source_slice, mut destination_slice) = unsafe {
            (
                stream.upgrade_device_ptr::<f32>(source_memory.resource().ptr, len),
                stream.upgrade_device_ptr::<f32>(destination_memory.resource().ptr, len),
            )
        };
        let reduced = member.0.all_reduce(&source_slice, &mut destination_slice, &ReduceOp::Avg);
        let ended = stream.synchronize();
        source_slice.leak();
        destination_slice.leak();
        reduced.map_err(|error| failed("exchange a tensor", error.0))?;
        ended.map_err(|error| failed("exchange a tensor", error))?;
        Ok(mean)
    }
}

/// The tensor in GPU memory, after the operations that compute it have been queued.
fn resolved(x: Tensor<1>) -> CubeTensor {
    let x = x.cast(FloatDType::F32).into_dispatch();
    let DispatchTensorKind::Cube(BackendTensor::Float(x)) = x.kind else { panic!("a tensor of a GPU") };
    let client = x.client.clone();
    into_contiguous(client.resolve_tensor_float::<CubeBackend>(x))
}

fn failed(action: &'static str, error: impl fmt::Debug) -> GpuGroupError {
    GpuGroupError { action, reason: format!("{error:?}") }
}

impl fmt::Debug for GpuGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GpuGroup").field("device", &self.device).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs an NVIDIA GPU with NCCL.
    #[test]
    fn the_mean_over_one_gpu_is_its_own_value() {
        let is_gpu = crate::check_cuda(0).is_ok() && has_nccl();
        if !is_gpu {
            println!("skipped: no NVIDIA GPU with NCCL");
            return;
        }
        let device = Device::cuda(0);
        let group = GpuGroup::join(&GpuGroup::new_id().unwrap(), 0, 1, &device).unwrap();
        for len in [1, 3, 1000, 70_001] {
            let x = Tensor::<1, Int>::arange(0..len, &device).float() * 0.5;
            assert_eq!(group.mean(x.clone()).unwrap().into_data(), x.into_data(), "{len} elements");
        }
    }
}
