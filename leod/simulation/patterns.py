"""Camera geometry and patterns that street and objects share, compiled."""

from __future__ import annotations

import math

import numba
import numpy as np

CAMERA_HEIGHT = 1.4
NEAREST_M = 2.2
FARTHEST_M = 45.0
_HAZE_DISTANCE_M = 70.0
HAZE_VALUE = 0.6
NOISE_SIZE = 128


@numba.njit(inline="always")
def hash_number(a: float, b: float) -> float:  # pragma: no cover
    """A number in 0..1 that looks random and depends on (a, b) only."""
    value = math.sin(a * 12.9898 + b * 78.233) * 43758.5453
    return value - math.floor(value)


@numba.njit(inline="always")
def stripes(position: float, period: float, duty: float, blur: float) -> float:  # pragma: no cover
    """1 inside stripes of share ``duty``, 0 between; edges ``blur`` wide, fading to ``duty`` when blur > period."""
    phase = position / period
    phase = (phase - math.floor(phase)) * period
    width = duty * period
    soft = max(blur, 1e-6)
    inside = min(1.0, max(0.0, min(phase, width - phase) / soft + 0.5))
    fade = min(1.0, max(0.0, (blur / period - 0.35) / 0.4))
    return inside + fade * (duty - inside)


@numba.njit(inline="always")
def band(position: float, centre: float, width: float, blur: float) -> float:  # pragma: no cover
    """Share of a footprint ``blur`` wide at ``position`` that a band of ``width`` covers."""
    soft = max(blur, 1e-6)
    low = max(position - soft / 2, centre - width / 2)
    high = min(position + soft / 2, centre + width / 2)
    return max(0.0, high - low) / soft


@numba.njit(inline="always")
def haze(distance: float) -> float:  # pragma: no cover
    """Share of haze in what is seen at ``distance``."""
    return 1.0 - math.exp(-distance / _HAZE_DISTANCE_M)


@numba.njit(inline="always")
def hazed(value: float, distance: float) -> float:  # pragma: no cover
    """``value`` as it looks from ``distance``."""
    return value + haze(distance) * (HAZE_VALUE - value)


@numba.njit(inline="always")
def noise_at(noise: np.ndarray, x: float, z: float) -> float:  # pragma: no cover
    """Bilinear look-up in the periodic noise table, -1..1."""
    x0, z0 = math.floor(x), math.floor(z)
    fx, fz = x - x0, z - z0
    column, row = int(x0) % NOISE_SIZE, int(z0) % NOISE_SIZE
    next_column, next_row = (column + 1) % NOISE_SIZE, (row + 1) % NOISE_SIZE
    upper = noise[row, column] * (1.0 - fx) + noise[row, next_column] * fx
    lower = noise[next_row, column] * (1.0 - fx) + noise[next_row, next_column] * fx
    return upper * (1.0 - fz) + lower * fz
