"""Makes checkpoints of nanoGPT and similar programs, with transformers' results for the supported ones.

    python checkpoints.py --out ../../crates/checkpoint/tests/fixtures/layouts

`nanogpt_first` and `mingpt` are folders like those of layouts.py: ckpt.pt in nanoGPT's format, and golden.json. The first is from
before nanoGPT's bias option, with the tanh form of GELU. The second has minGPT's weights, with an untied head and masks.
`checkpoints` has unsupported files: of llama2.c, of build-nanogpt (whose config is an object), plain state dicts of minGPT, GPT-2 and
Llama, and one of nanoGPT without a key.
"""

import argparse
import json
import shutil
from collections import OrderedDict
from pathlib import Path

import torch
from layouts import SEED, golden, make_model

SHAPE = {"n_layer": 2, "n_head": 2, "n_embd": 6, "n_positions": 10, "vocab_size": 12}
LINEAR = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
ARGUMENTS = {"n_layer": 2, "n_head": 2, "n_embd": 6, "block_size": 10, "vocab_size": 12}


class GPTConfig:
    """The class of build-nanogpt's train_gpt2.py, which defines it in `__main__`."""


GPTConfig.__module__ = "__main__"


def linear(state: OrderedDict) -> OrderedDict:
    """Linear weights in the layout of torch.nn.Linear, with the `_metadata` of a state dict."""
    made = OrderedDict((key, (value.t() if key.endswith(LINEAR) else value).clone().contiguous()) for key, value in state.items())
    made._metadata = state._metadata
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    for name in ("nanogpt_first", "mingpt", "checkpoints"):
        shutil.rmtree(out / name, ignore_errors=True)
        (out / name).mkdir(parents=True)

    torch.manual_seed(SEED)
    first = make_model(SHAPE, torch.float32, True)
    checkpoint = {"model": linear(first.state_dict()), "model_args": ARGUMENTS, "iter_num": 3}
    torch.save(checkpoint, out / "nanogpt_first" / "ckpt.pt")
    (out / "nanogpt_first" / "golden.json").write_text(json.dumps(golden(first)) + "\n")

    torch.manual_seed(SEED + 1)
    untied = make_model({**SHAPE, "tie_word_embeddings": False}, torch.float32, True)
    mingpt = linear(untied.state_dict())
    for layer in range(SHAPE["n_layer"]):
        mingpt[f"transformer.h.{layer}.attn.bias"] = torch.tril(torch.ones(1, 1, 10, 10))
    torch.save({"model": mingpt, "model_args": {**ARGUMENTS, "bias": True, "activation": "gelu_tanh"}},
               out / "mingpt" / "ckpt.pt")
    others = out / "checkpoints"
    torch.save(mingpt, others / "mingpt.pt")
    torch.save(untied.state_dict(), others / "gpt2.pt")
    (out / "mingpt" / "golden.json").write_text(json.dumps(golden(untied)) + "\n")

    small = {"transformer.wte.weight": torch.zeros(12, 6)}
    torch.save({"model": small, "model_args": {key: value for key, value in ARGUMENTS.items() if key != "n_head"}},
               others / "no_head.pt")
    config = GPTConfig()
    config.__dict__.update(ARGUMENTS)
    torch.save({"model": small, "config": config, "step": 5, "val_loss": 1.0}, others / "build_nanogpt.pt")
    torch.save({"model": {"tok_embeddings.weight": torch.zeros(12, 6)}, "config": {},
                "model_args": {"dim": 6, "n_layers": 1, "n_heads": 2, "n_kv_heads": 2, "vocab_size": 12, "max_seq_len": 8}},
               others / "llama2c.pt")
    torch.save({"model.embed_tokens.weight": torch.zeros(12, 6)}, others / "llama.pt")


if __name__ == "__main__":
    main()
