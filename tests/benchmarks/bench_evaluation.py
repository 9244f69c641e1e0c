"""Time the Prophesee evaluation and the merging of views: `python tests/benchmarks/bench_evaluation.py`.

The input has the size of the published timing: 3000 labelled frames, 3 objects and 11 detections in each, two classes.
The published code with pycocotools took 8.6 s for the overall and per-class figures on a 2-core machine.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from leod.boxes.dtypes import LABEL_DTYPE
from leod.config.schema import EvaluationFilterConfig
from leod.evaluation.prophesee import evaluate_detections
from leod.inference.merge import merge_views
from leod.sequences.frame_boxes import FrameBoxes

FRAMES, OBJECTS, DETECTIONS = 3000, 3, 11
PUBLISHED_S = 8.6


def random_boxes(frames: npt.NDArray[np.int64], generator: np.random.Generator) -> npt.NDArray[np.void]:
    """One random box for each entry of ``frames``, of which it takes the time."""
    boxes = np.zeros(len(frames), dtype=LABEL_DTYPE)
    boxes["t"] = 1_000_000 + 250_000 * frames
    for field, low, high in (("x", 0, 220), ("y", 0, 160), ("w", 20, 80), ("h", 20, 80)):
        boxes[field] = generator.uniform(low, high, len(frames))
    boxes["class_id"] = generator.integers(0, 2, len(frames))
    boxes["class_confidence"] = generator.random(len(frames))
    boxes["objectness"] = generator.random(len(frames))
    return boxes


def median_time(function: Callable[[], object], repetitions: int = 5) -> float:
    """Median time of a call in seconds, after a warm-up."""
    function()
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Measure and print."""
    generator = np.random.default_rng(0)
    frames = np.arange(FRAMES)
    objects = random_boxes(np.repeat(frames, OBJECTS), generator)
    near = np.repeat(objects.reshape(FRAMES, OBJECTS), 2, axis=1)
    for field in "xywh":
        near[field] += generator.normal(0, 3, near.shape)
    near["class_confidence"] = generator.random(near.shape)
    noise = random_boxes(np.repeat(frames, DETECTIONS - 2 * OBJECTS), generator).reshape(FRAMES, -1)
    detections = list(np.concatenate([near, noise], axis=1))
    ground_truth = list(objects.reshape(FRAMES, OBJECTS))
    keep = EvaluationFilterConfig(min_diagonal=30, min_side=10)
    seconds = median_time(lambda: evaluate_detections(ground_truth, detections, ("car", "pedestrian"), keep))
    sys.stdout.write(f"evaluation: {seconds:.2f} s, {PUBLISHED_S / seconds:.1f} times as fast as published\n")

    four_views = np.repeat(frames, 4 * DETECTIONS)
    boxes = random_boxes(four_views, generator)
    boxes["t"] = 0
    seconds = median_time(lambda: merge_views(FrameBoxes(boxes, four_views), 0.01, 0.45))
    sys.stdout.write(f"merging four views: {1e6 * seconds / FRAMES:.0f} us a frame\n")


if __name__ == "__main__":
    main()
