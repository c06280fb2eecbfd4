"""Makes crates/families/tests/fixtures/gguf_types.txt: the types of tensors that llama.cpp's quantiser chooses.

    python gguf_types.py --out ../../crates/families/tests/fixtures/gguf_types.txt

Needs `gguf` and `llama-cpp-python`. Models of zeros are quantised to each type. The widths of `gpt2-124m` and
`smollm2-135m` are the published ones, with a small vocabulary, which has no influence. `wide-llama` has rows for the
block of 256 and a head of its own.

A line has the model, the type of the file, a name with `*` for the layer, and the types of its tensors by layer, where
`q6_K*3` stands for three layers in a row.
"""

import argparse
import tempfile
from itertools import groupby
from pathlib import Path

import llama_cpp
import numpy as np
from gguf import GGUFReader, GGUFWriter

VOCABULARY = 512
FILE_TYPES = {
    "f32": 0, "f16": 1, "bf16": 32, "q8_0": 7, "q6_K": 18, "q5_K_M": 17, "q5_K_S": 16, "q5_1": 9, "q5_0": 8, "q4_K_M": 15,
    "q4_K_S": 14, "q4_1": 3, "q4_0": 2,
}


def write_model(path: Path, arch: str, n_layer: int, n_embd: int, heads: tuple[int, int], n_inner: int, is_tied: bool) -> None:
    writer = GGUFWriter(path, arch)
    n_head, n_kv_head = heads
    writer.add_block_count(n_layer)
    writer.add_context_length(64)
    writer.add_embedding_length(n_embd)
    writer.add_feed_forward_length(n_inner)
    writer.add_head_count(n_head)
    writer.add_head_count_kv(n_kv_head)
    writer.add_layer_norm_eps(1e-5)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([f"t{idx}" for idx in range(VOCABULARY)])

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, np.zeros(shape, np.float32))

    n_kv = n_embd // n_head * n_kv_head
    add("token_embd.weight", VOCABULARY, n_embd)
    if arch == "gpt2":
        add("position_embd.weight", 64, n_embd)
    for layer in range(n_layer):
        block = f"blk.{layer}."
        add(block + "attn_norm.weight", n_embd)
        add(block + "ffn_norm.weight", n_embd)
        if arch == "gpt2":
            add(block + "attn_qkv.weight", 3 * n_embd, n_embd)
        else:
            add(block + "attn_q.weight", n_embd, n_embd)
            add(block + "attn_k.weight", n_kv, n_embd)
            add(block + "attn_v.weight", n_kv, n_embd)
            add(block + "ffn_gate.weight", n_inner, n_embd)
        add(block + "attn_output.weight", n_embd, n_embd)
        add(block + "ffn_up.weight", n_inner, n_embd)
        add(block + "ffn_down.weight", n_embd, n_inner)
    add("output_norm.weight", n_embd)
    if not is_tied:
        add("output.weight", VOCABULARY, n_embd)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def types(path: Path) -> dict[str, list[str]]:
    """The types of the matrices of each name."""
    found: dict[str, list[tuple[int, str]]] = {}
    for tensor in GGUFReader(path).tensors:
        if len(tensor.shape) < 2:
            continue
        parts = tensor.name.split(".")
        layer = 0
        if parts[0] == "blk":
            layer, parts[1] = int(parts[1]), "*"
        ty = tensor.tensor_type.name
        found.setdefault(".".join(parts), []).append((layer, ty[0].lower() + ty[1:] if ty[0] == "Q" else ty.lower()))
    return {name: [ty for _, ty in sorted(by_layer)] for name, by_layer in found.items()}


def runs(names: list[str]) -> str:
    lengths = [(name, len(list(same))) for name, same in groupby(names)]
    return " ".join(name if n == 1 else f"{name}*{n}" for name, n in lengths)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    silence = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silence, None)
    models = {
        "gpt2-124m": ("gpt2", 12, 768, (12, 12), 3072, True),
        "smollm2-135m": ("llama", 30, 576, (9, 3), 1536, True),
        "wide-llama": ("llama", 17, 256, (8, 4), 672, False),
    }
    lines = [f"# Made by xtask/golden/gguf_types.py with llama-cpp-python {llama_cpp.__version__}."]
    for model, sizes in models.items():
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "f32.gguf", Path(folder) / "quantised.gguf"
            write_model(source, *sizes)
            for name, code in FILE_TYPES.items():
                params = llama_cpp.llama_model_quantize_default_params()
                params.ftype = code
                if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), params) != 0:
                    raise SystemExit(f"{model} can't be quantised to {name}")
                lines += [f"{model} {name} {tensor} {runs(tys)}" for tensor, tys in types(target).items()]
    args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
