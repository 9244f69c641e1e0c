"""Stage `detect`: run a trained detector over a recording of any supported format, as its events come."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated

import numpy as np
import torch

from leod.boxes.box_files import BOX_FILE_SUFFIXES, write_boxes
from leod.boxes.dtypes import LABEL_DTYPE
from leod.boxes.operations import clamp, from_detection_rows, remove_flat
from leod.config.schema import (
    SHOWN_CONFIDENCE,
    DetectionConfig,
    HardwareConfig,
    RecordingTimesConfig,
    SensorSize,
    SequenceConfig,
)
from leod.drawing.pictures import THEMES, BoxKind, comfortable_scale, compose, paint_frame
from leod.drawing.video import write_video
from leod.errors import ConfigError
from leod.files import check_writable
from leod.inference.devices import memory_errors, prepare_for_inference
from leod.inference.on_recordings import adapt, open_for
from leod.inference.recurrent import RecurrentDetector
from leod.models.checkpoint import load_detector
from leod.models.detector import Detector
from leod.options import Argument, FromOptions, Names
from leod.progress import progress
from leod.recordings.chunk import Recording
from leod.sequences.representations import FrameBuilder
from leod.sequences.writing import read_adjoining_windows
from leod.stages.recording_options import recording_times, sensor_size

logger = logging.getLogger(__name__)

_FASTEST_VIDEO_HZ = 30.0
_MOST_BOXES_DRAWN = 100
_FRAMES_PER_CALL = 8
_PIXELS_PER_CALL = 500_000
"""Frames pass the backbone together as long as they have no more pixels than this, for the sake of memory."""
_MEMORY_ADVICE = "Run it on halved frames (downsample_by_2), on the CPU, or with a smaller model."


@dataclass(frozen=True)
class DetectionSummary:
    """What a run of `detect` did.

    Attributes:
        windows: Windows that passed the detector.
        boxes: Number of boxes of each class, by name.
        recording_s: Time from the first event to the last one, in seconds.
        elapsed_s: Time that the run took, without loading the detector, in seconds.
        median_ms: Median time of a window from reading its events to its boxes, in milliseconds. Windows pass the
            detector in groups, whose time is shared out evenly; pictures and files are not counted.
        quantile_95_ms: Time that 95 % of the windows stay below.
    """

    windows: int
    boxes: dict[str, int]
    recording_s: float
    elapsed_s: float
    median_ms: float
    quantile_95_ms: float


@dataclass(frozen=True)
class _DetectedWindow:
    """One window and what was found in it.

    Attributes:
        end_us: End of the window.
        last_event_us: Latest event so far.
        frame: [C, H, W] as the detector sees it, unpadded.
        boxes: `LABEL_DTYPE` [n] in pixels of the frame.
        milliseconds: Time from reading its events to its boxes: its share of its group.
    """

    end_us: int
    last_event_us: int
    frame: np.ndarray
    boxes: np.ndarray
    milliseconds: float


def detect(
    recording: Annotated[Path, Argument()],
    checkpoint: Annotated[Path, Names("--checkpoint", "--weights")],
    *,
    video: Path | None = None,
    boxes: Path | None = None,
    confidence_threshold: Annotated[float, Names("--confidence")] = SHOWN_CONFIDENCE,
    nms_threshold: Annotated[float, Names("--nms")] = 0.45,
    sensor: Annotated[SensorSize | None, FromOptions(sensor_size)] = None,
    downsample_by_2: Annotated[bool | None, Names("--downsample/--full-resolution")] = None,
    speed: float = 1.0,
    theme: str = "light",
    scale: int = 0,
    times: Annotated[RecordingTimesConfig, FromOptions(recording_times)] = RecordingTimesConfig(),  # noqa: B008
    hardware: HardwareConfig = HardwareConfig(),  # noqa: B008  (immutable)
) -> DetectionSummary:
    """Run a detector over a recording, of any supported format, and write boxes or a video.

    The recording is cut into adjoining windows from its first event on, each becomes a frame as the detector was
    trained on, and the recurrent state is carried from window to window; where nothing happens, frames are empty. Only
    a few windows are in memory at a time, and the boxes if they are to be written.

    A detector works on sensors of any size, but it knows objects of the size, in pixels, that it was trained on.

    Args:
        recording: The file, see `leod.recordings.recording.open_recording`.
        checkpoint: The detector, `model.ckpt`.
        video: MP4 file to write; it shows the 100 strongest boxes of a window.
        boxes: File of the boxes to write (.npy, .csv or .json, see `leod.boxes.box_files`): time stamp = end of the
            window, pixels of the full sensor.
        confidence_threshold: Least objectness times class confidence of a box.
        nms_threshold: IoU above which the weaker of two boxes of a class is suppressed.
        sensor: Size of the sensor if the recording does not tell it; without it the detector's is assumed.
        downsample_by_2: Halve the frames; default: as in training.
        speed: Video: seconds of the recording per second of playing; above real time frames are left out.
        theme: Video: 'light' or 'dark'.
        scale: Video: enlargement of the frames' pixels; 0: such that text is legible.
        times: Unit and shift of the recording's clock, and which part is read. Boxes are on the clock after the shift.
        hardware: Where the detector runs.

    Raises:
        ConfigError: An option is out of range, or a file to write is a folder.
        DataError: The recording is missing, damaged or holds no events.
        CheckpointError: The detector is missing or damaged.
        ResourceError: Disk or memory is full, or a place is not writable.
    """
    _check_options(video, boxes, confidence_threshold, nms_threshold, speed, theme, scale)
    for output in (video, boxes):
        if output is not None:
            check_writable(output)
    detector = prepare_for_inference(load_detector(checkpoint), hardware)
    config = detector.sequence
    detection = DetectionConfig(confidence_threshold=confidence_threshold, nms_threshold=nms_threshold)
    halve = config.downsample_by_2 if downsample_by_2 is None else downsample_by_2
    counts: Counter[int] = Counter()
    collected: list[np.ndarray] = []
    milliseconds: list[float] = []
    first_us = last_us = windows = 0
    with open_for(recording, sensor, times, config) as opened:
        factor = 2 if halve else 1
        size = opened.height, opened.width
        adapt(detector, opened, halve)

        def watch(found: Iterator[_DetectedWindow]) -> Iterator[_DetectedWindow]:
            nonlocal first_us, last_us, windows
            with progress(None, f"detecting in {opened.path.name}", unit="s") as bar:
                for window in found:
                    first_us = window.end_us - config.window_us if windows == 0 else first_us
                    last_us = window.last_event_us
                    windows += 1
                    counts.update(window.boxes["class_id"].tolist())
                    milliseconds.append(window.milliseconds)
                    if boxes is not None and len(window.boxes):
                        collected.append(_on_sensor(window.boxes, size, factor))
                    seconds = (last_us - first_us) // 1_000_000
                    if opened.fraction_read:
                        bar.total = max(round(seconds / opened.fraction_read), seconds)
                    bar.update(seconds - bar.n)
                    yield window

        started = time.perf_counter()
        with memory_errors("detection", _MEMORY_ADVICE):
            found = watch(_detect_windows(detector, opened, config, halve, detection))
            if video is None:
                deque(found, maxlen=0)
            else:
                write_video(*_video_arguments(video, found, opened, config, factor, speed, theme, scale))
        elapsed_s = time.perf_counter() - started
        if boxes is not None:
            rows = np.concatenate([np.zeros(0, LABEL_DTYPE), *collected])
            write_boxes(boxes, rows, config.classes, SensorSize(height=opened.height, width=opened.width))
    median_ms, quantile_95_ms = _typical(milliseconds)
    summary = DetectionSummary(
        windows=windows,
        boxes={name: counts[class_id] for class_id, name in enumerate(config.classes)},
        recording_s=(last_us - first_us) / 1e6,
        elapsed_s=elapsed_s,
        median_ms=median_ms,
        quantile_95_ms=quantile_95_ms,
    )
    logger.info(
        "%s: %s in %d windows",
        recording,
        ", ".join(f"{count} boxes of class {name}" for name, count in summary.boxes.items()),
        windows,
    )
    logger.info(
        "%.3g s of recording in %.3g s: %.2g × real time; %.3g ms a window (median), 95 %% below %.3g ms",
        summary.recording_s,
        elapsed_s,
        summary.recording_s / max(elapsed_s, 1e-9),
        median_ms,
        quantile_95_ms,
    )
    return summary


def _typical(milliseconds: list[float]) -> tuple[float, float]:
    """Median and 95 % quantile without the first group, in which memory is allocated and code compiled."""
    later = milliseconds[_FRAMES_PER_CALL:] or milliseconds
    median, slowest = np.quantile(later, (0.5, 0.95)).tolist()
    return median, slowest


def _check_options(
    video: Path | None,
    boxes: Path | None,
    confidence_threshold: float,
    nms_threshold: float,
    speed: float,
    theme: str,
    scale: int,
) -> None:
    if video is not None and Path(video).suffix.lower() != ".mp4":
        raise ConfigError(f"{video}: the video is an MP4 file; end its name in .mp4")
    if boxes is not None and Path(boxes).suffix.lower() not in BOX_FILE_SUFFIXES:
        raise ConfigError(f"{boxes}: end the name of the box file in {', '.join(BOX_FILE_SUFFIXES)}")
    if not 0 <= confidence_threshold <= 1 or not 0 < nms_threshold <= 1:
        raise ConfigError(
            f"thresholds lie in 0..1; got {confidence_threshold} for the confidence and {nms_threshold} for the NMS"
        )
    if theme not in THEMES:
        raise ConfigError(f"theme {theme!r} does not exist; possible are {', '.join(THEMES)}")
    if not 0 < speed <= 1000 or scale < 0:
        raise ConfigError(f"speed must lie in 0..1000 and scale be at least 0; got {speed:g} and {scale}")


def _detect_windows(
    detector: Detector, recording: Recording, config: SequenceConfig, halve: bool, detection: DetectionConfig
) -> Iterator[_DetectedWindow]:
    builder = FrameBuilder(config.representation, recording.height, recording.width, halve)
    most = max(1, min(_FRAMES_PER_CALL, _PIXELS_PER_CALL // math.prod(builder.shape[1:])))
    recurrent = RecurrentDetector(detector, detection)

    def windows() -> Iterator[tuple[int, int, np.ndarray]]:
        last_event_us = 0
        for end_us, events in read_adjoining_windows(recording, config.window_us):
            last_event_us = int(events.t[-1]) if len(events) else last_event_us
            yield end_us, last_event_us, builder.build(events)

    coming = windows()
    while True:
        started = time.perf_counter()
        batch = list(islice(coming, most))
        if not batch:
            return
        frames = torch.from_numpy(np.stack([frame for *_, frame in batch])[:, None])
        found = recurrent.detect(frames, np.ones((len(batch), 1), bool))
        boxes = [from_detection_rows(rows, t=end_us) for (end_us, *_), (*_, rows) in zip(batch, found, strict=True)]
        milliseconds = 1000 * (time.perf_counter() - started) / len(batch)
        for (end_us, last_event_us, frame), of_window in zip(batch, boxes, strict=True):
            yield _DetectedWindow(end_us, last_event_us, frame, of_window, milliseconds)


def _on_sensor(boxes: np.ndarray, size: tuple[int, int], factor: int) -> np.ndarray:
    """Boxes in pixels of the full sensor, inside of it; ``size`` = its (height, width)."""
    enlarged = boxes.copy()
    for name in ("x", "y", "w", "h"):
        enlarged[name] *= factor
    return remove_flat(clamp(enlarged, size))


def _video_arguments(
    path: Path,
    found: Iterator[_DetectedWindow],
    recording: Recording,
    config: SequenceConfig,
    factor: int,
    speed: float,
    theme: str,
    scale: int,
) -> tuple[Path, Iterator[np.ndarray], float]:
    rate = speed * 1e6 / config.window_us
    step = max(1, math.ceil(rate / _FASTEST_VIDEO_HZ))
    colours = THEMES[theme]
    scale = scale or comfortable_scale(recording.width // factor)

    def pictures() -> Iterator[np.ndarray]:
        for number, window in enumerate(found):
            if number % step == 0:
                yield compose(
                    paint_frame(window.frame, colours, scale),
                    # They come strongest first; a picture full of boxes shows nothing and takes long to draw.
                    [(window.boxes[:_MOST_BOXES_DRAWN], BoxKind.DETECTION)],
                    config.classes,
                    scale,
                    f"{recording.path.stem}   {window.end_us * 1e-6:.2f} s",
                    [BoxKind.DETECTION],
                    colours,
                )

    return Path(path), pictures(), rate / step
