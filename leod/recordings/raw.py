"""Prophesee RAW recordings in the encodings EVT 2.0, EVT 2.1 and EVT 3.0.

Source of the formats: Prophesee's documentation of RAW files, EVT 2.0, EVT 2.1 and EVT 3.0 (docs.prophesee.ai). The
decoders are our own: the libraries on PyPI either decode the times of EVT 3.0 wrongly (expelliarmus), report 1280 x 720
for every EVT 2.0 sensor and accept events outside of it (faery), or load the whole file (evlib). A test compares the
events with faery's where it is installed.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from leod.config.schema import RecordingTimesConfig, SensorSize
from leod.errors import DataError
from leod.jit import compiled
from leod.recordings.chunk import (
    DEFAULT_CHUNK_EVENTS,
    MAXIMUM_LATENESS_US,
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
    report_left_out,
    require_microseconds,
)

logger = logging.getLogger(__name__)

_BLOCK_WORDS = 1 << 18
_MAXIMUM_LINE_BYTES = 4096
_MAXIMUM_HEADER_LINES = 1000
_EVT21_PIXELS, _EVT3_PIXELS = 32, 12
_COMPLETE, _BAD_TIME, _BAD_POSITION = 0, 1, 2

# What the decoders carry from one block of words to the next: indices into an int64 array. -1 = not known yet.
_LATEST = 0  # latest time of the events that were read; NO_TIME before the first one
_OFFSET = 1  # duration of the clock's complete periods
_HIGH = 2  # upper part of the clock
_LOW = 3  # lower part of the clock (EVT 3.0)
_ROW = 4
_BASE = 5  # column of the next vector's first pixel (EVT 3.0)
_POLARITY = 6  # of vectors (EVT 3.0)
_DROPPED = 7  # events before the first time or row
_PROBLEM_X = 8
_PROBLEM_Y = 9
_PROBLEM_TIME = 10
_STATE_SIZE = 11

_EVT2_HIGH_BITS, _EVT2_LOW_BITS = 28, 6
_EVT3_HIGH_BITS, _EVT3_LOW_BITS = 12, 12


@compiled
def _next_period(step, offset, high_bits, low_bits):  # noqa: ANN001, ANN202 -- compiled
    """Offset of the clock's period after its upper part went ``step`` further."""
    period = np.int64(1) << high_bits
    if step < -(period >> 1):
        return offset + (period << low_bits)
    if offset > 0 and (period - step) << low_bits <= MAXIMUM_LATENESS_US:
        # A late word from before the wrap.
        return offset - (period << low_bits)
    return offset


@compiled
def _count_pixels(pixels):  # noqa: ANN001, ANN202 -- compiled
    """Number of pixels in a vector."""
    count = 0
    while pixels:
        pixels &= pixels - 1
        count += 1
    return count


@compiled
def _decode_evt2(words, height, width, state, part, left_out, t, x, y, p):  # noqa: ANN001, ANN202 -- compiled
    """Decode 32-bit words; returns (condition, words used, events written)."""
    shift, begin, end = part
    latest, offset, high, dropped = state[_LATEST], state[_OFFSET], state[_HIGH], state[_DROPPED]
    condition, used, written = _COMPLETE, len(words), 0
    limit = last_plain_time(latest, end)
    begun = shift + offset + (high << _EVT2_LOW_BITS)
    for i in range(len(words)):
        word = np.int64(words[i])
        kind = word >> 28
        if kind <= 1:
            if high < 0:
                dropped += 1
                continue
            if written == len(t):
                used = i
                break
            time = begun + ((word >> 22) & 0x3F)
            if time < latest or time > limit:
                verdict = judge(time, latest, begin, end)
                if verdict == LEFT_OUT:
                    leave_out(left_out, time, 1)
                    continue
                if verdict == JUMPED:
                    state[_PROBLEM_TIME] = time
                    condition, used = _BAD_TIME, i
                    break
                time = max(time, latest)
                limit = last_plain_time(time, end)
            latest = time
            column, row = (word >> 11) & 0x7FF, word & 0x7FF
            if column >= width or row >= height:
                state[_PROBLEM_X], state[_PROBLEM_Y] = column, row
                condition, used = _BAD_POSITION, i
                break
            t[written], x[written], y[written], p[written] = latest, column, row, kind
            written += 1
        elif kind == 0x8:
            following = word & 0xFFFFFFF
            if high >= 0:
                offset = _next_period(following - high, offset, _EVT2_HIGH_BITS, _EVT2_LOW_BITS)
            high = following
            begun = shift + offset + (high << _EVT2_LOW_BITS)
    state[_LATEST], state[_OFFSET], state[_HIGH], state[_DROPPED] = latest, offset, high, dropped
    return condition, used, written


