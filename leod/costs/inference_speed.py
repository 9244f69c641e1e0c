"""How fast a detector finds boxes: one window at a time, and whole sequences in batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from leod.boxes.operations import from_detection_rows
from leod.config.schema import BoxFilterConfig, DetectionConfig, HardwareConfig
from leod.config.settings import BenchmarkSettings
from leod.costs.apart import now, own_folder, peak_memory_mb, repeat, start_together
from leod.costs.figures import MB, LatencyFigures, StreamFigures, Way
from leod.costs.made_up import MadeUpSequences, made_up_events
from leod.inference.devices import memory_errors, prepare_for_inference
from leod.inference.merge import detect_merged
from leod.inference.recurrent import RecurrentDetector
from leod.inference.views import views_of
from leod.models.detector import Detector, build_detector
from leod.models.head import DecoupledHead
from leod.pseudo_labels.filtering import ScoreThresholds, select_pseudo_labels
from leod.recordings.chunk import EventChunk
from leod.sequences.representations import FrameBuilder
from leod.sequences.sequence import Sequence
from leod.training.processes import Processes
from leod.training.validation import validate

_MEMORY_ADVICE = "Measure with a smaller detection.batch_size."
_WARM_UP_WINDOWS = 10
_LEAST_FRAMES, _MOST_FRAMES = 6, 400
_PSEUDO_LABEL_BOXES, _EVALUATION_BOXES = 10, 50
"""Boxes of a frame that reach the suppression: with the thresholds of pseudo-labels, and with the low ones of
evaluations."""


@dataclass(frozen=True)
class InferenceTask:
    """What is measured.

    Attributes:
        settings: The benchmark's.
        hardware: How the machine is used.
        way: The same in words, with the precision.
        events_per_pixel_s: Mean number of events of a pixel in a second.
        boxes_per_frame: Boxes of each labelled frame.
        seconds: For how long.
        folder: For sequences.
    """

    settings: BenchmarkSettings
    hardware: HardwareConfig
    way: Way
    events_per_pixel_s: float
    boxes_per_frame: int
    seconds: float
    folder: Path


def measure_latency(task: InferenceTask) -> LatencyFigures:
    """Time of a window from its events to its boxes: frame, network, suppression, boxes in main memory.

    Raises:
        ResourceError: Out of memory.
    """
    detector = _detector(task)
    windows, builder = _windows(task)
    detection = _detection(task, detector, _EVALUATION_BOXES, task.settings.latency)
    recurrent = RecurrentDetector(detector, detection)
    every = np.ones((1, 1), bool)
    number = 0

    def one_window() -> None:
        nonlocal number
        frame = torch.from_numpy(builder.build(windows[number % len(windows)]))
        for *_, rows in recurrent.detect(frame[None, None], every):
            from_detection_rows(rows)
        number += 1

    with memory_errors("inference", _MEMORY_ADVICE):
        times = repeat(one_window, task.seconds, warm_up=_WARM_UP_WINDOWS)
    median, slowest = (1000 * np.quantile(times, (0.5, 0.95))).tolist()
    return LatencyFigures(way=task.way, windows=len(times), median_ms=median, quantile_95_ms=slowest)


def measure_pseudo_labels(task: InferenceTask) -> StreamFigures:
    """Frames of all views in a second, from sequences on disk to merged boxes.

    Raises:
        ResourceError: Out of memory.
    """
    settings = task.settings.pseudo_labels
    detector = _detector(task)
    detection = _detection(task, detector, _PSEUDO_LABEL_BOXES, settings.detection)
    classes = settings.sequence.classes
    thresholds = ScoreThresholds.from_settings(dict.fromkeys(classes, 0.0), classes)
    views = views_of(settings.views)

    def run(sequences: list[Sequence]) -> None:
        results = detect_merged(
            detector,
            sequences,
            settings.sequence,
            detection,
            views=views,
            merging=settings.merging,
            to_labels=lambda rows: select_pseudo_labels(
                rows, settings.sequence.frame_size, thresholds, BoxFilterConfig()
            )[0],
            full_sensor=True,
            num_workers=task.hardware.num_workers,
        )
        for _ in results:
            pass

    frames, seconds = _measure_stream(task, run, settings.detection.batch_size, len(views))
    return _stream_figures(task, "pseudo_labels", len(views), settings.detection.batch_size, frames, seconds)


def measure_validation(task: InferenceTask) -> StreamFigures:
    """Frames in a second from sequences on disk to average precision.

    Raises:
        ResourceError: Out of memory.
    """
    settings = task.settings.pretrain
    detector = _detector(task)
    detection = _detection(task, detector, _EVALUATION_BOXES, settings.training.validation.detection)
    validation = settings.training.validation.model_copy(update={"detection": detection})

    def run(sequences: list[Sequence]) -> None:
        validate(
            detector,
            sequences,
            validation,
            settings.evaluation_filter,
            task.hardware.num_workers,
            Processes(),
            lambda: False,
        )

    frames, seconds = _measure_stream(task, run, detection.batch_size, 1)
    return _stream_figures(task, "validation", 1, detection.batch_size, frames, seconds)


def _stream_figures(
    task: InferenceTask, name: str, views: int, batch_size: int, frames: int, seconds: float
) -> StreamFigures:
    return StreamFigures(
        task=name,
        way=task.way,
        views=views,
        batch_size=batch_size,
        frames=frames,
        frames_per_s=frames / seconds,
        peak_memory_mb=peak_memory_mb(),
        gpu_memory_mb=torch.cuda.max_memory_reserved() / MB if task.way.device == "cuda" else None,
    )


def _measure_stream(
    task: InferenceTask, run: Callable[[list[Sequence]], None], batch_size: int, views: int
) -> tuple[int, float]:
    """Run over as many frames as fit into the time; returns frames of all views, and seconds."""
    maker = MadeUpSequences(task.settings.sequence, task.boxes_per_frame, task.events_per_pixel_s)
    place = own_folder(task.folder)

    def sequences(kind: str, frames: int) -> list[Sequence]:
        found = []
        for number in range(batch_size):
            folder = place / kind / f"{kind}-{number}"
            # The first label lies where the published evaluation begins: nothing is left out.
            maker.write(folder, frames, min(task.settings.label_every, frames))
            found.append(Sequence(folder, task.settings.sequence))
        return found

    # Once to allocate and compile, once to see how many frames fit into the time.
    trial = sequences("trial", _LEAST_FRAMES)
    with memory_errors("inference", _MEMORY_ADVICE):
        run(trial)
        started = now()
        run(trial)
        per_frame = (now() - started) / _LEAST_FRAMES
        length = min(_MOST_FRAMES, max(_LEAST_FRAMES, round(task.seconds / per_frame)))
        measured = sequences("measured", length)
        start_together()
        started = now()
        run(measured)
        return length * batch_size * views, now() - started


def _detector(task: InferenceTask) -> Detector:
    settings = task.settings
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        detector = build_detector(settings.model, settings.sequence)
        _spread_scores(detector.head)
    return prepare_for_inference(detector, task.hardware)


@torch.no_grad()
def _spread_scores(head: DecoupledHead) -> None:
    """Make scores differ from place to place, which those of a fresh head hardly do."""
    for output in (*head.class_outputs, *head.objectness_outputs):
        output.weight.normal_(0.0, 2.0)
        output.bias.zero_()


def _windows(task: InferenceTask) -> tuple[list[EventChunk], FrameBuilder]:
    config = task.settings.sequence
    generator = np.random.default_rng(0)
    sensor, window_us = config.sensor, config.window_us
    windows = [made_up_events(sensor, 0, window_us, task.events_per_pixel_s, generator) for _ in range(10)]
    return windows, FrameBuilder(config.representation, sensor.height, sensor.width, config.downsample_by_2)


@torch.inference_mode()
def _detection(task: InferenceTask, detector: Detector, boxes: int, detection: DetectionConfig) -> DetectionConfig:
    """The study's way of detecting with a threshold that ``boxes`` boxes of a frame reach."""
    windows, builder = _windows(task)
    device = next(detector.parameters()).device
    frames = torch.from_numpy(np.stack([builder.build(events) for events in windows[:4]]))[:, None]
    features, _ = detector.forward_sequence(frames.to(device))
    predictions, _ = detector.forward_head([maps.flatten(0, 1) for maps in features])
    scores = (predictions[..., 4] * predictions[..., 5:].amax(dim=-1)).flatten()
    wanted = min(len(scores), boxes * len(frames))
    threshold = float(scores.topk(wanted).values[-1].clamp(0.0, 1.0))
    return detection.model_copy(update={"confidence_threshold": threshold, "precision": task.way.precision})
