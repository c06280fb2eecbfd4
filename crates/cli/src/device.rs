//! `--device`.

use burn::prelude::Device;
use console::report;
use kernels::DeviceName;

use crate::usage::bail_usage;

/// `--device`, for commands that run a model.
#[derive(Debug, clap::Args)]
pub(crate) struct DeviceArgs {
    /// Device: cpu, cuda, vulkan, metal, wgpu, or auto for a GPU if there is one and otherwise the CPU. cuda:1 is the
    /// second GPU. For training, cuda:all splits each batch over all NVIDIA GPUs. Devices other than cpu need a build
    /// with the feature of that name.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceName,
}

impl DeviceArgs {
    /// Opens the device, for commands that run on one only.
    pub(crate) fn open(&self) -> anyhow::Result<Device> {
        if self.device.is_all() {
            bail_usage!("cuda:all is only for training; name one device, such as cuda:0");
        }
        Ok(self.open_all()?.remove(0))
    }

    /// Opens one or more devices. Reports which device `auto` selected.
    pub(crate) fn open_all(&self) -> anyhow::Result<Vec<Device>> {
        if self.device.is_auto() {
            report(format_args!("device: {}{}", self.name(), self.cuda_error()));
        }
        Ok(self.device.open()?)
    }

    /// Opens the device of a process that trains with others. `local_index` counts the processes on this host: each takes
    /// its own NVIDIA GPU.
    pub(crate) fn open_for_rank(&self, local_index: usize) -> anyhow::Result<Vec<Device>> {
        if self.device.is_all() {
            bail_usage!("each rank trains on one device; use --device cuda, which gives each its own GPU");
        }
        Ok(self.device.of_local_rank(local_index).open()?)
    }

    pub(crate) fn name(&self) -> String {
        self.device.resolved().to_string()
    }

    pub(crate) fn is_cpu(&self) -> bool {
        self.device.is_cpu()
    }

    /// Why a build with CUDA can't use an NVIDIA GPU.
    #[cfg(feature = "cuda")]
    fn cuda_error(&self) -> String {
        kernels::check_cuda(0).err().map_or_else(String::new, |error| format!(", since {error}"))
    }

    #[cfg(not(feature = "cuda"))]
    #[expect(clippy::unused_self, reason = "same signature as with the feature")]
    fn cuda_error(&self) -> &'static str {
        ""
    }
}
