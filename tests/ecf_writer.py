"""A small encoder of Prophesee's ECF chunks, written from the description in leod/recordings/ecf.py."""

import itertools
import struct

import h5py
import numpy as np

TABLE = np.dtype([("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])


def _runs(values):
    return [(value, len(list(group))) for value, group in itertools.groupby(values)]


def _times(times):
    content, previous = bytearray(struct.pack("<q", times[0])), times[0]
    for time, length in _runs(times):
        step, previous = time - previous, time
        if step > 14:
            while step:
                content.append(0xF0 | step & 15)
                step >>= 4
        content += bytes([step << 4 | length]) if length < 15 else struct.pack("<BH", step << 4 | 15, length)
    return bytes(content)


def _rows(rows):
    words = []
    for row, length in _runs(rows):
        words += [row << 5 | length] if length < 31 else [row << 5 | 31, length]
    return struct.pack(f"<{len(words)}H", *words)


def _columns(columns):
    words, position = [], 0
    while position < len(columns):
        first = columns[position]
        word = first << 5
        position += 1
        for i in range(5):
            if position < len(columns) and columns[position] == first + i + 1:
                word |= 1 << (4 - i)
                position += 1
        words.append(word)
    return struct.pack(f"<{len(words)}H", *words)


def _polarities(polarities):
    content = bytearray()
    for polarity, length in _runs(polarities):
        short = length < 127
        content += bytes([polarity << 7 | length]) if short else struct.pack("<BH", polarity << 7 | 127, length)
    return bytes(content)


def _packed(values, bits):
    """Four values in three words; the second and the third value begin in the upper bits of the word after."""
    quarter = bits // 3
    lowest = [(1 << i * quarter) - 1 for i in range(4)]
    words = []
    for first in range(0, len(values), 4):
        a, b, c, d = [*values[first : first + 4], 0, 0, 0][:4]
        words.append(a << quarter | b & lowest[1])
        words.append(b >> quarter << 2 * quarter | c & lowest[2])
        words.append(c >> 2 * quarter << 3 * quarter | d)
    return struct.pack(f"<{len(words)}{'H' if bits == 12 else 'I'}", *words)


def encode_ecf(events, mode):
    """Bytes of a chunk of (t, x, y, p) events; mode 'runs', 'columns packed' or 'all packed'."""
    times, columns, rows, polarities = (list(column) for column in zip(*events, strict=True))
    head = struct.pack("<I", len(events) << 2 | {"runs": 0, "columns packed": 1, "all packed": 2}[mode]) + _times(times)
    if mode == "all packed":
        return head + _packed([y << 12 | x << 1 | p for _, x, y, p in events], 24)
    if mode == "columns packed":
        return head + _rows(rows) + _packed([x << 1 | p for _, x, _, p in events], 12)
    return head + _rows(rows) + _columns(columns) + _polarities(polarities)


def write_ecf(path, chunks, count, chunk_events, shuffled=False):
    """A file as Metavision writes it; ``chunks`` = bytes of each chunk, None for one that the codec has skipped."""
    with h5py.File(path, "w") as file:
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk((chunk_events,))
        if shuffled:
            creation.set_shuffle()
        creation.set_filter(0x8ECF, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple((count,))
        table = h5py.h5d.create(file.create_group("CD").id, b"events", h5py.h5t.py_create(TABLE), space, creation)
        for number, content in enumerate(chunks):
            plain = isinstance(content, np.ndarray)
            table.write_direct_chunk((number * chunk_events,), content.tobytes() if plain else content, int(plain))
        file.attrs["geometry"] = "32x24"
    return path
