"""Writing frames to HDF5 in the published layout, faster than through HDF5's filter pipeline.

The dataset declares the filter of the published sets (Blosc with zstd, level 1). The chunks are compressed here, on
several threads, and handed to HDF5 as they are: one Blosc block instead of dozens, which is also faster to read.
Where many pixels are set, the bits are shuffled first and each of the eight bit planes becomes a zstd frame of its
own; counts are small, so that most planes are empty and cost nothing. Every Blosc reads such chunks, because a chunk's
header tells how it was made.

Formats: Blosc 1 chunk (Blosc/c-blosc, README_CHUNK_FORMAT.rst), zstd frames (RFC 8878, Sec. 3).
"""

from __future__ import annotations

import struct
from pathlib import Path
from types import TracebackType
from typing import Self

import h5py
import hdf5plugin
import numpy as np
import zstandard

from leod.jit import compiled

DATASET_NAME = "data"
_LEVEL = 1
_FILTER = dict(hdf5plugin.Blosc(cname="zstd", clevel=_LEVEL, shuffle=hdf5plugin.Blosc.SHUFFLE))

_FORMAT_VERSION = 2
_ZSTD_VERSION = 1
_TYPE_SIZE = 1
_BYTE_SHUFFLE = 0x01
_STORED = 0x02
_BIT_SHUFFLE = 0x04
_ONE_STREAM = 0x10
_ZSTD_CODEC = 4 << 5
_HEADER = struct.Struct("<BBBBIII")
_BLOCK = struct.Struct("<II")
_PLANES = 8
_FIRST_FRAMES = 256
_DENSE_ABOVE_ONE_IN = 64
"""Frames with more than one set pixel in so many are worth splitting into bit planes."""


@compiled
def _split_bits(words, planes):  # noqa: ANN001, ANN202 -- compiled
    """Put bit k of byte 8 * i + j of ``words`` into bit j of ``planes[k, i]``; returns the OR of all bytes.

    ``words`` is uint64 [n], ``planes`` uint8 [8, n]. Planes without any bit are left undefined.
    """
    union = np.uint64(0)
    for word in words:
        union |= word
    union |= union >> np.uint64(32)
    union |= union >> np.uint64(16)
    union |= union >> np.uint64(8)
    used = np.uint8(union & np.uint64(0xFF))
    one_per_byte = np.uint64(0x0101010101010101)
    gather = np.uint64(0x0102040810204080)
    for k in range(_PLANES):
        if (used >> k) & 1:
            planes[k, :] = 0
    for i in range(len(words)):
        word = words[i]
        if word == 0:
            continue
        for k in range(_PLANES):
            if (used >> k) & 1:
                planes[k, i] = (((word >> np.uint64(k)) & one_per_byte) * gather) >> np.uint64(56)
    return used


class FrameCompressor:
    """Makes the Blosc chunk of a frame. Each thread needs its own.

    Args:
        frame_bytes: Size of a frame.
    """

    def __init__(self, frame_bytes: int) -> None:
        self._frame_bytes = frame_bytes
        self._zstd = zstandard.ZstdCompressor(level=_LEVEL)
        self._planes = np.zeros((_PLANES, frame_bytes // _PLANES), np.uint8)
        self._empty_plane = self._zstd.compress(self._planes[0])

    def compress(self, frame: np.ndarray) -> bytes:
        """Compress a C-contiguous array of one-byte numbers.

        Args:
            frame: uint8 or int8, any shape.

        Returns:
            A Blosc 1 chunk.
        """
        dense = np.count_nonzero(frame) * _DENSE_ABOVE_ONE_IN > self._frame_bytes
        if dense and self._frame_bytes % _PLANES == 0:
            flags, payload = _BIT_SHUFFLE, self._compress_planes(frame)
        else:
            flags, payload = _BYTE_SHUFFLE, self._zstd.compress(frame)
        size = _HEADER.size + _BLOCK.size + len(payload)
        if size >= self._frame_bytes:
            return self._header(_STORED, _HEADER.size + self._frame_bytes) + frame.tobytes()
        return self._header(flags, size) + _BLOCK.pack(_HEADER.size + 4, len(payload)) + payload

    def _compress_planes(self, frame: np.ndarray) -> bytes:
        used = _split_bits(frame.reshape(-1).view(np.uint64), self._planes)
        return b"".join(
            self._zstd.compress(self._planes[plane]) if used >> plane & 1 else self._empty_plane
            for plane in range(_PLANES)
        )

    def _header(self, flags: int, size: int) -> bytes:
        flags |= _ONE_STREAM | _ZSTD_CODEC
        # The whole frame is one block.
        sizes = (self._frame_bytes, self._frame_bytes, size)
        return _HEADER.pack(_FORMAT_VERSION, _ZSTD_VERSION, flags, _TYPE_SIZE, *sizes)


class FrameFile:
    """An HDF5 file with one dataset `data` [N, channels, height, width], one chunk a frame. A context manager.

    Args:
        path: The file to make.
        count: Number of frames N; None: as many as are written.
        shape: (channels, height, width).
        dtype: uint8 or int8.
    """

    def __init__(self, path: Path, count: int | None, shape: tuple[int, int, int], dtype: np.dtype) -> None:
        self._file = h5py.File(path, "w")
        self._dataset = self._file.create_dataset(
            DATASET_NAME,
            shape=(_FIRST_FRAMES if count is None else count, *shape),
            maxshape=(None, *shape),
            chunks=(1, *shape),
            dtype=dtype,
            **_FILTER,
        )
        self._grows = count is None
        self._written = 0

    def write(self, index: int, chunk: bytes) -> None:
        """Write a frame that `FrameCompressor` has compressed.

        Args:
            index: Number of the frame.
            chunk: The compressed frame.
        """
        if self._grows and index >= len(self._dataset):
            self._dataset.resize(2 * len(self._dataset), axis=0)
        self._dataset.id.write_direct_chunk((index, 0, 0, 0), chunk)
        self._written = max(self._written, index + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._grows and error is None:
            self._dataset.resize(self._written, axis=0)
        self._file.close()
