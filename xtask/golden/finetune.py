"""Makes a small GPT-2, a text of exactly one window, and the losses of ten steps of fine-tuning on it.

    python finetune.py --out ../../crates/cli/tests/fixtures/finetune

Every batch is that window, so the batches of both programs are the same. The folder has the model in Hugging Face's layout,
text.txt, and golden.json with the `overrides` of the recipe `finetune` and the `losses` of each step before its update, in f64.
The script prints the effect of f32 and of common mistakes on the losses; a test's tolerance has to be between them.
"""

import argparse
import dataclasses
import json
import math
import shutil
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import BPE
from transformers import GPT2Config, GPT2LMHeadModel

SEED = 1337
STEPS = 10
TEXT = "the old elm fell at dawn"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The recipe `finetune` with a learning rate high enough for ten steps."""

    learning_rate: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    decayed_dims_min: int = 2
    grad_clip: float = 1.0


MISTAKES = {
    "no clipping": Recipe(grad_clip=math.inf),
    "nothing decays": Recipe(weight_decay=0.0),
    "biases and norms decay": Recipe(decayed_dims_min=1),
    "beta_2 0.999": Recipe(betas=(0.9, 0.999)),
}


def make_model(vocab_size: int) -> GPT2LMHeadModel:
    torch.manual_seed(SEED)
    sizes = {"n_layer": 2, "n_head": 2, "n_embd": 10, "n_positions": len(TEXT) - 1, "vocab_size": vocab_size}
    dropouts = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    model = GPT2LMHeadModel(GPT2Config(**sizes, **dropouts, bos_token_id=None, eos_token_id=None))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_gain = "ln_" in name and name.endswith("weight")
            parameter.normal_(1.0 if is_gain else 0.0, 0.3)
    return model


def train(folder: Path, ids: list[int], recipe: Recipe, dtype: torch.dtype) -> list[float]:
    model = GPT2LMHeadModel.from_pretrained(folder).to(dtype)
    tokens = torch.tensor([ids])
    decays = [parameter for parameter in model.parameters() if parameter.dim() >= recipe.decayed_dims_min]
    others = [parameter for parameter in model.parameters() if parameter.dim() < recipe.decayed_dims_min]
    groups = [
        {"params": decays, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, eps=1e-8)
    losses = []
    for _ in range(STEPS):
        logits = model(tokens[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits[0], tokens[0, 1:])
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.grad_clip)
        optimizer.step()
    return losses


def largest_difference(losses: list[float], others: list[float]) -> float:
    return max(abs(loss - other) for loss, other in zip(losses, others, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)

    # One token per character, as in Kindling's character tokenizer.
    vocabulary = {character: idx for idx, character in enumerate(sorted(set(TEXT)))}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[]))
    tokenizer.decoder = Fuse()
    tokenizer.save(str(out / "tokenizer.json"))
    make_model(len(vocabulary)).save_pretrained(out)
    (out / "generation_config.json").unlink(missing_ok=True)
    (out / "text.txt").write_text(TEXT)

    ids = tokenizer.encode(TEXT).ids
    losses = train(out, ids, Recipe(), torch.float64)
    overrides = {
        "optimizer.learning_rate": Recipe.learning_rate,
        "optimizer.min_learning_rate": Recipe.learning_rate,
        "optimizer.grad_accumulation": 2,
        "schedule.max_steps": STEPS,
    }
    (out / "golden.json").write_text(json.dumps({"overrides": overrides, "losses": losses}, indent=1) + "\n")
    rounding = largest_difference(losses, train(out, ids, Recipe(), torch.float32))
    print(f"losses {losses[0]:.4f} to {losses[-1]:.4f}; f32 changes them by {rounding:.1e}")
    for mistake, recipe in MISTAKES.items():
        difference = largest_difference(losses, train(out, ids, recipe, torch.float64))
        print(f"{mistake}: {difference:.1e}")


if __name__ == "__main__":
    main()
