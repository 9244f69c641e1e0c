"""Anti-aliased drawing of simple shapes, compiled.

Every function draws onto ``image`` (float64 [H, W], linear intensity, 0..1); pixel (x, y) covers the square from
(x, y) to (x + 1, y + 1), y down. A pixel is mixed with the shape's value by the share of it that the shape covers, so
that slow movements change intensities smoothly, as on a real sensor. With ``mark`` >= 0, pixels that are covered by
half or more get ``owner[y, x] = mark``.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from leod.jit import compiled


@numba.njit(inline="always")
def _paint(
    image: np.ndarray, owner: np.ndarray, mark: int, y: int, x: int, coverage: float, value: float
) -> None:  # pragma: no cover
    image[y, x] += coverage * (value - image[y, x])
    if mark >= 0 and coverage >= 0.5:
        owner[y, x] = mark


@compiled
def fill_trapezoid(
    image: np.ndarray,
    owner: np.ndarray,
    mark: int,
    top: float,
    bottom: float,
    top_left: float,
    top_right: float,
    bottom_left: float,
    bottom_right: float,
    top_value: float,
    bottom_value: float,
) -> None:  # pragma: no cover
    """Fill a trapezoid with horizontal top and bottom; its value runs linearly from top to bottom."""
    height, width = image.shape
    if bottom <= top:
        return
    for y in range(max(0, math.floor(top)), min(height, math.ceil(bottom))):
        row_coverage = min(y + 1.0, bottom) - max(float(y), top)
        share = min(1.0, max(0.0, (y + 0.5 - top) / (bottom - top)))
        left = top_left + share * (bottom_left - top_left)
        right = top_right + share * (bottom_right - top_right)
        value = top_value + share * (bottom_value - top_value)
        for x in range(max(0, math.floor(left)), min(width, math.ceil(right))):
            coverage = row_coverage * (min(x + 1.0, right) - max(float(x), left))
            if coverage > 0.0:
                _paint(image, owner, mark, y, x, coverage, value)


@compiled
def fill_rectangle(
    image: np.ndarray,
    owner: np.ndarray,
    mark: int,
    left: float,
    top: float,
    right: float,
    bottom: float,
    top_value: float,
    bottom_value: float,
) -> None:  # pragma: no cover
    """Fill an upright rectangle; its value runs linearly from top to bottom."""
    fill_trapezoid(image, owner, mark, top, bottom, left, right, left, right, top_value, bottom_value)


@compiled
def fill_ellipse(
    image: np.ndarray,
    owner: np.ndarray,
    mark: int,
    centre_x: float,
    centre_y: float,
    radius_x: float,
    radius_y: float,
    value: float,
    opacity: float,
) -> None:  # pragma: no cover
    """Fill an upright ellipse; ``opacity`` < 1 lets the background shine through."""
    height, width = image.shape
    if radius_x <= 0.0 or radius_y <= 0.0:
        return
    # An ellipse thinner than a pixel is drawn a pixel thick and correspondingly fainter.
    drawn_x, drawn_y = max(radius_x, 0.5), max(radius_y, 0.5)
    opacity *= min(1.0, radius_x / 0.5) * min(1.0, radius_y / 0.5)
    softness = min(drawn_x, drawn_y)
    for y in range(max(0, int(centre_y - drawn_y - 1.0)), min(height, int(centre_y + drawn_y + 2.0))):
        dy = (y + 0.5 - centre_y) / drawn_y
        for x in range(max(0, int(centre_x - drawn_x - 1.0)), min(width, int(centre_x + drawn_x + 2.0))):
            dx = (x + 0.5 - centre_x) / drawn_x
            coverage = (1.0 - math.sqrt(dx * dx + dy * dy)) * softness + 0.5
            if coverage > 0.0:
                _paint(image, owner, mark, y, x, min(1.0, coverage) * opacity, value)


@compiled
def fill_capsule(
    image: np.ndarray,
    owner: np.ndarray,
    mark: int,
    x0: float,
    y0: float,
    x1: float,
    y1: float,
    radius: float,
    value: float,
) -> None:  # pragma: no cover
    """Fill a thick line with round ends from (x0, y0) to (x1, y1)."""
    height, width = image.shape
    drawn = max(radius, 0.5)
    opacity = min(1.0, radius / 0.5)
    along_x, along_y = x1 - x0, y1 - y0
    squared_length = max(along_x * along_x + along_y * along_y, 1e-9)
    margin = drawn + 1.0
    for y in range(max(0, int(min(y0, y1) - margin)), min(height, int(max(y0, y1) + margin + 1.0))):
        for x in range(max(0, int(min(x0, x1) - margin)), min(width, int(max(x0, x1) + margin + 1.0))):
            dx, dy = x + 0.5 - x0, y + 0.5 - y0
            share = min(1.0, max(0.0, (dx * along_x + dy * along_y) / squared_length))
            dx -= share * along_x
            dy -= share * along_y
            coverage = drawn - math.sqrt(dx * dx + dy * dy) + 0.5
            if coverage > 0.0:
                _paint(image, owner, mark, y, x, min(1.0, coverage) * opacity, value)
