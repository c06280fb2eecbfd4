"""Opens a run folder with Hugging Face transformers and compares its scores with `kindling score`.

    python compare_run.py RUN_DIR TEXT_FILE...                                  runs `kindling score` on each text
    python compare_run.py RUN_DIR --score-json SCORE.json --text TEXT_FILE      checks earlier output of it

For each text, the ids of `AutoTokenizer` have to equal Kindling's, and the log-probabilities of `AutoModelForCausalLM` have to
agree within the tolerance. Downloads nothing. Exit status 0 if all agree, else 1.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # Read at the import of transformers.

import torch  # noqa: E402
import transformers  # noqa: E402

WINDOWS_PER_FORWARD = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    parser.add_argument("text_files", nargs="*", type=Path, metavar="TEXT_FILE", help="UTF-8 text to score")
    parser.add_argument("--score-json", action="append", default=[], type=Path, help="output of `score --json`")
    parser.add_argument("--text", action="append", default=[], type=Path, help="the text for that output")
    parser.add_argument("--kindling", default="kindling", help="the binary (default: the one on the PATH)")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="of log-probabilities (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: %(default)s)")
    args = parser.parse_intermixed_args()  # Texts may follow options.
    if len(args.score_json) != len(args.text):
        parser.error("give one --text for each --score-json")
    if not args.text_files and not args.text:
        parser.error("give a TEXT_FILE, or --score-json and --text")

    torch.set_num_threads(args.threads)
    transformers.utils.logging.disable_progress_bar()
    pairs = [(path, json.loads(score.read_text())) for path, score in zip(args.text, args.score_json)]
    pairs += [(path, run_score(args.kindling, args.run_dir, path)) for path in args.text_files]

    tokenizer = transformers.AutoTokenizer.from_pretrained(args.run_dir)
    model = transformers.AutoModelForCausalLM.from_pretrained(args.run_dir, dtype=torch.float32).eval()
    print(f"torch {torch.__version__} transformers {transformers.__version__} {args.run_dir}")
    print(f"{'text':<28} {'tokens':>7} {'ids':>7} {'difference':>11} {'mean':>10} {'theirs':>10} {'verdict':>8}")
    verdicts = [compare(tokenizer, model, path, score, args.tolerance) for path, score in pairs]
    sys.exit(0 if all(verdicts) else 1)


def run_score(kindling: str, run_dir: Path, text_file: Path) -> dict:
    command = [kindling, "score", str(run_dir), "--file", str(text_file), "--json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def compare(tokenizer, model, text_file: Path, score: dict, tolerance: float) -> bool:
    """Prints one line of the table, with errors below it."""
    text = text_file.read_bytes().decode()  # `read_text` would change line endings.
    ids = tokenizer.encode(text, add_special_tokens=False)
    same_ids = ids == score["ids"]
    faults = [] if same_ids else [describe_first_difference(tokenizer, ids, score["ids"])]
    if tokenizer.decode(ids) != text:
        faults.append("AutoTokenizer does not decode these ids to the text")

    largest, theirs = float("nan"), float("nan")
    ours = score["logprobs"]
    if len(ours) != len(score["ids"]) or ours[:1] != [None] or None in ours[1:]:
        faults.append("`logprobs` is not null for the first token and a number for each other token")
    elif same_ids and len(ids) > 1:
        closest = closest_log_probs(model, torch.tensor(ids), torch.tensor(ours[1:], dtype=torch.float64))
        differences = (closest - torch.tensor(ours[1:], dtype=torch.float64)).abs()
        largest, theirs = differences.max().item(), closest.mean().item()
        if largest > tolerance:
            at = int(differences.argmax())
            token = tokenizer.decode([ids[at + 1]])
            faults.append(f"token {at + 1} {token!r}: kindling {ours[at + 1]:.6f}, transformers {closest[at]:.6f}")
        if score["mean_logprob"] is None or abs(score["mean_logprob"] - sum(ours[1:]) / len(ours[1:])) > tolerance:
            faults.append("`mean_logprob` is not the mean of `logprobs`")

    mean = score["mean_logprob"] if score["mean_logprob"] is not None else float("nan")
    print(
        f"{text_file.name[-28:]:<28} {len(ids):>7} {'equal' if same_ids else 'DIFFER':>7} {largest:>11.2e} "
        f"{mean:>10.5f} {theirs:>10.5f} {'DIFFERS' if faults else 'equal':>8}"
    )
    for fault in faults:
        print(f"  {fault}")
    return not faults


def describe_first_difference(tokenizer, theirs: list[int], ours: list[int]) -> str:
    at = next((i for i, (a, b) in enumerate(zip(theirs, ours)) if a != b), min(len(theirs), len(ours)))
    around = [(name, ids[at : at + 5]) for name, ids in (("kindling", ours), ("transformers", theirs))]
    shown = ", ".join(f"{name} {ids} {tokenizer.decode(ids)!r}" for name, ids in around)
    return f"ids differ from token {at} on ({len(ours)} and {len(theirs)} in all): {shown}"


@torch.no_grad()
def closest_log_probs(model, ids: torch.Tensor, ours: torch.Tensor) -> torch.Tensor:
    """The log-probability of each token except the first, `[n - 1]`: of all valid ones, the closest to `ours`.

    Within the first block, all previous tokens are the context. Beyond it, a sliding window may start anywhere that leaves at
    least half a block of context. This script does not know where, so it tries every such window.
    """
    block_size = model.config.n_positions
    closest = torch.full_like(ours, float("inf"))
    starts = torch.arange(max(1, len(ids) - block_size // 2))
    for chunk in starts.split(WINDOWS_PER_FORWARD):
        # A window is a block and the next token. Windows that exceed the text are padded and then cut.
        positions = chunk[:, None] + torch.arange(min(block_size, len(ids) - 1) + 1)  # [windows, T + 1]
        windows = ids[positions.clamp(max=len(ids) - 1)]
        log_probs = model(windows[:, :-1]).logits.double().log_softmax(-1)  # [windows, T, V]
        log_probs = log_probs.gather(-1, windows[:, 1:, None]).squeeze(-1)  # [windows, T]
        for start, window in zip(chunk.tolist(), log_probs):
            first = 0 if start == 0 else max(block_size // 2, block_size - start) - 1
            window = window[first : len(ids) - 1 - start]
            here = slice(start + first, start + first + len(window))
            nearer = (window - ours[here]).abs() < (closest[here] - ours[here]).abs()
            closest[here] = torch.where(nearer, window, closest[here])
    return closest


if __name__ == "__main__":
    main()
