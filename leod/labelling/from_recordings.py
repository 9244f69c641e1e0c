"""Candidates out of recordings: every window is looked at once, as the events come; few of each second are kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from leod.config.schema import DetectionConfig, ViewsConfig
from leod.inference.recording_views import RecordingViews
from leod.labelling.activity import GRID, ActivityMeter
from leod.labelling.choosing import ACTIVITY_SIGNS, DETECTOR_SIGNS, Candidates, best_of_each_stretch
from leod.labelling.settling import settled
from leod.labelling.uncertainty import WEAKEST_SCORE, Uncertainty, judge
from leod.models.detector import Detector
from leod.progress import progress
from leod.recordings.chunk import EventChunk, Recording
from leod.sequences.frame_boxes import FrameBoxes
from leod.sequences.representations import FrameBuilder
from leod.sequences.writing import read_adjoining_windows

_STRETCH_US = 500_000
"""One window of each stretch may be chosen; its neighbours show about the same."""
_BLOCK_WINDOWS = 4_096
_MOST_BOXES = 50
"""Strongest boxes of a window and view that are kept until the end of the recording."""
_NMS_IOU = 0.45


@dataclass(frozen=True)
class RecordingCandidates:
    """What was found in one recording.

    Attributes:
        candidates: Those that may be chosen, and the windows of existing labels, which are not eligible.
        windows: Windows that were looked at.
        duration_s: Time from the first window to the end of the last one, in seconds.
        objects: What the detector's views see together at the candidates, with objectness = mean score, in pixels of
            the full sensor; frames are windows. None without a detector.
    """

    candidates: Candidates
    windows: int
    duration_s: float
    objects: FrameBoxes | None


def candidates_of_recording(
    recording: Recording,
    number: int,
    window_us: int,
    labelled_us: npt.NDArray[np.int64],
    apart_us: int,
    detector: Detector | None = None,
    halve: bool = False,
) -> RecordingCandidates:
    """Look at every window of a recording.

    Args:
        recording: An open recording.
        number: Its number.
        window_us: Length of a window in microseconds.
        labelled_us: int64 [K], increasing: moments that are labelled already. Windows nearer than ``apart_us`` are
            left out.
        apart_us: See ``labelled_us``.
        detector: On the device where it shall run, for frames of this size; or None.
        halve: Whether the detector's frames are halved.

    Raises:
        DataError: The recording is damaged or holds no events.
        ResourceError: Out of memory.
    """
    look = _Look(recording, window_us)
    with progress(None, f"looking at {recording.path.name}", unit="s") as bar:

        def watched() -> Iterator[EventChunk]:
            first_us = None
            for end_us, events in look.windows():
                first_us = end_us - window_us if first_us is None else first_us
                seconds = (end_us - first_us) // 1_000_000
                if seconds > bar.n:
                    if recording.fraction_read:
                        bar.total = max(round(seconds / recording.fraction_read), seconds)
                    bar.update(seconds - bar.n)
                yield events

        if detector is None:
            for _ in watched():
                pass
            unsure = None
        else:
            unsure = _doubts(detector, recording, halve, watched())
    ends_us, shares, wheres, moves = look.arrays()
    signs = ACTIVITY_SIGNS if unsure is None else DETECTOR_SIGNS
    amounts = None if unsure is None else unsure.amounts(np.arange(len(ends_us)))
    memory, late_enough = settled(ends_us - (int(ends_us[0]) - window_us))
    found = Candidates(
        recording=np.full(len(ends_us), number, np.int64),
        index=np.arange(len(ends_us), dtype=np.int64),
        t_us=ends_us,
        descriptor=wheres,
        amounts=shares[:, None] if amounts is None else np.hstack([shares[:, None], amounts]),
        signs=signs,
        settled=memory,
        eligible=moves & late_enough & (_distance(ends_us, labelled_us) >= max(apart_us, 1)),
    )
    labelled = found.select(_windows_of_labels(ends_us, labelled_us))
    labelled.eligible[:] = False
    kept = best_of_each_stretch(found, _STRETCH_US)
    objects = None
    if unsure is not None:
        objects = unsure.objects.in_frames(kept.index)
        for name in ("x", "y", "w", "h"):
            objects.boxes[name] *= 2 if halve else 1
    return RecordingCandidates(
        candidates=Candidates.joined([kept, labelled]),
        windows=len(ends_us),
        duration_s=len(ends_us) * window_us / 1e6,
        objects=objects,
    )


class _Look:
    """Measures the windows that pass, and keeps little of each."""

    def __init__(self, recording: Recording, window_us: int) -> None:
        self._recording, self._window_us = recording, window_us
        self._meter = ActivityMeter(recording.height, recording.width)
        self._count = 0
        self._blocks: list[tuple[np.ndarray, ...]] = []

    def windows(self) -> Iterator[tuple[int, EventChunk]]:
        """The windows, each measured before it is handed on."""
        for end_us, events in read_adjoining_windows(self._recording, self._window_us):
            place = self._count % _BLOCK_WINDOWS
            if place == 0:
                self._blocks.append(
                    (
                        np.zeros(_BLOCK_WINDOWS, np.int64),
                        np.zeros(_BLOCK_WINDOWS, np.float32),
                        # The square root of a share needs no more than half precision.
                        np.zeros((_BLOCK_WINDOWS, GRID[0] * GRID[1]), np.float16),
                        np.zeros(_BLOCK_WINDOWS, bool),
                    )
                )
            activity = self._meter.of_events(events)
            for column, value in zip(
                self._blocks[-1], (end_us, activity.share, activity.where, activity.moves), strict=True
            ):
                column[place] = value
            self._count += 1
            yield end_us, events

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Ends int64 [n], shares float32 [n], where float32 [n, cells], whether something moves bool [n]."""
        ends, shares, wheres, moves = (
            np.concatenate([block[column] for block in self._blocks])[: self._count] for column in range(4)
        )
        return ends, shares, wheres.astype(np.float32), moves


