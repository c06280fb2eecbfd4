"""Makes the fixture of crates/gguf/tests/golden.rs with llama.cpp's own Python package.

    python gguf_blocks.py --out ../../crates/gguf/tests/fixtures

`blocks.gguf` has for each type that is read a tensor of that name, and beside it `TYPE.values`: what the package makes
of its bytes, in f32. Some blocks are all zeros, or all one number, or have values of very different sizes.
"""

import argparse
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter, quants

SEED = 1337
TYPES = [Type.F16, Type.BF16, Type.Q8_0, Type.Q4_0, Type.Q4_1]
# Rows of three blocks.
SHAPE = (5, 96)


def values(rng: np.random.Generator) -> np.ndarray:
    drawn = rng.normal(0.0, 0.5, SHAPE).astype(np.float32)
    drawn[1, :32] = 0.0
    drawn[1, 32:64] = -0.75
    drawn[2] = np.abs(drawn[2]) + 3.0
    drawn[3] *= np.logspace(-6, 3, SHAPE[1], dtype=np.float32)
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    writer = GGUFWriter(out / "blocks.gguf", "golden")
    rng = np.random.default_rng(SEED)
    for ty in TYPES:
        name = ty.name.lower()
        stored = quants.quantize(values(rng), ty)
        writer.add_tensor(name, stored, raw_dtype=ty)
        writer.add_tensor(f"{name}.values", quants.dequantize(stored, ty).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
