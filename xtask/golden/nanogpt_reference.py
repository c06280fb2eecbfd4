"""nanoGPT's CPU recipe on a text by characters, in plain PyTorch: a reference for Kindling's loss and speed.

    python nanogpt_reference.py TEXT_FILE [--size S|M] [--steps N] [--threads N]

It implements the recipe (the same as ../../configs/nanogpt-cpu.toml) and is not derived from nanoGPT's code. It prints the
validation loss every `--eval-interval` steps and at the end, the seconds spent on training steps, and tokens/s. `--metrics`
writes the validation losses in the format of Kindling's metrics.jsonl, with the seconds since the first step.
"""

import argparse
import dataclasses
import json
import math
import time
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F

EVAL_BATCHES = 20
WARMUP_STEPS = 100
LEARNING_RATE, MIN_LEARNING_RATE = 1e-3, 1e-4
BETAS, WEIGHT_DECAY, GRAD_CLIP = (0.9, 0.99), 0.1, 1.0
VALID_FRACTION = 0.1
# Warm-up steps of allocators and thread pools, whose time does not count.
UNTIMED_STEPS = 10


@dataclasses.dataclass(frozen=True)
class Size:
    """Batch size, block size, and the sizes of the model."""

    batch_size: int
    block_size: int
    n_layer: int
    n_head: int
    n_embd: int


SIZES = {
    "S": Size(batch_size=12, block_size=64, n_layer=4, n_head=4, n_embd=128),
    "M": Size(batch_size=8, block_size=256, n_layer=6, n_head=6, n_embd=384),
}


class Block(nn.Module):
    """Attention and feed-forward, each after a norm and added to the residual stream. No biases."""

    def __init__(self, size: Size):
        super().__init__()
        self.n_head = size.n_head
        self.attention_norm = nn.LayerNorm(size.n_embd, bias=False)
        self.qkv = nn.Linear(size.n_embd, 3 * size.n_embd, bias=False)
        self.project = nn.Linear(size.n_embd, size.n_embd, bias=False)
        self.feed_forward_norm = nn.LayerNorm(size.n_embd, bias=False)
        self.widen = nn.Linear(size.n_embd, 4 * size.n_embd, bias=False)
        self.narrow = nn.Linear(4 * size.n_embd, size.n_embd, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.project(self._attend(self.qkv(self.attention_norm(x))))
        return x + self.narrow(F.gelu(self.widen(self.feed_forward_norm(x))))

    def _attend(self, qkv: torch.Tensor) -> torch.Tensor:
        q, k, v = qkv.unflatten(-1, (3, self.n_head, -1)).permute(2, 0, 3, 1, 4)  # [B, H, T, D] each
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return mixed.transpose(1, 2).flatten(2)  # [B, T, C]


class Gpt(nn.Module):
    """GPT-2 without biases and dropout; the output head is the token embedding."""

    def __init__(self, size: Size, vocab_size: int):
        super().__init__()
        self.token_embedding = nn.Embedding(vocab_size, size.n_embd)
        self.position_embedding = nn.Embedding(size.block_size, size.n_embd)
        self.blocks = nn.Sequential(*(Block(size) for _ in range(size.n_layer)))
        self.norm = nn.LayerNorm(size.n_embd, bias=False)

        for name, parameter in self.named_parameters():
            if parameter.dim() >= 2:
                is_residual = name.endswith(("project.weight", "narrow.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * size.n_layer) if is_residual else 0.02)

    def loss(self, windows: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy in nats of predicting `windows[:, 1:]`; `windows` is `[B, T + 1]`."""
        tokens, targets = windows[:, :-1], windows[:, 1:]
        x = self.token_embedding(tokens) + self.position_embedding.weight[: tokens.shape[1]]
        logits = F.linear(self.norm(self.blocks(x)), self.token_embedding.weight)  # [B, T, V]
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def encode(text: str) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Training ids, validation ids and the number of distinct characters, which are sorted to form the vocabulary."""
    ids = {character: idx for idx, character in enumerate(sorted(set(text)))}
    tokens = torch.tensor([ids[character] for character in text])
    n_train = int(len(tokens) * (1.0 - VALID_FRACTION))
    return tokens[:n_train], tokens[n_train:], len(ids)


def sample_windows(tokens: torch.Tensor, size: Size, generator: torch.Generator) -> torch.Tensor:
    """A batch of windows at uniformly random offsets, `[B, T + 1]`."""
    offsets = torch.randint(len(tokens) - size.block_size, (size.batch_size, 1), generator=generator)
    return tokens[offsets + torch.arange(size.block_size + 1)]


def learning_rate_at(step: int, max_steps: int) -> float:
    """Linear warm-up, then cosine decay to the minimum."""
    if step < WARMUP_STEPS:
        return LEARNING_RATE * (step + 1) / (WARMUP_STEPS + 1)
    progress = (step - WARMUP_STEPS) / max(1, max_steps - WARMUP_STEPS)
    return MIN_LEARNING_RATE + 0.5 * (1.0 + math.cos(math.pi * progress)) * (LEARNING_RATE - MIN_LEARNING_RATE)


@torch.no_grad()
def evaluate(model: Gpt, tokens: torch.Tensor, size: Size, generator: torch.Generator) -> float:
    losses = [model.loss(sample_windows(tokens, size, generator)) for _ in range(EVAL_BATCHES)]
    return torch.stack(losses).mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text_file", type=Path, metavar="TEXT_FILE", help="UTF-8 text, such as tiny Shakespeare")
    parser.add_argument("--size", choices=SIZES, default="S", help="S is nanoGPT's recipe (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=2000, help="training steps (default: %(default)s)")
    parser.add_argument("--eval-interval", type=int, default=250, help="in steps (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=1337, help="default: %(default)s")
    parser.add_argument("--metrics", type=Path, metavar="FILE", help="write validation losses to this file, one JSON object per line")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    size = SIZES[args.size]
    train_tokens, valid_tokens, vocab_size = encode(args.text_file.read_bytes().decode())
    model = Gpt(size, vocab_size)
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"torch {torch.__version__}, {args.threads} threads, size {args.size}, {n_parameters} parameters")

    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=BETAS, eps=1e-8, fused=True)
    step_seconds, best, evaluations = [], math.inf, []
    training_started = time.perf_counter()
    for step in range(args.steps + 1):
        if step % args.eval_interval == 0 or step == args.steps:
            valid_loss = evaluate(model, valid_tokens, size, generator)
            best = min(best, valid_loss)
            print(f"step {step}: validation loss {valid_loss:.4f}")
            elapsed = time.perf_counter() - training_started
            evaluations.append({"step": step, "split": "valid", "loss": valid_loss, "elapsed_seconds": elapsed})
        if step == args.steps:
            break
        started = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, args.steps)
        loss = model.loss(sample_windows(train_tokens, size, generator))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), GRAD_CLIP)
        optimizer.step()
        step_seconds.append(time.perf_counter() - started)

    if args.metrics:
        args.metrics.write_text("".join(json.dumps(evaluation) + "\n" for evaluation in evaluations))
    print(f"best validation loss {best:.4f} ({EVAL_BATCHES} batches of {size.batch_size})")
    timed = step_seconds[UNTIMED_STEPS:]
    if timed:
        tokens_per_second = len(timed) * size.batch_size * size.block_size / sum(timed)
        print(f"{sum(step_seconds):.1f} seconds in {args.steps} steps, {tokens_per_second:.0f} tokens/s")


if __name__ == "__main__":
    main()
