"""One recording becomes one sequence: windows, frames, labels, in bounded memory."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from leod.config.schema import BoxFilterConfig
from leod.config.stages import PreprocessSettings
from leod.errors import DataError
from leod.events.chunk import EventChunk, Recording
from leod.events.discovery import RecordingFiles
from leod.events.frame_file import FrameCompressor, FrameFile
from leod.events.label_times import (
    LabelledFrames,
    crop_to_sensor,
    filter_boxes,
    regular_window_ends,
    select_classes,
    select_frames,
    window_ends,
)
from leod.events.recording import open_recording
from leod.events.representations import FrameBuilder, representation_file_name, representation_name
from leod.labels.dtypes import RECORDING_BOX_DTYPE
from leod.labels.files import representations_dir, write_labelled_frames, write_labels, write_timestamps
from leod.labels.formats import read_boxes

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

_CHUNK_EVENTS = 1_000_000
_QUEUED_PER_THREAD = 8


class NothingLeftError(Exception):
    """A labelled recording has no labelled frame after filtering; its sequence is left out."""


@dataclass(frozen=True)
class SequenceCounts:
    """What a sequence holds.

    Attributes:
        frames: Number of frames.
        labelled_frames: Number of labelled frames.
        boxes: Number of boxes.
    """

    frames: int
    labelled_frames: int
    boxes: int


def read_windows(recording: Recording, ends_us: np.ndarray, window_us: int) -> Iterator[EventChunk]:
    """Read the events of each window: all with end - window <= t <= end, both ends inclusive.

    Windows may overlap or leave gaps. Only the events from the current window's start on are kept in memory.

    Args:
        recording: An open recording.
        ends_us: int64 [N], ends of the windows, increasing.
        window_us: Length of a window in microseconds.

    Yields:
        The events of one window after the other, N times; empty where the recording has none.

    Raises:
        DataError: The recording is damaged or holds no events.
    """
    done = 0
    held = latest_us = None
    for chunk in recording.chunks(_CHUNK_EVENTS):
        if done == len(ends_us):
            return
        held = _join(held, chunk, ends_us[done] - window_us)
        latest_us = int(chunk.t[-1])
        # A window is complete only when an event after its end has been seen.
        complete = max(int(np.searchsorted(ends_us, latest_us, side="left")), done)
        yield from _cut(held, ends_us[done:complete], window_us)
        done = complete
    if held is None or latest_us is None:
        raise DataError(recording.path, "holds no events.")
    if ends_us[-1] - window_us > latest_us:
        logger.warning(
            "%s ends at %d us, its last window only at %d us: the frames between are empty",
            *(recording.path, latest_us, ends_us[-1]),
        )
    yield from _cut(held, ends_us[done:], window_us)


def read_adjoining_windows(recording: Recording, window_us: int) -> Iterator[tuple[int, EventChunk]]:
    """Read the events of adjoining windows from the first event to the last one.

    They are those of `leod.events.label_times.regular_window_ends`, found without a pass over the recording before.

    Args:
        recording: An open recording.
        window_us: Length of a window in microseconds.

    Yields:
        End of the window in microseconds and its events, see `read_windows`; empty windows where nothing happens. The
        last window usually ends after the last event.

    Raises:
        DataError: The recording is damaged or holds no events.
    """
    end_us = 0
    held = None
    for chunk in recording.chunks(_CHUNK_EVENTS):
        end_us = int(chunk.t[0]) + window_us if held is None else end_us
        held = _join(held, chunk, end_us - window_us)
        complete = np.arange(end_us, int(chunk.t[-1]), window_us)
        yield from zip(complete.tolist(), _cut(held, complete, window_us), strict=True)
        end_us += len(complete) * window_us
    if held is None:
        raise DataError(recording.path, "holds no events.")
    yield end_us, next(_cut(held, np.array([end_us]), window_us))


def _join(held: EventChunk | None, chunk: EventChunk, start_us: int) -> EventChunk:
    """Events of both from ``start_us`` on."""
    parts = [
        _slice(part, int(np.searchsorted(part.t, start_us, side="left")), len(part))
        for part in (held, chunk)
        if part is not None
    ]
    filled = [part for part in parts if len(part)] or parts[-1:]
    if len(filled) == 1:
        return filled[0]
    return EventChunk(*(np.concatenate([getattr(part, name) for part in filled]) for name in ("t", "x", "y", "p")))


def _slice(events: EventChunk, start: int, stop: int) -> EventChunk:
    return EventChunk(events.t[start:stop], events.x[start:stop], events.y[start:stop], events.p[start:stop])


def _cut(held: EventChunk, ends_us: np.ndarray, window_us: int) -> Iterator[EventChunk]:
    starts = np.searchsorted(held.t, ends_us - window_us, side="left")
    stops = np.searchsorted(held.t, ends_us, side="right")
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        yield _slice(held, start, stop)


def _in_order(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """``map(work, items)`` on several threads with few items under way."""
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= _QUEUED_PER_THREAD * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def write_frames(
    path: Path,
    recording: Recording,
    ends_us: np.ndarray,
    window_us: int,
    builder: FrameBuilder,
    threads: int = 1,
) -> None:
    """Write the frame of every window to an HDF5 file.

    Args:
        path: The file to make; an interruption leaves a part of it.
        recording: An open recording.
        ends_us: int64 [N], ends of the windows, increasing.
        window_us: Length of a window in microseconds.
        builder: Makes a frame of a window's events.
        threads: Threads that count and compress.

    Raises:
        DataError: The recording is damaged or holds no events.
        OSError: The disk is full or not writable.
    """
    buffers = threading.local()

    def encode(events: EventChunk) -> bytes:
        if not hasattr(buffers, "frame"):
            buffers.frame = np.empty(builder.shape, builder.dtype)
            buffers.compressor = FrameCompressor(buffers.frame.nbytes)
        return buffers.compressor.compress(builder.build(events, out=buffers.frame))

    with FrameFile(path, len(ends_us), builder.shape, builder.dtype) as file:
        windows = read_windows(recording, ends_us, window_us)
        for index, chunk in enumerate(_in_order(encode, windows, threads)):
            file.write(index, chunk)


def label_frames(files: RecordingFiles, settings: PreprocessSettings, is_train: bool) -> LabelledFrames | None:
    """Read the boxes of a recording and choose its labelled frames.

    Args:
        files: The recording.
        settings: Classes, box filters and label times.
        is_train: Whether the recording is in the train split, which has a filter of its own.

    Returns:
        The labelled frames; None for a recording without labels.

    Raises:
        NothingLeftError: There are boxes, but the filters leave none.
        DataError: The box file is damaged or holds unknown classes.
    """
    if files.boxes is None:
        return None
    boxes = read_boxes(files.boxes, settings.classes)
    if not len(boxes):
        if settings.unlabelled_recordings:
            return None
        raise NothingLeftError("the box file is empty")
    boxes = select_classes(files.boxes, boxes, settings.classes, settings.drop_class_ids)
    boxes = crop_to_sensor(boxes, settings.sensor)
    boxes = filter_boxes(boxes, settings.label_filter, settings.sensor)
    if is_train and settings.max_train_width_fraction is not None:
        limit = BoxFilterConfig(max_width_fraction=settings.max_train_width_fraction)
        boxes = filter_boxes(boxes, limit, settings.sensor)
    if not len(boxes):
        raise NothingLeftError("no box is left after filtering")
    frames = select_frames(boxes, settings.label_times, settings.window_us)
    if frames is None:
        raise NothingLeftError(f"no label at or after {settings.label_times.first_us} us is left")
    return frames


def _recording_span_us(recording: Recording) -> tuple[int, int]:
    first = last = None
    for chunk in recording.chunks(_CHUNK_EVENTS):
        first = int(chunk.t[0]) if first is None else first
        last = int(chunk.t[-1])
    if first is None or last is None:
        raise DataError(recording.path, "holds no events.")
    return first, last


def write_sequence(
    folder: Path,
    events: Path,
    frames: LabelledFrames | None,
    settings: PreprocessSettings,
    threads: int = 1,
) -> SequenceCounts:
    """Write one sequence into ``folder``, in RVT's layout.

    Args:
        folder: Existing folder of the sequence; an interruption leaves a part of it.
        events: File of the recording's events.
        frames: The labelled frames; None makes windows over the whole recording, none of them labelled.
        settings: What is computed.
        threads: Threads that count and compress.

    Returns:
        What the sequence holds.

    Raises:
        DataError: The recording is damaged, empty or contradicts the settings.
        OSError: The disk is full or not writable.
    """
    name = representation_name(settings.representation, settings.window_us)
    with open_recording(events, settings.sensor) as recording:
        if frames is None:
            ends_us = regular_window_ends(*_recording_span_us(recording), settings.window_us)
            empty = np.zeros(0, np.int64)
            frames = LabelledFrames(np.zeros(0, RECORDING_BOX_DTYPE), empty, empty, empty)
        else:
            ends_us = window_ends(frames.times_us, frames.windows_between, settings.window_us)
        builder = FrameBuilder(settings.representation, recording.height, recording.width, settings.downsample_by_2)
        frame_file = representations_dir(folder) / name / representation_file_name(settings.downsample_by_2)
        frame_file.parent.mkdir(parents=True)
        write_frames(frame_file, recording, ends_us, settings.window_us, builder, threads)
    write_labels(folder, frames.boxes, frames.first_box, frames.times_us)
    write_labelled_frames(folder, name, np.searchsorted(ends_us, frames.times_us, side="left"))
    write_timestamps(folder, name, ends_us)
    return SequenceCounts(frames=len(ends_us), labelled_frames=len(frames.times_us), boxes=len(frames.boxes))
