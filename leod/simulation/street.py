"""The street without its objects: sky, skyline, house fronts, ground; compiled."""

from __future__ import annotations

import math

import numba
import numpy as np

from leod.jit import compiled
from leod.simulation.patterns import (
    CAMERA_HEIGHT,
    FARTHEST_M,
    HAZE_VALUE,
    band,
    hash_number,
    haze,
    noise_at,
    stripes,
)

_SKY_VALUE = 0.8
_PAVEMENT_FROM_M = 4.6
_LANE_LINE_M = -1.7
_EDGE_LINE_M = 3.4
_BLOCK_M = 14.0
"""Length of one house front."""


@compiled
def _ground_rows(
    height: int, focal: float, horizon: float, travel: float, crosswalk: float
) -> np.ndarray:  # pragma: no cover
    """What is equal along a row of the ground.

    Returns:
        float64 [H, 8]: distance (1e9 above the horizon), metres of the street, blur across, fading of fine texture,
        coverage by dashes of the lane line, by the crosswalk, by seams of the pavement, share of haze.
    """
    rows = np.zeros((height, 8))
    for y in range(height):
        below = (y + 0.5 - horizon) / focal
        if below <= 1e-6:
            rows[y, 0] = 1e9
            continue
        z = CAMERA_HEIGHT / below
        along = z + travel
        blur = z * z / (focal * CAMERA_HEIGHT)
        rows[y, 0] = z
        rows[y, 1] = along
        rows[y, 2] = z / focal
        rows[y, 3] = math.exp(-z / 12.0)
        rows[y, 4] = stripes(along, 6.0, 0.5, blur)
        rows[y, 5] = band(along, crosswalk, 2.6, blur)
        rows[y, 6] = stripes(along, 1.2, 0.06, blur) * rows[y, 3]
        rows[y, 7] = haze(z)
    return rows


@numba.njit(inline="always")
def _ground(lateral: float, row: np.ndarray, noise: np.ndarray) -> float:  # pragma: no cover
    along, blur, fade = row[1], row[2], row[3]
    x = lateral * row[0]
    if abs(x) < _PAVEMENT_FROM_M:
        value = 0.34 + 0.09 * fade * noise_at(noise, x * 1.5, along * 1.1)
        paint = 0.8 * band(x, _LANE_LINE_M, 0.16, blur) * row[4]
        paint = max(paint, 0.7 * band(abs(x), _EDGE_LINE_M, 0.14, blur))
        if row[5] > 0.0:
            paint = max(paint, 0.8 * row[5] * stripes(x, 1.0, 0.5, blur))
        value += paint * (0.8 - value)
    else:
        value = 0.46 + 0.07 * fade * noise_at(noise, x * 0.9 + 31.0, along * 0.9)
        seams = max(row[6], stripes(abs(x) - _PAVEMENT_FROM_M, 1.2, 0.06, blur))
        kerb = band(abs(x), _PAVEMENT_FROM_M + 0.1, 0.2, blur)
        value *= (1.0 - 0.35 * seams) * (1.0 - 0.45 * kerb)
    return value + row[7] * (HAZE_VALUE - value)


@compiled
def draw_street(
    image: np.ndarray,
    focal: float,
    horizon: float,
    centre_x: float,
    travel: float,
    wall_distance: float,
    style: float,
    crosswalk: float,
    noise: np.ndarray,
) -> None:  # pragma: no cover
    """Draw sky, skyline, house fronts and ground over the whole ``image``."""
    height, width = image.shape
    rows = _ground_rows(height, focal, horizon, travel, crosswalk)
    for x in range(width):
        lateral = (x + 0.5 - centre_x) / focal
        skyline_column = math.floor(lateral * 14.0)
        skyline = horizon - focal * (0.03 + 0.09 * hash_number(skyline_column, style))
        skyline_value = 0.45 + 0.2 * hash_number(skyline_column, style + 2.0)
        # A house front: the block, its height, colours and columns of windows are equal along an image column.
        wall_z = wall_distance / max(abs(lateral), 1e-6)
        along = wall_z + travel
        blur = wall_z * wall_z / (focal * wall_distance)
        block = math.floor(along / _BLOCK_M)
        house = (style + 1.0 if lateral > 0.0 else style - 1.0) if wall_z < FARTHEST_M else 0.0
        roof = 3.0 + 9.0 * hash_number(block, house)
        joint = 1.0 - 0.3 * stripes(along, _BLOCK_M, 0.02, blur)
        wall = (0.25 + 0.45 * hash_number(block + 7.0, house)) * joint
        pane = (0.1 if hash_number(block + 3.0, house) < 0.7 else 0.85) * joint
        window_columns = stripes(along, 1.6 + 1.6 * hash_number(block + 5.0, house), 0.45, blur)
        haze_share = haze(wall_z)
        for y in range(height):
            if wall_z < FARTHEST_M and wall_z < rows[y, 0]:
                above_ground = CAMERA_HEIGHT - (y + 0.5 - horizon) / focal * wall_z
                if above_ground <= roof:
                    value = wall
                    if above_ground < 0.5:
                        value *= 0.75
                    else:
                        windows = window_columns * stripes(above_ground - 1.0, 2.8, 0.5, wall_z * 0.01)
                        value += windows * (pane - value)
                    image[y, x] = value + haze_share * (HAZE_VALUE - value)
                    continue
            elif rows[y, 0] < 1e8:
                image[y, x] = _ground(lateral, rows[y], noise)
                continue
            cover = min(1.0, max(0.0, y + 1.0 - skyline))
            sky = _SKY_VALUE + 0.1 * (y + 0.5) / height
            image[y, x] = sky + cover * (skyline_value - sky)
