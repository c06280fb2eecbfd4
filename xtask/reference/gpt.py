"""The GPT that Kindling trains, in plain PyTorch."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GELU_FORMS = {"gelu": "none", "gelu_tanh": "tanh"}


class Attention(nn.Module):
    """Causal multi-head attention with a joint projection of queries, keys and values."""

    def __init__(self, sizes: dict) -> None:
        super().__init__()
        n_embd, bias = sizes["n_embd"], sizes["bias"]
        self.n_head = sizes["n_head"]
        self.dropout = sizes["dropout"]
        self.qkv = nn.Linear(n_embd, 3 * n_embd, bias=bias)
        self.project = nn.Linear(n_embd, n_embd, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        heads = (part.unflatten(2, (self.n_head, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=2))
        mixed = F.scaled_dot_product_attention(
            *heads, dropout_p=self.dropout if self.training else 0.0, is_causal=True
        )  # [B, H, T, D]
        return F.dropout(self.project(mixed.transpose(1, 2).flatten(2)), self.dropout, self.training)


class Block(nn.Module):
    """Attention and a feed-forward layer, each added to the residual stream."""

    def __init__(self, sizes: dict) -> None:
        super().__init__()
        n_embd, bias = sizes["n_embd"], sizes["bias"]
        self.attention_norm = nn.LayerNorm(n_embd, bias=bias)
        self.attention = Attention(sizes)
        self.feed_forward_norm = nn.LayerNorm(n_embd, bias=bias)
        self.expand = nn.Linear(n_embd, 4 * n_embd, bias=bias)
        self.project = nn.Linear(4 * n_embd, n_embd, bias=bias)
        self.dropout = sizes["dropout"]
        self.gelu_form = GELU_FORMS[sizes["activation"]]

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        hidden = F.gelu(self.expand(self.feed_forward_norm(x)), approximate=self.gelu_form)
        return x + F.dropout(self.project(hidden), self.dropout, self.training)


class Gpt(nn.Module):
    """The GPT for a recipe's `[model]`, with a head tied to the token embedding."""

    def __init__(self, sizes: dict, vocab_size: int) -> None:
        super().__init__()
        if not sizes["tie_embeddings"]:
            raise SystemExit("the reference supports tied embeddings only: set model.tie_embeddings to true")
        self.dropout = sizes["dropout"]
        n_embd, n_layer = sizes["n_embd"], sizes["n_layer"]
        self.token_embedding = nn.Embedding(vocab_size, n_embd)
        self.position_embedding = nn.Embedding(sizes["block_size"], n_embd)
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(n_layer))
        self.norm = nn.LayerNorm(n_embd, bias=sizes["bias"])
        for name, parameter in self.named_parameters():
            if name.endswith("project.weight"):
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * n_layer))
            elif parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """The mean cross-entropy of `targets`. Both arguments are `[B, T]`."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.token_embedding(tokens) + self.position_embedding(positions)  # [B, T, C]
        x = F.dropout(x, self.dropout, self.training)
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.token_embedding.weight)  # [B, T, V]
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())
