"""Measures `kindling serve`: one client beside `kindling generate`, and 16 clients beside one.

    python serve_speed.py --kindling target/release/kindling --model runs/mine --gguf mine.gguf

With `--gguf`, the server of llama-cpp-python runs the same model in the same way. Times are medians of interleaved
rounds, and each round has other prompts, so that no program can reuse an earlier one. Prints a table.
"""

import argparse
import contextlib
import os
import select
import statistics
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from serving import REQUEST_S, Running, kindling, llama_cpp, prompt_of

MAX_DIFFERENCE = 0.05  # Between the server and `kindling generate`.
MIN_SPEED_UP = 5.0  # Of 16 clients over one.
MAX_OTHERS = 0.05  # Of the CPU, for other processes.
SILENCE_S = 1.0  # `kindling generate` has written its text if it writes nothing for so long.


@dataclass(frozen=True)
class Timing:
    """One streamed generation."""

    first_token_ms: float
    tokens_per_second: float  # From the first token to the last.


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kindling", type=Path, required=True, help="the program")
    parser.add_argument("--model", required=True, help="the model, as kindling names it")
    parser.add_argument("--gguf", type=Path, help="the same model for llama.cpp")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64, help="generated tokens per request")
    parser.add_argument("--prompt-words", type=int, nargs="+", default=[8, 64], help="lengths of the prompts")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of llama.cpp")
    args = parser.parse_args()

    with ExitStack() as stack:
        served = stack.enter_context(kindling(args.kindling, args.model, "--slots", str(args.clients)))
        generate = stack.enter_context(generating(args.kindling, args.model, args.tokens))
        programs = {"kindling generate": generate, "kindling serve": lambda prompt: stream(served, prompt, args.tokens)}
        servers = [served]
        if args.gguf:
            llama = stack.enter_context(llama_cpp(args.gguf, 1024, args.threads))
            programs["llama_cpp.server"] = lambda prompt: stream(llama, prompt, args.tokens)
            servers.append(llama)

        start, before = time.perf_counter(), others_cpu_seconds()
        print(f"{args.model}, one client, {args.tokens} tokens, medians of {args.rounds} rounds")
        for n_words in args.prompt_words:
            compare(programs, n_words, args.rounds)
        print(f"\n{args.model}, {args.tokens} tokens per request, prompts of {args.prompt_words[0]} words")
        for server in servers:
            throughput(server, args.clients, args.prompt_words[0], args.tokens)
        others = (others_cpu_seconds() - before) / (time.perf_counter() - start) / os.cpu_count()
    print(f"\nother processes used {others:.0%} of the CPU; above {MAX_OTHERS:.0%}, discard these figures")


def compare(programs: dict, n_words: int, rounds: int) -> None:
    """Prints the times of one client, with ratios to the first program."""
    timings: dict[str, list[Timing]] = {name: [] for name in programs}
    for number in range(-1, rounds):  # The first round is a warm-up.
        for name, program in programs.items():
            # A virtual processor is slow after a pause, such as waiting for the end of a text. So each program has one.
            time.sleep(SILENCE_S)
            timing = program(prompt_of(n_words, f"{n_words} {number}"))
            if number >= 0:
                timings[name].append(timing)
    base = None
    for name, of_program in timings.items():
        first = statistics.median(timing.first_token_ms for timing in of_program)
        speed = statistics.median(timing.tokens_per_second for timing in of_program)
        base = base or (first, speed)
        print(
            f"  prompt of {n_words:>4} words  {name:<18} first token {first:8.1f} ms ({first / base[0]:5.2f})"
            f"   {speed:8.1f} tokens/s ({speed / base[1]:5.2f})",
            flush=True,
        )
        is_slower = first > base[0] * (1 + MAX_DIFFERENCE) or speed < base[1] * (1 - MAX_DIFFERENCE)
        if name == "kindling serve" and is_slower:
            print(f"    more than {MAX_DIFFERENCE:.0%} slower than `kindling generate`")


def throughput(server: Running, n_clients: int, n_words: int, n_tokens: int) -> None:
    """Prints the tokens per second of one client and of many, in rounds that alternate."""
    speeds: dict[int, list[float]] = {1: [], n_clients: []}
    for number in range(3):
        for clients, of_clients in speeds.items():
            n_each = 2 if clients > 1 else 4
            prompts = [prompt_of(n_words, f"{number} {clients} {idx}") for idx in range(clients * n_each)]
            start = time.perf_counter()
            with ThreadPoolExecutor(clients) as pool:
                counts = list(pool.map(lambda prompt: count(server, prompt, n_tokens), prompts))
            of_clients.append(sum(counts) / (time.perf_counter() - start))
    one, many = (statistics.median(of_clients) for of_clients in speeds.values())
    print(
        f"  {server.name:<18} 1 client {one:8.1f} tokens/s   {n_clients} clients {many:8.1f} tokens/s"
        f"   {many / one:.2f} times (at least {MIN_SPEED_UP})",
        flush=True,
    )


def count(server: Running, prompt: str, n_tokens: int) -> int:
    answer = server.post(request(prompt, n_tokens))
    return answer["usage"]["completion_tokens"]


def request(prompt: str, n_tokens: int) -> dict:
    return {"prompt": prompt, "max_tokens": n_tokens, "temperature": 0, "ignore_eos": True}


def stream(server: Running, prompt: str, n_tokens: int) -> Timing:
    """The times of the text's chunks."""
    start = time.perf_counter()
    return timing(start, server.stream_times(request(prompt, n_tokens)), n_tokens)


def timing(start: float, times: list[float], n_tokens: int) -> Timing:
    return Timing(1e3 * (times[0] - start), (n_tokens - 1) / (times[-1] - times[0]))


@contextmanager
def generating(program: Path, model: str, n_tokens: int) -> Iterator:
    """`kindling generate -i`, whose model is loaded: a function from a prompt to the times of its text."""
    options = ["-i", "--ignore-eos", "--temperature=0", f"--max-tokens={n_tokens}"]
    command = [str(program.resolve()), "generate", model, *options]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def generate(prompt: str) -> Timing:
        """The output is the prompt, the text and a line break. The text may have line breaks too."""
        start = time.perf_counter()
        process.stdin.write(f"{prompt}\n".encode())
        process.stdin.flush()
        n_left, times, piece = len(prompt.encode()), [], b""
        while select.select([process.stdout], [], [], SILENCE_S if times else REQUEST_S)[0]:
            piece = os.read(process.stdout.fileno(), 65536)
            if not piece:
                raise SystemExit("kindling generate ended")
            if len(piece) > n_left:
                times.append(time.perf_counter())
            n_left = max(0, n_left - len(piece))
        if not times:
            raise SystemExit(f"kindling generate gave no text for {prompt!r}")
        return timing(start, times[:-1] if piece == b"\n" else times, n_tokens)

    try:
        yield generate
    finally:
        process.stdin.close()
        process.wait()


def others_cpu_seconds() -> float:
    """CPU time of all processes but this one and its children, since the machine's start, from Linux."""
    user, nice, system, _idle, _io_wait, *interrupts = map(int, Path("/proc/stat").read_text().split()[1:9])
    ticks = user + nice + system + sum(interrupts)
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # A process may end in between.
            _state, parent, *values = path.read_text().rpartition(")")[2].split()
            if os.getpid() in (int(parent), int(path.parent.name)):
                ticks -= int(values[9]) + int(values[10])
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
