"""Makes the golden fixtures of the `model` and `trainer` tests with PyTorch and Hugging Face transformers.

    python gpt.py --out DIR NAME...

Every result is computed twice from the same f32 weights, in f32 and in f64. The f64 result is stored, rounded to f32. The largest
difference between the two is stored too (metadata key `difference`): an f32 implementation cannot be expected to be closer than
PyTorch's f32. The metadata key `sensitivity` has the effect of a mistake: a test with a larger tolerance cannot detect it.

README.md beside this file lists the tensors.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy
import torch
from transformers import GPT2LMHeadModel

import fixture
from adamw import make_training_fixture
from reference import (
    ACTIVATIONS,
    BATCH,
    GPT_NO_BIAS,
    GPT_TINY,
    GPT_UNTIED_EXACT,
    TIME,
    Config,
    build,
    cross_entropy,
    describe,
    init_weights,
    largest_difference,
    stored_weights,
)


def make_model_fixture(config: Config, seed: int) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    """A model, a batch, and the model's results for it."""
    rng = numpy.random.default_rng(seed)
    weights = init_weights(config, rng)
    shapes = {"tokens": (BATCH, TIME), "targets": (BATCH, TIME), "long_tokens": (1, config.block_size)}
    inputs = {key: torch.from_numpy(rng.integers(config.vocab_size, size=shape)) for key, shape in shapes.items()}

    exact, rounded = (
        evaluate(build(config, weights, dtype), config, inputs) for dtype in (torch.float64, torch.float32)
    )
    other_gelu = dataclasses.replace(config, activation=next(form for form in ACTIVATIONS if form != config.activation))
    other = evaluate(build(other_gelu, weights, torch.float64), other_gelu, inputs)

    for name, tensor in exact.items():
        assert tensor.abs().max() > 1e-3, f"{name} is almost zero and would test nothing"
    gradients = [name for name in exact if name.startswith("grad.")]
    metadata = describe(config) | {
        "seed": seed,
        "difference": {
            "logits": largest_difference(exact, rounded, ["logits", "cached_logits"]),
            "loss": largest_difference(exact, rounded, ["loss"]),
            "grad": largest_difference(exact, rounded, gradients),
        },
        "sensitivity": {"other form of GELU, logits": largest_difference(exact, other, ["logits"])},
    }
    return stored_weights(config, weights) | inputs | exact, metadata


def evaluate(model: GPT2LMHeadModel, config: Config, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Logits, loss and every gradient, and the logits of a full block."""
    logits = model(inputs["tokens"]).logits
    loss = cross_entropy(logits, inputs["targets"])
    loss.backward()
    gradients = {f"grad.{name}": p.grad for name, p in model.named_parameters() if config.has(name)}
    with torch.no_grad():
        cached_logits = model(inputs["long_tokens"]).logits
    return {"logits": logits, "cached_logits": cached_logits, "loss": loss.reshape(1)} | gradients


FIXTURES = {
    "gpt_tiny": lambda: make_model_fixture(GPT_TINY, seed=1),
    "gpt_untied_exact": lambda: make_model_fixture(GPT_UNTIED_EXACT, seed=2),
    "gpt_no_bias": lambda: make_model_fixture(GPT_NO_BIAS, seed=3),
    "gpt_tiny_adamw": lambda: make_training_fixture(GPT_TINY, seed=1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=FIXTURES, metavar="NAME", help=", ".join(FIXTURES))
    parser.add_argument("--out", type=Path, required=True, help="folder to write NAME.safetensors to")
    args = parser.parse_args()

    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    print(" ".join(f"{library} {version}" for library, version in fixture.VERSIONS.items()))
    for name in args.names:
        tensors, metadata = FIXTURES[name]()
        size_bytes = fixture.write(args.out / f"{name}.safetensors", tensors, metadata)
        print(f"{name}: {len(tensors)} tensors, {size_bytes} bytes")
        for key in ("loss", "adamw.losses", "adamw.grad_norms"):
            if key in tensors:
                print(f"  {key}: {' '.join(f'{value:.4f}' for value in tensors[key].tolist())}")
        for key in ("difference", "sensitivity"):
            for what, value in metadata[key].items():
                print(f"  {key}: {what}: {value:.2e}")


if __name__ == "__main__":
    main()
