"""The clock of a recording: its unit, its shift, and the part of the recording that is read."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from leod.config.schema import US_PER_UNIT, RecordingTimesConfig, TimeUnit
from leod.errors import DataError
from leod.jit import compiled
from leod.recordings.chunk import MAXIMUM_GAP_US, MAXIMUM_LATENESS_US, EventChunk

logger = logging.getLogger(__name__)

_LIMITS = np.iinfo(np.int64)
_NS_PER_US = 1_000
_LARGEST_TIME_US = 1 << 62
NO_TIME = -_LARGEST_TIME_US
"""Latest time before the first event: so far back that every event after it looks like a jump."""
READ, LEFT_OUT, JUMPED = 0, 1, 2
# Of the array that `leave_out` counts in: events left out, the earliest and the latest of their times.
_COUNT, _EARLIEST, _LATEST = 0, 1, 2


def require_microseconds(path: Path, times: RecordingTimesConfig, name: str) -> None:
    """Refuse another unit for a format that defines its own.

    Args:
        path: The file, for messages.
        times: What the caller says about its times.
        name: The format.

    Raises:
        DataError: The unit is another one than microseconds.
    """
    if times.unit not in (None, "us"):
        raise DataError(
            path,
            f"{name} defines itself what times count, and they are read as microseconds; the configuration says that "
            f"the unit is {times.unit!r}. Leave 'unit' out of 'recording_times' (--time-unit).",
        )


def limits(times: RecordingTimesConfig) -> tuple[int, int]:
    """First and last time in microseconds that is read, on the clock after the offset; the ends of int64 if open."""
    begin = _LIMITS.min if times.start_us is None else times.start_us
    end = _LIMITS.max if times.end_us is None else times.end_us
    return int(begin), int(end)


def to_microseconds(path: Path, values: np.ndarray, unit: TimeUnit | None, first: int = 0) -> np.ndarray:
    """Convert times to microseconds, rounded to the nearest one.

    Args:
        path: The file, for messages.
        values: Times, any number type [n].
        unit: 's', 'ms', 'us' or 'ns'; None = microseconds.
        first: Number of the first of them in the file, for messages.

    Returns:
        Integers [n]: int64, or the values as they are where nothing is to be done.

    Raises:
        DataError: A time is not finite or does not fit into 64 bits.
    """
    unit = unit or "us"
    if values.dtype.kind != "f" and unit == "us":
        return values
    factor = US_PER_UNIT[unit]
    # Of floats, this is also false for NaN.
    fits = np.abs(values.astype(np.float64)) * factor < _LARGEST_TIME_US
    if not np.all(fits):
        index = int(np.argmin(fits))
        raise DataError(
            path, f"event {first + index} has the time {values[index]} {unit}, which is not a time of a recording."
        )
    if values.dtype.kind == "f":
        values = values.astype(np.float64)
        return np.rint(values / _NS_PER_US if unit == "ns" else values * factor).astype(np.int64)
    if unit == "ns":
        return (values.astype(np.int64) + _NS_PER_US // 2) // _NS_PER_US
    return values.astype(np.int64) * np.int64(factor)


def new_count() -> np.ndarray:
    """An empty count of events that are left out, int64 [3]."""
    return np.array([0, _LIMITS.max, _LIMITS.min], np.int64)


@compiled
def last_plain_time(latest, end):  # noqa: ANN001, ANN201 -- compiled
    """Last time of the events that simply follow those up to ``latest``; see `judge`."""
    return min(latest + MAXIMUM_GAP_US, end)


@compiled
def judge(time, latest, begin, end):  # noqa: ANN001, ANN201 -- compiled
    """What is to be done with an event that does not simply follow the one before it.

    Decoders ask for events before ``latest`` or after `last_plain_time`; any other is read. They do not ask for all,
    because the common case must be fast.

    Args:
        time: Time of the event, microseconds.
        latest: Latest time of the events that were read, or `NO_TIME`.
        begin: First time of the part that is read.
        end: Last time of that part.

    Returns:
        `READ`, `LEFT_OUT`, or `JUMPED` if the clock is damaged or starts below zero.
    """
    if time < begin or time > end:
        return LEFT_OUT
    if latest == NO_TIME:
        return READ if time >= 0 else JUMPED
    if time > latest + MAXIMUM_GAP_US or time < latest - MAXIMUM_LATENESS_US:
        return JUMPED
    return READ


@compiled
def leave_out(left_out, time, events):  # noqa: ANN001, ANN201 -- compiled
    """Count events of one time that are not read."""
    left_out[_COUNT] += events
    left_out[_EARLIEST] = min(left_out[_EARLIEST], time)
    left_out[_LATEST] = max(left_out[_LATEST], time)


def only_read(chunk: EventChunk) -> EventChunk:
    """The events of a chunk without those that a decoder has marked as left out, by the time `NO_TIME`."""
    read = chunk.t != NO_TIME
    return EventChunk(chunk.t[read], chunk.x[read], chunk.y[read], chunk.p[read])


def report_left_out(path: Path, times: RecordingTimesConfig, kept: int, left_out: np.ndarray) -> None:
    """Say how many events were left out because of their times.

    Args:
        path: The file, for messages.
        times: Which part was to be read.
        kept: Events that were read.
        left_out: Count of the others, see `new_count`.

    Raises:
        DataError: No event was read.
    """
    count, earliest, latest = (int(value) for value in left_out)
    if not count:
        return
    part = f"start_us = {times.start_us}, end_us = {times.end_us}"
    if not kept:
        raise DataError(
            path,
            f"none of its {count} events lies in the part to be read ({part}): they reach from {earliest} us to "
            f"{latest} us (offset_us = {times.offset_us} included). Correct 'recording_times' (--start-us, --end-us).",
        )
    logger.info("%s: left out %d of %d events by their times (%s)", path, count, count + kept, part)


def describe_time_jump(index: int, previous_us: int, time_us: int, times: RecordingTimesConfig) -> str:
    """Words for a clock that starts below zero, runs backwards or jumps ahead, and how to read what is sound.

    Args:
        index: Number of the event in its file, from 0.
        previous_us: Latest time before the event, microseconds; `NO_TIME` if it is the first that was to be read.
        time_us: Time of the event, microseconds, the offset included.
        times: How the file is read.
    """
    if previous_us == NO_TIME:
        offset_us = times.offset_us
        return (
            f"event {index} has the time {time_us} us{f' (offset_us = {offset_us} included)' if offset_us else ''}; "
            "times must not be negative. Shift all of them in the data set file, recording_times: "
            f"{{offset_us: {offset_us - time_us}}}, and the boxes with them, or leave such events out: {{start_us: 0}} "
            f"(leod detect: --time-offset-us {offset_us - time_us} or --start-us 0)."
        )
    if time_us < previous_us:
        direction = "runs backwards"
        # Times between the two occur on both sides, so that no cut by time can part them.
        before, after = time_us - 1, previous_us + 1
    else:
        direction = "jumps ahead"
        before, after = previous_us, time_us - MAXIMUM_LATENESS_US
    cuts = [f"{{start_us: {after}}} to leave out what lies before"]
    options = f"--start-us {after}"
    if before >= 0:
        cuts.append(f"{{end_us: {before}}} to leave out what lies after")
        options += f" or --end-us {before}"
    return (
        f"time {direction} at event {index}: from {previous_us} us to {time_us} us; {index} events lie before that. "
        f"Events may be late by up to {MAXIMUM_LATENESS_US} us and pauses last up to {MAXIMUM_GAP_US} us. If the file "
        f"is sound but for that, say which part counts, in the data set file: recording_times: {' or '.join(cuts)} "
        f"(leod detect: {options}). Otherwise it is damaged: record or convert it again."
    )
