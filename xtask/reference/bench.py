"""Measures a GPT in PyTorch as `kindling bench --json` measures Kindling's: from the same recipe, in the same form.

    python bench.py versions
    python bench.py train --mode eager --recipe RECIPE.toml --vocab-size 65 --amount 20 --threads 2
    python bench.py train --mode compile --recipe RECIPE.toml --vocab-size 65 --amount 20 --threads 2 --device cuda

`cargo xtask bench` runs it. Each measurement is the median of several, after a warm-up of three.
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

from gpt import GELU_FORMS, Gpt

WARMUP = 3  # These counts are those of `kindling bench`.
PREFILLS = 10
STEPS_AT_ONCE = 5  # Of training on a GPU, before it is waited for.
N_BATCHES = 8
# Of the product that a GPU's peak is measured by, as `kindling bench` does.
PEAK_SIZE, PEAK_TRIES, PEAK_PRODUCTS = 8192, 8, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="work", required=True)
    commands.add_parser("versions", help="of what is measured")
    for work, modes in {
        "train": ["eager", "compile"],
        "prefill": ["transformers"],
        "decode": ["transformers"],
    }.items():
        command = commands.add_parser(work)
        command.add_argument("--mode", choices=modes, required=True)
        command.add_argument("--recipe", type=Path, required=True, help="TOML, as Kindling reads it")
        command.add_argument("--vocab-size", type=int, required=True)
        command.add_argument("--amount", type=int, required=True, help="steps, tokens to read or tokens to write")
        command.add_argument("--threads", type=int, required=True)
        command.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="cpu, cuda or cuda:1")
    args = parser.parse_args()

    if args.work == "versions":
        libraries = {"python": platform.python_version(), "torch": torch.__version__}
        if find_spec("transformers"):  # Training does without.
            import transformers

            libraries["transformers"] = transformers.__version__
        print(json.dumps(libraries))
        return
    torch.set_num_threads(args.threads)
    torch.manual_seed(1337)
    if args.device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32, as nanoGPT has it.
    recipe = tomllib.loads(args.recipe.read_text())
    match args.work:
        case "train":
            speed = train(recipe, args.vocab_size, args.amount, args.device, compiled=args.mode == "compile")
        case "prefill":
            speed = prefill(hugging_face(recipe, args.vocab_size).to(args.device), args.amount)
        case "decode":
            speed = decode(hugging_face(recipe, args.vocab_size).to(args.device), args.amount)
    report = {args.work: speed, "peak_memory_bytes": peak_memory_bytes()}
    if args.device.type == "cuda":
        # What is held of the device, as ours tells it: what others can't have. Before the peak takes memory of its own.
        report["peak_device_memory_bytes"] = torch.cuda.max_memory_reserved(args.device)
        report["peak_flops_per_second"] = peak_flops(args.device, PEAK_SIZE)
    print(json.dumps(report))


def train(recipe: dict, vocab_size: int, n_steps: int, device: torch.device, compiled: bool) -> dict:
    """Whole optimizer steps: forward, backward, clipping, fused AdamW."""
    settings, block_size = recipe["optimizer"], recipe["model"]["block_size"]
    if settings["grad_accumulation"] != 1:
        raise SystemExit("the reference takes one batch a step: set optimizer.grad_accumulation to 1")
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
    loss_of = torch.compile(model) if compiled else model
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

    at_once = STEPS_AT_ONCE if device.type == "cuda" else 1
    return measure(step, n_steps, settings["batch_size"] * block_size, device, at_once)


def hugging_face(recipe: dict, vocab_size: int) -> torch.nn.Module:
    """transformers' GPT-2 of these sizes, with random weights. It has biases, whatever the recipe says."""
    import transformers  # Not above: training is to be charged with PyTorch's memory only.

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
    """Reading a prompt into a new cache, up to the logits of the next token."""
    prompt = torch.randint(model.config.vocab_size, (1, n_tokens)).to(model.device)
    return measure(lambda _: model(prompt, use_cache=True, logits_to_keep=1), PREFILLS, n_tokens, model.device)


@torch.inference_mode()
def decode(model: torch.nn.Module, n_tokens: int) -> dict:
    """Writing one token after another, each the most probable one, after a prompt of one."""
    cache = None
    token = torch.zeros((1, 1), dtype=torch.long, device=model.device)

    def write(_: int) -> None:
        nonlocal cache, token
        output = model(token, past_key_values=cache, use_cache=True)
        cache, token = output.past_key_values, output.logits[:, -1:].argmax(dim=2)

    return measure(write, n_tokens, 1, model.device)


def measure(
    work: Callable[[int], object], n_measurements: int, n_tokens: int, device: torch.device, at_once: int = 1
) -> dict:
    """The speed of `work`, which is told how often it ran before, to the end of what it gave the device to do.

    After the warm-up the device is waited for when it has had `at_once` of them, which count with their mean.
    """
    times, number, end = [], 0, WARMUP + n_measurements
    while number < end:
        n = 1 if number < WARMUP else min(at_once, end - number)
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
    """The most operations a second of a product of two bf16 matrices of `size` rows and columns."""
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
    """Until the device has done what it was given to do, which a processor has at once."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory_bytes() -> int | None:
    """The most memory the process has had, as Linux tells it.

    Not `getrusage`: a process that was started by a larger one begins with the peak of that one.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    peaks = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return next((1024 * int(kib) for kib in peaks), None)


if __name__ == "__main__":
    main()
