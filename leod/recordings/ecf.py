"""Prophesee's ECF codec, in which Metavision compresses the events of its HDF5 files: decoding one chunk.

Source of the format: Prophesee's open codec (hdf5_ecf on GitHub); the decoder is our own, since no package on PyPI
brings the codec along. A chunk, little-endian:

* 4 bytes: number of events << 2 | rows, columns and polarities packed << 1 | columns and polarities packed;
* 8 bytes: time of the first event. Then bytes of runs of equal times: step since the last run << 4 | length of the run.
  A length of 15 stands for one in the next two bytes. Bytes 0xF0 | bits give a step of more than 14, least significant
  bits first; the byte after them has a step of its own;
* rows, as words of two bytes: row << 5 | length of the run, where 31 stands for a length in the next word;
* columns, as words of two bytes: column << 5 | which of the next five columns follow (most significant bit first);
* polarities, as bytes: polarity << 7 | length of the run, where 127 stands for a length in the next two bytes.

Packed, four events share three words: column << 1 | polarity in 12 bits (words of two bytes), or
row << 12 | column << 1 | polarity in 24 bits (words of four bytes). Each word begins with what is left of its first
event and ends with the lowest bits of its second one.
"""

from __future__ import annotations

import numpy as np

from leod.jit import compiled

FILTER_ID = 0x8ECF
"""Number of the codec in the registry of HDF5 filters."""
_HEADER_BYTES = 12
_MAXIMUM_EVENTS = 65_535
# The longest step that is read beyond the last byte before its position is checked.
_PADDING = 16


@compiled
def _word(data, position, length):  # noqa: ANN001, ANN202 -- compiled
    """Little-endian number of ``length`` bytes."""
    value = np.int64(0)
    for i in range(length):
        value |= np.int64(data[position + i]) << (8 * i)
    return value


@compiled
def _decode_times(data, size, position, t):  # noqa: ANN001, ANN202 -- compiled
    """Position after the times, or -1."""
    time = _word(data, position - 8, 8)
    done = 0
    while done < len(t):
        if position >= size:
            return -1
        step, run = np.int64(data[position]) >> 4, np.int64(data[position]) & 15
        position += 1
        if step == 15:
            step, shift = run, 4
            while position < size and data[position] >> 4 == 15 and shift < 60:
                step |= (np.int64(data[position]) & 15) << shift
                position += 1
                shift += 4
            time += step
            continue
        if run == 15:
            run = _word(data, position, 2)
            position += 2
        if run > len(t) - done:
            return -1
        time += step
        t[done : done + run] = time
        done += run
    return position


@compiled
def _decode_runs(data, size, position, length, bits, values):  # noqa: ANN001, ANN202 -- compiled
    """Read words of ``length`` bytes, value << bits | length of the run; position after them, or -1."""
    longest = (1 << bits) - 1
    done = 0
    while done < len(values):
        if position >= size:
            return -1
        word = _word(data, position, length)
        position += length
        run = word & longest
        if run == longest:
            run = _word(data, position, 2)
            position += 2
        if run > len(values) - done:
            return -1
        values[done : done + run] = word >> bits
        done += run
    return position


@compiled
def _decode_columns(data, size, position, x):  # noqa: ANN001, ANN202 -- compiled
    """Position after the columns, or -1."""
    done = 0
    while done < len(x):
        if position >= size:
            return -1
        word = _word(data, position, 2)
        position += 2
        x[done] = word >> 5
        done += 1
        for i in range(5):
            # Beyond the last event, the bits are arbitrary.
            if word >> (4 - i) & 1 and done < len(x):
                x[done] = (word >> 5) + i + 1
                done += 1
    return position


@compiled
def _decode_packed(data, size, position, bits, x, y, p):  # noqa: ANN001, ANN202 -- compiled
    """Read events of 12 or 24 bits, the latter with their rows; position after them, or -1."""
    width = 4 * bits // 3
    third, quarter = bits // 3, width // 4
    lowest = (1 << quarter) - 1
    for first in range(0, len(x), 4):
        if position >= size:
            return -1
        words = [_word(data, position + i * width // 8, width // 8) for i in range(3)]
        position += 3 * width // 8
        events = (
            words[0] >> third,
            words[0] & lowest | (words[1] >> 2 * quarter) << quarter,
            words[1] & ((1 << 2 * quarter) - 1) | (words[2] >> 3 * quarter) << 2 * quarter,
            words[2] & ((1 << 3 * quarter) - 1),
        )
        for i in range(min(4, len(x) - first)):
            x[first + i] = events[i] >> 1 & 0x7FF
            p[first + i] = events[i] & 1
            if bits == 24:
                y[first + i] = events[i] >> 12 & 0x7FF
    return position


@compiled
def _decode(data, size, t, x, y, p):  # noqa: ANN001, ANN202 -- compiled
    """Decode a chunk into arrays of its length; returns whether it is sound."""
    all_packed, columns_packed = data[0] >> 1 & 1, data[0] & 1
    position = _decode_times(data, size, _HEADER_BYTES, t)
    if position >= 0 and all_packed:
        position = _decode_packed(data, size, position, 24, x, y, p)
    elif position >= 0:
        position = _decode_runs(data, size, position, 2, 5, y)
        if position >= 0 and columns_packed:
            position = _decode_packed(data, size, position, 12, x, y, p)
        elif position >= 0:
            position = _decode_columns(data, size, position, x)
            if position >= 0:
                position = _decode_runs(data, size, position, 1, 7, p)
    return 0 <= position <= size


def decode_chunk(content: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """Decode one chunk.

    Args:
        content: The chunk as it lies in the file.

    Returns:
        Times in microseconds (int64), x, y (uint16) and polarities (uint8), each [n]; None if the chunk is damaged.
    """
    size = len(content)
    count = int.from_bytes(content[:4], "little") >> 2
    if size < _HEADER_BYTES or count > _MAXIMUM_EVENTS:
        return None
    data = np.zeros(size + _PADDING, np.uint8)
    data[:size] = np.frombuffer(content, np.uint8)
    t, x, y, p = (np.empty(count, dtype) for dtype in (np.int64, np.uint16, np.uint16, np.uint8))
    return (t, x, y, p) if _decode(data, size, t, x, y, p) else None
