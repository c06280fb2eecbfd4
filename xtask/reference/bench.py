"""Measures a GPT in PyTorch like `kindling bench --json` measures Kindling: same recipe, same JSON.

    python bench.py versions
    python bench.py train --mode eager --recipe RECIPE.toml --vocab-size 65 --amount 20 --threads 2
    python bench.py train --mode compile --recipe RECIPE.toml --vocab-size 65 --amount 20 --threads 2 --device cuda
    torchrun --nproc-per-node 2 bench.py train --mode ddp --recipe RECIPE.toml --vocab-size 65 --amount 20 --threads 1

`cargo xtask bench` runs it, except for `ddp`: DistributedDataParallel over gloo, with a whole batch for each process. Each measurement is the median of several, after a warm-up of three.
"""

import argparse
import json
import platform
import statistics
import time
import tomllib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.distributed

from gpt import GELU_FORMS, Gpt

WARMUP = 3  # The counts of `kindling bench`.
PREFILLS = 10
STEPS_PER_SYNC = 5  # Training steps on a GPU between synchronisations.
N_BATCHES = 8
# The matrix product that measures a GPU's peak, as in `kindling bench`.
PEAK_SIZE, PEAK_TRIES, PEAK_PRODUCTS = 8192, 8, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="work", required=True)
    commands.add_parser("versions", help="print the versions of the libraries")
    for work, modes in {
        "train": ["eager", "compile", "ddp"],
        "prefill": ["transformers"],
        "decode": ["transformers"],
    }.items():
        command = commands.add_parser(work)
        command.add_argument("--mode", choices=modes, required=True)
        command.add_argument("--recipe", type=Path, required=True, help="a Kindling recipe")
        command.add_argument("--vocab-size", type=int, required=True)
        command.add_argument("--amount", type=int, required=True, help="training steps, prompt tokens or generated tokens")
        command.add_argument("--threads", type=int, required=True)
        command.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="cpu, cuda or cuda:1")
    args = parser.parse_args()

    if args.work == "versions":
        libraries = {"python": platform.python_version(), "torch": torch.__version__}
        if find_spec("transformers"):  # Training does not need it.
            import transformers

            libraries["transformers"] = transformers.__version__
        print(json.dumps(libraries))
        return
    torch.set_num_threads(args.threads)
    torch.manual_seed(1337)
    if args.device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32, as in nanoGPT.
    recipe = tomllib.loads(args.recipe.read_text())
    match args.work:
        case "train":
            if args.mode == "ddp":
                torch.distributed.init_process_group("gloo")
            speed = train(recipe, args.vocab_size, args.amount, args.device, args.mode)
        case "prefill":
            speed = prefill(hugging_face(recipe, args.vocab_size).to(args.device), args.amount)
        case "decode":
            speed = decode(hugging_face(recipe, args.vocab_size).to(args.device), args.amount)
    report = {args.work: speed, "peak_memory_bytes": peak_memory_bytes()}
    if args.device.type == "cuda":
        # The reserved device memory, which Kindling reports too. Read before measuring the peak, which allocates more.
        report["peak_device_memory_bytes"] = torch.cuda.max_memory_reserved(args.device)
        report["peak_flops_per_second"] = peak_flops(args.device, PEAK_SIZE)
    if not torch.distributed.is_initialized():
        print(json.dumps(report))
        return
    if torch.distributed.get_rank() == 0:
        print(json.dumps(report))
    torch.distributed.destroy_process_group()


