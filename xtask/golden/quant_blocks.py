"""Makes the fixture of crates/quant/tests/golden.rs with llama.cpp's Python package and with llama.cpp.

    pip install llama-cpp-python==0.3.36      # beside requirements.txt; it compiles llama.cpp
    python quant_blocks.py --out ../../crates/quant/tests/fixtures/golden.txt

A line of the fixture is `FORMAT unpack CHECKSUM LAST` or `FORMAT pack CHECKSUM LAST`:

- unpack: values of random blocks with odd scales, by the package's `dequantize`; the last 8 values.
- pack: blocks of random values of several kinds, by llama.cpp's `ggml_quantize_chunk` without an importance matrix; the last
  block. For the formats that the package quantises too, both have to be equal.

The checksum is SHA-256 of all bytes in little-endian order. The test makes the same blocks and values from the same random bits.
"""

import argparse
import ctypes
import hashlib
from pathlib import Path

import llama_cpp
import numpy as np
from gguf import GGML_QUANT_SIZES, quants
from gguf import GGMLQuantizationType as Type

FORMATS = {
    "f16": Type.F16, "bf16": Type.BF16, "q4_0": Type.Q4_0, "q4_1": Type.Q4_1, "q5_0": Type.Q5_0, "q5_1": Type.Q5_1,
    "q8_0": Type.Q8_0, "q4_K": Type.Q4_K, "q5_K": Type.Q5_K, "q6_K": Type.Q6_K,
}
# Offsets of the scale and the minimum in a block.
SCALES = {
    "q4_0": [0], "q4_1": [0, 2], "q5_0": [0], "q5_1": [0, 2], "q8_0": [0], "q4_K": [0, 2], "q5_K": [0, 2], "q6_K": [208],
}
# Zeros, the smallest and largest subnormal values, the smallest normal value, one, the largest values.
ODD_SCALES = [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x3C00, 0xBC00, 0x7BFF, 0xFBFF]
N_BLOCKS = 200
N_VALUES = 256 * 54


def random_words(n: int) -> np.ndarray:
    """The first `n` results of SplitMix64 with seed 0."""
    with np.errstate(over="ignore"):
        z = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def blocks(name: str) -> np.ndarray:
    """Random blocks. The first 100 have all pairs of odd scales, the others random ones below 2."""
    if name not in SCALES:
        # All values but NaN.
        halves = np.arange(1 << 16, dtype=np.uint32).astype("<u2")
        infinity = 0x7C00 if name == "f16" else 0x7F80
        return halves[(halves & 0x7FFF) <= infinity].view(np.uint8)
    n_bytes = N_BLOCKS * GGML_QUANT_SIZES[FORMATS[name]][1]
    made = random_words(-(-n_bytes // 8)).astype("<u8").view(np.uint8)[:n_bytes].reshape(N_BLOCKS, -1).copy()
    for field, offset in enumerate(SCALES[name]):
        made[:, offset + 1] &= 0xBF
        for block in range(100):
            scale = ODD_SCALES[block // 10 if field else block % 10]
            made[block, offset : offset + 2] = np.array([scale], "<u2").view(np.uint8)
    return made.ravel()


def values() -> np.ndarray:
    """Groups of 32 values: nearly normal ones of several sizes, of one sign, constant ones, zeros with an outlier, and zeros."""
    parts = random_words(N_VALUES).astype("<u8").view("<u2").reshape(N_VALUES, 4).astype(np.int64)
    normal = (parts.sum(axis=1) - 2 * 65535).astype(np.float32).reshape(-1, 32)
    weight = np.float32(2.0**-20)
    made = normal * weight
    for group, row in enumerate(made):
        # A kind for each block, then all kinds within a block.
        match (group // 8 if group < len(made) // 2 else group) % 9:
            case 1:
                row *= np.float32(2.0**-10)
            case 2:
                row *= np.float32(2.0**14)
            case 3:
                row += np.float32(0.5)
            case 4:
                row[:] = -np.abs(row)
            case 5:
                row[:] = row[0]
            case 6:
                row[:31] = 0.0
            case 7:
                row[:] = 0.0
            case 8:
                row *= np.float32(2.0) ** -(np.arange(32) % 16).astype(np.float32)
    return made.ravel()


def llama_blocks(ggml: ctypes.CDLL, made: np.ndarray, ty: Type) -> np.ndarray:
    block_len, block_bytes = GGML_QUANT_SIZES[ty]
    out = np.zeros(made.size // block_len * block_bytes, np.uint8)
    pointer = ctypes.POINTER(ctypes.c_float)
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    ggml.ggml_quantize_chunk.argtypes = [
        ctypes.c_int, pointer, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, pointer,
    ]
    n_bytes = ggml.ggml_quantize_chunk(ty.value, made.ctypes.data_as(pointer), out.ctypes.data, 0, 1, made.size, None)
    assert n_bytes == out.size, (ty, n_bytes, out.size)
    return out


def line(name: str, operation: str, result: np.ndarray, n_last: int) -> str:
    data = result.tobytes()
    return f"{name} {operation} {hashlib.sha256(data).hexdigest()} {data[-n_last:].hex()}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    folder = Path(llama_cpp.__file__).parent / "lib"
    ggml = ctypes.CDLL(str(next(folder.glob("libggml-base.*"))))
    text = ""
    for name, ty in FORMATS.items():
        unpacked = quants.dequantize(blocks(name), ty).astype("<f4")
        text += line(name, "unpack", unpacked, 4 * 8)
        made = values()
        packed = llama_blocks(ggml, made, ty)
        if not name.endswith("_K"):
            same = quants.quantize(made, ty).view(np.uint8)
            assert np.array_equal(packed, same), f"{name}: llama.cpp and its package differ"
        text += line(name, "pack", packed, GGML_QUANT_SIZES[ty][1])
    args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
