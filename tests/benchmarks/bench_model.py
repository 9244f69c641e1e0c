"""How long RVT-S takes on Gen1 frames: `python tests/benchmarks/bench_model.py`.

One training step is backbone, head, loss and backward pass over L = 5 frames of B = 2 sequences, six boxes per labelled
frame, without the optimiser. Inference is backbone, head and post-processing, for one frame of one sequence with its
states carried on, or for all frames of the sequences together. CPU time counts work only, wall time also waiting.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import yaml

from leod.config.schema import LossConfig, ModelConfig, SensorSize, SequenceConfig
from leod.models.detector import build_detector
from leod.models.loss import DetectionLoss
from leod.models.postprocess import postprocess

CLASSES = ("car", "pedestrian")
LENGTH, BATCH, BOXES = 5, 2, 6


def measure(name: str, call: Callable[[], object], repetitions: int, frames: int = 1) -> None:
    """Print medians of wall and CPU time per unit after one warm-up call."""
    call()
    wall, cpu = [], []
    for _ in range(repetitions):
        starts = time.perf_counter(), time.process_time()
        call()
        wall.append(time.perf_counter() - starts[0])
        cpu.append(time.process_time() - starts[1])
    figures = [1000 * statistics.median(times) / frames for times in (wall, cpu)]
    sys.stdout.write(f"{name:<46} {figures[0]:8.1f} ms wall  {figures[1]:8.1f} ms CPU\n")


def main() -> None:
    """Measure training and inference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("configs/models/rvt-small.yaml"))
    parser.add_argument("--height", type=int, default=240)
    parser.add_argument("--width", type=int, default=304)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    height, width = arguments.height, arguments.width
    sequence = SequenceConfig(sensor=SensorSize(height=height, width=width), classes=CLASSES)
    detector = build_detector(ModelConfig(**yaml.safe_load(arguments.model.read_text())), sequence)
    loss = DetectionLoss(LossConfig(), CLASSES)
    frames = torch.poisson(torch.full((LENGTH, BATCH, 20, height, width), 0.1)).to(torch.uint8)
    targets = torch.ones(LENGTH * BATCH, BOXES, 7)
    targets[..., 0] = torch.randint(0, len(CLASSES), targets.shape[:2])
    targets[..., 1] = (0.13 + 0.72 * torch.rand(targets.shape[:2])) * width
    targets[..., 2] = (0.17 + 0.66 * torch.rand(targets.shape[:2])) * height
    targets[..., 3:5] = (0.08 + 0.25 * torch.rand(*targets.shape[:2], 2)) * height

    def train(labelled_steps: int) -> None:
        detector.zero_grad(set_to_none=True)
        features, _ = detector.forward_sequence(frames)
        selected = [maps[-labelled_steps:].flatten(0, 1) for maps in features]
        _, losses = detector.forward_head(selected, targets[-labelled_steps * BATCH :], loss)
        losses["loss"].backward()

    detector.train()
    measure("training step, all frames labelled", lambda: train(LENGTH), arguments.repetitions)
    measure("training step, last frames labelled", lambda: train(1), arguments.repetitions)

    detector.eval()
    states = None

    def detect() -> None:
        nonlocal states
        features, states = detector.forward_backbone(frames[0, :1], states)
        postprocess(detector.forward_head(features)[0], 0.01, 0.45)

    def detect_sequence() -> None:
        features, _ = detector.forward_sequence(frames)
        postprocess(detector.forward_head([maps.flatten(0, 1) for maps in features])[0], 0.01, 0.45)

    with torch.inference_mode():
        measure("inference, one frame", detect, 3 * arguments.repetitions)
        measure("inference of 5 x 2 frames, each", detect_sequence, arguments.repetitions, LENGTH * BATCH)


if __name__ == "__main__":
    main()
