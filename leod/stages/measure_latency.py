"""Stage `measure_latency`: how long a detector takes for one window, on the machine that runs it."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from leod.config.schema import HardwareConfig, PositiveInt
from leod.config.settings import LatencySettings
from leod.errors import DataError
from leod.files import check_writable, write_json
from leod.inference.devices import memory_errors, prepare_for_inference
from leod.inference.recurrent import RecurrentDetector
from leod.models.checkpoint import load_detector
from leod.provenance import Stopwatch
from leod.sequences.sequence import open_split

logger = logging.getLogger(__name__)

_WARM_UP = 10
"""First windows, in which memory is allocated and code compiled."""


def measure_latency(
    checkpoint: Path,
    sequences: Path,
    output: Path,
    settings: LatencySettings,
    split: Literal["train", "val", "test"] = "test",
    windows: PositiveInt = 200,
    hardware: HardwareConfig = HardwareConfig(),  # noqa: B008  (immutable)
) -> None:
    """Measure how long a detector takes from the frame of a window to its boxes, one window at a time.

    Written is JSON: median and 95 % quantile in milliseconds, beside the length of a window.

    Args:
        checkpoint: The detector, `model.ckpt`.
        sequences: Preprocessed data set; its longest sequence is taken, from the start again where it ends.
        output: JSON file to write.
        settings: What the detector and the data set look like, and its thresholds.
        split: The split that the sequence is taken from.
        windows: Windows that are measured, after the first ten.
        hardware: Where to run.

    Raises:
        ConfigError: A GPU that is not there, or ``output`` cannot be a file.
        CheckpointError: The detector is missing, damaged, or belongs to another model or data set.
        DataError: The split is missing, damaged or empty.
        ResourceError: Out of memory or disk.
    """
    stopwatch = Stopwatch()
    check_writable(output)
    detector = prepare_for_inference(load_detector(checkpoint, settings.model, settings.sequence), hardware)
    sequence = max(open_split(sequences, split, settings.sequence), key=lambda entry: entry.num_frames)
    count = min(sequence.num_frames, windows + _WARM_UP)
    if count == 0:
        raise DataError(sequence.path, "holds no frames. Preprocess the sequence again.")
    frames = torch.from_numpy(sequence.read_frames(0, count))[:, None, None]
    recurrent = RecurrentDetector(detector, settings.detection)
    every = np.ones((1, 1), bool)
    milliseconds = np.empty(windows + _WARM_UP)
    with memory_errors("inference", "Use a smaller model or halved frames (downsample_by_2)."):
        for number in range(len(milliseconds)):
            started = time.perf_counter()
            # The boxes are copied from the device, which waits for it.
            recurrent.detect(frames[number % count], every)
            milliseconds[number] = 1000 * (time.perf_counter() - started)
    median, slowest = np.quantile(milliseconds[_WARM_UP:], (0.5, 0.95)).round(3).tolist()
    provenance = stopwatch.provenance("measure_latency", settings, {"checkpoint": checkpoint, "sequences": sequences})
    write_json(
        output,
        {
            "provenance": provenance,
            "device": str(recurrent.device),
            "threads": torch.get_num_threads(),
            "windows": windows,
            "window_ms": settings.sequence.window_us / 1000,
            "median_ms": median,
            "quantile_95_ms": slowest,
        },
    )
    logger.info("%s: %.3g ms a window (median), 95 %% below %.3g ms", checkpoint, median, slowest)