@compiled
def _decode_evt21(words, height, width, state, part, left_out, t, x, y, p):  # noqa: ANN001, ANN202 -- compiled
    """Decode 64-bit words, the upper half as the more significant; returns (condition, words used, events written)."""
    shift, begin, end = part
    latest, offset, high, dropped = state[_LATEST], state[_OFFSET], state[_HIGH], state[_DROPPED]
    condition, used, written = _COMPLETE, len(words), 0
    limit = last_plain_time(latest, end)
    begun = shift + offset + (high << _EVT2_LOW_BITS)
    for i in range(len(words)):
        upper, pixels = np.int64(words[i] >> np.uint64(32)), np.int64(words[i] & np.uint64(0xFFFFFFFF))
        kind = upper >> 28
        if kind <= 1:
            if pixels == 0:
                continue
            if high < 0:
                dropped += _count_pixels(pixels)
                continue
            if written + _EVT21_PIXELS > len(t):
                used = i
                break
            time = begun + ((upper >> 22) & 0x3F)
            if time < latest or time > limit:
                verdict = judge(time, latest, begin, end)
                if verdict == LEFT_OUT:
                    leave_out(left_out, time, _count_pixels(pixels))
                    continue
                if verdict == JUMPED:
                    state[_PROBLEM_TIME] = time
                    condition, used = _BAD_TIME, i
                    break
                time = max(time, latest)
                limit = last_plain_time(time, end)
            latest = time
            column, row = (upper >> 11) & 0x7FF, upper & 0x7FF
            while pixels & 0xFF == 0:
                pixels >>= 8
                column += 8
            while pixels:
                if pixels & 1:
                    if column >= width or row >= height:
                        state[_PROBLEM_X], state[_PROBLEM_Y] = column, row
                        condition, used = _BAD_POSITION, i
                        break
                    t[written], x[written], y[written], p[written] = latest, column, row, kind
                    written += 1
                pixels >>= 1
                column += 1
            if condition != _COMPLETE:
                break
        elif kind == 0x8:
            following = upper & 0xFFFFFFF
            if high >= 0:
                offset = _next_period(following - high, offset, _EVT2_HIGH_BITS, _EVT2_LOW_BITS)
            high = following
            begun = shift + offset + (high << _EVT2_LOW_BITS)
    state[_LATEST], state[_OFFSET], state[_HIGH], state[_DROPPED] = latest, offset, high, dropped
    return condition, used, written


