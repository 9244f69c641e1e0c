"""One recording becomes one sequence: windows, frames, labels, in bounded memory."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from leod.boxes.box_files import read_boxes
from leod.boxes.operations import is_empty_moment, is_ignored
from leod.config.schema import BoxFilterConfig, PlausibilityConfig
from leod.config.settings import PreprocessSettings
from leod.errors import DataError
from leod.recordings.chunk import EventChunk, Recording
from leod.recordings.discovery import RecordingFiles
from leod.recordings.recording import open_recording
from leod.sequences.frame_file import FrameCompressor, FrameFile
from leod.sequences.label_times import LabelledFrames, crop_to_sensor, filter_boxes, select_classes, select_frames
from leod.sequences.layout import representations_dir, write_labelled_frames, write_labels, write_timestamps
from leod.sequences.plausibility import (
    BoxFacts,
    RecordingFacts,
    count_classes,
    count_moments,
    doubled_rows,
    nearly_doubled_count,
    overlap_problem,
    same_as_before,
    sparse_problem,
)
from leod.sequences.representations import FrameBuilder, representation_file_name, representation_name
from leod.sequences.window_grid import WindowGrid

Item = TypeVar("Item")
Result = TypeVar("Result")

_CHUNK_EVENTS = 1_000_000
_QUEUED_PER_THREAD = 8
_FINGERPRINT_EVENTS = 4096
_MANY_WINDOWS = 20_000
_LOOK_EVERY_WINDOWS = 1_000


class NothingLeftError(Exception):
    """A labelled recording has no labelled frame after filtering; its sequence is left out."""


def read_windows(
    chunks: Iterable[EventChunk], grid: WindowGrid, window_us: int, at_end: Callable[[], None] = lambda: None
) -> Iterator[tuple[int, EventChunk]]:
    """Read the events of each window: all with end - window <= t <= end, both ends inclusive.

    Windows may overlap or leave gaps. Only the events from the current window's start on are kept in memory. Events
    behind the last window are not read.

    Args:
        chunks: The recording's events, at least one.
        grid: Ends of the windows.
        window_us: Length of a window in microseconds.
        at_end: Called when no more events are read, before the last windows come.

    Yields:
        End of a window in microseconds and its events, none where nothing happens.

    Raises:
        DataError: The recording is damaged.
    """
    held = None
    latest_us = 0
    for chunk in chunks:
        if grid.exhausted:
            break
        held = _join(held, chunk, grid.next_us - window_us)
        latest_us = int(chunk.t[-1])
        # A window is complete only when an event after its end has been seen.
        ends_us = grid.take(latest_us)
        yield from zip(ends_us.tolist(), _cut(held, ends_us, window_us), strict=True)
    at_end()
    ends_us = grid.finish(latest_us)
    yield from zip(ends_us.tolist(), _cut(held, ends_us, window_us), strict=True)


def read_adjoining_windows(recording: Recording, window_us: int) -> Iterator[tuple[int, EventChunk]]:
    """Read the events of adjoining windows from the first event of a recording to the last one.

    Args:
        recording: An open recording.
        window_us: Length of a window in microseconds.

    Yields:
        See `read_windows`. The last window usually ends after the last event.

    Raises:
        DataError: The recording is damaged or holds no events.
    """
    events = CountedEvents(recording)
    return read_windows(events, WindowGrid(LabelledFrames.none(), window_us, events.first_us), window_us)


class CountedEvents:
    """The events of a recording, read once; the first is known beforehand.

    Args:
        recording: An open recording.

    Attributes:
        first_us: Time of the first event.
        last_us: Time of the latest event so far.
        count: Events so far.
        complete: Whether all were read.

    Raises:
        DataError: The recording is damaged or holds no events.
    """

    def __init__(self, recording: Recording) -> None:
        self._chunks = (chunk for chunk in recording.chunks(_CHUNK_EVENTS) if len(chunk))
        first = next(self._chunks, None)
        if first is None:
            raise DataError(recording.path, "holds no events.")
        self._first_chunk: EventChunk | None = first
        self._start: list[EventChunk] = []
        self.first_us = self.last_us = int(first.t[0])
        self.count = 0
        self.complete = False

    def __iter__(self) -> Iterator[EventChunk]:
        """Go on reading."""
        if self._first_chunk is not None:
            chunk, self._first_chunk = self._first_chunk, None
            yield self._counted(chunk)
        for chunk in self._chunks:
            yield self._counted(chunk)
        self.complete = True

    def _counted(self, chunk: EventChunk) -> EventChunk:
        if self.count < _FINGERPRINT_EVENTS:
            self._start.append(_slice(chunk, 0, _FINGERPRINT_EVENTS - self.count))
        self.count += len(chunk)
        self.last_us = int(chunk.t[-1])
        return chunk

    def fingerprint(self) -> str:
        """Digest of the first events, without their time on the clock: equal for copies and conversions."""
        digest = hashlib.sha256()
        for chunk in self._start:
            for column in (chunk.t - self.first_us, chunk.x, chunk.y, chunk.p):
                digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()[:32]


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


def _write_frames(
    path: Path, frames: int | None, windows: Iterable[EventChunk], builder: FrameBuilder, threads: int
) -> None:
    """Write the frame of every window to an HDF5 file; ``frames``: their number, if it is known."""
    buffers = threading.local()
    nothing = np.zeros(builder.shape, builder.dtype)
    empty_frame = FrameCompressor(nothing.nbytes).compress(nothing)

    def encode(events: EventChunk) -> bytes:
        if not len(events):
            return empty_frame
        if not hasattr(buffers, "frame"):
            buffers.frame = np.empty(builder.shape, builder.dtype)
            buffers.compressor = FrameCompressor(buffers.frame.nbytes)
        return buffers.compressor.compress(builder.build(events, out=buffers.frame))

    with FrameFile(path, frames, builder.shape, builder.dtype) as file:
        for index, chunk in enumerate(_in_order(encode, windows, threads)):
            file.write(index, chunk)


@dataclass(frozen=True)
class RecordingLabels:
    """What a recording's box file says, filtered.

    Attributes:
        path: The box file.
        boxes: `RECORDING_BOX_DTYPE` [M] sorted by time.
        empty_us: int64 [E], moments that somebody found empty.
        moments_us: int64 [K], all label moments of the file.
        facts: What was counted so far.
    """

    path: Path
    boxes: np.ndarray
    empty_us: np.ndarray
    moments_us: np.ndarray
    facts: BoxFacts

    def later(self, shift_us: int) -> RecordingLabels:
        """The same, ``shift_us`` later; the facts, which are shared, tell the new times."""
        boxes, moments_us = self.boxes.copy(), self.moments_us + shift_us
        boxes["t"] += shift_us
        count_moments(moments_us, self.facts)
        return replace(self, boxes=boxes, empty_us=self.empty_us + shift_us, moments_us=moments_us)


def read_labels(files: RecordingFiles, settings: PreprocessSettings, is_train: bool) -> RecordingLabels | None:
    """Read and filter the boxes of a recording.

    Args:
        files: The recording.
        settings: Classes and box filters.
        is_train: Whether the recording is in the train split, which has a filter of its own.

    Returns:
        What is left; None for a recording without labels.

    Raises:
        NothingLeftError: There is a box file without any label moment.
        DataError: The box file is damaged or holds unknown classes.
    """
    if files.boxes is None:
        return None
    rows = read_boxes(files.boxes, settings.classes, settings.class_map, settings.box_times.of(files.name))
    if not len(rows):
        if settings.unlabelled_recordings:
            return None
        raise NothingLeftError("the box file is empty")
    facts = BoxFacts()
    moments_us = np.unique(rows["t"])
    count_moments(moments_us, facts)
    empty = is_empty_moment(rows)
    boxes, empty_us = rows[~empty], np.unique(rows["t"][empty])
    contradicting = empty_us[np.isin(empty_us, boxes["t"])]
    if len(contradicting):
        raise DataError(
            files.boxes, f"says that nothing is to be seen at {contradicting[0]} us, but has boxes there. Correct it."
        )
    facts.boxes, facts.moments_found_empty = len(boxes), len(empty_us)
    wanted = select_classes(files.boxes, boxes, settings.classes, settings.drop_class_ids)
    facts.left_out = len(boxes) - len(wanted)
    facts.ignored = int(is_ignored(wanted).sum())
    doubled = doubled_rows(wanted)
    facts.doubled = int(doubled.sum())
    facts.nearly_doubled = nearly_doubled_count(wanted)
    if settings.doubled_boxes == "drop":
        wanted = wanted[~doubled]
    comparable, frozen = same_as_before(wanted)
    facts.comparable, facts.frozen = int(comparable.sum()), int(frozen.sum())
    cropped, cut = crop_to_sensor(wanted, settings.sensor)
    facts.classes = count_classes(cropped, ~cut, settings.classes)
    facts.outside = len(wanted) - len(cropped)
    facts.cut = int(cut.sum())
    kept = filter_boxes(cropped, settings.label_filter, settings.sensor)
    if is_train and settings.max_train_width_fraction is not None:
        limit = BoxFilterConfig(max_width_fraction=settings.max_train_width_fraction)
        kept = filter_boxes(kept, limit, settings.sensor)
    facts.filtered = len(cropped) - len(kept)
    return RecordingLabels(files.boxes, kept, empty_us, moments_us, facts)


def label_frames(labels: RecordingLabels, settings: PreprocessSettings, first_event_us: int) -> LabelledFrames | None:
    """Choose a recording's labelled frames.

    Args:
        labels: The labels, on the recording's clock; the facts are completed.
        settings: Label times and where the recording begins.
        first_event_us: Time of the first event.

    Returns:
        The labelled frames; None if nothing is left.
    """
    boxes, empty_us, origin_us = labels.boxes, labels.empty_us, 0
    if settings.windows.origin == "first_event":
        origin_us = first_event_us
        boxes, empty_us = boxes[boxes["t"] >= first_event_us], empty_us[empty_us >= first_event_us]
    frames = select_frames(boxes, settings.label_times, settings.window_us, origin_us, empty_us)
    taken = 0 if frames is None else len(frames.times_us)
    usable = np.union1d(boxes["t"], empty_us)
    labels.facts.moments_unused = len(usable) - taken
    return frames


def write_sequence(
    folder: Path,
    files: RecordingFiles,
    settings: PreprocessSettings,
    split: str,
    threads: int = 1,
    limits: PlausibilityConfig = PlausibilityConfig(),  # noqa: B008  (immutable)
) -> RecordingFacts:
    """Write one sequence into ``folder``, in RVT's layout.

    A training recording whose events are used to their end is of use without labels, too: it becomes an unlabelled
    sequence where the filters leave none.

    Args:
        folder: Existing folder of the sequence; an interruption leaves a part of it.
        files: The recording.
        settings: What is computed.
        split: The split that the recording belongs to.
        threads: Threads that count and compress.
        limits: What cannot be right.

    Returns:
        What was counted.

    Raises:
        NothingLeftError: There are boxes, but the filters leave none.
        DataError: Recording or boxes are damaged, empty, contradict each other or the settings, or cannot be right.
        OSError: The disk is full or not writable.
    """
    windows = settings.windows
    unlabelled_is_of_use = split == "train" and windows.train_until == "last_event"
    labels = read_labels(files, settings, is_train=split == "train")
    if labels is not None and not unlabelled_is_of_use and not len(labels.boxes) and not len(labels.empty_us):
        raise NothingLeftError("no box is left after filtering")
    with open_recording(files.events, settings.sensor, settings.recording_times.of(files.name)) as recording:
        events = CountedEvents(recording)
        _check_clock(files, settings, events.first_us, limits)
        frames = None
        if labels is not None:
            if settings.box_times.of(files.name).zero == "first_event":
                labels = labels.later(events.first_us)
            frames = label_frames(labels, settings, events.first_us)
            if frames is None and not unlabelled_is_of_use:
                _refuse_without_overlap(labels, events, settings.window_us)
                raise NothingLeftError(_too_early(labels.facts, settings, limits))
        frames = frames or LabelledFrames.none()
        grid = WindowGrid(frames, settings.window_us, events.first_us, windows.origin, windows.until(split))
        watch = _Watch(files, settings, labels, events, limits)
        builder = FrameBuilder(settings.representation, recording.height, recording.width, settings.downsample_by_2)
        name = representation_name(settings.representation, settings.window_us)
        frame_file = representations_dir(folder) / name / representation_file_name(settings.downsample_by_2)
        frame_file.parent.mkdir(parents=True)
        read = read_windows(events, grid, settings.window_us, watch.at_end)
        _write_frames(frame_file, grid.known_count, watch.over(read), builder, threads)
        pixels = recording.height * recording.width
    labelled = np.asarray(grid.labelled_frames, np.int64)
    frames = frames.first(len(labelled))
    write_labels(folder, frames.boxes, frames.first_box, frames.times_us)
    write_labelled_frames(folder, name, labelled)
    write_timestamps(folder, name, np.asarray(watch.ends_us, np.int64))
    empty = np.asarray(watch.event_counts) == 0
    facts = RecordingFacts(
        frames=grid.count,
        labelled_frames=len(labelled),
        boxes=len(frames.boxes),
        empty_frames=int(empty.sum()),
        empty_labelled_frames=int(empty[labelled].sum()),
        events=events.count,
        first_event_us=events.first_us,
        last_event_us=events.last_us,
        complete=events.complete,
        pixels=pixels,
        fingerprint=events.fingerprint(),
        box_file=None if labels is None else labels.facts,
    )
    if split != "train" and not len(labelled) and labels is not None:
        raise NothingLeftError("no label moment lies within the recording")
    return facts


def _too_early(facts: BoxFacts, settings: PreprocessSettings, limits: PlausibilityConfig) -> str:
    reason = f"no label at or after {settings.label_times.first_us} us is left"
    limit = limits.max_label_rate_hz
    if limit is not None and (facts.rate_hz or 0) > limit:
        reason += (
            f"; label moments follow each other at {facts.rate_hz:g} Hz: is the unit of their times right (box_times)?"
        )
    return reason


def _check_clock(
    files: RecordingFiles, settings: PreprocessSettings, first_event_us: int, limits: PlausibilityConfig
) -> None:
    """The published grid begins at zero: a recording that begins an hour later would begin with an hour of nothing."""
    limit = limits.max_clock_start_us
    if settings.windows.origin == "clock_zero" and limit is not None and first_event_us > limit:
        raise DataError(
            files.events,
            f"begins at {first_event_us} us of its clock, but windows begin at zero (windows: {{origin: clock_zero}}, "
            "the grid of the published data sets). Say windows: {origin: first_event} in the data set file, or shift "
            f"the times: recording_times: {{offset_us: -{first_event_us}}}.",
        )


def _refuse_without_overlap(labels: RecordingLabels, events: CountedEvents, window_us: int) -> None:
    """Read to the last event and complain if no label moment lies before it and after the first one.

    Raises:
        DataError: No label moment lies within the recording.
    """
    for _ in events:
        pass
    _check_overlap(labels, events, window_us)


def _check_overlap(labels: RecordingLabels, events: CountedEvents, window_us: int) -> None:
    facts = labels.facts
    inside = labels.moments_us >= events.first_us
    if events.complete:
        inside &= labels.moments_us - window_us < events.last_us
    facts.moments_outside = int((~inside).sum())
    if problem := overlap_problem(facts, (events.first_us, events.last_us)):
        raise DataError(labels.path, problem)


class _Watch:
    """Counts the windows that pass, and stops where it becomes clear that a recording cannot be right."""

    def __init__(
        self,
        files: RecordingFiles,
        settings: PreprocessSettings,
        labels: RecordingLabels | None,
        events: CountedEvents,
        limits: PlausibilityConfig,
    ) -> None:
        self._files, self._settings, self._labels, self._events = files, settings, labels, events
        self._limits = limits
        self._count = 0
        self.ends_us: list[int] = []
        self.event_counts: list[int] = []

    def over(self, windows: Iterable[tuple[int, EventChunk]]) -> Iterator[EventChunk]:
        """Hand the events on."""
        for end_us, events in windows:
            self.ends_us.append(end_us)
            self.event_counts.append(len(events))
            self._count += len(events)
            # Nobody wants to wait for a million empty frames to be told that the unit of the times is wrong.
            if len(self.ends_us) % _LOOK_EVERY_WINDOWS == 0 and len(self.ends_us) >= _MANY_WINDOWS:
                self._refuse_if_sparse()
            yield events

    def at_end(self) -> None:
        """No more events are read; the last windows come."""
        if self._labels is not None:
            _check_overlap(self._labels, self._events, self._settings.window_us)

    def _refuse_if_sparse(self) -> None:
        windows, window_us = len(self.ends_us), self._settings.window_us
        if problem := sparse_problem(self._count, windows, window_us, self._limits, "begins with"):
            raise DataError(self._files.events, problem)
