//! The types of the tensors of a file.

use std::fmt;

use formats::gguf::TensorType;
use model::GptConfig;
use quant::Format;
use serde::{Deserialize, Serialize};

/// The types of the tensors of a file, by llama.cpp's names. In `_M` and `_S` files, and for the head, some tensors have
/// more bits than the others. Serialised as its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum FileType {
    #[default]
    F32,
    F16,
    BF16,
    Q8_0,
    Q6K,
    Q5KM,
    Q5KS,
    Q5_1,
    Q5_0,
    Q4KM,
    Q4KS,
    Q4_1,
    Q4_0,
}

impl FileType {
    /// Every type, the largest first.
    pub const ALL: [Self; 13] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q8_0,
        Self::Q6K,
        Self::Q5KM,
        Self::Q5KS,
        Self::Q5_1,
        Self::Q5_0,
        Self::Q4KM,
        Self::Q4KS,
        Self::Q4_1,
        Self::Q4_0,
    ];

    /// The name, such as `q4_K_M`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q6K => "q6_K",
            Self::Q5KM => "q5_K_M",
            Self::Q5KS => "q5_K_S",
            Self::Q5_1 => "q5_1",
            Self::Q5_0 => "q5_0",
            Self::Q4KM => "q4_K_M",
            Self::Q4KS => "q4_K_S",
            Self::Q4_1 => "q4_1",
            Self::Q4_0 => "q4_0",
        }
    }

    /// The type of a name, ignoring case.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ty| ty.name().eq_ignore_ascii_case(name))
    }

    /// The type of most matrices.
    pub fn base(self) -> TensorType {
        TensorType::Packed(match self {
            Self::F32 => return TensorType::F32,
            Self::F16 => Format::F16,
            Self::BF16 => Format::BF16,
            Self::Q8_0 => Format::Q8_0,
            Self::Q6K => Format::Q6K,
            Self::Q5KM | Self::Q5KS => Format::Q5K,
            Self::Q5_1 => Format::Q5_1,
            Self::Q5_0 => Format::Q5_0,
            Self::Q4KM | Self::Q4KS => Format::Q4K,
            Self::Q4_1 => Format::Q4_1,
            Self::Q4_0 => Format::Q4_0,
        })
    }

    /// `general.file_type`, which is llama.cpp's `llama_ftype`.
    pub(crate) fn code(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q8_0 => 7,
            Self::Q5_0 => 8,
            Self::Q5_1 => 9,
            Self::Q4KS => 14,
            Self::Q4KM => 15,
            Self::Q5KS => 16,
            Self::Q5KM => 17,
            Self::Q6K => 18,
            Self::BF16 => 32,
        }
    }

    /// The type of a tensor of `dims` (in GGUF's order) of a model, as llama.cpp's `llama_tensor_get_type` chooses it
    /// without an importance matrix.
    ///
    /// Vectors and position embeddings are always f32. A matrix whose rows are not a multiple of the block falls back to
    /// a type with more bits and shorter blocks, or to f16.
    pub fn tensor_type(self, name: &str, dims: &[usize], config: &GptConfig) -> TensorType {
        let [row, _, ..] = dims[..] else { return TensorType::F32 };
        if name == "position_embd.weight" {
            return TensorType::F32;
        }
        match self.base() {
            TensorType::Packed(base) if base.block_len() > 1 => {
                fitting(self.preferred(base, name, row, config), row).into()
            }
            base => base,
        }
    }

    /// The format of a matrix, before the check that its rows have whole blocks.
    fn preferred(self, base: Format, name: &str, row: usize, config: &GptConfig) -> Format {
        let head = if config.tie_embeddings { "token_embd.weight" } else { "output.weight" };
        if name == head {
            let is_q8_0 = base == Format::Q8_0 || !row.is_multiple_of(base.block_len());
            return if is_q8_0 { Format::Q8_0 } else { Format::Q6K };
        }
        let Some((layer, matrix)) = in_block(name) else { return base };
        let n_layer = config.n_layer;
        let is_sensitive = has_more_bits(layer, n_layer);
        match (self, matrix) {
            (Self::Q4KM | Self::Q5KM, "attn_v" | "attn_qkv" | "ffn_down") if is_sensitive => Format::Q6K,
            (Self::Q4KS, "attn_v" | "attn_qkv") if layer < 4 => Format::Q5K,
            (Self::Q4KS, "ffn_down") if layer < n_layer / 8 => Format::Q5K,
            _ => base,
        }
    }
}

impl TryFrom<String> for FileType {
    type Error = String;

    /// The error names the known types.
    fn try_from(name: String) -> Result<Self, String> {
        let known = Self::ALL.map(Self::name).join(", ");
        Self::named(&name).ok_or_else(|| format!("unknown weight type {name:?}; the types are {known}"))
    }
}