@compiled
def _decode_evt3(words, height, width, state, part, left_out, t, x, y, p):  # noqa: ANN001, ANN202 -- compiled
    """Decode 16-bit words; returns (condition, words used, events written)."""
    shift, begin, end = part
    latest, offset, high, low = state[_LATEST], state[_OFFSET], state[_HIGH], state[_LOW]
    row, base, vector_polarity, dropped = state[_ROW], state[_BASE], state[_POLARITY], state[_DROPPED]
    condition, used, written = _COMPLETE, len(words), 0
    limit = last_plain_time(latest, end)
    begun = shift + offset + (high << _EVT3_LOW_BITS)
    for i in range(len(words)):
        word = np.int64(words[i])
        kind = word >> 12
        if kind == 0x2 or kind == 0x4 or kind == 0x5:
            pixels, column, polarity, length = np.int64(1), word & 0x7FF, (word >> 11) & 1, 1
            if kind != 0x2:
                length = 12 if kind == 0x4 else 8
                pixels, column, polarity = word & ((1 << length) - 1), base, vector_polarity
            if written + length > len(t):
                used = i
                break
            if kind != 0x2:
                base += length if base >= 0 else 0
                if pixels == 0:
                    continue
            if (high | row | column) < 0:
                dropped += _count_pixels(pixels)
                continue
            time = begun + low
            if time < latest or time > limit:
                verdict = judge(time, latest, begin, end)
                if verdict == LEFT_OUT:
                    leave_out(left_out, time, _count_pixels(pixels))
                    continue
                if verdict == JUMPED:
                    state[_PROBLEM_TIME] = time
                    condition, used = _BAD_TIME, i
                    break
                time = max(time, latest)
                limit = last_plain_time(time, end)
            latest = time
            while pixels:
                if pixels & 1:
                    if column >= width or row >= height:
                        state[_PROBLEM_X], state[_PROBLEM_Y] = column, row
                        condition, used = _BAD_POSITION, i
                        break
                    t[written], x[written], y[written], p[written] = latest, column, row, polarity
                    written += 1
                pixels >>= 1
                column += 1
            if condition != _COMPLETE:
                break
        elif kind == 0x0:
            row = word & 0x7FF
        elif kind == 0x3:
            base, vector_polarity = word & 0x7FF, (word >> 11) & 1
        elif kind == 0x6:
            low = word & 0xFFF
        elif kind == 0x8:
            following = word & 0xFFF
            if following != high:
                if high >= 0:
                    offset = _next_period(following - high, offset, _EVT3_HIGH_BITS, _EVT3_LOW_BITS)
                # The low part that belongs to it follows; until then the old one would lie ahead of time.
                high, low = following, np.int64(0)
                begun = shift + offset + (high << _EVT3_LOW_BITS)
    state[_LATEST], state[_OFFSET], state[_HIGH], state[_LOW] = latest, offset, high, low
    state[_ROW], state[_BASE], state[_POLARITY], state[_DROPPED] = row, base, vector_polarity, dropped
    return condition, used, written


@dataclass(frozen=True)
class _Encoding:
    """How the events of a RAW file are written down."""

    name: str
    word: np.dtype
    events_per_word: int
    decode: Callable[..., tuple[int, int, int]]


_ENCODINGS = {
    "EVT2": _Encoding("EVT 2.0", np.dtype("<u4"), 1, _decode_evt2),
    "EVT21": _Encoding("EVT 2.1", np.dtype("<u8"), _EVT21_PIXELS, _decode_evt21),
    "EVT3": _Encoding("EVT 3.0", np.dtype("<u2"), _EVT3_PIXELS, _decode_evt3),
}
# Negative, positive, time, trigger, vendor words and their continuation.
_EVT21_KINDS = (0x0, 0x1, 0x8, 0xA, 0xE, 0xF)
_ENCODING_OF_VERSION = {"2.0": "EVT2", "2.1": "EVT21", "3.0": "EVT3", "4.0": "EVT4"}

# Old headers name the camera instead of its size. Source: sensor generations in Prophesee's OpenEB (HAL plugins).
_SIZE_OF_SENSOR = {
    "gen3": (480, 640),
    "gen31": (480, 640),
    "gen4": (720, 1280),
    "gen41": (720, 1280),
    "imx636": (720, 1280),
    "imx646": (720, 1280),
    "genx320": (320, 320),
}
_SENSOR_OF_GENERATION = {
    "3.0": "gen3",
    "3.1": "gen31",
    "4.0": "gen4",
    "4.1": "gen41",
    "4.2": "imx636",
    "320.0": "genx320",
}
_SENSOR_OF_SYSTEM_ID = {
    **dict.fromkeys((28, 29, 33), "gen3"),
    **dict.fromkeys((34, 35, 40, 41), "gen31"),
    **dict.fromkeys((30, 31, 32, 46), "gen4"),
    **dict.fromkeys((39, 48), "gen41"),
    **dict.fromkeys((49, 50, 58), "imx636"),
    64: "genx320",
}


