"""Checking events that a library has decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from leod.errors import DataError
from leod.events.chunk import MAXIMUM_GAP_US, MAXIMUM_LATENESS_US, EventChunk, describe_time_jump
from leod.jit import compiled

_COMPLETE, _BAD_TIME, _BAD_POSITION, _BAD_POLARITY = 0, 1, 2, 3


@compiled
def _check(latest, raw_t, raw_x, raw_y, raw_p, height, width, t, x, y, p):  # noqa: ANN001, ANN202 -- compiled
    """Copy events into the common types and check them; returns (state, index, latest time)."""
    for i in range(len(t)):
        time = np.int64(raw_t[i])
        if latest < 0:
            if time < 0:
                return _BAD_TIME, i, latest
            latest = time
        if time > latest + MAXIMUM_GAP_US or time < latest - MAXIMUM_LATENESS_US:
            return _BAD_TIME, i, latest
        latest = max(latest, time)
        if raw_x[i] < 0 or raw_x[i] >= width or raw_y[i] < 0 or raw_y[i] >= height:
            return _BAD_POSITION, i, latest
        if raw_p[i] < -1 or raw_p[i] > 1:
            return _BAD_POLARITY, i, latest
        t[i] = latest
        x[i] = raw_x[i]
        y[i] = raw_y[i]
        # Some converters write -1 for darker.
        p[i] = max(raw_p[i], 0)
    return _COMPLETE, np.int64(-1), latest


class EventChecker:
    """Turns the events of one file, piece by piece, into checked chunks.

    Args:
        path: The file, for messages.
        height: Sensor height in pixels.
        width: Sensor width in pixels.

    Attributes:
        count: Events so far.
    """

    def __init__(self, path: Path, height: int, width: int) -> None:
        self._path = path
        self._size = height, width
        self._latest = -1
        self.count = 0

    def check(self, t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> EventChunk:
        """Check the next events and convert them; late ones get the latest time before them.

        Args:
            t: Times in microseconds, any integer type [n].
            x: Pixels to the right, any integer type [n].
            y: Pixels downwards, any integer type [n].
            p: Polarity, [n]: 0 and 1, -1 and 1, or bool.

        Raises:
            DataError: The clock jumps or runs backwards, an event lies outside the sensor or has another polarity.
        """
        p = p.view(np.uint8) if p.dtype.kind == "b" else p
        count = len(t)
        chunk = EventChunk(
            np.empty(count, np.int64), np.empty(count, np.uint16), np.empty(count, np.uint16), np.empty(count, np.uint8)
        )
        columns = (chunk.t, chunk.x, chunk.y, chunk.p)
        state, index, self._latest = _check(self._latest, t, x, y, p, *self._size, *columns)
        if state != _COMPLETE:
            event = tuple(int(column[index]) for column in (t, x, y, p))
            raise DataError(self._path, self._describe(state, self.count + index, *event))
        self.count += count
        return chunk

    def _describe(self, state: int, event: int, t: int, x: int, y: int, p: int) -> str:
        if state == _BAD_TIME:
            return describe_time_jump(event, int(self._latest), t)
        if state == _BAD_POSITION:
            return (
                f"event {event} lies at x = {x}, y = {y}, outside the sensor of {self._size[1]} x {self._size[0]} "
                "pixels (width x height). The sensor size is wrong or the file is damaged."
            )
        return f"event {event} has polarity {p}; expected 0 or 1 (or -1 and 1)."
