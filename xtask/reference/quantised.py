"""Compares Kindling with llama.cpp on the same GGUF files, on a CPU under Linux.

    python quantised.py make model-f32.gguf --types Q4_K_M Q6_K Q8_0 -o files
    python quantised.py compare --kindling target/release/kindling --model files/*.gguf

`make` quantises an f32 file with llama.cpp. `compare` prints medians of interleaved rounds. Each measurement is a process
of its own, which starts when the one before it ends, because a virtual processor is slow after a pause.
"""

import argparse
import json
import os
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LLAMA = Path(__file__).with_name("llama_process.py")
PROMPT = "Once upon a time"
POLL_S = 0.01
MAX_OTHERS = 0.05  # Of the CPU, for other processes.
# The measurements: name, digits, and whether more is better.
COLUMNS = {
    "decode, tokens/s": (1, True),
    "prefill, tokens/s": (0, True),
    "resident, MB": (0, False),
    "anonymous, MB": (0, False),
    "first token, ms": (0, False),
}

Measurement = dict[str, float]


@dataclass(frozen=True)
class Work:
    """One model, and what the programs do with it."""

    model: Path
    decode: int
    prefill: int
    threads: int
    no_repack: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make", help="quantise a file with llama.cpp")
    make.add_argument("source", type=Path, help="a GGUF file in f32")
    make.add_argument("--types", nargs="+", default=["Q4_K_M", "Q6_K", "Q8_0"], help="file types of llama.cpp")
    make.add_argument("-o", "--output", type=Path, required=True, help="folder of the new files")
    compare = commands.add_parser("compare", help="measure both programs")
    compare.add_argument("--kindling", type=Path, required=True, help="the program")
    compare.add_argument("--model", type=Path, nargs="+", required=True, help="GGUF files")
    compare.add_argument("--rounds", type=int, default=5)
    compare.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    compare.add_argument("--decode", type=int, default=128, help="tokens to generate")
    compare.add_argument("--prefill", type=int, default=512, help="tokens of the long prompt")
    compare.add_argument("--no-repack", action="store_true", help="without llama.cpp's repacked weights, and so without AMX")
    compare.add_argument("--json", action="store_true", help="print the measurements of all rounds instead of tables")
    args = parser.parse_args()

    if args.command == "make":
        quantise(args.source, args.types, args.output)
        return
    for model in args.model:
        work = Work(model, args.decode, args.prefill, args.threads, args.no_repack)
        rounds = measure(args.kindling.resolve(), work, args.rounds)
        if args.json:
            print(json.dumps({"model": model.name, "size_bytes": model.stat().st_size, "rounds": rounds}), flush=True)
        else:
            print_table(model, rounds)


def quantise(source: Path, types: list[str], folder: Path) -> None:
    """Writes one file per type, with llama.cpp's mixtures of types."""
    import llama_cpp  # Here, because `compare` also runs without it up to its child processes.

    folder.mkdir(parents=True, exist_ok=True)
    for name in types:
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{name}")
        target = folder / f"{source.stem.removesuffix('-f32')}-{name}.gguf"
        if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), params):
            sys.exit(f"llama.cpp cannot quantise {source} to {name}")
        print(f"{target}: {target.stat().st_size / 1e6:.0f} MB")


def measure(kindling: Path, work: Work, n_rounds: int) -> list[dict[str, Measurement]]:
    """The measurements of each round, after one that warms up and is discarded."""
    rounds = []
    start, before = time.perf_counter(), others_cpu_seconds()
    for _ in range(1 + n_rounds):
        ours, theirs = kindling_bench(kindling, work), llama_bench(work)
        ours |= kindling_generate(kindling, work)
        theirs |= llama_generate(work)
        rounds.append({"kindling": ours, "llama.cpp": theirs})
    others = (others_cpu_seconds() - before) / (time.perf_counter() - start) / os.cpu_count()
    if others > MAX_OTHERS:
        print(f"other processes used {others:.0%} of the CPU: discard these figures", file=sys.stderr)
    return rounds[1:]


def kindling_bench(kindling: Path, work: Work) -> Measurement:
    options = ["--prefill", str(work.prefill), "--decode", str(work.decode), "--json"]
    report = json.loads(run([kindling, "bench", work.model, *options], work))
    return {
        "decode, tokens/s": report["decode"]["tokens_per_second"],
        "prefill, tokens/s": report["prefill"]["tokens_per_second"],
        "read, GB/s": 1e-9 * report["decode"]["bytes_per_second"],
        "bandwidth, GB/s": 1e-9 * report["peak_bytes_per_second"],
    }


