"""Windows of L consecutive frames: the unit in which sequences are read.

Published counterpart: `SequenceForIter` in Wuziyi616/LEOD, data/genx_utils/sequence_streaming.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class FrameRange:
    """Frames ``start`` to ``stop`` (exclusive) of a sequence."""

    start: int
    stop: int

    def num_windows(self, length: int) -> int:
        """Windows of ``length`` frames that it takes to read the whole range."""
        return -(-(self.stop - self.start) // length)

    def window(self, index: int, length: int, time_reversed: bool) -> Window:
        """Cut out one window.

        Args:
            index: Position of the window in reading order.
            length: Frames of a full window; the last one in reading order may be shorter.
            time_reversed: Read backwards: windows are cut from the end of the range.
        """
        if time_reversed:
            stop = self.stop - index * length
            return Window(max(stop - length, self.start), stop, time_reversed)
        start = self.start + index * length
        return Window(start, min(start + length, self.stop), time_reversed)


@dataclass(frozen=True)
class Window:
    """Frames ``start`` to ``stop`` (exclusive), read forwards or backwards in time."""

    start: int
    stop: int
    time_reversed: bool = False

    def frame_indices(self, length: int) -> np.ndarray:
        """Frames in reading order, int64 [length], padded with -1 at the end."""
        indices = np.full(length, -1, dtype=np.int64)
        frames = np.arange(self.start, self.stop, dtype=np.int64)
        indices[: len(frames)] = frames[::-1] if self.time_reversed else frames
        return indices

    def label_frames(self, length: int, time_reversal_label_offset: int) -> np.ndarray:
        """Frame whose label is true at the end of each step, int64 [length]; -1 where there is none.

        A window's label belongs to its end. Read backwards, a window ends where it used to begin, hence the label of
        an earlier frame fits.

        Args:
            length: Steps of a sample.
            time_reversal_label_offset: Frame i's events, read backwards, lead to the label of frame i + offset.
        """
        indices = self.frame_indices(length)
        if not self.time_reversed:
            return indices
        return np.where(indices < 0, -1, np.maximum(indices + time_reversal_label_offset, -1))
