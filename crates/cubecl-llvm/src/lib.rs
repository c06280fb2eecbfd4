//! A stub of CubeCL's LLVM compiler: the items that `cubecl-cuda` uses, without a compiler.
//!
//! This crate's README says why.

use std::{ffi::c_char, fmt};

use cubecl_core::{
    ir::{amd::GfxArch, nvidia::SmArch},
    prelude::KernelDefinition,
};
use cubecl_runtime::{
    compiler::{CompilationError, Compiler},
    kernel::BufferIOAttr,
};

use crate::nvptx::ptx_version::PtxVersion;

/// NVIDIA devices.
pub mod nvptx {
    /// PTX versions.
    pub mod ptx_version {
        use std::fmt;

        /// A PTX version. It has no values, because there is no compiler.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum PtxVersion {}

        impl PtxVersion {
            /// Always `None`.
            pub fn for_driver(_driver: i32) -> Option<Self> {
                None
            }
        }

        impl fmt::Display for PtxVersion {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {}
            }
        }
    }
}

/// Definitions for all devices.
pub mod shared {
    /// The features of a device that this compiler supports.
    pub mod lowered_features {
        use cubecl_core::ir::DeviceProperties;

        /// The kind of a device.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum GpuTarget {
            Nvptx,
            AmdGpu,
        }

        /// Leaves the properties unchanged, because nothing is compiled.
        pub fn restrict_features(_properties: &mut DeviceProperties, _target: GpuTarget) {}
    }
}

/// The target of the compiler.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LlvmTarget {
    #[default]
    Cpu,
    Nvptx,
    AmdGpu,
}

/// A compiler that returns an error for every kernel.
#[derive(Debug, Clone, Default)]
pub struct PlironCompiler {
    pub target: LlvmTarget,
}

/// The options of the compiler.
#[derive(Debug, Clone, Default)]
pub struct PlironOptions {
    /// AMD devices.
    pub arch: Option<GfxArch>,
    /// NVIDIA devices.
    pub sm_arch: Option<SmArch>,
    pub ptx_version: Option<PtxVersion>,
    /// Whether parameters are grid constants.
    pub grid_constants: bool,
}

/// A kernel in PTX.
#[derive(Debug, Clone)]
pub struct NvptxModule {
    /// NUL-terminated text.
    pub ptx: Vec<c_char>,
    /// The name of the kernel's function.
    pub entrypoint: String,
    pub ir: String,
    /// Bytes.
    pub shared_memory_size: usize,
    /// How the kernel accesses each buffer.
    pub io: Vec<BufferIOAttr>,
}

/// A compiled kernel.
#[derive(Debug, Clone)]
pub enum PlironArtifact {
    NvptxCode(NvptxModule),
    /// Code for the CPU, which `cubecl-cuda` does not use.
    Jit,
}

impl fmt::Display for PlironArtifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NvptxCode(module) => f.write_str(&module.ir),
            Self::Jit => Ok(()),
        }
    }
}

impl Compiler for PlironCompiler {
    type Representation = PlironArtifact;
    type CompilationOptions = PlironOptions;

    fn compile(
        &mut self,
        _kernel: KernelDefinition,
        _options: &PlironOptions,
    ) -> Result<PlironArtifact, CompilationError> {
        Err(CompilationError::Generic {
            reason: "this build has no LLVM; enable the feature `cuda-cpp` of cubecl".to_owned(),
            backtrace: Default::default(),
        })
    }

    fn extension(&self) -> &'static str {
        "ll"
    }

    fn lang_tag(&self) -> &'static str {
        "llvm"
    }
}
