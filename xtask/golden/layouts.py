"""Makes models with random weights in every supported layout, with the results of transformers.

    python layouts.py --out ../../crates/checkpoint/tests/fixtures/layouts

Each is a folder with the files of the model and golden.json. That has `ids`, and the `logits` of every position in f64, rounded to
f32 (transformers computes norms and RoPE angles of Llama and Qwen3 in f32 regardless). `greedy` has the ids of greedy decoding,
beyond the block with the windows of `model::window_start`.
`stride_zero` is not a model: a pickle of a few hundred bytes whose tensors repeat one value a thousand million times.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import (
    GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM,
)

SEED = 1337
GREEDY = 12

# Odd shapes, one for each layout.
SHAPES = {
    "one_head": {"n_layer": 1, "n_head": 1, "n_embd": 7, "n_positions": 9, "vocab_size": 11},
    "three_tokens": {"n_layer": 2, "n_head": 5, "n_embd": 20, "n_positions": 6, "vocab_size": 3},
    "untied_exact": {
        "n_layer": 2, "n_head": 3, "n_embd": 15, "n_positions": 8, "vocab_size": 13,
        "tie_word_embeddings": False, "activation_function": "gelu",
    },
    "shards": {"n_layer": 3, "n_head": 2, "n_embd": 10, "n_positions": 5, "vocab_size": 17},
    "pickle": {"n_layer": 2, "n_head": 2, "n_embd": 14, "n_positions": 7, "vocab_size": 19},
    "pickle_bf16": {"n_layer": 1, "n_head": 2, "n_embd": 6, "n_positions": 5, "vocab_size": 7},
    "bare_names_bf16": {"n_layer": 1, "n_head": 3, "n_embd": 9, "n_positions": 12, "vocab_size": 10},
    "f16": {"n_layer": 1, "n_head": 2, "n_embd": 12, "n_positions": 4, "vocab_size": 29},
    "nanogpt": {"n_layer": 2, "n_head": 2, "n_embd": 6, "n_positions": 10, "vocab_size": 12,
                "activation_function": "gelu"},
    "inner": {"n_layer": 2, "n_head": 2, "n_embd": 10, "n_positions": 7, "vocab_size": 15, "n_inner": 23,
              "layer_norm_epsilon": 1e-3, "activation_function": "relu2"},
}

# Llama and Qwen3 models, by the prefix of the name.
MODERN = {
    "llama_grouped": {
        "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 2, "hidden_size": 18,
        "head_dim": 4, "intermediate_size": 31, "max_position_embeddings": 9, "vocab_size": 19,
        "rms_norm_eps": 1e-3, "rope_parameters": {"rope_type": "default", "rope_theta": 50.0},
    },
    "llama_tied": {
        "num_hidden_layers": 1, "num_attention_heads": 3, "num_key_value_heads": 1, "hidden_size": 12,
        "intermediate_size": 21, "max_position_embeddings": 8, "vocab_size": 11, "tie_word_embeddings": True,
    },
    "llama_biased_shards": {
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "hidden_size": 8,
        "intermediate_size": 13, "max_position_embeddings": 7, "vocab_size": 17,
        "attention_bias": True, "mlp_bias": True,
    },
    "llama_old_bf16": {
        "num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 12, "intermediate_size": 14,
        "max_position_embeddings": 10, "vocab_size": 13,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
    },
    "llama_attention_bias": {
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 16, "head_dim": 6,
        "intermediate_size": 19, "max_position_embeddings": 8, "vocab_size": 21, "attention_bias": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100.0},
    },
    "qwen3_grouped": {
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 14,
        "head_dim": 6, "intermediate_size": 25, "max_position_embeddings": 9, "vocab_size": 23,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0},
    },
    "qwen3_tied": {
        "num_hidden_layers": 2, "num_attention_heads": 3, "num_key_value_heads": 3, "hidden_size": 15,
        "head_dim": 4, "intermediate_size": 22, "max_position_embeddings": 6, "vocab_size": 12,
        "tie_word_embeddings": True,
    },
}


def make_modern(name: str, shape: dict, dtype: torch.dtype) -> PreTrainedModel:
    ids = {"bos_token_id": 0, "eos_token_id": 0}
    if name.startswith("llama"):
        return randomised(LlamaForCausalLM(LlamaConfig(**shape, **ids)), dtype)
    return randomised(Qwen3ForCausalLM(Qwen3Config(**shape, **ids)), dtype)


def make_model(shape: dict, dtype: torch.dtype, biased: bool) -> PreTrainedModel:
    config = GPT2Config(**shape, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0)
    return randomised(GPT2LMHeadModel(config), dtype, biased)


def randomised(model: PreTrainedModel, dtype: torch.dtype, biased: bool = True) -> PreTrainedModel:
    model = model.eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_gain = ("ln_" in name or "norm" in name) and name.endswith("weight")
            parameter.normal_(1.0 if is_gain else 0.0, 0.3)
            if name.endswith("bias") and not biased:
                parameter.zero_()
            parameter.copy_(parameter.to(dtype))  # Values that the file can represent.
    return model


def window_start(length: int, block: int) -> int:
    stride = max(block // 8, 1)
    return -(-max(length - block, 0) // stride) * stride


@torch.no_grad()
def golden(model: PreTrainedModel) -> dict:
    exact = model.double()
    block, vocab_size = model.config.max_position_embeddings, model.config.vocab_size  # GPT-2's n_positions too.
    ids = torch.randint(vocab_size, (block,)).tolist()
    logits = exact(torch.tensor([ids])).logits[0]
    text = ids[: block // 2]
    for _ in range(GREEDY):
        seen = text[window_start(len(text), block):]
        text.append(int(exact(torch.tensor([seen])).logits[0, -1].argmax()))
    return {"ids": ids, "logits": logits.float().flatten().tolist(), "greedy": text[block // 2:]}


def save_modern(name: str, model: PreTrainedModel, folder: Path) -> None:
    if name == "llama_old_bf16":
        # The format of transformers 4 for a base model, with the buffers of its first versions.
        config = model.config.to_diff_dict()
        config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
        config["rope_scaling"] = None
        for key in ("head_dim", "num_key_value_heads", "attention_bias", "mlp_bias"):
            config.pop(key, None)
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        state = {key.removeprefix("model."): value.bfloat16() for key, value in model.state_dict().items()}
        for layer in range(model.config.num_hidden_layers):
            state[f"layers.{layer}.self_attn.rotary_emb.inv_freq"] = torch.ones(model.config.head_dim // 2)
        save_file(state, folder / "model.safetensors")
        return
    model.save_pretrained(folder, max_shard_size="2KB" if name.endswith("shards") else "5GB")
    (folder / "generation_config.json").unlink(missing_ok=True)


def save(name: str, model: PreTrainedModel, folder: Path) -> None:
    state = {key: value.clone().contiguous() for key, value in model.state_dict().items()}
    if name == "nanogpt":
        # Linear weights in the layout of torch.nn.Linear, keys with the prefix of a compiled model, and no biases.
        layers = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
        state = {f"_orig_mod.{key}": value.t().contiguous() if key.endswith(layers) else value
                 for key, value in state.items() if not key.endswith("bias")}
        shape = model.config
        arguments = {"n_layer": shape.n_layer, "n_head": shape.n_head, "n_embd": shape.n_embd,
                     "block_size": shape.n_positions, "bias": False, "vocab_size": shape.vocab_size, "dropout": 0.1}
        torch.save({"model": state, "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3}]},
                    "model_args": arguments, "iter_num": 5, "best_val_loss": torch.tensor(2.5),
                    "config": {"dataset": "shakespeare_char"}}, folder / "ckpt.pt")
        return
    model.config.save_pretrained(folder)
    if name == "shards":
        model.save_pretrained(folder, max_shard_size="4KB")
        (folder / "generation_config.json").unlink(missing_ok=True)
    elif name == "pickle":
        torch.save(state, folder / "pytorch_model.bin")
    elif name == "pickle_bf16":
        torch.save({key: value.bfloat16() for key, value in state.items()}, folder / "pytorch_model.bin")
    elif name == "bare_names_bf16":
        bare = {key.removeprefix("transformer."): value.bfloat16() for key, value in state.items() if key != "lm_head.weight"}
        block = model.config.n_positions
        for layer in range(model.config.n_layer):
            bare[f"h.{layer}.attn.bias"] = torch.tril(torch.ones(1, 1, block, block))
            bare[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
        save_file(bare, folder / "model.safetensors")
    else:
        state.pop("lm_head.weight") if model.config.tie_word_embeddings else None
        half = {key: value.half() if name == "f16" else value for key, value in state.items()}
        save_file(half, folder / "model.safetensors")


def save_views(folder: Path) -> None:
    shape = {"n_layer": 1, "n_head": 2, "n_embd": 1000, "n_positions": 5, "vocab_size": 1_000_000}
    shutil.rmtree(folder, ignore_errors=True)
    GPT2Config(**shape).save_pretrained(folder)
    embedding = torch.zeros(1).expand(shape["vocab_size"], shape["n_embd"])
    torch.save({"transformer.wte.weight": embedding}, folder / "pytorch_model.bin")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    for name, shape in (SHAPES | MODERN).items():
        torch.manual_seed(SEED)
        dtype = torch.float16 if name == "f16" else torch.bfloat16 if name.endswith("bf16") else torch.float32
        is_modern = name in MODERN
        model = make_modern(name, shape, dtype) if is_modern else make_model(shape, dtype, name != "nanogpt")
        folder = out / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (save_modern if is_modern else save)(name, model, folder)
        (folder / "golden.json").write_text(json.dumps(golden(model)) + "\n")
    save_views(out / "stride_zero")


if __name__ == "__main__":
    main()
