//! A description of the machine.

use serde::Serialize;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};
use xshell::{Shell, cmd};

/// The machine of a benchmark, for comparing results between machines.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) architecture: String,
    pub(crate) n_cpus: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) system: Option<String>,
    pub(crate) kernel: Option<String>,
}

impl Machine {
    /// The current machine.
    pub(crate) fn this() -> Self {
        let refreshes = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        let system = System::new_with_specifics(refreshes);
        Self {
            cpu: system.cpus().first().map_or_else(String::new, |cpu| cpu.brand().trim().to_owned()),
            architecture: System::cpu_arch(),
            n_cpus: system.cpus().len(),
            memory_bytes: system.total_memory(),
            system: System::long_os_version(),
            kernel: System::kernel_version(),
        }
    }
}

/// Each NVIDIA GPU with its driver and memory, from `nvidia-smi`; empty without it.
pub(crate) fn gpus(shell: &Shell) -> Vec<String> {
    let shown = cmd!(shell, "nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader");
    let shown = shown.quiet().ignore_stderr().read().unwrap_or_default();
    shown.lines().map(str::to_owned).collect()
}
