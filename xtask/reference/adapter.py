"""Compares a GGUF adapter with llama.cpp: the logits of a base model with the adapter, in llama.cpp and in Kindling.

    python adapter.py --kindling target/release/kindling --base base.gguf --adapter adapter.gguf --text "Some text"

Both score the same ids; `kindling score --adapter` gives the log-probabilities. llama.cpp also scores them without the
adapter, to show that it changes something. The base should be in f32, because the programs round activations differently
for other types.
"""

import argparse
import ctypes
import json
import math
import subprocess
from pathlib import Path

import llama_cpp


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kindling", type=Path, required=True, help="the program")
    parser.add_argument("--base", type=Path, required=True, help="a GGUF file in f32")
    parser.add_argument("--adapter", type=Path, required=True, help="a GGUF file of `kindling export --format gguf-adapter`")
    parser.add_argument("--text", default="Once upon a time there was a river, and beside it a small stone house.")
    args = parser.parse_args()

    silence = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silence, None)
    llama_cpp.llama_backend_init()
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = 0
    model = llama_cpp.llama_model_load_from_file(str(args.base).encode(), params)
    assert model, f"llama.cpp can't load {args.base}"
    adapter = llama_cpp.llama_adapter_lora_init(model, str(args.adapter).encode())
    assert adapter, f"llama.cpp can't load {args.adapter}"

    command = [args.kindling, "score", args.base, "--adapter", args.adapter, "--text", args.text, "--json"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    ids = found["ids"]
    theirs = {name: logprobs(model, used, ids) for name, used in [("with", adapter), ("without", None)]}
    ours = [value for value in found["logprobs"] if value is not None]
    for name, values in theirs.items():
        assert len(values) == len(ours), f"{len(values)} and {len(ours)} values"
        largest = max(abs(a - b) for a, b in zip(values, ours))
        print(f"largest difference of {len(ours)} log-probabilities from llama.cpp {name} the adapter: {largest:.2e}")


def logprobs(model: llama_cpp.llama_model_p, adapter: llama_cpp.llama_adapter_lora_p | None, ids: list[int]) -> list[float]:
    """The log-probability of each token but the first."""
    params = llama_cpp.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch, params.flash_attn_type = len(ids), len(ids), len(ids), 0
    params.type_k = params.type_v = 0  # GGML_TYPE_F32, as in Kindling
    context = llama_cpp.llama_init_from_model(model, params)
    if adapter is not None:
        adapters = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(adapter)
        scales = (ctypes.c_float * 1)(1.0)
        assert llama_cpp.llama_set_adapters_lora(context, adapters, 1, scales) == 0
    batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for position, token in enumerate(ids):
        batch.token[position], batch.pos[position], batch.logits[position] = token, position, 1
        batch.n_seq_id[position], batch.seq_id[position][0] = 1, 0
    assert llama_cpp.llama_decode(context, batch) == 0
    n_vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    scores = []
    for position, target in enumerate(ids[1:]):
        logits = llama_cpp.llama_get_logits_ith(context, position)[:n_vocabulary]
        largest = max(logits)
        total = largest + math.log(sum(math.exp(x - largest) for x in logits))
        scores.append(logits[target] - total)
    llama_cpp.llama_free(context)
    return scores


if __name__ == "__main__":
    main()
