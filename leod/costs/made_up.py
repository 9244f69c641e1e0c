"""Made-up events, recordings and sequences for measurements that need no data."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from leod.boxes.dtypes import LABEL_DTYPE, RECORDING_BOX_DTYPE
from leod.config.schema import SensorSize, SequenceConfig
from leod.recordings.chunk import EventChunk
from leod.recordings.dat import write_dat
from leod.sequences.frame_file import FrameCompressor, FrameFile
from leod.sequences.layout import representations_dir, write_labelled_frames, write_labels, write_timestamps
from leod.sequences.representations import FrameBuilder, representation_file_name, representation_name

_DISTINCT = 20
"""Windows that differ from each other."""
_NOISE_SHARE = 0.1
_EVENTS_PER_PIXEL_OF_EDGE = 40
"""Events that an edge makes in each pixel of its length in a second; with the density it decides how many there are."""


def made_up_events(
    sensor: SensorSize, start_us: int, duration_us: int, events_per_pixel_s: float, generator: np.random.Generator
) -> EventChunk:
    """Events of upright edges that cross the sensor, and some noise.

    Like those of a real scene they lie close together, which decides how well frames compress and how caches work.

    Args:
        sensor: Size of the sensor.
        start_us: First time that may occur.
        duration_us: Length.
        events_per_pixel_s: Mean number of events of a pixel in a second.
        generator: Draws them.
    """
    height, width = sensor.height, sensor.width
    count = max(1, round(events_per_pixel_s * height * width * duration_us * 1e-6))
    edges = max(1, round(events_per_pixel_s * width / _EVENTS_PER_PIXEL_OF_EDGE))
    length = generator.integers(max(2, height // 8), height + 1, edges)
    top = (generator.random(edges) * (height - length + 1)).astype(np.int64)
    speed = generator.normal(0.0, 0.5 * width, edges)
    start = generator.random(edges) * width
    edge = generator.choice(edges, count, p=length / length.sum())
    t = np.sort(generator.integers(0, duration_us, count))
    x = start[edge] + speed[edge] * t * 1e-6 + generator.normal(0.0, 1.0, count)
    y = top[edge] + (generator.random(count) * length[edge]).astype(np.int64)
    noise = generator.random(count) < _NOISE_SHARE
    x = np.where(noise, generator.random(count) * width, x).astype(np.int64) % width
    y = np.where(noise, (generator.random(count) * height).astype(np.int64), y)
    return EventChunk(
        t=t + start_us, x=x.astype(np.uint16), y=y.astype(np.uint16), p=generator.integers(0, 2, count).astype(np.uint8)
    )


def write_made_up_recording(
    folder: Path,
    name: str,
    config: SequenceConfig,
    windows: int,
    label_every: int,
    boxes_per_frame: int,
    events_per_pixel_s: float,
    seed: int,
) -> int:
    """Write a recording with boxes: ``folder/<name>_td.dat`` and ``_bbox.npy``; its events repeat every second.

    Args:
        folder: Where it goes.
        name: Name of the recording.
        config: Sensor, classes and window length.
        windows: Length in windows.
        label_every: Every how many windows a label moment comes.
        boxes_per_frame: Boxes of each label moment.
        events_per_pixel_s: Mean number of events of a pixel in a second.
        seed: Of the random numbers.

    Returns:
        Number of events.
    """
    generator = np.random.default_rng(seed)
    sensor, window_us = config.sensor, config.window_us
    distinct = [
        made_up_events(sensor, 0, window_us, events_per_pixel_s, generator) for _ in range(min(windows, _DISTINCT))
    ]
    chunks = (
        EventChunk(t=events.t + number * window_us, x=events.x, y=events.y, p=events.p)
        for number in range(windows)
        for events in [distinct[number % len(distinct)]]
    )
    folder.mkdir(parents=True, exist_ok=True)
    count = write_dat(folder / f"{name}_td.dat", chunks, sensor.height, sensor.width)
    moments = np.arange(label_every, windows + 1, label_every) * window_us
    boxes = _boxes(moments, boxes_per_frame, (sensor.height, sensor.width), len(config.classes), generator)
    with (folder / f"{name}_bbox.npy").open("wb") as file:
        np.save(file, boxes, allow_pickle=False)
    return count


class MadeUpSequences:
    """Writes sequences in the layout of preprocessed data sets, whose frames repeat after a second.

    Args:
        config: What the frames look like.
        boxes_per_frame: Boxes of each labelled frame.
        events_per_pixel_s: Mean number of events of a pixel in a second.
        seed: Of the random numbers.
    """

    def __init__(self, config: SequenceConfig, boxes_per_frame: int, events_per_pixel_s: float, seed: int = 0) -> None:
        self._config, self._boxes_per_frame = config, boxes_per_frame
        self._generator = np.random.default_rng(seed)
        sensor = config.sensor
        self._builder = FrameBuilder(config.representation, sensor.height, sensor.width, config.downsample_by_2)
        compressor = FrameCompressor(int(np.prod(self._builder.shape)) * self._builder.dtype.itemsize)
        self._chunks = [
            compressor.compress(
                self._builder.build(made_up_events(sensor, 0, config.window_us, events_per_pixel_s, self._generator))
            )
            for _ in range(_DISTINCT)
        ]

    def write(self, folder: Path, frames: int, label_every: int, pseudo: bool = False) -> None:
        """Write one sequence.

        Args:
            folder: Folder of the sequence.
            frames: Number of frames.
            label_every: Every how many frames one is labelled, from the end of the first such stretch on.
            pseudo: Whether the boxes are pseudo-labels, with scores.
        """
        config, per_frame = self._config, self._boxes_per_frame
        name = representation_name(config.representation, config.window_us)
        path = representations_dir(folder) / name / representation_file_name(config.downsample_by_2)
        path.parent.mkdir(parents=True)
        first = int(self._generator.integers(_DISTINCT))
        with FrameFile(path, frames, self._builder.shape, self._builder.dtype) as file:
            for index in range(frames):
                file.write(index, self._chunks[(first + index) % _DISTINCT])
        labelled = np.arange(label_every - 1, frames, label_every)
        times = (labelled + 1) * config.window_us
        size = config.sensor.height, config.sensor.width
        boxes = _boxes(times, per_frame, size, len(config.classes), self._generator)
        if pseudo:
            rows = np.zeros(len(boxes), LABEL_DTYPE)
            for field in ("x", "y", "w", "h", "class_id"):
                rows[field] = boxes[field]
            rows["objectness"] = rows["class_confidence"] = 0.9
            boxes = rows
        write_labels(folder, boxes, per_frame * np.arange(len(labelled)))
        write_labelled_frames(folder, name, labelled)
        write_timestamps(folder, name, np.arange(1, frames + 1) * config.window_us)


def _boxes(
    times_us: np.ndarray, per_frame: int, size: tuple[int, int], classes: int, generator: np.random.Generator
) -> np.ndarray:
    """Boxes of a fifth to half of the sensor's height, `RECORDING_BOX_DTYPE` [times x per_frame]."""
    height, width = size
    boxes = np.zeros(len(times_us) * per_frame, RECORDING_BOX_DTYPE)
    boxes["t"] = np.repeat(times_us, per_frame)
    boxes["w"] = boxes["h"] = generator.uniform(0.2, 0.5, len(boxes)) * min(height, width)
    boxes["x"] = generator.random(len(boxes)) * (width - boxes["w"])
    boxes["y"] = generator.random(len(boxes)) * (height - boxes["h"])
    boxes["class_id"] = generator.integers(0, classes, len(boxes))
    boxes["class_confidence"] = 1
    return boxes
