"""Small GPT-2 models of transformers, with weights for which every parameter matters."""

import dataclasses
import math

import numpy
import torch
import torch.nn.functional as F
from transformers import GPT2Config, GPT2LMHeadModel

BATCH, TIME = 2, 5
# Kindling's names for the forms of GELU, and transformers' names.
ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_new"}


@dataclasses.dataclass(frozen=True)
class Config:
    """The sizes of a model, with Kindling's names. They are unusual; in `GPT_TINY` no two axes are equal."""

    vocab_size: int
    block_size: int
    n_layer: int
    n_head: int
    n_embd: int
    bias: bool
    tie_embeddings: bool
    activation: str
    dropout: float = 0.0

    def has(self, name: str) -> bool:
        """Whether the model has the parameter `name` of transformers, whose GPT-2 always has biases."""
        return self.bias or not name.endswith(".bias")


GPT_TINY = Config(
    vocab_size=17, block_size=11, n_layer=3, n_head=4, n_embd=12, bias=True, tie_embeddings=True, activation="gelu_tanh"
)
GPT_UNTIED_EXACT = Config(
    vocab_size=23, block_size=7, n_layer=2, n_head=3, n_embd=15, bias=True, tie_embeddings=False, activation="gelu"
)
GPT_NO_BIAS = Config(
    vocab_size=13, block_size=9, n_layer=2, n_head=2, n_embd=10, bias=False, tie_embeddings=True, activation="gelu"
)


def init_weights(config: Config, rng: numpy.random.Generator) -> dict[str, torch.Tensor]:
    """Random f32 weights far from GPT-2's initialisation: no bias is zero, no norm is one, attention is uneven.

    A model without biases has zero biases, which the fixture leaves out.
    """
    shapes = {name: parameter.shape for name, parameter in _build(config).named_parameters()}
    return {name: _init(config, name, tuple(shape), rng) for name, shape in shapes.items()}


def _init(config: Config, name: str, shape: tuple[int, ...], rng: numpy.random.Generator) -> torch.Tensor:
    normal = torch.from_numpy(rng.standard_normal(shape, dtype=numpy.float32))
    if not config.has(name):
        return torch.zeros_like(normal)
    if ".ln_" in name and name.endswith(".weight"):
        return 1.0 + 0.2 * normal
    if name.endswith(".bias"):
        return 0.2 * normal
    if ".c_fc." in name:
        # Large enough to reach |x| = 2, where the two forms of GELU differ.
        return 2.0 / math.sqrt(shape[0]) * normal
    if ".c_" in name:
        return 1.0 / math.sqrt(shape[0]) * normal  # A Conv1D weight is [in, out].
    return 0.3 * normal


def build(config: Config, weights: dict[str, torch.Tensor], dtype: torch.dtype) -> GPT2LMHeadModel:
    """The model of `config` with `weights`, computing in `dtype`."""
    model = _build(config).to(dtype)
    model.load_state_dict(weights, strict=False)  # A tied `lm_head.weight` is not among the weights.
    return model.train()  # Dropout is zero: training mode changes nothing.


def _build(config: Config) -> GPT2LMHeadModel:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.block_size,
            n_layer=config.n_layer,
            n_head=config.n_head,
            n_embd=config.n_embd,
            activation_function=ACTIVATIONS[config.activation],
            tie_word_embeddings=config.tie_embeddings,
            resid_pdrop=config.dropout,
            embd_pdrop=config.dropout,
            attn_pdrop=config.dropout,
            bos_token_id=None,
            eos_token_id=None,
            attn_implementation="eager",
        )
    )


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean over all positions. Not transformers' own loss, which shifts the targets and rounds f64 logits to f32."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def stored_weights(config: Config, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights with their names in a fixture, without biases that the model does not have."""
    return {f"weight.{name}": tensor for name, tensor in weights.items() if config.has(name)}


def describe(config: Config) -> dict[str, object]:
    """The metadata of a model. `config` has the keys of a recipe's `[model]`, which `vocab_size` is not."""
    sizes = dataclasses.asdict(config)
    return {"vocab_size": sizes.pop("vocab_size"), "config": sizes}


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], names: list[str]) -> float:
    """The largest |a - b| over all elements of the tensors `names`, to three digits."""
    return float(f"{max((a[name] - b[name]).abs().max().item() for name in names):.2e}")
