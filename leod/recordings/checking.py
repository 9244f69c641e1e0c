"""Checking events that a library has decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from leod.config.schema import RecordingTimesConfig
from leod.errors import DataError
from leod.jit import compiled
from leod.recordings.chunk import EventChunk
from leod.recordings.times import (
    JUMPED,
    LEFT_OUT,
    NO_TIME,
    describe_time_jump,
    judge,
    last_plain_time,
    leave_out,
    limits,
    new_count,
    only_read,
    report_left_out,
    to_microseconds,
)

_COMPLETE, _BAD_TIME, _BAD_POSITION, _BAD_POLARITY = 0, 1, 2, 3


@compiled
def _check(latest, begin, end, left_out, raw_t, raw_x, raw_y, raw_p, height, width, t, x, y, p):  # noqa: ANN001, ANN202 -- compiled
    """Copy events into the common types and check them.

    Events that are left out get the time `NO_TIME`.

    Returns (state, index, latest time): the index of the first event that is not sound, or -1.
    """
    limit = last_plain_time(latest, end)
    for i in range(len(t)):
        time = np.int64(raw_t[i])
        if time < latest or time > limit:
            verdict = judge(time, latest, begin, end)
            if verdict == LEFT_OUT:
                leave_out(left_out, time, 1)
                t[i] = NO_TIME
                continue
            if verdict == JUMPED:
                return _BAD_TIME, i, latest
            time = max(time, latest)
            limit = last_plain_time(time, end)
        latest = time
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
        times: Unit and shift of the times, and which part counts.
        shift_us: What the file says that is to be added to its times, microseconds, beside the shift of ``times``.

    Attributes:
        count: Events so far, those that were left out included.
    """

    def __init__(self, path: Path, height: int, width: int, times: RecordingTimesConfig, shift_us: int = 0) -> None:
        self._path = path
        self._size = height, width
        self._times = times
        self._shift_us = shift_us + times.offset_us
        self._left_out = new_count()
        self._latest = NO_TIME
        self.count = 0

    def check(self, t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> EventChunk:
        """Check the next events and convert them; late ones get the latest time before them.

        Args:
            t: Times in the file's unit, any integer or float type [n].
            x: Pixels to the right, any integer type [n].
            y: Pixels downwards, any integer type [n].
            p: Polarity, [n]: 0 and 1, -1 and 1, or bool.

        Raises:
            DataError: The clock jumps or runs backwards, a time is negative or not finite, an event lies outside the
                sensor or has another polarity.
        """
        t = to_microseconds(self._path, t, self._times.unit, self.count)
        if self._shift_us:
            t = t.astype(np.int64) + self._shift_us
        p = p.view(np.uint8) if p.dtype.kind == "b" else p
        count = len(t)
        chunk = EventChunk(
            np.empty(count, np.int64), np.empty(count, np.uint16), np.empty(count, np.uint16), np.empty(count, np.uint8)
        )
        columns = (chunk.t, chunk.x, chunk.y, chunk.p)
        left_out_before = self._left_out[0]
        clock = (self._latest, *limits(self._times), self._left_out)
        state, index, self._latest = _check(*clock, t, x, y, p, *self._size, *columns)
        if state != _COMPLETE:
            event = tuple(int(column[index]) for column in (t, x, y, p))
            raise DataError(self._path, self._describe(state, self.count + index, *event))
        self.count += count
        return chunk if self._left_out[0] == left_out_before else only_read(chunk)

    def finish(self) -> None:
        """Say what was left out, after the last events.

        Raises:
            DataError: There were events, but none in the part that counts.
        """
        report_left_out(self._path, self._times, self.count - int(self._left_out[0]), self._left_out)

    def _describe(self, state: int, event: int, t: int, x: int, y: int, p: int) -> str:
        if state == _BAD_TIME:
            return describe_time_jump(event, int(self._latest), t, self._times)
        if state == _BAD_POSITION:
            return (
                f"event {event} lies at x = {x}, y = {y}, outside the sensor of {self._size[1]} x {self._size[0]} "
                "pixels (width x height). The sensor size is wrong or the file is damaged."
            )
        return f"event {event} has polarity {p}; expected 0 or 1 (or -1 and 1)."