impl From<FileType> for &'static str {
    fn from(ty: FileType) -> Self {
        ty.name()
    }
}

impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The layer and the matrix of a tensor such as `blk.3.ffn_down.weight`.
fn in_block(name: &str) -> Option<(usize, &str)> {
    let (layer, matrix) = name.strip_prefix("blk.")?.strip_suffix(".weight")?.split_once('.')?;
    Some((layer.parse().ok()?, matrix))
}

/// Whether a layer is in the first or last eighth, or is every third of the others.
fn has_more_bits(layer: usize, n_layer: usize) -> bool {
    let first = n_layer / 8;
    layer < first || layer >= 7 * n_layer / 8 || (layer - first) % 3 == 2
}

/// The format, or the one that replaces it for rows that are not a multiple of its block.
fn fitting(format: Format, row: usize) -> Format {
    let fits = |format: Format| row.is_multiple_of(format.block_len());
    let shorter = match format {
        _ if fits(format) => return format,
        Format::Q4K => Format::Q5_0,
        Format::Q5K => Format::Q5_1,
        Format::Q6K => Format::Q8_0,
        _ => Format::F16,
    };
    if fits(shorter) { shorter } else { Format::F16 }
}

#[cfg(test)]
mod tests {
    use model::AttentionConfig;

    use super::*;
    use crate::{Family, gguf::metadata::tensors, gpt2, llama};

    /// Made by xtask/golden/gguf_types.py.
    const TYPES: &str = include_str!("../../tests/fixtures/gguf_types.txt");

    fn sizes(model: &str) -> (GptConfig, &'static Family) {
        let (family, mut config) = match model {
            "gpt2-124m" => (&gpt2::FAMILY, GptConfig::gpt2()),
            "smollm2-135m" => (&llama::FAMILY, llama_sizes(49_152, 30, 576, [9, 3], 1536)),
            "wide-llama" => (&llama::FAMILY, llama_sizes(512, 17, 256, [8, 4], 672)),
            other => panic!("{other}"),
        };
        config.tie_embeddings = model != "wide-llama";
        (config, family)
    }

    fn llama_sizes(
        vocab_size: usize,
        n_layer: usize,
        n_embd: usize,
        [n_head, n_kv_head]: [usize; 2],
        n_inner: usize,
    ) -> GptConfig {
        let base = (llama::FAMILY.base)();
        let attention =
            AttentionConfig { n_head, n_kv_head: Some(n_kv_head), head_dim: None, ..base.attention };
        let mut config = GptConfig { vocab_size, n_layer, n_embd, attention, ..base };
        config.feed_forward.n_inner = Some(n_inner);
        config
    }

    #[test]
    fn types_are_those_of_llama_cpp() {
        let mut n_checked = 0;
        for line in TYPES.lines().filter(|line| !line.starts_with('#')) {
            let [model, file_type, pattern, runs] = line.splitn(4, ' ').collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            let (config, family) = sizes(model);
            let expected: Vec<&str> = runs
                .split(' ')
                .flat_map(|run| {
                    let (ty, n) = run.split_once('*').unwrap_or((run, "1"));
                    vec![ty; n.parse().unwrap()]
                })
                .collect();
            let (first, last) = pattern.split_once('*').unwrap_or((pattern, ""));
            let found: Vec<String> = tensors(&config, family, FileType::named(file_type).unwrap())
                .iter()
                .filter(|tensor| tensor.name.starts_with(first) && tensor.name.ends_with(last))
                .map(|tensor| tensor.ty.to_string())
                .collect();
            assert_eq!(found, expected, "{line}");
            n_checked += 1;
        }
        assert!(n_checked > 13 * 3 * 5, "{n_checked} lines");
    }

    #[test]
    fn a_name_is_parsed_in_any_case() {
        for ty in FileType::ALL {
            assert_eq!(FileType::named(ty.name()), Some(ty));
            assert_eq!(FileType::named(&ty.name().to_lowercase()), Some(ty));
        }
        assert_eq!(FileType::named("q4_K"), None);
    }

    #[test]
    fn odd_rows_become_f16() {
        let config = GptConfig::gpt2();
        let of = |ty: FileType, name: &str, row| ty.tensor_type(name, &[row, 2], &config).to_string();
        assert_eq!(of(FileType::Q4KM, "blk.4.ffn_up.weight", 48), "f16");
        assert_eq!(of(FileType::Q4_0, "blk.4.ffn_up.weight", 48), "f16");
        assert_eq!(of(FileType::Q4_0, "token_embd.weight", 48), "f16");
        assert_eq!(of(FileType::Q4KM, "blk.4.ffn_up.weight", 64), "q5_0");
        assert_eq!(of(FileType::BF16, "blk.4.ffn_up.weight", 48), "bf16");
        assert_eq!(FileType::Q4_0.tensor_type("blk.4.ffn_up.bias", &[64], &config), TensorType::F32);
    }
}
