"""Compares files of `kindling quantize` with those of llama.cpp's quantiser, in llama.cpp.

    python quantize.py MODEL-f32.gguf --kindling ../../target/release/kindling --text text.txt

Both programs quantise the same f32 file. Every tensor must have the same type in both files. A line for each type has the
size, the perplexity of both files and of the original, the mean KL divergence from the original, and the share of equal
bytes. Windows of `--window` tokens do not overlap. Needs `gguf` and `llama-cpp-python`.
"""

import argparse
import math
import subprocess
import tempfile
from pathlib import Path

import llama_cpp
import numpy as np
from gguf import GGUFReader

FILE_TYPES = {
    "f16": 1, "bf16": 32, "q8_0": 7, "q6_K": 18, "q5_K_M": 17, "q5_K_S": 16, "q5_1": 9, "q5_0": 8, "q4_K_M": 15, "q4_K_S": 14,
    "q4_1": 3, "q4_0": 2,
}


def quantize_by_llama(model: Path, out: Path, ty: str) -> None:
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = FILE_TYPES[ty]
    if llama_cpp.llama_model_quantize(str(model).encode(), str(out).encode(), params) != 0:
        raise SystemExit(f"llama.cpp can't quantise {model} to {ty}")


def equal_bytes(ours: Path, theirs: Path) -> float:
    """The share of equal bytes. Exits if a tensor has another type."""
    expected = {tensor.name: tensor for tensor in GGUFReader(theirs).tensors}
    found = {tensor.name: tensor for tensor in GGUFReader(ours).tensors}
    if found.keys() != expected.keys():
        raise SystemExit(f"other tensors: {found.keys() ^ expected.keys()}")
    n_equal = n_bytes = 0
    for name, tensor in found.items():
        other = expected[name]
        if tensor.tensor_type != other.tensor_type:
            raise SystemExit(f"{name} is {tensor.tensor_type.name}, in llama.cpp {other.tensor_type.name}")
        n_equal += int(np.count_nonzero(tensor.data.view(np.uint8) == other.data.view(np.uint8)))
        n_bytes += tensor.n_bytes
    return n_equal / n_bytes


class Model:
    """A model in llama.cpp, with the weights as they lie in the file."""

    def __init__(self, path: Path, window: int, threads: int) -> None:
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = 0
        params.use_extra_bufts = False
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        if not self.model:
            raise SystemExit(f"llama.cpp can't load {path}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = window
        params.n_threads = params.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.vocabulary = llama_cpp.llama_model_get_vocab(self.model)
        self.n_vocabulary = llama_cpp.llama_vocab_n_tokens(self.vocabulary)

    def tokens(self, text: bytes) -> list[int]:
        ids = (llama_cpp.llama_token * len(text))()
        n = llama_cpp.llama_tokenize(self.vocabulary, text, len(text), ids, len(text), False, False)
        return list(ids[:n])

    def logprobs(self, ids: list[int]) -> np.ndarray:
        """The log-probabilities after each token: `[T, V]`."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for place, token in enumerate(ids):
            batch.token[place], batch.pos[place], batch.n_seq_id[place] = token, place, 1
            batch.seq_id[place][0], batch.logits[place] = 0, 1
        if llama_cpp.llama_decode(self.context, batch) != 0:
            raise SystemExit("llama.cpp can't decode")
        llama_cpp.llama_batch_free(batch)
        found = llama_cpp.llama_get_logits(self.context)
        logits = np.ctypeslib.as_array(found, shape=(len(ids), self.n_vocabulary)).copy()
        logits -= logits.max(axis=1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return logits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--kindling", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--types", nargs="+", choices=FILE_TYPES, default=["q4_K_M", "q8_0", "q4_0", "q6_K"])
    parser.add_argument("--tokens", type=int, default=8193)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    silence = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silence, None)

    with tempfile.TemporaryDirectory() as folder:
        files, same = {}, {}
        for ty in args.types:
            ours, theirs = Path(folder) / f"{ty}.kindling.gguf", Path(folder) / f"{ty}.llama.gguf"
            command = [args.kindling, "quantize", args.model, "--type", ty, "--tokens", "0", "-o", ours]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            quantize_by_llama(args.model, theirs, ty)
            same[ty] = equal_bytes(ours, theirs)
            files[ty] = (ours, theirs)
        original = Model(args.model, args.window, args.threads)
        models = {ty: [Model(path, args.window, args.threads) for path in pair] for ty, pair in files.items()}
        ids = original.tokens(args.text.read_bytes()[: 16 * args.tokens])[: args.tokens]
        losses, divergences, base = {ty: [0.0, 0.0] for ty in models}, {ty: [0.0, 0.0] for ty in models}, 0.0
        n_tokens = 0
        for start in range(0, len(ids) - args.window, args.window):
            window = ids[start : start + args.window]
            targets = np.array(ids[start + 1 : start + args.window + 1])
            rows = np.arange(len(window))
            reference = original.logprobs(window)
            probs = np.exp(reference)
            base -= float(reference[rows, targets].sum())
            n_tokens += len(window)
            for ty, pair in models.items():
                for side, model in enumerate(pair):
                    found = model.logprobs(window)
                    losses[ty][side] -= float(found[rows, targets].sum())
                    divergences[ty][side] += float((probs * (reference - found)).sum())
    print(f"original: perplexity {math.exp(base / n_tokens):.4f} over {n_tokens} tokens")
    for ty in models:
        (ours, theirs), (kl_ours, kl_theirs) = [math.exp(loss / n_tokens) for loss in losses[ty]], divergences[ty]
        print(
            f"{ty}: perplexity {ours:.4f}, llama.cpp's {theirs:.4f} ({100 * (ours / theirs - 1):+.3f} %); "
            f"KL {kl_ours / n_tokens:.6f}, llama.cpp's {kl_theirs / n_tokens:.6f}; {100 * same[ty]:.2f} % of bytes equal"
        )


if __name__ == "__main__":
    main()
