//! Which machine it was.

use serde::Serialize;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

/// What a reader needs to know to compare figures with those of another machine.
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
    /// The one that this runs on.
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