def train(recipe: dict, vocab_size: int, n_steps: int, device: torch.device, mode: str) -> dict:
    """Whole optimizer steps: forward, backward, clipping, fused AdamW. With DDP, the tokens of all processes count."""
    settings, block_size = recipe["optimizer"], recipe["model"]["block_size"]
    if settings["grad_accumulation"] != 1:
        raise SystemExit("the reference supports one batch per step only: set optimizer.grad_accumulation to 1")
    model = Gpt(recipe["model"], vocab_size).to(device)
    parameters = list(model.parameters())
    decayed = {"params": [p for p in parameters if p.dim() > 1], "weight_decay": settings["weight_decay"]}
    others = {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0}
    optimizer = torch.optim.AdamW(
        [decayed, others],
        lr=settings["learning_rate"],
        betas=(settings["beta_1"], settings["beta_2"]),
        fused=True,
    )
    n_processes = 1
    match mode:
        case "compile":
            loss_of = torch.compile(model)
        case "ddp":
            loss_of, n_processes = torch.nn.parallel.DistributedDataParallel(model), torch.distributed.get_world_size()
        case _:
            loss_of = model
    is_bf16 = recipe["run"].get("precision") == "bf16"
    batches = torch.randint(vocab_size, (N_BATCHES, settings["batch_size"], block_size + 1))
    if device.type == "cuda":
        batches = batches.pin_memory()

    def step(number: int) -> None:
        batch = batches[number % N_BATCHES].to(device, non_blocking=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=is_bf16):
            loss = loss_of(batch[:, :-1], batch[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, settings["grad_clip"])
        optimizer.step()

    n_per_sync = STEPS_PER_SYNC if device.type == "cuda" else 1
    return measure(step, n_steps, n_processes * settings["batch_size"] * block_size, device, n_per_sync)


def hugging_face(recipe: dict, vocab_size: int) -> torch.nn.Module:
    """transformers' GPT-2 with these sizes and random weights. It always has biases."""
    import transformers  # Imported here, so that it does not count for the memory of training.

    sizes = recipe["model"]
    config = transformers.GPT2Config(
        vocab_size=vocab_size,
        n_positions=sizes["block_size"],
        n_layer=sizes["n_layer"],
        n_head=sizes["n_head"],
        n_embd=sizes["n_embd"],
        activation_function="gelu" if GELU_FORMS[sizes["activation"]] == "none" else "gelu_new",
        attn_implementation="sdpa",
        bos_token_id=None,
        eos_token_id=None,
    )
    return transformers.GPT2LMHeadModel(config).eval()


@torch.inference_mode()
def prefill(model: torch.nn.Module, n_tokens: int) -> dict:
    """Processes a prompt with a new cache, up to the logits of the next token."""
    prompt = torch.randint(model.config.vocab_size, (1, n_tokens)).to(model.device)
    return measure(lambda _: model(prompt, use_cache=True, logits_to_keep=1), PREFILLS, n_tokens, model.device)


@torch.inference_mode()
def decode(model: torch.nn.Module, n_tokens: int) -> dict:
    """Generates token by token with greedy decoding, after a prompt of one token."""
    cache = None
    token = torch.zeros((1, 1), dtype=torch.long, device=model.device)

    def generate(_: int) -> None:
        nonlocal cache, token
        output = model(token, past_key_values=cache, use_cache=True)
        cache, token = output.past_key_values, output.logits[:, -1:].argmax(dim=2)

    return measure(generate, n_tokens, 1, model.device)


def measure(
    work: Callable[[int], object], n_measurements: int, n_tokens: int, device: torch.device, n_per_sync: int = 1
) -> dict:
    """The speed of `work`, which gets the number of earlier calls, including its pending work on the device.

    After the warm-up the device is synchronised after every `n_per_sync` calls, which count with their mean time.
    """
    times, number, end = [], 0, WARMUP + n_measurements
    while number < end:
        n = 1 if number < WARMUP else min(n_per_sync, end - number)
        start = time.perf_counter()
        for idx in range(number, number + n):
            work(idx)
        wait_for(device)
        times.append((time.perf_counter() - start) / n)
        number += n
    first, times = times[0], times[WARMUP:]
    median = statistics.median(times)
    return {
        "tokens_per_second": n_tokens / median,
        "tokens": n_tokens,
        "milliseconds": 1e3 * median,
        "milliseconds_range": [1e3 * min(times), 1e3 * max(times)],
        "measurements": len(times),
        "first_milliseconds": 1e3 * first,
    }


def peak_flops(device: torch.device, size: int) -> float:
    """The peak operations per second of a product of two bf16 matrices with `size` rows and columns."""
    right = torch.normal(0.0, size**-0.5, (size, size), device=device).bfloat16()
    left = torch.normal(0.0, 1.0, (size, size), device=device).bfloat16()
    times = []
    for _ in range(PEAK_TRIES):
        wait_for(device)
        start = time.perf_counter()
        for _ in range(PEAK_PRODUCTS):
            left = left @ right
        wait_for(device)
        times.append(time.perf_counter() - start)
    return PEAK_PRODUCTS * 2 * size**3 / min(times)


def wait_for(device: torch.device) -> None:
    """Waits until the device has finished; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory_bytes() -> int | None:
    """The peak memory of the process, from Linux.

    `getrusage` does not work: a process starts with the peak of its parent.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    peaks = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return next((1024 * int(kib) for kib in peaks), None)


if __name__ == "__main__":
    main()
