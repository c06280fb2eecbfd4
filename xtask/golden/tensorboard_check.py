"""Reads the event files of a run with TensorBoard and compares them with metrics.jsonl.

    python tensorboard_check.py RUN_DIR

Every step of every tag is compared, after TensorBoard has dropped steps that later sessions repeated. Values are f32 in event
files, and have to equal those of metrics.jsonl rounded to f32. Exit status 0 if all agree, else 1.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np
import tensorboard
from tensorboard.backend.event_processing.plugin_event_accumulator import TENSORS, EventAccumulator
from tensorboard.util import tensor_util

# Tags with the same name in metrics.jsonl.
NAMES = ["learning_rate", "grad_norm", "tokens_per_second"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    args = parser.parse_args()

    files = sorted(args.run_dir.rglob("events.out.tfevents.*"))
    folders = {file.parent for file in files}
    if len(folders) != 1:
        sys.exit(f"{args.run_dir} has event files in {len(folders)} folders, expected one")
    events = EventAccumulator(str(folders.pop()), size_guidance={TENSORS: 0}).Reload()
    expected = series_of_metrics(args.run_dir / "metrics.jsonl")

    print(f"tensorboard {tensorboard.__version__} {args.run_dir}, event files: {len(files)}")
    print(f"{'tag':<20} {'values':>7} {'expected':>8} {'last step':>9} {'last value':>12} {'verdict':>8}")
    scalars = events.PluginTagToContent("scalars")
    tags = sorted(expected.keys() | scalars.keys())
    verdicts = [compare(tag, events.Tensors(tag) if tag in scalars else [], expected.get(tag, {})) for tag in tags]
    for tag in sorted(set(events.Tags()["tensors"]) - scalars.keys()):
        texts = events.Tensors(tag)
        print(f"{tag:<20} {len(texts):>7} texts, the last at step {texts[-1].step}")
    sys.exit(0 if verdicts and all(verdicts) else 1)


def series_of_metrics(path: Path) -> dict[str, dict[int, np.float32]]:
    """The values of each tag by step. A null value was not finite, or does not apply."""
    series = {}
    for line in map(json.loads, path.read_text().splitlines()):
        values = {f"loss/{line['split']}": line["loss"]} | {name: line.get(name) for name in NAMES}
        for tag, value in values.items():
            if value is not None:
                series.setdefault(tag, {})[line["step"]] = np.float32(value)
    return series


def compare(tag: str, events: list, expected: dict[int, np.float32]) -> bool:
    """Prints one line of the table, with errors below it."""
    scalars = [(event.step, tensor_util.make_ndarray(event.tensor_proto).item()) for event in events]
    found = {step: np.float32(value) for step, value in scalars if math.isfinite(value)}
    steps = [step for step, _ in scalars]
    faults = []
    if steps != sorted(steps):
        faults.append("its steps decrease: repeated steps are not dropped")
    for step in sorted(expected.keys() | found.keys()):
        if found.get(step) != expected.get(step):
            faults.append(f"step {step}: TensorBoard has {found.get(step)}, metrics.jsonl {expected.get(step)}")
    last_step, last_value = scalars[-1] if scalars else (float("nan"), float("nan"))
    print(
        f"{tag:<20} {len(found):>7} {len(expected):>8} {last_step:>9} {last_value:>12.6g} "
        f"{'DIFFERS' if faults else 'equal':>8}"
    )
    for fault in faults[:5]:
        print(f"  {fault}")
    return not faults


if __name__ == "__main__":
    main()
