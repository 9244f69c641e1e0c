"""How much moves in a window, and where: what tells one moment of a recording from another without a detector.

Pixels that saw an event are counted in blocks of 4 x 4, so that a hot pixel counts once. Noise is spread evenly and
alone; edges that move fill blocks. A block moves if it has more active pixels than noise of the window's own density
would leave in one block of ten thousand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from leod.jit import compiled
from leod.recordings.chunk import EventChunk

GRID = (6, 8)
"""Rows and columns of the cells in which it is told where something moves."""
_BLOCK = 4
_LEAST_PIXELS, _MOST_PIXELS = 3, 12
"""A moving block has at least so many active pixels; however dense the window, so many are enough."""
_NOISE_SHARE = 1e-4
_LEAST_BLOCKS = 4
_LEAST_SHARE = 3e-4
"""Something moves if so many blocks do, and this share of all."""
_DENSITIES_PER_UNIT = 64


@dataclass(frozen=True)
class Activity:
    """What moves in one window.

    Attributes:
        share: Share of the blocks that move, 0..1.
        where: float32 [rows * columns of `GRID`], square root of the share of each cell's blocks that move.
        moves: Whether anything does.
    """

    share: float
    where: npt.NDArray[np.float32]
    moves: bool


@compiled
def _mark_events(x, y, columns, masks):  # noqa: ANN001, ANN202 -- compiled
    """Set the bit of each event's pixel in the mask of its block, uint16 [rows * columns]."""
    for i in range(len(x)):
        column, row = np.int64(x[i]), np.int64(y[i])
        masks[(row >> 2) * columns + (column >> 2)] |= np.uint16(1 << (((row & 3) << 2) | (column & 3)))


@compiled
def _mark_frame(frame, columns, masks):  # noqa: ANN001, ANN202 -- compiled
    """The same for a frame [C, H, W]: a pixel is active if any channel is not 0."""
    for channel in range(frame.shape[0]):
        for row in range(frame.shape[1]):
            for column in range(frame.shape[2]):
                if frame[channel, row, column] != 0:
                    block = (row >> 2) * columns + (column >> 2)
                    masks[block] |= np.uint16(1 << (((row & 3) << 2) | (column & 3)))


@compiled
def _count_pixels(masks, pixels):  # noqa: ANN001, ANN202 -- compiled
    """Number of bits of each mask into ``pixels``, uint8; returns how many blocks have none. Clears the masks."""
    empty = 0
    for block in range(len(masks)):
        mask = np.int64(masks[block])
        masks[block] = np.uint16(0)
        count = 0
        while mask:
            mask &= mask - 1
            count += 1
        pixels[block] = np.uint8(count)
        empty += count == 0
    return empty


@compiled
def _count_moving(pixels, rows, columns, least, grid_rows, grid_columns, cells):  # noqa: ANN001, ANN202 -- compiled
    """Moving blocks of each cell into ``cells``, int64 [grid_rows * grid_columns]."""
    cells[:] = 0
    for row in range(rows):
        first_cell = (row * grid_rows // rows) * grid_columns
        for column in range(columns):
            if pixels[row * columns + column] >= least:
                cells[first_cell + column * grid_columns // columns] += 1


@lru_cache(maxsize=4096)
def _least_pixels(density: int) -> int:
    """Active pixels from which on a block moves; ``density``: events of noise per block, in steps of 1/64."""
    mean = density / _DENSITIES_PER_UNIT
    tail, term = 1.0, math.exp(-mean)
    for pixels in range(1, _MOST_PIXELS):
        # The share of blocks with at least so many events, if they come by chance (Poisson).
        tail -= term
        term *= mean / pixels
        if pixels >= _LEAST_PIXELS and tail < _NOISE_SHARE:
            return pixels
    return _MOST_PIXELS


class ActivityMeter:
    """Measures windows of one size, in memory that does not grow.

    Args:
        height: Of the sensor or the frames, in pixels.
        width: In pixels.
    """

    def __init__(self, height: int, width: int) -> None:
        self._rows, self._columns = -(-height // _BLOCK), -(-width // _BLOCK)
        blocks = self._rows * self._columns
        self._masks = np.zeros(blocks, np.uint16)
        self._pixels = np.zeros(blocks, np.uint8)
        self._cells = np.zeros(GRID[0] * GRID[1], np.int64)
        row_cells = np.arange(self._rows) * GRID[0] // self._rows
        column_cells = np.arange(self._columns) * GRID[1] // self._columns
        sizes = np.outer(np.bincount(row_cells, minlength=GRID[0]), np.bincount(column_cells, minlength=GRID[1]))
        # A sensor with fewer blocks than cells leaves some of them empty.
        self._cell_sizes = np.maximum(sizes.reshape(-1), 1)

    def of_events(self, events: EventChunk) -> Activity:
        """What moves in a window, from its events, which lie inside the sensor."""
        _mark_events(events.x, events.y, self._columns, self._masks)
        return self._measure()

    def of_frame(self, frame: np.ndarray) -> Activity:
        """What moves in a window, from its frame [C, H, W] of any kind (see `leod.sequences.representations`)."""
        _mark_frame(frame, self._columns, self._masks)
        return self._measure()

    def _measure(self) -> Activity:
        blocks = len(self._pixels)
        empty = _count_pixels(self._masks, self._pixels)
        density = -math.log(max(empty, 1) / blocks)
        least = _least_pixels(round(density * _DENSITIES_PER_UNIT))
        _count_moving(self._pixels, self._rows, self._columns, least, *GRID, self._cells)
        moving = int(self._cells.sum())
        return Activity(
            share=moving / blocks,
            where=np.sqrt(self._cells / self._cell_sizes).astype(np.float32),
            moves=moving >= max(_LEAST_BLOCKS, _LEAST_SHARE * blocks),
        )