def llama_bench(work: Work) -> Measurement:
    rates = json.loads(run(llama_command("bench", work), work))
    return {"decode, tokens/s": rates["decode"], "prefill, tokens/s": rates["prefill"]}


def kindling_generate(kindling: Path, work: Work) -> Measurement:
    """Memory, and the time from the start of the process to the first text after the prompt."""
    command = [kindling, "generate", work.model, "--prompt", PROMPT, "--max-tokens", str(work.decode)]
    command += ["--temperature", "0", "--ignore-eos"]
    start, times = time.perf_counter(), []

    def receive(output: bytes) -> None:
        if len(output) > len(PROMPT) and not times:
            times.append(time.perf_counter() - start)

    _, peak = watch(command, work, receive)
    return sizes(peak) | {"first token, ms": 1e3 * times[0]}


def llama_generate(work: Work) -> Measurement:
    """Memory without Python's, and the time from the start of loading to the first token."""
    output, peak = watch(llama_command("generate", work), work, lambda _: None)
    before, first = map(json.loads, output.splitlines())
    return sizes({name: peak[name] - before[name] for name in peak}) | {"first token, ms": 1e3 * first["first_token_s"]}


def sizes(memory: dict[str, int]) -> Measurement:
    return {"resident, MB": memory["VmHWM"] / 1e6, "anonymous, MB": memory["RssAnon"] / 1e6}


def llama_command(name: str, work: Work) -> list:
    options = {"--decode": work.decode, "--prefill": work.prefill, "--threads": work.threads, "--prompt": PROMPT}
    options = [str(part) for option in options.items() for part in option]
    return [sys.executable, LLAMA, name, work.model, *options, *["--no-repack"] * work.no_repack]


def run(command: list, work: Work) -> str:
    return subprocess.run(command, env=environment(work), check=True, stdout=subprocess.PIPE, text=True).stdout


def watch(command: list, work: Work, receive: Callable[[bytes], None]) -> tuple[bytes, dict[str, int]]:
    """Runs a program. Returns its output and the peaks of its memory, and passes on the output so far as it grows."""
    peak, output = {"VmHWM": 0, "RssAnon": 0}, b""
    with subprocess.Popen(command, env=environment(work), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        while True:
            for name, size in memory_of(process.pid).items():
                peak[name] = max(peak[name], size)
            if select.select([process.stdout], [], [], POLL_S)[0]:
                piece = os.read(process.stdout.fileno(), 65536)
                if not piece:
                    break
                output += piece
                receive(output)
    if process.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed with {process.returncode}")
    return output, peak


def memory_of(pid: int) -> dict[str, int]:
    """The peak of resident memory, and anonymous memory, in bytes. Empty for a process that has ended."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if line.startswith(("VmHWM", "RssAnon")))
    return {name: 1024 * int(size.split()[0]) for name, size in fields.items()}


def environment(work: Work) -> dict[str, str]:
    return os.environ | {"RAYON_NUM_THREADS": str(work.threads)}


def others_cpu_seconds() -> float:
    """CPU time of all processes so far, without this one and its children."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    user, nice, system, _, _, irq, soft_irq, steal = (int(field) / os.sysconf("SC_CLK_TCK") for field in fields)
    own = os.times()
    return user + nice + system + irq + soft_irq + steal - (own.user + own.system + own.children_user + own.children_system)


def print_table(model: Path, rounds: list[dict[str, Measurement]]) -> None:
    median = lambda program, name: statistics.median(it[program][name] for it in rounds)
    print(f"\n{model.name}, {model.stat().st_size / 1e6:.0f} MB, medians of {len(rounds)} rounds\n")
    print("| | kindling | llama.cpp | ratio of the rounds |\n|---|--:|--:|--:|")
    for name, (digits, more_is_better) in COLUMNS.items():
        ours, theirs = median("kindling", name), median("llama.cpp", name)
        ratios = [it["kindling"][name] / it["llama.cpp"][name] for it in rounds]
        better = "more" if more_is_better else "less"
        print(
            f"| {name} ({better} is better) | {ours:.{digits}f} | {theirs:.{digits}f} "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
        )
    read, bandwidth = median("kindling", "read, GB/s"), median("kindling", "bandwidth, GB/s")
    print(f"\nkindling's decode reads {read:.1f} GB/s, {read / bandwidth:.0%} of the bandwidth of {bandwidth:.1f} GB/s", flush=True)


if __name__ == "__main__":
    main()
