"""The fixture of preference tuning: ten steps of DPO on pairs of answers, in f64 and one answer at a time.

    python dpo.py --out ../../crates/trainer/tests/fixtures

The loss is -log sigmoid(beta * ((logp_c - ref_c) - (logp_r - ref_r))) of a chosen and a rejected answer (Rafailov et al.,
2023, equation 7), the mean over all pairs in each step; log-probabilities are sums over the answer, and the reference is the
initial model. The model is that of `gpt_tiny_adamw`, so the fixture has no weights. Neither packing nor padding occurs here.
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
BETA = 0.5
# Tokens of the prompt, the chosen answer and the rejected answer.
LENGTHS = [(2, 3, 4), (2, 2, 1), (3, 3, 4), (2, 1, 2), (1, 3, 3), (2, 1, 1)]


def make_pairs(rng: numpy.random.Generator) -> list[list[dict[str, list]]]:
    """Random prompts with two random answers each: the chosen one, then the rejected one."""
    pairs = []
    for n_prompt, *answers in LENGTHS:
        prompt = rng.integers(GPT_TINY.vocab_size, size=n_prompt).tolist()
        ids = [prompt + rng.integers(GPT_TINY.vocab_size, size=n).tolist() for n in answers]
        pairs.append([{"ids": of_answer, "trained": [i >= n_prompt for i in range(len(of_answer))]} for of_answer in ids])
    return pairs


def logprob(model: torch.nn.Module, answer: dict[str, list]) -> torch.Tensor:
    """The sum over the trained tokens."""
    ids, trained = torch.tensor(answer["ids"]), torch.tensor(answer["trained"])
    logprobs = F.log_softmax(model(ids[None, :-1]).logits[0], dim=-1)
    return logprobs.gather(1, ids[1:, None])[:, 0][trained[1:]].sum()


def train(weights: dict[str, torch.Tensor], pairs: list[list[dict[str, list]]], recipe: Recipe) -> dict[str, list[float]]:
    """Losses are before the update, gradient norms before clipping."""
    model = build(GPT_TINY, weights, torch.float64)
    with torch.no_grad():
        references = [[logprob(model, answer) for answer in pair] for pair in pairs]
    parameters = list(model.parameters())
    decayed = [p for p in parameters if p.dim() >= recipe.decayed_dims_min]
    others = [p for p in parameters if p.dim() < recipe.decayed_dims_min]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(recipe.beta_1, recipe.beta_2), eps=recipe.epsilon)
    losses, norms = [], []
    for step in range(recipe.max_steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate_at(step)
        optimizer.zero_grad()
        total = 0.0
        for pair, reference in zip(pairs, references):
            gains = [logprob(model, answer) - ref for answer, ref in zip(pair, reference)]
            loss = -F.logsigmoid(BETA * (gains[0] - gains[1])) / len(pairs)
            loss.backward()
            total += loss.item()
        losses.append(total)
        norms.append(torch.nn.utils.get_total_norm([p.grad for p in parameters]).item())
        torch.nn.utils.clip_grad_norm_(parameters, recipe.grad_clip)
        optimizer.step()
    reference = [(chosen - rejected).item() for chosen, rejected in references]
    return {"reference": reference, "losses": losses, "grad_norms": norms}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write dpo.json to")
    args = parser.parse_args()
    torch.set_num_threads(1)
    weights = init_weights(GPT_TINY, numpy.random.default_rng(SEED))
    pairs = make_pairs(numpy.random.default_rng(SEED + 1))
    facts = {"beta": BETA, "pairs": pairs} | train(weights, pairs, Recipe())
    (args.out / "dpo.json").write_text(json.dumps(facts) + "\n")
    print("losses:", " ".join(f"{loss:.4f}" for loss in facts["losses"]))
    print("norms:", " ".join(f"{norm:.4f}" for norm in facts["grad_norms"]))


if __name__ == "__main__":
    main()
