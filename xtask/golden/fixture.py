"""Writes a fixture: named tensors and JSON metadata in a safetensors file, reproducible to the byte."""

import json
import platform
from pathlib import Path

import numpy
import safetensors
import torch
import transformers
from safetensors.torch import save

VERSIONS = {
    "python": platform.python_version(),
    "torch": torch.__version__.split("+")[0],
    "transformers": transformers.__version__,
    "numpy": numpy.__version__,
    "safetensors": safetensors.__version__,
}


def write(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, object]) -> int:
    """Writes `tensors` and returns the size in bytes.

    Floats are rounded to f32 and integers narrowed to i32. Each value of `metadata` is stored as JSON, since the format allows
    strings only. The versions of the libraries are added.
    """
    narrowed = {name: _narrow(tensor) for name, tensor in tensors.items()}
    strings = {key: json.dumps(value) for key, value in (metadata | {"versions": VERSIONS}).items()}
    data = _sort_header(save(narrowed, metadata=strings))
    path.write_bytes(data)
    return len(data)


def _narrow(tensor: torch.Tensor) -> torch.Tensor:
    dtype = torch.float32 if tensor.is_floating_point() else torch.int32
    # A copy: safetensors rejects tied tensors, which share memory.
    return tensor.detach().to(dtype, copy=True).contiguous()


def _sort_header(data: bytes) -> bytes:
    """Sorts the JSON header: safetensors writes its metadata in the order of a randomly seeded hash map.

    A safetensors file is the header's length (u64, little-endian), the header padded with spaces to a multiple of
    eight, and the tensors. Offsets count from the header's end, so the order of keys does not affect them.
    """
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[end:]
