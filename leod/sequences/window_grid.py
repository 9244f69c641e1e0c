"""Where the windows of a recording lie.

Label moments are ends of windows. Before the first labelled frame windows adjoin each other; between labelled frames
they are evenly spaced; after the last one they adjoin again, where the recording is used to its end. The grid is worked
out as far as the events have been read: its length follows the recording, whatever the clock and the label times say.

The published grid is that of RVT (uzh-rpg/RVT, `scripts/genx/preprocess_dataset.py`): it begins at zero of the clock
and ends at the last label.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from leod.sequences.label_times import LabelledFrames


@dataclass(frozen=True)
class _Stretch:
    """Evenly spaced ends of windows: ``start_us`` (not one of them itself) < ends <= ``start_us + length_us``.

    Attributes:
        start_us: Where the first window would begin if the windows adjoin.
        length_us: Distance to the last end.
        count: Number of ends; None: they go on for ever, each ``length_us`` after the one before.
        absolute: Round positions on the clock, as published, instead of distances from ``start_us``.
    """

    start_us: int
    length_us: int
    count: int | None
    absolute: bool = False

    def ends(self, first: int, stop: int) -> np.ndarray:
        """Ends number ``first`` to ``stop`` (exclusive), int64; they count from 0."""
        numbers = np.arange(first + 1, stop + 1)
        if self.count is None:
            return self.start_us + self.length_us * numbers
        step = self.length_us / self.count
        if self.absolute:
            ends = (numbers * step + self.start_us).astype(np.int64)
        else:
            ends = self.start_us + (numbers * step).astype(np.int64)
        ends[numbers == self.count] = self.start_us + self.length_us
        return ends

    def before(self, first: int, time_us: int) -> np.ndarray:
        """Ends from number ``first`` on that lie before ``time_us``."""
        step = self.length_us / (self.count or 1)
        stop = max(math.floor((time_us - self.start_us) / step) + 1, first)
        ends = self.ends(first, stop if self.count is None else min(stop, self.count))
        return ends[: np.searchsorted(ends, time_us, side="left")]


class WindowGrid:
    """Ends of a recording's windows, handed out as the events are read.

    Args:
        frames: The labelled frames.
        window_us: Length of a window in microseconds.
        first_event_us: Time of the recording's first event.
        origin: 'first_event': the first window holds the first event. 'clock_zero': windows begin at zero of the
            clock, without the earliest one, whether there are events or not, and label moments after the last event
            have windows, too. Without labels windows begin at the first event in any case.
        until: 'last_event': the last window holds the last event. 'last_label': it ends at the last label; without
            labels, as 'last_event'.
    """

    def __init__(
        self,
        frames: LabelledFrames,
        window_us: int,
        first_event_us: int,
        origin: Literal["first_event", "clock_zero"] = "first_event",
        until: Literal["last_event", "last_label"] = "last_event",
    ) -> None:
        self._window_us = window_us
        self._published = origin == "clock_zero"
        self._known: list[_Stretch] = []
        times = frames.times_us.tolist()
        if times:
            # Published: the earliest of the windows that fit is left out.
            distance = times[0] - window_us if self._published else times[0] - first_event_us
            count = max(-(-distance // window_us), 1)
            self._known.append(_Stretch(times[0] - count * window_us, count * window_us, count, self._published))
            self._known += [
                _Stretch(start, end - start, count, self._published)
                for start, end, count in zip(times[:-1], times[1:], frames.windows_between.tolist(), strict=True)
            ]
        self._endless: _Stretch | None = None
        if not times or until == "last_event":
            self._endless = _Stretch(times[-1] if times else first_event_us, window_us, None)
        self._place = 0
        self._number = 0
        self._latest_end_us = -1
        self.count = 0
        """Windows handed out so far."""
        self.labelled_frames: list[int] = []
        """Numbers of those that are labelled frames: the k-th of them is the k-th of ``frames``."""

    @property
    def known_count(self) -> int | None:
        """Number of all windows if it does not depend on the last event, else None."""
        return sum(stretch.count for stretch in self._known) if self._published and self._endless is None else None

    @property
    def exhausted(self) -> bool:
        """Whether all windows were handed out."""
        return self._place == len(self._known) and self._endless is None

    @property
    def next_us(self) -> int:
        """End of the next window; there must be one."""
        stretch = self._known[self._place] if self._place < len(self._known) else self._endless
        return int(stretch.ends(self._number, self._number + 1)[0])

    def take(self, before_us: int) -> np.ndarray:
        """The next windows' ends, as far as they lie before ``before_us``; int64 [n]."""
        ends = self._take_known(before_us)
        return ends if self._place < len(self._known) else np.concatenate([ends, self._take_endless(before_us)])

    def finish(self, last_event_us: int) -> np.ndarray:
        """The rest of the ends, now that the last event is known; int64 [n]."""
        parts = [self._take_known(None if self._published else last_event_us + self._window_us)]
        if self._place == len(self._known):
            parts.append(self._take_endless(last_event_us))
        # One more for the last event, if there are windows still.
        if not self.exhausted and self._latest_end_us < last_event_us:
            parts.append(self.take(self.next_us + 1))
        return np.concatenate(parts)

    def _take_known(self, before_us: int | None) -> np.ndarray:
        """Up to the last label; None: all of them."""
        parts = [np.zeros(0, np.int64)]
        while self._place < len(self._known):
            stretch = self._known[self._place]
            limit = stretch.start_us + stretch.length_us + 1 if before_us is None else before_us
            parts.append(self._count(stretch.before(self._number, limit)))
            if self._number != stretch.count:
                break
            self.labelled_frames.append(self.count - 1)
            self._place += 1
            self._number = 0
        return np.concatenate(parts)

    def _take_endless(self, before_us: int) -> np.ndarray:
        if self._endless is None:
            return np.zeros(0, np.int64)
        return self._count(self._endless.before(self._number, before_us))

    def _count(self, ends: np.ndarray) -> np.ndarray:
        self._number += len(ends)
        self.count += len(ends)
        if len(ends):
            self._latest_end_us = int(ends[-1])
        return ends
