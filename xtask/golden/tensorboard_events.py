"""Writes the event files of `crates/tensorboard/tests/golden.rs` with TensorBoard's own messages and records.

    python tensorboard_events.py --out crates/tensorboard/tests/fixtures

The first session of a run, and one that resumes it after step 20. The test has the same values.
"""

import argparse
from pathlib import Path

import tensorboard
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.text import metadata as text_metadata
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util import tensor_util

STARTED = 1_700_000_000.25
RESUMED = 1_700_000_100.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path, help="folder of the fixtures")
    args = parser.parse_args()

    version = "brain.Event:2"
    start = SessionLog(status=SessionLog.START)
    write(
        args.out / "begun.tfevents",
        [
            Event(wall_time=STARTED, file_version=version),
            Event(wall_time=STARTED, session_log=start),
            scalar("loss/train", 20, STARTED + 1, 3.48),
            scalar("learning_rate", 20, STARTED + 1, 0.0),
            scalar("grad_norm", 300, STARTED + 1.5, float("inf")),
            text("sample", 300, STARTED + 2, "    To be,\n    or not: ça 🙂\n"),
        ],
    )
    write(
        args.out / "resumed.tfevents",
        [
            Event(wall_time=RESUMED, file_version=version),
            Event(wall_time=RESUMED, step=21, session_log=start),
            scalar("loss/train", 40, RESUMED + 1, -2.5e-3),
        ],
    )
    print(f"tensorboard {tensorboard.__version__}")


def write(path: Path, events: list[Event]) -> None:
    with path.open("wb") as file:
        records = RecordWriter(file)
        for event in events:
            records.write(event.SerializeToString())


def scalar(tag: str, step: int, wall_time: float, value: float) -> Event:
    value = Summary.Value(tag=tag, simple_value=value)
    return Event(wall_time=wall_time, step=step, summary=Summary(value=[value]))


def text(tag: str, step: int, wall_time: float, markdown: str) -> Event:
    metadata = text_metadata.create_summary_metadata(display_name=None, description=None)
    tensor = tensor_util.make_tensor_proto(markdown)
    value = Summary.Value(tag=tag, metadata=metadata, tensor=tensor)
    return Event(wall_time=wall_time, step=step, summary=Summary(value=[value]))


if __name__ == "__main__":
    main()
