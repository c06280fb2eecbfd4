//! `--kv-cache`.

use anyhow::bail;
use burn::module::Module;
use clap::ValueEnum;
use kernels::supports_slot_type;
use model::{Gpt, SlotType};

/// The type of KV caches, for commands that decode.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Speed")]
pub(crate) struct KvCacheArgs {
    /// Type of the KV cache. f16 takes half the memory of f32; it rounds keys and values to three digits.
    #[arg(long, value_name = "TYPE", value_enum, default_value_t)]
    kv_cache: KvCacheType,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum KvCacheType {
    #[default]
    F32,
    F16,
}

impl KvCacheArgs {
    pub(crate) fn slot_type(&self) -> SlotType {
        match self.kv_cache {
            KvCacheType::F32 => SlotType::F32,
            KvCacheType::F16 => SlotType::F16,
        }
    }

    /// The model with KV caches of this type. Fails if its device does not support the type.
    pub(crate) fn apply(&self, gpt: Gpt) -> anyhow::Result<Gpt> {
        if gpt.devices().iter().any(|device| !supports_slot_type(self.slot_type(), device)) {
            bail!("the device has no 16-bit floats; leave out --kv-cache f16, or use --device cpu");
        }
        Ok(gpt.with_slot_type(self.slot_type()))
    }
}
