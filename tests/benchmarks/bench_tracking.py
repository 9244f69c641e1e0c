"""Time of the tracking filter: ``python tests/benchmarks/bench_tracking.py [speed_track_input.npz]``.

The sequence is the size of the published code's timing: 1200 frames, about 8.8 boxes each, both directions, inpainting,
for which that code takes 2.1 s on two cores of a server. Without an argument a sequence of that size is made up.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import numpy as np

from leod.boxes.dtypes import LABEL_DTYPE
from leod.config.schema import TrackFilterConfig
from leod.pseudo_labels.tracking import filter_tracks
from leod.sequences.frame_boxes import FrameBoxes

PUBLISHED_SECONDS = 2.12
REQUIRED_RATIO = 20
REPETITIONS = 20


def made_up_sequence(frames: int = 1200, objects: int = 9) -> tuple[FrameBoxes, tuple[int, int]]:
    """Objects that cross the frame again and again, a tenth of their boxes missing, and flickering ones."""
    random = np.random.default_rng(0)
    boxes = np.zeros((frames, objects), LABEL_DTYPE)
    steps = np.arange(frames)[:, None]
    speed = random.uniform(0.5, 4, objects)
    boxes["x"] = (random.uniform(0, 300, objects) + speed * steps) % 270
    boxes["y"] = random.uniform(0, 200, objects) + random.normal(0, 0.5, (frames, objects))
    boxes["w"] = random.uniform(15, 33, objects)
    boxes["h"] = random.uniform(15, 33, objects)
    boxes["class_id"] = random.integers(0, 2, objects)
    seen = random.uniform(size=(frames, objects)) > 0.1
    seen[:, -2:] = random.uniform(size=(frames, 2)) > 0.8
    return FrameBoxes(boxes[seen], np.repeat(np.arange(frames), seen.sum(axis=1))), (240, 304)


def stored_sequence(path: Path) -> tuple[FrameBoxes, tuple[int, int]]:
    """The sequence of a golden file."""
    with np.load(path, allow_pickle=False) as arrays:
        frames = np.repeat(arrays["in_frame_idx"], arrays["in_count"]).astype(np.int64)
        height, width = arrays["img_hw"].tolist()
        boxes = np.zeros(len(frames), LABEL_DTYPE)
        for name, values in zip(LABEL_DTYPE.names, arrays["in_labels"].T, strict=True):
            boxes[name] = values
        return FrameBoxes(boxes, frames), (height, width)


def main() -> int:
    """Measure and report; 1 if the budget is missed."""
    case = stored_sequence(Path(sys.argv[1])) if len(sys.argv) > 1 else made_up_sequence()
    filter_tracks(*case, TrackFilterConfig())
    times = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        filter_tracks(*case, TrackFilterConfig())
        times.append(time.perf_counter() - start)
    median = statistics.median(times)
    ratio = PUBLISHED_SECONDS / median
    sys.stdout.write(
        f"tracking filter, {len(case[0])} boxes: {median * 1000:.1f} ms (best {min(times) * 1000:.1f}), "
        f"{ratio:.0f} times the published speed of {PUBLISHED_SECONDS} s; required {REQUIRED_RATIO}\n"
    )
    return int(ratio < REQUIRED_RATIO)


if __name__ == "__main__":
    sys.exit(main())
