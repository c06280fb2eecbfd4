"""The fixture of supervised fine-tuning: ten steps on examples with masks, in f64 and one example at a time.

    python sft.py --out ../../crates/trainer/tests/fixtures

Each step is a full batch: the mean loss over the trained tokens of all examples. The model is that of `gpt_tiny_adamw`, so
the fixture has no weights. Neither packing nor padding occurs here.
"""

import argparse
import json
from pathlib import Path

import numpy
import torch
import torch.nn.functional as F

from adamw import Recipe
from reference import GPT_TINY, build, init_weights

SEED = 1
LENGTHS = [12, 9, 4, 7, 2, 5, 12, 3]
SHARE_TRAINED = 0.4


def make_examples(rng: numpy.random.Generator) -> list[dict[str, list]]:
    """Random tokens. The last token of each example is trained, and a share of the others after the first."""
    examples = []
    for length in LENGTHS:
        ids = rng.integers(GPT_TINY.vocab_size, size=length).tolist()
        trained = (rng.random(length) < SHARE_TRAINED).tolist()
        trained[0], trained[-1] = False, True
        examples.append({"ids": ids, "trained": trained})
    return examples


def train(weights: dict[str, torch.Tensor], examples: list[dict[str, list]], recipe: Recipe) -> dict[str, list[float]]:
    """Losses are before the update, gradient norms before clipping."""
    model = build(GPT_TINY, weights, torch.float64)
    parameters = list(model.parameters())
    decayed = [p for p in parameters if p.dim() >= recipe.decayed_dims_min]
    others = [p for p in parameters if p.dim() < recipe.decayed_dims_min]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(recipe.beta_1, recipe.beta_2), eps=recipe.epsilon)
    n_trained = sum(sum(example["trained"]) for example in examples)
    losses, norms = [], []
    for step in range(recipe.max_steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate_at(step)
        optimizer.zero_grad()
        total = 0.0
        for example in examples:
            ids, trained = torch.tensor(example["ids"]), torch.tensor(example["trained"])
            logits = model(ids[None, :-1]).logits[0]
            loss = F.cross_entropy(logits[trained[1:]], ids[1:][trained[1:]], reduction="sum") / n_trained
            loss.backward()
            total += loss.item()
        losses.append(total)
        norms.append(torch.nn.utils.get_total_norm([p.grad for p in parameters]).item())
        torch.nn.utils.clip_grad_norm_(parameters, recipe.grad_clip)
        optimizer.step()
    return {"losses": losses, "grad_norms": norms}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write sft.json to")
    args = parser.parse_args()
    torch.set_num_threads(1)
    weights = init_weights(GPT_TINY, numpy.random.default_rng(SEED))
    examples = make_examples(numpy.random.default_rng(SEED + 1))
    facts = {"examples": examples} | train(weights, examples, Recipe())
    (args.out / "sft.json").write_text(json.dumps(facts) + "\n")
    print("losses:", " ".join(f"{loss:.4f}" for loss in facts["losses"]))


if __name__ == "__main__":
    main()
