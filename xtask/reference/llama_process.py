"""llama.cpp in a process of its own, measured by `quantised.py`. Prints JSON, one object per line.

It calls the low-level API, so that Python costs a few microseconds per token. Settings are llama.cpp's defaults, such as
mapped files and repacked weights, but for the threads, batches of 512 and a context without spare room.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import llama_cpp

BATCH = 512
WARMUP = 3  # The counts of `kindling bench`.
PREFILLS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=["generate", "bench"])
    parser.add_argument("model", type=Path)
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--decode", type=int, required=True, help="tokens to generate")
    parser.add_argument("--prefill", type=int, required=True, help="tokens of the prompt of `bench`")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--no-repack", action="store_true", help="use the weights as they lie in the file, without AMX")
    args = parser.parse_args()

    silence = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silence, None)
    if args.work == "generate":
        generate(args)
    else:
        bench(args)


def generate(args: argparse.Namespace) -> None:
    """The memory before loading, and the time from loading to the first token. The other tokens follow."""
    print(json.dumps(memory()), flush=True)
    start = time.perf_counter()
    model = Llama(args, len(args.prompt) + args.decode)
    prompt = model.tokens_of(args.prompt.encode())
    model.decode(prompt)
    print(json.dumps({"first_token_s": time.perf_counter() - start}), flush=True)
    token = model.best_token()
    for _ in range(args.decode - 1):
        model.decode([token])


def bench(args: argparse.Namespace) -> None:
    """Medians of prefill and of decoding one token, as tokens per second."""
    model = Llama(args, max(args.prefill, WARMUP + args.decode))
    prompt = [i * 7 % model.n_vocabulary for i in range(args.prefill)]

    def prefill() -> float:
        model.clear()
        return model.decode(prompt)

    prefills = [prefill() for _ in range(WARMUP + PREFILLS)]
    model.clear()
    steps = [model.decode([i]) for i in range(WARMUP + args.decode)]
    rates = {"prefill": args.prefill / median(prefills), "decode": 1 / median(steps)}
    print(json.dumps(rates), flush=True)


def median(times: list[float]) -> float:
    return statistics.median(times[WARMUP:])


class Llama:
    """A model and its context."""

    def __init__(self, args: argparse.Namespace, n_context: int) -> None:
        llama_cpp.llama_backend_init()
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = 0
        params.use_extra_bufts = not args.no_repack
        self.model = llama_cpp.llama_model_load_from_file(str(args.model).encode(), params)
        if not self.model:
            sys.exit(f"llama.cpp cannot load {args.model}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = n_context
        params.n_batch = params.n_ubatch = BATCH
        params.n_threads = params.n_threads_batch = args.threads
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.vocabulary = llama_cpp.llama_model_get_vocab(self.model)
        self.n_vocabulary = llama_cpp.llama_vocab_n_tokens(self.vocabulary)

    def tokens_of(self, text: bytes) -> list[int]:
        tokens = (llama_cpp.llama_token * len(text))()
        n_tokens = llama_cpp.llama_tokenize(self.vocabulary, text, len(text), tokens, len(text), False, True)
        return tokens[:n_tokens]

    def clear(self) -> None:
        """Forgets all tokens."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), False)

    def decode(self, tokens: list[int]) -> float:
        """Appends tokens, and returns the seconds until the logits of the next one."""
        array = (llama_cpp.llama_token * len(tokens))(*tokens)
        start = time.perf_counter()
        if llama_cpp.llama_decode(self.context, llama_cpp.llama_batch_get_one(array, len(tokens))):
            sys.exit("llama_decode failed")
        llama_cpp.llama_synchronize(self.context)
        return time.perf_counter() - start

    def best_token(self) -> int:
        logits = llama_cpp.llama_get_logits_ith(self.context, -1)
        return max(range(self.n_vocabulary), key=lambda token: logits[token])


def memory() -> dict[str, int]:
    """The peak of resident memory, and anonymous memory, in bytes."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: 1024 * int(status[name].split()[0]) for name in ("VmHWM", "RssAnon")}


if __name__ == "__main__":
    main()
