//! Stands in for CubeCL's LLVM compiler: the names that `cubecl-cuda` uses, and no compiler.
//!
//! The README of this crate says why.

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

/// For NVIDIA's devices.
pub mod nvptx {
    /// Versions of PTX.
    pub mod ptx_version {
        use std::fmt;

        /// A version of PTX. There is none without a compiler to it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum PtxVersion {}

        impl PtxVersion {
            /// None for any driver.
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

/// For all devices.
pub mod shared {
    /// What a device can do by this compiler.
    pub mod lowered_features {
        use cubecl_core::ir::DeviceProperties;

        /// A kind of device.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum GpuTarget {
            /// NVIDIA's.
            Nvptx,
            /// AMD's.
            AmdGpu,
        }

        /// Leaves the properties as they are: nothing is compiled for them.
        pub fn restrict_features(_properties: &mut DeviceProperties, _target: GpuTarget) {}
    }
}

/// What is compiled for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LlvmTarget {
    /// The processor.
    #[default]
    Cpu,
    /// NVIDIA's devices.
    Nvptx,
    /// AMD's devices.
    AmdGpu,
}

/// A compiler that refuses every kernel.
#[derive(Debug, Clone, Default)]
pub struct PlironCompiler {
    /// What it would compile for.
    pub target: LlvmTarget,
}

/// What such a compiler would be told.
#[derive(Debug, Clone, Default)]
pub struct PlironOptions {
    /// AMD's device.
    pub arch: Option<GfxArch>,
    /// NVIDIA's device.
    pub sm_arch: Option<SmArch>,
    /// The version of PTX.
    pub ptx_version: Option<PtxVersion>,
    /// Whether parameters are constants of the grid.
    pub grid_constants: bool,
}

/// A kernel in PTX.
#[derive(Debug, Clone)]
pub struct NvptxModule {
    /// As text that ends in NUL.
    pub ptx: Vec<c_char>,
    /// The name of its function.
    pub entrypoint: String,
    /// As it was before.
    pub ir: String,
    /// In bytes.
    pub shared_memory_size: usize,
    /// What it does with each buffer.
    pub io: Vec<BufferIOAttr>,
}

/// A compiled kernel.
#[derive(Debug, Clone)]
pub enum PlironArtifact {
    /// For NVIDIA's devices.
    NvptxCode(NvptxModule),
    /// For the processor, of which `cubecl-cuda` has no use.
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
