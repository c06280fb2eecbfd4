"""Makes fixtures of crates/formats/tests/gguf_golden.rs with llama.cpp's own Python package.

    python gguf_files.py --out ../../crates/formats/tests/fixtures --names ../../crates/families/tests/fixtures

`blocks.gguf` has a tensor for each supported type, named after it, and `TYPE.values` with its values in f32, as unpacked by the
package. Some blocks are all zeros, or constant, or have values of very different magnitudes.

`names.txt`, for crates/families/src/names_tests.rs, has a line for each weight of a model of every architecture: the architecture, the
key in Hugging Face's layout, and the package's name.
"""

import argparse
from pathlib import Path

import numpy as np
from gguf import MODEL_ARCH, GGUFWriter, get_tensor_name_map, quants
from gguf import GGMLQuantizationType as Type
from transformers import (
    GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM,
)

SEED = 1337
TYPES = [Type.F16, Type.BF16, Type.Q8_0, Type.Q4_0, Type.Q4_1]
# Rows of three blocks.
SHAPE = (5, 96)


def values(rng: np.random.Generator) -> np.ndarray:
    sampled = rng.normal(0.0, 0.5, SHAPE).astype(np.float32)
    sampled[1, :32] = 0.0
    sampled[1, 32:64] = -0.75
    sampled[2] = np.abs(sampled[2]) + 3.0
    sampled[3] *= np.logspace(-6, 3, SHAPE[1], dtype=np.float32)
    return sampled


def names(out: Path) -> None:
    sizes = {"vocab_size": 7, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
             "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "tie_word_embeddings": False}
    models = {
        MODEL_ARCH.GPT2: GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=7, n_positions=4)),
        MODEL_ARCH.LLAMA: LlamaForCausalLM(LlamaConfig(**sizes)),
        MODEL_ARCH.QWEN3: Qwen3ForCausalLM(Qwen3Config(**sizes)),
        MODEL_ARCH.QWEN2: Qwen2ForCausalLM(Qwen2Config(**sizes)),
    }
    lines = []
    for arch, model in models.items():
        mapping = get_tensor_name_map(arch, 2)
        for key, _ in model.state_dict().items():
            name = mapping.get_name(key, try_suffixes=(".weight", ".bias"))
            lines.append(f"{arch.name.lower()} {key} {name}")
    (out / "names.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--names", type=Path, required=True)
    args = parser.parse_args()
    out = args.out
    names(args.names)
    writer = GGUFWriter(out / "blocks.gguf", "golden")
    rng = np.random.default_rng(SEED)
    for ty in TYPES:
        name = ty.name.lower()
        stored = quants.quantize(values(rng), ty)
        writer.add_tensor(name, stored, raw_dtype=ty)
        writer.add_tensor(f"{name}.values", quants.dequantize(stored, ty).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
