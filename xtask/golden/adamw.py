"""The training fixture: ten steps of AdamW with nanoGPT's settings."""

import dataclasses
import math

import numpy
import torch

from reference import (
    BATCH,
    TIME,
    Config,
    build,
    cross_entropy,
    describe,
    init_weights,
    largest_difference,
    stored_weights,
)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """nanoGPT's training settings, with values for which each of its rules matters within ten steps."""

    max_steps: int = 10
    learning_rate: float = 3e-2
    min_learning_rate: float = 3e-3
    warmup_steps: int = 3
    decay_steps: int = 8
    beta_1: float = 0.9
    beta_2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 0.1
    # Parameters of fewer dimensions (biases and norms) do not decay.
    decayed_dims_min: int = 2
    grad_clip: float = 2.0
    # False: the global norm of all gradients is clipped.
    clips_each_tensor: bool = False

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then cosine decay to the minimum, then constant."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / (self.warmup_steps + 1)
        if step > self.decay_steps:
            return self.min_learning_rate
        progress = (step - self.warmup_steps) / (self.decay_steps - self.warmup_steps)
        share = 0.5 * (1.0 + math.cos(math.pi * progress))
        return self.min_learning_rate + share * (self.learning_rate - self.min_learning_rate)


# Each must change the losses far more than rounding does, or the fixture could not detect it.
MISTAKES = {
    "no clipping": {"grad_clip": math.inf},
    "each tensor clipped for itself": {"clips_each_tensor": True},
    "biases and norms decay": {"decayed_dims_min": 1},
    "nothing decays": {"weight_decay": 0.0},
    "epsilon 1e-5": {"epsilon": 1e-5},
    "beta_2 0.999": {"beta_2": 0.999},
    "no warm-up": {"warmup_steps": 0},
    "floor of zero": {"min_learning_rate": 0.0},
}


def make_training_fixture(config: Config, seed: int) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    """Ten steps of AdamW, from the weights of the model fixture with the same seed."""
    recipe = Recipe()
    rng = numpy.random.default_rng(seed)
    weights = init_weights(config, rng)
    batches = make_batches(config, recipe.max_steps, rng)

    exact, rounded = (train(config, weights, batches, recipe, dtype) for dtype in (torch.float64, torch.float32))
    n_clipped = int((exact["adamw.grad_norms"] > recipe.grad_clip).sum())
    assert 0 < n_clipped < recipe.max_steps, f"{n_clipped} of {recipe.max_steps} steps are clipped, expected some"

    finals = [name for name in exact if name.startswith("adamw.final.")]
    metadata = describe(config) | {
        "seed": seed,
        "recipe": dataclasses.asdict(recipe),
        "difference": {
            "losses": largest_difference(exact, rounded, ["adamw.losses"]),
            "grad_norms": largest_difference(exact, rounded, ["adamw.grad_norms"]),
            "final": largest_difference(*(_without_key_biases(config, run) for run in (exact, rounded)), finals),
            "final key biases": largest_difference(*(_key_biases(config, run) for run in (exact, rounded)), finals),
        },
        "sensitivity": {
            f"{mistake}, losses": largest_difference(
                exact,
                train(config, weights, batches, dataclasses.replace(recipe, **change), torch.float64),
                ["adamw.losses"],
            )
            for mistake, change in MISTAKES.items()
        },
    }
    schedule = torch.tensor([recipe.learning_rate_at(step) for step in range(recipe.max_steps)], dtype=torch.float64)
    inputs = {
        "adamw.tokens": batches[:, :, :-1],
        "adamw.targets": batches[:, :, 1:],
        "adamw.learning_rates": schedule,
    }
    return stored_weights(config, weights) | inputs | exact, metadata


def make_batches(config: Config, n_batches: int, rng: numpy.random.Generator) -> torch.Tensor:
    """Sequences that a model can learn in ten steps, `[n_batches, B, T + 1]`: each token is twice the previous one.

    Modulo 17 the powers of two are a cycle of eight tokens, so the other nine occur only in the softmax.
    """
    exponents = rng.integers(8, size=(n_batches, BATCH, 1)) + numpy.arange(TIME + 1)
    return torch.from_numpy(2**exponents % config.vocab_size)


def train(
    config: Config, weights: dict[str, torch.Tensor], batches: torch.Tensor, recipe: Recipe, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """Trains one step on each batch. Losses are before the update, gradient norms before clipping."""
    model = build(config, weights, dtype)
    parameters = list(model.parameters())
    decayed = [p for p in parameters if p.dim() >= recipe.decayed_dims_min]
    not_decayed = [p for p in parameters if p.dim() < recipe.decayed_dims_min]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": not_decayed, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(recipe.beta_1, recipe.beta_2), eps=recipe.epsilon)

    losses, grad_norms = [], []
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate_at(step)
        loss = cross_entropy(model(batch[:, :-1]).logits, batch[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        grad_norms.append(torch.nn.utils.get_total_norm([p.grad for p in parameters]))
        for clipped in [[p] for p in parameters] if recipe.clips_each_tensor else [parameters]:
            torch.nn.utils.clip_grad_norm_(clipped, recipe.grad_clip)
        losses.append(loss.detach())
        optimizer.step()

    final = {f"adamw.final.{name}": p.detach() for name, p in model.named_parameters()}
    return {"adamw.losses": torch.stack(losses), "adamw.grad_norms": torch.stack(grad_norms)} | final


def _key_biases(config: Config, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The key part of `c_attn.bias`, and zeros elsewhere.

    A key bias adds the same value to all scores of a query, which softmax cancels, so its gradient is zero. In f32 the
    gradient is rounding noise, which AdamW normalises: an f32 run changes these biases at random, without effect.
    """
    return {name: tensor * _is_key_bias(config, name, tensor) for name, tensor in tensors.items()}


def _without_key_biases(config: Config, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor * ~_is_key_bias(config, name, tensor) for name, tensor in tensors.items()}


def _is_key_bias(config: Config, name: str, tensor: torch.Tensor) -> torch.Tensor:
    mask = torch.zeros_like(tensor, dtype=torch.bool)
    if name.endswith(".attn.c_attn.bias"):
        mask[config.n_embd : 2 * config.n_embd] = True
    return mask
