"""The fixture of LoRA: an adapter that PEFT wrote, the gradients of its matrices, and ten steps that train them, in f64.

    python lora.py --out ../../crates/trainer/tests/fixtures/lora

The model and the batches are those of `gpt_tiny_adamw`. Needs `peft` beside the packages of requirements.txt.
"""

import argparse
import json
from pathlib import Path

import numpy
import torch
from peft import LoraConfig, get_peft_model

from adamw import Recipe, make_batches
from reference import GPT_TINY, build, cross_entropy, init_weights

SEED = 1
RANK, ALPHA = 3, 6.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    args = parser.parse_args()
    torch.set_num_threads(1)
    recipe = Recipe()
    rng = numpy.random.default_rng(SEED)
    weights = init_weights(GPT_TINY, rng)
    batches = make_batches(GPT_TINY, recipe.max_steps, rng)

    targets = ["c_attn", "c_proj", "c_fc"]
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=targets, fan_in_fan_out=True, task_type="CAUSAL_LM")
    model = get_peft_model(build(GPT_TINY, weights, torch.float64), config)
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for p in parameters.values():
        # PEFT's B is zero, and then A has no gradient. The values are exact in f32, as the file stores them.
        p.data = torch.from_numpy(0.2 * rng.standard_normal(p.shape, dtype=numpy.float32)).to(torch.float64)
    model.to(torch.float32).save_pretrained(args.out)
    model.to(torch.float64)

    optimizer = torch.optim.AdamW(
        parameters.values(), betas=(recipe.beta_1, recipe.beta_2), eps=recipe.epsilon, weight_decay=recipe.weight_decay
    )
    losses, norms, gradients = [], [], {}
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate_at(step)
        loss = cross_entropy(model(batch[:, :-1]).logits, batch[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            gradients = {name.replace(".default", ""): p.grad.flatten().tolist() for name, p in parameters.items()}
        norms.append(torch.nn.utils.clip_grad_norm_(parameters.values(), recipe.grad_clip).item())
        losses.append(loss.item())
        optimizer.step()
    facts = {"losses": losses, "grad_norms": norms, "gradients": gradients}
    (args.out / "golden.json").write_text(json.dumps(facts) + "\n")
    for name in ("README.md",):
        (args.out / name).unlink(missing_ok=True)
    print("losses:", " ".join(f"{loss:.4f}" for loss in losses))


if __name__ == "__main__":
    main()
