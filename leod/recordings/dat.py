"""Prophesee DAT files, version 2: reading in chunks and writing.

The format: text lines that begin with '%', one byte event type, one byte event size, then 8-byte little-endian
events: uint32 time in microseconds, uint32 with x in bits 0-13, y in bits 14-27 and the polarity in bit 28.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from leod.config.schema import RecordingTimesConfig, SensorSize
from leod.errors import DataError
from leod.files import atomic_file
from leod.jit import compiled
from leod.recordings.chunk import (
    DEFAULT_CHUNK_EVENTS,
    TIMES_AS_RECORDED,
    EventChunk,
    Recording,
    resolve_sensor_size,
)
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
    require_microseconds,
)

_EVENT_BYTES = 8
_EVENT_TYPES = {0x00: "2D", 0x0C: "CD"}
_WRITTEN_TYPE = 0x0C
_MAXIMUM_HEADER_LINES = 1000
_MAXIMUM_LINE_BYTES = 4096
_LARGEST_COORDINATE = (1 << 14) - 1
_CLOCK_PERIOD_US = 1 << 32

_COMPLETE, _BAD_TIME, _BAD_POSITION = 0, 1, 2


# What `_decode` carries from one chunk to the next: indices into an int64 array.
_LATEST = 0  # latest time of the events that were read; NO_TIME before the first one
_REFERENCE = 1  # latest time of all events; NO_TIME before the first one
_OFFSET = 2  # duration of the counter's complete periods
_PROBLEM_TIME = 3


@compiled
def _plain_limit(latest, reference, end):  # noqa: ANN001, ANN202 -- compiled
    """Last time of the events that need no second look."""
    # Where later events were left out, the counter may have wrapped among them: each one needs a second look.
    return last_plain_time(latest, end) if reference <= latest else latest - 1


@compiled
def _decode(words, height, width, state, shift, begin, end, left_out, t, x, y, p):  # noqa: ANN001, ANN202 -- compiled
    """Decode events and add ``shift`` to their times; those outside of ``begin`` .. ``end`` get the time `NO_TIME`.

    Returns (condition, index): whether all events are sound and, if not, the number of the first one that is not.
    """
    half_period = np.int64(_CLOCK_PERIOD_US // 2)
    latest, reference, offset = state[_LATEST], state[_REFERENCE], state[_OFFSET]
    condition, index = _COMPLETE, np.int64(-1)
    shifted = offset + shift
    limit = _plain_limit(latest, reference, end)
    for i in range(len(t)):
        time = np.int64(words[2 * i]) + shifted
        if time < latest or time > limit:
            reference = max(reference, latest)
            if reference != NO_TIME and time < reference - half_period:
                offset += _CLOCK_PERIOD_US
                time += _CLOCK_PERIOD_US
            elif reference != NO_TIME and time > reference + half_period and offset > 0:
                # A late event from before the counter wrapped.
                time -= _CLOCK_PERIOD_US
            shifted = offset + shift
            reference = max(reference, time)
            verdict = judge(time, latest, begin, end)
            if verdict == LEFT_OUT:
                leave_out(left_out, time, 1)
                t[i] = NO_TIME
                limit = _plain_limit(latest, reference, end)
                continue
            if verdict == JUMPED:
                state[_PROBLEM_TIME] = time
                condition, index = _BAD_TIME, i
                break
            time = max(time, latest)
            limit = _plain_limit(time, reference, end)
        latest = time
        packed = words[2 * i + 1]
        column = packed & np.uint32(_LARGEST_COORDINATE)
        row = (packed >> np.uint32(14)) & np.uint32(_LARGEST_COORDINATE)
        if column >= width or row >= height:
            condition, index = _BAD_POSITION, i
            break
        t[i] = latest
        x[i] = column
        y[i] = row
        p[i] = (packed >> np.uint32(28)) & np.uint32(1)
    state[_LATEST], state[_REFERENCE], state[_OFFSET] = latest, max(reference, latest), offset
    return condition, index


class DatRecording(Recording):
    """A DAT v2 file. The 32-bit clock may wrap (every 71.6 minutes); times go on counting.

    Args:
        path: The file.
        sensor: Size of the sensor where the header does not tell it.
        times: Shift of the clock, and which part is read.

    Raises:
        DataError: The header is missing or of another version, the events are of another type, the file is cut off,
            the unit of ``times`` is another one, or the sensor size is unknown.
    """

    def __init__(
        self, path: Path, sensor: SensorSize | None = None, times: RecordingTimesConfig = TIMES_AS_RECORDED
    ) -> None:
        self.path = Path(path)
        self._times = times
        require_microseconds(self.path, times, "DAT")
        try:
            self._file: BinaryIO = self.path.open("rb")
        except OSError as error:
            raise DataError(self.path, f"cannot be opened ({error.strerror}).") from None
        try:
            height, width = self._read_header()
            self.height, self.width = resolve_sensor_size(self.path, height, width, sensor)
            if max(self.height, self.width) - 1 > _LARGEST_COORDINATE:
                raise DataError(self.path, f"a sensor of {self.height}x{self.width} does not fit the DAT format.")
        except BaseException:
            self._file.close()
            raise

    def _read_header(self) -> tuple[int | None, int | None]:
        fields: dict[str, str] = {}
        line_count = 0
        while self._file.peek(1)[:1] == b"%":
            line = self._file.readline(_MAXIMUM_LINE_BYTES)
            line_count += 1
            if not line.endswith(b"\n") or line_count > _MAXIMUM_HEADER_LINES:
                raise DataError(self.path, "the header does not end: the file is cut off or is not a DAT file.")
            found = re.match(rb"%\s*(Height|Width|Version)\s+(\S+)", line, flags=re.IGNORECASE)
            if found:
                fields[found[1].decode().lower()] = found[2].decode("ascii", "replace")
        if line_count == 0:
            raise DataError(
                self.path,
                "is not a DAT file: it must begin with comment lines ('% ...'). The file is empty, damaged or has the "
                "wrong suffix.",
            )
        if fields.get("version") != "2":
            raise DataError(
                self.path, f"DAT version {fields.get('version', 'unknown')} is not supported, only version 2."
            )
        kind = self._file.read(2)
        if len(kind) < 2:
            raise DataError(self.path, "the file ends after its header. Copy or record it again.")
        if kind[0] not in _EVENT_TYPES or kind[1] != _EVENT_BYTES:
            allowed = ", ".join(f"{code} ({name})" for code, name in _EVENT_TYPES.items())
            raise DataError(
                self.path,
                f"holds events of type {kind[0]} with {kind[1]} bytes each; expected type {allowed} with "
                f"{_EVENT_BYTES} bytes. Other kinds (triggers) carry no pixels.",
            )
        self._begin = self._file.tell()
        size = self.path.stat().st_size - self._begin
        if size % _EVENT_BYTES:
            raise DataError(
                self.path,
                f"is cut off: {size} bytes of events are not a multiple of {_EVENT_BYTES}. Copy or record it again.",
            )
        self.num_events = size // _EVENT_BYTES
        return self._size_field(fields, "height"), self._size_field(fields, "width")

    def _size_field(self, fields: dict[str, str], name: str) -> int | None:
        value = fields.get(name)
        if value is None:
            return None
        if not value.isdecimal():
            raise DataError(self.path, f"the header says {name} {value!r}, which is not a number of pixels.")
        return int(value)

    @property
    def fraction_read(self) -> float:
        """Share of the file that the latest `chunks` has gone through, 0..1."""
        return (self._file.tell() - self._begin) / max(self.num_events * _EVENT_BYTES, 1)

    def last_word_us(self) -> int:
        """Time that is written with the last event, in µs, without wraps or shift of the clock; 0 without events."""
        if not self.num_events:
            return 0
        self._file.seek(self._begin + (self.num_events - 1) * _EVENT_BYTES)
        return int(np.frombuffer(self._file.read(_EVENT_BYTES), "<u4")[0])

    def chunks(self, max_events: int = DEFAULT_CHUNK_EVENTS) -> Iterator[EventChunk]:
        """Read all events; see `Recording.chunks`."""
        state = np.array([NO_TIME, NO_TIME, 0, 0], dtype=np.int64)
        left_out = new_count()
        clock = (state, self._times.offset_us, *limits(self._times), left_out)
        words = np.empty(2 * min(max_events, max(self.num_events, 1)), dtype="<u4")
        for start in range(0, self.num_events, max_events):
            count = min(max_events, self.num_events - start)
            self._file.seek(self._begin + start * _EVENT_BYTES)
            wanted = memoryview(words[: 2 * count]).cast("B")
            if self._file.readinto(wanted) != wanted.nbytes:
                raise DataError(self.path, f"became shorter while it was read, at event {start}.")
            chunk = EventChunk(
                t=np.empty(count, np.int64),
                x=np.empty(count, np.uint16),
                y=np.empty(count, np.uint16),
                p=np.empty(count, np.uint8),
            )
            columns = (chunk.t, chunk.x, chunk.y, chunk.p)
            before = left_out[0]
            condition, index = _decode(words, self.height, self.width, *clock, *columns)
            if condition == _BAD_TIME:
                latest, time = int(state[_LATEST]), int(state[_PROBLEM_TIME])
                raise DataError(self.path, describe_time_jump(start + index, latest, time, self._times))
            if condition == _BAD_POSITION:
                packed = int(words[2 * index + 1])
                raise DataError(
                    self.path,
                    f"event {start + index} lies at x = {packed & _LARGEST_COORDINATE}, "
                    f"y = {packed >> 14 & _LARGEST_COORDINATE}, outside the sensor of {self.width} x {self.height} "
                    "pixels (width x height). The sensor size is wrong or the file is damaged.",
                )
            chunk = chunk if left_out[0] == before else only_read(chunk)
            if len(chunk):
                yield chunk
        report_left_out(self.path, self._times, self.num_events - int(left_out[0]), left_out)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def write_dat(path: Path, chunks: Iterable[EventChunk], height: int, width: int) -> int:
    """Write a DAT v2 file atomically.

    Args:
        path: The file to make.
        chunks: Events in order of time, which must stay below 2^32 us (71.6 minutes).
        height: Sensor height in pixels, written to the header.
        width: Sensor width in pixels, written to the header.

    Returns:
        Number of events written.

    Raises:
        ValueError: Times decrease or are out of range, a pixel is outside the sensor, a polarity is not 0 or 1.
        ResourceError: The disk is full or not writable; nothing is left behind.
    """
    count = 0
    latest = 0
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        file.write(f"% Data file containing CD events.\n% Version 2\n% Height {height}\n% Width {width}\n".encode())
        file.write(bytes((_WRITTEN_TYPE, _EVENT_BYTES)))
        for chunk in chunks:
            if not len(chunk):
                continue
            times = np.asarray(chunk.t, dtype=np.int64)
            if times[0] < latest or times[-1] >= _CLOCK_PERIOD_US or np.any(times[1:] < times[:-1]):
                raise ValueError(f"{path}: times must not decrease and must lie in 0 .. 2^32 - 1 microseconds")
            if np.max(chunk.x) >= width or np.max(chunk.y) >= height or np.max(chunk.p) > 1:
                raise ValueError(f"{path}: events must lie inside {width} x {height} pixels with polarity 0 or 1")
            latest = int(times[-1])
            words = np.empty((len(chunk), 2), dtype="<u4")
            words[:, 0] = times
            words[:, 1] = chunk.x
            words[:, 1] |= np.asarray(chunk.y, dtype=np.uint32) << np.uint32(14)
            words[:, 1] |= np.asarray(chunk.p, dtype=np.uint32) << np.uint32(28)
            file.write(words.data)
            count += len(chunk)
    return count
