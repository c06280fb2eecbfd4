//! `--device`.

use burn::prelude::Device;
use console::report;
use kernels::DeviceName;

use crate::usage::bail_usage;

/// `--device`, for every command that runs a model.
#[derive(Debug, clap::Args)]
pub(crate) struct DeviceArgs {
    /// Where to compute: cpu, cuda, vulkan, metal or wgpu, or one of several, as in cuda:1; those beside cpu need a
    /// build with the feature of that name. auto is a GPU where one can be used, and else the cpu. Training takes cuda:all
    /// too, all NVIDIA GPUs of the machine with equal shares of each batch.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceName,
}

impl DeviceArgs {
    /// The device of a command that runs on one.
    pub(crate) fn open(&self) -> anyhow::Result<Device> {
        if self.device.is_all() {
            bail_usage!("only training runs on all devices together; name one here, as in cuda:0");
        }
        Ok(self.open_all()?.remove(0))
    }

    /// The devices, one or more. Says which it is where that was left open.
    pub(crate) fn open_all(&self) -> anyhow::Result<Vec<Device>> {
        if self.device.is_auto() {
            report(format_args!("device: {}{}", self.name(), self.why_not_cuda()));
        }
        Ok(self.device.open()?)
    }

    pub(crate) fn name(&self) -> String {
        self.device.resolved().to_string()
    }

    pub(crate) fn is_cpu(&self) -> bool {
        self.device.is_cpu()
    }

    /// What keeps a program that could use an NVIDIA GPU from it.
    #[cfg(feature = "cuda")]
    fn why_not_cuda(&self) -> String {
        kernels::check_cuda(0).err().map_or_else(String::new, |error| format!(", since {error}"))
    }

    #[cfg(not(feature = "cuda"))]
    #[expect(clippy::unused_self, reason = "as with the feature")]
    fn why_not_cuda(&self) -> &'static str {
        ""
    }
}