def _doubts(detector: Detector, recording: Recording, halve: bool, windows: Iterable[EventChunk]) -> Uncertainty:
    """How unsure the detector is in each window."""
    config = detector.sequence
    builder = FrameBuilder(config.representation, recording.height, recording.width, halve)
    views = RecordingViews(
        detector,
        DetectionConfig(confidence_threshold=WEAKEST_SCORE, nms_threshold=_NMS_IOU),
        ViewsConfig(),
        builder.shape,
        config.time_reversal_label_offset,
    )
    parts: list[list[FrameBoxes]] = [[] for _ in views.views]
    shown: list[tuple[bool, ...]] = []
    for found in views.run(builder.build(events) for events in windows):
        shown.append(tuple(boxes is not None for boxes in found.boxes))
        for part, boxes in zip(parts, found.boxes, strict=True):
            if boxes is not None and len(boxes):
                # They come strongest first.
                part.append(FrameBoxes(boxes[:_MOST_BOXES], np.full(min(len(boxes), _MOST_BOXES), found.number)))
    of_views = [FrameBoxes.joined(part) for part in parts]
    return judge(of_views, np.array(shown, bool).T, builder.shape[1:])


def _distance(times_us: npt.NDArray[np.int64], labelled_us: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Time from each moment to the nearest labelled one."""
    if not len(labelled_us):
        return np.full(len(times_us), np.iinfo(np.int64).max)
    after = np.searchsorted(labelled_us, times_us)
    before = labelled_us[np.maximum(after - 1, 0)]
    behind = labelled_us[np.minimum(after, len(labelled_us) - 1)]
    return np.minimum(np.abs(times_us - before), np.abs(behind - times_us))


def _windows_of_labels(ends_us: npt.NDArray[np.int64], labelled_us: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Windows that hold the existing labels, at most one in each stretch, int64 [k]."""
    inside = labelled_us[(labelled_us > 0) & (labelled_us <= ends_us[-1]) & (labelled_us >= ends_us[0])]
    _, first = np.unique(inside // _STRETCH_US, return_index=True)
    return np.unique(np.searchsorted(ends_us, inside[first]))