class RawRecording(Recording):
    """A Prophesee RAW file in EVT 2.0, EVT 2.1 or EVT 3.0, decoded block by block.

    Times are those of the camera's clock, which is 24 bits long in EVT 3.0 (16.8 s) and 34 bits in the others (4.8 h);
    where it wraps around, times go on counting. Metavision's own tools subtract the clock's first value by default.
    Events before the first complete time and row are dropped, since nothing says when and where they happened; triggers
    and vendor words are skipped.

    Args:
        path: The file.
        sensor: Size of the sensor where the header does not tell it.
        times: Shift of the clock, and which part is read.

    Raises:
        DataError: The header is missing or damaged, the encoding is another one, the file is cut off, the unit of
            ``times`` is another one, or the sensor size is unknown.
    """

    def __init__(
        self, path: Path, sensor: SensorSize | None = None, times: RecordingTimesConfig = TIMES_AS_RECORDED
    ) -> None:
        self.path = Path(path)
        self._times = times
        require_microseconds(self.path, times, "Prophesee RAW")
        try:
            self._file: BinaryIO = self.path.open("rb")
        except OSError as error:
            raise DataError(self.path, f"cannot be opened ({error.strerror}).") from None
        try:
            fields = self._read_header()
            self._encoding = self._find_encoding(fields)
            self._begin = self._file.tell()
            size = self.path.stat().st_size - self._begin
            if size % self._encoding.word.itemsize:
                raise DataError(
                    self.path,
                    f"is cut off: {size} bytes of events are not a multiple of {self._encoding.word.itemsize}, the "
                    f"length of a word in {self._encoding.name}. Copy or record it again.",
                )
            self._word_count = size // self._encoding.word.itemsize
            self._swap_halves = self._find_halves(fields)
            self.height, self.width = resolve_sensor_size(self.path, *self._find_size(fields), sensor)
        except BaseException:
            self._file.close()
            raise

    def _read_header(self) -> dict[str, str]:
        fields: dict[str, str] = {}
        for count in range(_MAXIMUM_HEADER_LINES):
            begin = self._file.tell()
            line = self._file.readline(_MAXIMUM_LINE_BYTES)
            # The first words may look like the beginning of one more line.
            if not line.startswith(b"% ") or not line.endswith(b"\n") or not line.isascii():
                self._file.seek(begin)
                if count == 0:
                    raise DataError(
                        self.path,
                        "is not a Prophesee RAW file: it must begin with lines '% keyword value'. The file is empty, "
                        "damaged or of another kind.",
                    )
                return fields
            keyword, _, value = line[2:].decode("ascii").strip().partition(" ")
            if keyword == "end":
                return fields
            fields[keyword.lower()] = value.strip()
        raise DataError(self.path, f"the header does not end within {_MAXIMUM_HEADER_LINES} lines: damaged.")

    def _find_encoding(self, fields: dict[str, str]) -> _Encoding:
        name = fields.get("format", "").upper().split(";")[0]
        if not name and "evt" in fields:
            name = _ENCODING_OF_VERSION.get(fields["evt"], f"evt {fields['evt']}")
        encoding = _ENCODINGS.get(name)
        if encoding is None:
            said = f"the events are encoded as {name}" if name else "the header does not tell the events' encoding"
            raise DataError(
                self.path,
                f"{said}; supported are EVT2, EVT21 and EVT3 (not EVT4 or frames such as HISTO3D). Convert the "
                "recording with Metavision's metavision_file_to_dat or metavision_file_to_hdf5.",
            )
        return encoding

    def _find_halves(self, fields: dict[str, str]) -> bool:
        """Whether the halves of a word are stored the other way round, the upper one first.

        The header says `endianness little` or, for the halves the other way round (IMX636), `legacy`. Where it is
        silent, the words tell: only in the right order do all of them have a kind that exists, and some carry the time.

        Raises:
            DataError: The words are big-endian, or nothing tells the order of their halves.
        """
        options = dict(option.lower().partition("=")[::2] for option in fields.get("format", "").split(";")[1:])
        order = options.get("endianness", fields.get("endianness", "")).lower()
        if order == "big":
            raise DataError(
                self.path,
                "its words are big-endian; only little-endian ones are supported. Convert it with Metavision's "
                "metavision_file_to_dat or metavision_file_to_hdf5.",
            )
        if self._encoding.name != "EVT 2.1" or not self._word_count:
            return False
        if order in ("little", "legacy"):
            return order == "legacy"
        content = self._file.read(min(_BLOCK_WORDS, self._word_count) * self._encoding.word.itemsize)
        self._file.seek(self._begin)
        halves = np.frombuffer(content, "<u4").reshape(-1, 2) >> 28
        fit = [bool(np.isin(kinds, _EVT21_KINDS).all() and (kinds == 0x8).any()) for kinds in halves.T]
        if fit[0] == fit[1]:
            raise DataError(
                self.path,
                "the header does not tell in which order the halves of the 64-bit words are stored, and the words do "
                "not show it. Add the line '% endianness little' or '% endianness legacy' (IMX636) before '% end'.",
            )
        return fit[0]

    def _find_size(self, fields: dict[str, str]) -> tuple[int | None, int | None]:
        """(height, width) according to the header, as far as it tells them."""
        if "geometry" in fields:
            found = re.fullmatch(r"(\d+)\s*[xX]\s*(\d+)", fields["geometry"])
            if found is None:
                raise DataError(
                    self.path, f"the header says geometry {fields['geometry']!r}, expected one such as '1280x720'."
                )
            return int(found[2]), int(found[1])
        options = dict(option.lower().partition("=")[::2] for option in fields.get("format", "").split(";")[1:])
        for source in (options, fields):
            sizes = [source.get(name, "") for name in ("height", "width")]
            if all(sizes):
                if not all(size.isdecimal() for size in sizes):
                    raise DataError(self.path, f"the header says height {sizes[0]!r} and width {sizes[1]!r} pixels.")
                return int(sizes[0]), int(sizes[1])
        plugin = re.fullmatch(r"hal_plugin_([a-z]+\d+)_\w+", fields.get("plugin_name", ""))
        generation = fields.get("sensor_generation", fields.get("generation", ""))
        system = fields.get("system_id", "")
        sensors = (
            plugin[1] if plugin else "",
            _SENSOR_OF_GENERATION.get(generation, ""),
            _SENSOR_OF_SYSTEM_ID.get(int(system), "") if system.isdecimal() else "",
        )
        known = [_SIZE_OF_SENSOR[sensor] for sensor in sensors if sensor in _SIZE_OF_SENSOR]
        return known[0] if known else (None, None)

    @property
    def fraction_read(self) -> float:
        """Share of the file that the latest `chunks` has gone through, 0..1."""
        return (self._file.tell() - self._begin) / max(self._word_count * self._encoding.word.itemsize, 1)

    def chunks(self, max_events: int = DEFAULT_CHUNK_EVENTS) -> Iterator[EventChunk]:
        """Read all events; see `Recording.chunks`."""
        state = np.full(_STATE_SIZE, -1, np.int64)
        state[[_OFFSET, _LOW, _DROPPED]] = 0
        state[_LATEST] = NO_TIME
        block = np.empty(min(_BLOCK_WORDS, max(self._word_count, 1)), self._encoding.word)
        most = min(max(max_events, self._encoding.events_per_word), len(block) * self._encoding.events_per_word)
        part = (self._times.offset_us, *limits(self._times))
        left_out = new_count()
        seen = 0
        for start in range(0, self._word_count, len(block)):
            words = block[: min(len(block), self._word_count - start)]
            self._file.seek(self._begin + start * block.itemsize)
            wanted = memoryview(words).cast("B")
            if self._file.readinto(wanted) != wanted.nbytes:
                raise DataError(self.path, f"became shorter while it was read, after event {seen}.")
            if self._swap_halves:
                np.bitwise_or(words << np.uint64(32), words >> np.uint64(32), out=words)
            while len(words):
                columns = [np.empty(most, dtype) for dtype in (np.int64, np.uint16, np.uint16, np.uint8)]
                condition, used, written = self._encoding.decode(
                    words, self.height, self.width, state, part, left_out, *columns
                )
                if condition != _COMPLETE:
                    number = seen + written + int(left_out[0])
                    raise DataError(self.path, self._describe(condition, number, state))
                words = words[used:]
                seen += written
                for first in range(0, written, max_events):
                    yield EventChunk(*(column[first : min(first + max_events, written)] for column in columns))
        report_left_out(self.path, self._times, seen, left_out)
        if state[_DROPPED]:
            logger.info("%s: dropped %d events before the first complete time and row", self.path, int(state[_DROPPED]))

    def _describe(self, condition: int, event: int, state: np.ndarray) -> str:
        if condition == _BAD_TIME:
            return describe_time_jump(event, int(state[_LATEST]), int(state[_PROBLEM_TIME]), self._times)
        return (
            f"event {event} lies at x = {state[_PROBLEM_X]}, y = {state[_PROBLEM_Y]}, outside the sensor of "
            f"{self.width} x {self.height} pixels (width x height). The sensor size is wrong or the file is damaged."
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()
