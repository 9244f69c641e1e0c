"""Streams: ranges of frames that are read window after window, carrying the recurrent state along.

Published counterparts in Wuziyi616/LEOD: data/genx_utils/sequence_streaming.py (ranges) and
data/utils/stream_concat_datapipe.py (endless random order per batch slot).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import numpy as np

from leod.randomness import Purpose, generator_for
from leod.sampling.windows import FrameRange, Window


def whole_range(
    num_frames: int, labelled_frames: np.ndarray, length: int, start_at_first_label: bool
) -> FrameRange | None:
    """All frames of a sequence, or those from the first window that may hold a label.

    Args:
        num_frames: Frames of the sequence.
        labelled_frames: int64 [K], every labelled frame, whether kept or not.
        length: Frames L of a window.
        start_at_first_label: Start at max(first labelled frame - L + 1, 0) instead of 0.

    Returns:
        None if the range has to start at a label and there is none.
    """
    if not start_at_first_label:
        return FrameRange(0, num_frames)
    if len(labelled_frames) == 0:
        return None
    return FrameRange(max(int(labelled_frames[0]) - length + 1, 0), num_frames)


def guaranteed_ranges(labelled_frames: np.ndarray, length: int) -> list[FrameRange]:
    """Ranges of which every window of ``length`` frames holds a labelled frame, read forwards.

    A range runs from ``length - 1`` frames before a labelled frame to the last labelled frame before a gap of more
    than ``length`` frames.

    Args:
        labelled_frames: int64 [K], strictly increasing; K may be 0.
        length: Frames L of a window.
    """
    return [FrameRange(max(first - length + 1, 0), last + 1) for first, last in _label_groups(labelled_frames, length)]


def _label_groups(frames: np.ndarray, length: int) -> list[tuple[int, int]]:
    """First and last frame of each run of frames that are at most ``length`` apart."""
    if len(frames) == 0:
        return []
    last = np.flatnonzero(np.diff(frames) > length)
    firsts = frames[np.concatenate([[0], last + 1])]
    lasts = frames[np.concatenate([last, [len(frames) - 1]])]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


@dataclass(frozen=True)
class Segment:
    """A piece of a sequence that a training stream runs through from a fresh recurrent state.

    Attributes:
        sequence: Position of the sequence in the list of training sequences.
        forward: Frames that are read forwards.
        backward: Frames that are read backwards; None if no label can be shown that way.
    """

    sequence: int
    forward: FrameRange
    backward: FrameRange | None


def training_segments(
    sequence: int,
    num_frames: int,
    labelled_frames: np.ndarray,
    kept: np.ndarray,
    length: int,
    time_reversal_label_offset: int,
) -> list[Segment]:
    """What a training stream reads of one sequence.

    A sequence that keeps all its labels is cut where labels are more than L apart, so that every window has one. A
    sequence that keeps a part of them is read from the first window that may hold a label (kept or not) to its end,
    as published for the weakly supervised setting. A sequence that keeps none is not read.

    Args:
        sequence: Position of the sequence, passed on.
        num_frames: Frames of the sequence.
        labelled_frames: int64 [K], strictly increasing.
        kept: bool [K], labelled frames that may be learned from.
        length: Frames L of a window.
        time_reversal_label_offset: See `Window.label_frames`.
    """
    if not kept.any():
        return []
    if not kept.all():
        frames = whole_range(num_frames, labelled_frames, length, start_at_first_label=True)
        return [Segment(sequence, frames, frames)]
    return [
        Segment(sequence, forward, _mirrored(forward, labelled_frames, num_frames, length, time_reversal_label_offset))
        for forward in guaranteed_ranges(labelled_frames, length)
    ]


def _mirrored(
    forward: FrameRange, labelled_frames: np.ndarray, num_frames: int, length: int, offset: int
) -> FrameRange | None:
    """The range that, read backwards, has the labels of ``forward`` in every one of its windows."""
    labels = labelled_frames[(labelled_frames >= forward.start) & (labelled_frames < forward.stop)]
    shown = labels - offset
    shown = shown[shown < num_frames]
    if len(shown) == 0:
        return None
    return FrameRange(int(shown[0]), min(int(shown[-1]) + length, num_frames))


@dataclass(frozen=True)
class StreamPosition:
    """What one slot of the stream reads in one step.

    Attributes:
        segment: Position in the list of segments.
        window: The frames.
        is_first: Whether the segment begins here.
        visit: (permutation, place in it); equal for all windows of one run through the segment.
    """

    segment: int
    window: Window
    is_first: bool
    visit: tuple[int, int]


@dataclass(frozen=True)
class _Permutation:
    """One pass of a slot over all segments."""

    order: np.ndarray
    time_reversed: np.ndarray
    stops: np.ndarray
    """Windows of this pass up to and including each place, int64 [segments]."""


class StreamPlan:
    """Endless streams: every slot runs through one random permutation of all segments after the other.

    What slot ``s`` shows as its ``k``-th window follows from the seed alone, without stepping through the windows
    before it.

    Args:
        segments: At least one.
        length: Frames L of a window.
        time_reversal: Probability of reading a segment backwards, drawn for every run through it.
        seed: Seed of the training.
    """

    def __init__(self, segments: SequenceOf[Segment], length: int, time_reversal: float, seed: int) -> None:
        self.segments = list(segments)
        self.length = length
        self._time_reversal = time_reversal
        self._seed = seed
        self._forward_windows = np.array([segment.forward.num_windows(length) for segment in segments], np.int64)
        self._reversible = np.array([segment.backward is not None for segment in segments])
        self._backward_windows = np.array(
            [(segment.backward or segment.forward).num_windows(length) for segment in segments], np.int64
        )
        self._first_windows: dict[int, list[int]] = {}
        self._permutations: dict[int, tuple[int, _Permutation]] = {}

    def _reversals(self, slot: int, permutation: int) -> np.ndarray:
        generator = generator_for(self._seed, Purpose.STREAM_REVERSAL, slot, permutation)
        return (generator.random(len(self.segments)) < self._time_reversal) & self._reversible

    def _num_windows(self, time_reversed: np.ndarray) -> np.ndarray:
        return np.where(time_reversed, self._backward_windows, self._forward_windows)

    def _permutation_start(self, slot: int, index: int) -> tuple[int, int]:
        """Number of the permutation that window ``index`` of a slot belongs to, and its first window."""
        if self._time_reversal == 0 or np.array_equal(self._forward_windows, self._backward_windows):
            total = int(self._forward_windows.sum())
            return index // total, index // total * total
        # Passes differ in length with the segments that they read backwards, so their lengths are added up.
        starts = self._first_windows.setdefault(slot, [0])
        while starts[-1] <= index:
            windows = self._num_windows(self._reversals(slot, len(starts) - 1)).sum()
            starts.append(starts[-1] + int(windows))
        permutation = bisect_right(starts, index) - 1
        return permutation, starts[permutation]

    def _pass(self, slot: int, permutation: int) -> _Permutation:
        cached = self._permutations.get(slot)
        if cached is None or cached[0] != permutation:
            order = generator_for(self._seed, Purpose.STREAM_ORDER, slot, permutation).permutation(len(self.segments))
            time_reversed = self._reversals(slot, permutation)
            stops = np.cumsum(self._num_windows(time_reversed)[order])
            cached = (permutation, _Permutation(order, time_reversed[order], stops))
            self._permutations[slot] = cached
        return cached[1]

    def position(self, slot: int, index: int) -> StreamPosition:
        """What ``slot`` shows as its window ``index``, both from 0."""
        permutation, first = self._permutation_start(slot, index)
        run = self._pass(slot, permutation)
        place = int(np.searchsorted(run.stops, index - first, side="right"))
        begin = int(run.stops[place - 1]) if place else 0
        number = index - first - begin
        time_reversed = bool(run.time_reversed[place])
        segment = self.segments[run.order[place]]
        frames = segment.backward if time_reversed and segment.backward is not None else segment.forward
        return StreamPosition(
            segment=int(run.order[place]),
            window=frames.window(number, self.length, time_reversed),
            is_first=number == 0,
            visit=(permutation, place),
        )
