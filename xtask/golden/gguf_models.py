"""Makes fixtures of crates/checkpoint/tests/gguf_files.rs with llama.cpp's own Python package.

    python gguf_models.py --fixtures ../../crates/checkpoint/tests/fixtures
    python gguf_models.py --fixtures ../../crates/checkpoint/tests/fixtures --check

`gguf/NAME.gguf` has the weights of `layouts/llama_grouped`, `layouts/llama_attention_bias` and `layouts/qwen3_grouped` (see
layouts.py) in the layout of llama.cpp's converter: for a Llama, the rows of queries and keys are interleaved. The tokenizer has
`<unk>`, `<s>`, `</s>` and letters.

With --check, and llama-cpp-python installed, llama.cpp reads the files and has to reproduce the logits of transformers.
"""

import argparse
import json
from pathlib import Path

import numpy as np

NAMES = ["llama_grouped", "llama_attention_bias", "qwen3_grouped"]


def interleaved(weight: np.ndarray, n_head: int) -> np.ndarray:
    """Interleaves rows i and i + D/2 of each head, the order that llama.cpp rotates in a Llama. Works for a bias too."""
    rows = weight.shape[0]
    return weight.reshape(n_head, 2, rows // n_head // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def write(folder: Path, path: Path) -> None:
    from gguf import MODEL_ARCH, GGUFWriter, TokenType, get_tensor_name_map
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text())
    arch = config["model_type"]
    writer = GGUFWriter(path, arch)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])

    n_tokens = config["vocab_size"]
    special, letters = ["<unk>", "<s>", "</s>"], [chr(ord("a") + idx) for idx in range(n_tokens - 3)]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(special + letters)
    writer.add_token_scores([0.0] * 3 + [-float(idx) for idx in range(n_tokens - 3)])
    writer.add_token_types([TokenType.UNKNOWN] + [TokenType.CONTROL] * 2 + [TokenType.NORMAL] * (n_tokens - 3))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_space_prefix(False)

    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    mapping = get_tensor_name_map(MODEL_ARCH[arch.upper()], config["num_hidden_layers"])
    for key, weight in load_file(folder / "model.safetensors").items():
        projection = key.split(".")[-2]
        if arch == "llama" and projection in heads:
            weight = interleaved(weight, heads[projection])
        writer.add_tensor(mapping.get_name(key, try_suffixes=(".weight", ".bias")), weight.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def check(folder: Path, path: Path) -> None:
    from llama_cpp import Llama

    golden = json.loads((folder / "golden.json").read_text())
    llama = Llama(str(path), n_ctx=len(golden["ids"]), logits_all=True, verbose=False)
    llama.eval(golden["ids"])
    logits = np.array([llama.scores[idx] for idx in range(len(golden["ids"]))]).reshape(-1)
    largest = np.abs(logits - np.array(golden["logits"])).max()
    print(f"{path.name}: largest difference of llama.cpp's logits to transformers' {largest:.1e}")
    # llama.cpp keeps keys and values in f16.
    assert largest < 2e-2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fixtures", type=Path, required=True)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    (args.fixtures / "gguf").mkdir(exist_ok=True)
    for name in NAMES:
        folder, path = args.fixtures / "layouts" / name, args.fixtures / "gguf" / f"{name}.gguf"
        check(folder, path) if args.check else write(folder, path)


if __name__ == "__main__":
    main()
