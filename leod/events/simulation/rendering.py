"""What a scene looks like: street, clutter, cars and pedestrians, compiled.

A pinhole camera at `CAMERA_HEIGHT` metres looks along the street. World coordinates in metres: X to the right, Z ahead,
both relative to the camera. A point at height Y above the ground is seen at ``u = centre_x + focal * X / Z``,
``v = horizon - focal * (Y - CAMERA_HEIGHT) / Z``. Turning and nodding of the camera are small and shift the image.
Objects are drawn from far to near, so that near ones hide far ones.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from leod.events.simulation.shapes import fill_capsule, fill_ellipse, fill_rectangle, fill_trapezoid

CAMERA_HEIGHT = 1.4
NEAREST_M = 2.2
FARTHEST_M = 45.0
_HAZE_DISTANCE_M = 70.0
_HAZE_VALUE = 0.6
_SKY_VALUE = 0.8
_PAVEMENT_FROM_M = 4.6
_LANE_LINE_M = -1.7
_EDGE_LINE_M = 3.4
_BLOCK_M = 14.0
"""Length of one house front."""
NOISE_SIZE = 128

# Columns of a row of `clutter`.
CLUTTER_KIND, CLUTTER_X, CLUTTER_Z, CLUTTER_WIDTH, CLUTTER_HEIGHT, CLUTTER_VALUE, CLUTTER_VARIANT = range(7)
CLUTTER_COLUMNS = 7
POLE, TREE, BOLLARD, SIGN, CONTAINER, FENCE, COLUMN = range(7)

# Columns of a row of `actors` (constant) and of `poses` (one row per image).
ACTOR_CLASS, ACTOR_LENGTH, ACTOR_WIDTH, ACTOR_HEIGHT = range(4)
ACTOR_VALUE, ACTOR_VALUE_2, ACTOR_VALUE_3, ACTOR_VARIANT = range(4, 8)
ACTOR_COLUMNS = 8
CAR, PEDESTRIAN = 0, 1
POSE_X, POSE_Z, POSE_HEADING_X, POSE_HEADING_Z, POSE_DISTANCE, POSE_GAIT = range(6)
POSE_COLUMNS = 6


@numba.njit(inline="always")
def _hash(a: float, b: float) -> float:  # pragma: no cover
    """A number in 0..1 that looks random and depends on (a, b) only."""
    value = math.sin(a * 12.9898 + b * 78.233) * 43758.5453
    return value - math.floor(value)


@numba.njit(inline="always")
def _stripes(position: float, period: float, duty: float, blur: float) -> float:  # pragma: no cover
    """1 inside stripes of share ``duty``, 0 between; edges ``blur`` wide, fading to ``duty`` when blur > period."""
    phase = position / period
    phase = (phase - math.floor(phase)) * period
    width = duty * period
    soft = max(blur, 1e-6)
    inside = min(1.0, max(0.0, min(phase, width - phase) / soft + 0.5))
    fade = min(1.0, max(0.0, (blur / period - 0.35) / 0.4))
    return inside + fade * (duty - inside)


@numba.njit(inline="always")
def _band(position: float, centre: float, width: float, blur: float) -> float:  # pragma: no cover
    """Share of a footprint ``blur`` wide at ``position`` that a band of ``width`` covers."""
    soft = max(blur, 1e-6)
    low = max(position - soft / 2, centre - width / 2)
    high = min(position + soft / 2, centre + width / 2)
    return max(0.0, high - low) / soft


@numba.njit(inline="always")
def _hazed(value: float, distance: float) -> float:  # pragma: no cover
    return value + (1.0 - math.exp(-distance / _HAZE_DISTANCE_M)) * (_HAZE_VALUE - value)


@numba.njit(inline="always")
def _noise_at(noise: np.ndarray, x: float, z: float) -> float:  # pragma: no cover
    """Bilinear look-up in the periodic noise table, -1..1."""
    x0, z0 = math.floor(x), math.floor(z)
    fx, fz = x - x0, z - z0
    column, row = int(x0) % NOISE_SIZE, int(z0) % NOISE_SIZE
    next_column, next_row = (column + 1) % NOISE_SIZE, (row + 1) % NOISE_SIZE
    upper = noise[row, column] * (1.0 - fx) + noise[row, next_column] * fx
    lower = noise[next_row, column] * (1.0 - fx) + noise[next_row, next_column] * fx
    return upper * (1.0 - fz) + lower * fz


@numba.njit(cache=True)
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
        rows[y, 4] = _stripes(along, 6.0, 0.5, blur)
        rows[y, 5] = _band(along, crosswalk, 2.6, blur)
        rows[y, 6] = _stripes(along, 1.2, 0.06, blur) * rows[y, 3]
        rows[y, 7] = 1.0 - math.exp(-min(z, 300.0) / _HAZE_DISTANCE_M)
    return rows


@numba.njit(inline="always")
def _ground(lateral: float, row: np.ndarray, noise: np.ndarray) -> float:  # pragma: no cover
    along, blur, fade = row[1], row[2], row[3]
    x = lateral * row[0]
    if abs(x) < _PAVEMENT_FROM_M:
        value = 0.34 + 0.09 * fade * _noise_at(noise, x * 1.5, along * 1.1)
        paint = 0.8 * _band(x, _LANE_LINE_M, 0.16, blur) * row[4]
        paint = max(paint, 0.7 * _band(abs(x), _EDGE_LINE_M, 0.14, blur))
        if row[5] > 0.0:
            paint = max(paint, 0.8 * row[5] * _stripes(x, 1.0, 0.5, blur))
        value += paint * (0.8 - value)
    else:
        value = 0.46 + 0.07 * fade * _noise_at(noise, x * 0.9 + 31.0, along * 0.9)
        seams = max(row[6], _stripes(abs(x) - _PAVEMENT_FROM_M, 1.2, 0.06, blur))
        kerb = _band(abs(x), _PAVEMENT_FROM_M + 0.1, 0.2, blur)
        value *= (1.0 - 0.35 * seams) * (1.0 - 0.45 * kerb)
    return value + row[7] * (_HAZE_VALUE - value)


@numba.njit(cache=True)
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
        skyline = horizon - focal * (0.03 + 0.09 * _hash(skyline_column, style))
        skyline_value = 0.45 + 0.2 * _hash(skyline_column, style + 2.0)
        # A house front: the block, its height, colours and columns of windows are equal along an image column.
        wall_z = wall_distance / max(abs(lateral), 1e-6)
        along = wall_z + travel
        blur = wall_z * wall_z / (focal * wall_distance)
        block = math.floor(along / _BLOCK_M)
        house = (style + 1.0 if lateral > 0.0 else style - 1.0) if wall_z < FARTHEST_M else 0.0
        roof = 3.0 + 9.0 * _hash(block, house)
        joint = 1.0 - 0.3 * _stripes(along, _BLOCK_M, 0.02, blur)
        wall = (0.25 + 0.45 * _hash(block + 7.0, house)) * joint
        pane = (0.1 if _hash(block + 3.0, house) < 0.7 else 0.85) * joint
        window_columns = _stripes(along, 1.6 + 1.6 * _hash(block + 5.0, house), 0.45, blur)
        haze = 1.0 - math.exp(-wall_z / _HAZE_DISTANCE_M)
        for y in range(height):
            if wall_z < FARTHEST_M and wall_z < rows[y, 0]:
                above_ground = CAMERA_HEIGHT - (y + 0.5 - horizon) / focal * wall_z
                if above_ground <= roof:
                    value = wall
                    if above_ground < 0.5:
                        value *= 0.75
                    else:
                        windows = window_columns * _stripes(above_ground - 1.0, 2.8, 0.5, wall_z * 0.01)
                        value += windows * (pane - value)
                    image[y, x] = value + haze * (_HAZE_VALUE - value)
                    continue
            elif rows[y, 0] < 1e8:
                image[y, x] = _ground(lateral, rows[y], noise)
                continue
            cover = min(1.0, max(0.0, y + 1.0 - skyline))
            sky = _SKY_VALUE + 0.1 * (y + 0.5) / height
            image[y, x] = sky + cover * (skyline_value - sky)


@numba.njit(cache=True)
def _draw_clutter(
    image: np.ndarray,
    owner: np.ndarray,
    mark: int,
    item: np.ndarray,
    x: float,
    ground: float,
    scale: float,
    distance: float,
    seconds: float,
    wind: float,
) -> None:  # pragma: no cover
    kind = int(item[CLUTTER_KIND])
    width, height = item[CLUTTER_WIDTH] * scale, item[CLUTTER_HEIGHT] * scale
    variant = item[CLUTTER_VARIANT]
    value = _hazed(item[CLUTTER_VALUE], distance)
    other = _hazed(0.12 + 0.75 * _hash(variant, 1.0), distance)
    left, right, top = x - width / 2, x + width / 2, ground - height
    if kind == POLE:
        fill_capsule(image, owner, mark, x, ground, x, top, width / 2, value)
        arm = (0.9 if variant < 0.5 else -0.9) * scale
        fill_capsule(image, owner, mark, x, top, x + arm, top, 0.06 * scale, value)
        fill_ellipse(image, owner, mark, x + arm, top, 0.3 * scale, 0.12 * scale, other, 1.0)
    elif kind == TREE:
        sway = wind * 0.05 * height * math.sin(6.283 * (0.5 + 0.8 * variant) * seconds + 40.0 * variant)
        fill_capsule(image, owner, mark, x, ground, x + 0.3 * sway, ground - 0.6 * height, 0.09 * scale, 0.6 * value)
        for lobe in range(4):
            offset = _hash(variant, lobe + 2.0) - 0.5
            rise = 0.55 + 0.35 * _hash(variant, lobe + 9.0)
            flutter = wind * 0.02 * height * math.sin(6.283 * (1.1 + offset) * seconds + 9.0 * lobe)
            fill_ellipse(
                image,
                owner,
                mark,
                x + 0.7 * offset * width + sway * rise + flutter,
                ground - rise * height,
                0.32 * width,
                0.16 * height,
                value * (0.75 + 0.5 * _hash(variant, lobe + 4.0)),
                1.0,
            )
    elif kind == BOLLARD:
        fill_rectangle(image, owner, mark, left, ground - 0.8 * height, right, ground, value, 0.8 * value)
        fill_ellipse(image, owner, mark, x, ground - 0.85 * height, 0.45 * width, 0.15 * height, other, 1.0)
        fill_rectangle(image, owner, mark, left, ground - 0.55 * height, right, ground - 0.4 * height, other, other)
    elif kind == SIGN:
        fill_capsule(image, owner, mark, x, ground, x, top, 0.05 * scale, 0.5 * value)
        if variant < 0.5:
            fill_ellipse(image, owner, mark, x, top + width / 2, width / 2, width / 2, value, 1.0)
            fill_ellipse(image, owner, mark, x, top + width / 2, 0.3 * width, 0.3 * width, other, 1.0)
        else:
            fill_rectangle(image, owner, mark, left, top, right, top + 1.3 * width, value, other)
            fill_rectangle(image, owner, mark, left, top + 1.5 * width, right, top + 2.1 * width, other, other)
    elif kind == CONTAINER:
        fill_rectangle(image, owner, mark, left, top, right, ground, value, 0.7 * value)
        fill_rectangle(image, owner, mark, left, top + 0.15 * height, right, top + 0.25 * height, other, other)
        for panel in range(3):
            if _hash(variant, panel + 5.0) < 0.6:
                start = left + (0.08 + 0.31 * panel) * width
                fill_rectangle(
                    image,
                    owner,
                    mark,
                    start,
                    top + 0.32 * height,
                    start + 0.22 * width,
                    top + 0.6 * height,
                    other,
                    0.8 * other,
                )
        for wheel in (0.2, 0.8):
            if variant < 0.5:
                centre = left + wheel * width
                fill_ellipse(image, owner, mark, centre, ground - 0.1 * height, 0.1 * height, 0.1 * height, 0.08, 1.0)
    elif kind == FENCE:
        fill_rectangle(image, owner, mark, left, top, right, top + 0.12 * height, value, value)
        slats = max(3, int(item[CLUTTER_WIDTH] / 0.45))
        for slat in range(slats):
            centre = left + (slat + 0.5) / slats * width
            fill_rectangle(
                image, owner, mark, centre - 0.08 * scale, top, centre + 0.08 * scale, ground, value, 0.7 * value
            )
    else:
        fill_rectangle(image, owner, mark, left, top, right, ground, value, 0.7 * value)
        fill_ellipse(image, owner, mark, x, top, 0.6 * width, 0.12 * height, 0.6 * value, 1.0)
        fill_rectangle(
            image, owner, mark, left + 0.12 * width, top + 0.2 * height, right - 0.12 * width, top + 0.6 * height,
            other, other,
        )  # fmt: skip


@numba.njit(cache=True)
def _draw_wheel(
    image: np.ndarray, owner: np.ndarray, mark: int, x: float, y: float, radius: float, squeeze: float, angle: float
) -> None:  # pragma: no cover
    fill_ellipse(image, owner, mark, x, y, radius * squeeze, radius, 0.06, 1.0)
    fill_ellipse(image, owner, mark, x, y, 0.58 * radius * squeeze, 0.58 * radius, 0.55, 1.0)
    for spoke in range(2):
        dx = 0.5 * radius * math.cos(angle + 1.57 * spoke) * squeeze
        dy = 0.5 * radius * math.sin(angle + 1.57 * spoke)
        fill_capsule(image, owner, mark, x - dx, y - dy, x + dx, y + dy, 0.13 * radius, 0.15)


@numba.njit(cache=True)
def _draw_car_side(
    image: np.ndarray,
    owner: np.ndarray,
    mark: int,
    actor: np.ndarray,
    left: float,
    right: float,
    ground: float,
    scale: float,
    direction: float,
    distance: float,
    travelled: float,
) -> None:  # pragma: no cover
    width, height = right - left, actor[ACTOR_HEIGHT] * scale
    body = _hazed(actor[ACTOR_VALUE], distance)
    glass = _hazed(actor[ACTOR_VALUE_2], distance)
    # The cabin's share of the length and the slope of its ends tell a van from a saloon.
    variant = actor[ACTOR_VARIANT]
    bonnet = (0.26 if variant < 0.7 else 0.1) * width
    boot = (0.16 if variant < 0.45 else 0.03) * width
    slope = (0.1 if variant < 0.7 else 0.05) * width
    front_is_right = direction > 0.0
    cabin_left = left + (boot if front_is_right else bonnet)
    cabin_right = right - (bonnet if front_is_right else boot)
    waist, roof, sill = ground - 0.6 * height, ground - height, ground - 0.17 * height
    fill_trapezoid(
        image, owner, mark, roof, waist + 0.5, cabin_left + slope, cabin_right - slope, cabin_left, cabin_right,
        min(1.0, 1.15 * body), body,
    )  # fmt: skip
    inset = 0.045 * width
    pane_top, pane_bottom = roof + 0.09 * height, waist - 0.02 * height
    middle = 0.5 * (cabin_left + cabin_right)
    fill_trapezoid(
        image, owner, mark, pane_top, pane_bottom, cabin_left + slope + 0.6 * inset, middle - 0.4 * inset,
        cabin_left + inset, middle - 0.4 * inset, glass, 0.7 * glass,
    )  # fmt: skip
    fill_trapezoid(
        image, owner, mark, pane_top, pane_bottom, middle + 0.4 * inset, cabin_right - slope - 0.6 * inset,
        middle + 0.4 * inset, cabin_right - inset, glass, 0.7 * glass,
    )  # fmt: skip
    fill_rectangle(image, owner, mark, left, waist, right, sill, min(1.0, 1.1 * body), 0.65 * body)
    door = 0.012 * width
    fill_rectangle(image, owner, mark, middle - door, waist, middle + door, sill, 0.5 * body, 0.4 * body)
    lamp = 0.06 * width
    front_start = right - lamp if front_is_right else left
    rear_start = left if front_is_right else right - lamp
    lamp_top, lamp_bottom = ground - 0.55 * height, ground - 0.43 * height
    fill_rectangle(image, owner, mark, front_start, lamp_top, front_start + lamp, lamp_bottom, 0.95, 0.9)
    fill_rectangle(image, owner, mark, rear_start, lamp_top, rear_start + lamp, lamp_bottom, 0.3, 0.25)
    radius = 0.21 * height
    squeeze = min(1.0, width / max(actor[ACTOR_LENGTH] * scale, 1e-6))
    angle = direction * travelled / (0.21 * actor[ACTOR_HEIGHT])
    _draw_wheel(image, owner, mark, left + 0.2 * width, ground - radius, radius, squeeze, angle)
    _draw_wheel(image, owner, mark, right - 0.2 * width, ground - radius, radius, squeeze, angle)


@numba.njit(cache=True)
def _draw_car_end(
    image: np.ndarray,
    owner: np.ndarray,
    mark: int,
    actor: np.ndarray,
    left: float,
    right: float,
    ground: float,
    scale: float,
    is_front: bool,
    distance: float,
) -> None:  # pragma: no cover
    width, height = right - left, actor[ACTOR_HEIGHT] * scale
    body = 0.9 * _hazed(actor[ACTOR_VALUE], distance)
    glass = _hazed(actor[ACTOR_VALUE_2], distance)
    roof, waist, sill = ground - height, ground - 0.6 * height, ground - 0.16 * height
    for wheel_left in (left + 0.04 * width, right - 0.2 * width):
        fill_rectangle(
            image, owner, mark, wheel_left, ground - 0.3 * height, wheel_left + 0.16 * width, ground, 0.06, 0.06
        )
    fill_trapezoid(
        image, owner, mark, roof, waist + 0.5, left + 0.16 * width, right - 0.16 * width, left + 0.04 * width,
        right - 0.04 * width, min(1.0, 1.15 * body), body,
    )  # fmt: skip
    fill_trapezoid(
        image, owner, mark, roof + 0.07 * height, waist - 0.02 * height, left + 0.21 * width, right - 0.21 * width,
        left + 0.12 * width, right - 0.12 * width, glass, 0.7 * glass,
    )  # fmt: skip
    fill_rectangle(image, owner, mark, left, waist, right, sill, body, 0.6 * body)
    lamp = 0.95 if is_front else 0.28
    lamp_y = ground - 0.47 * height
    fill_ellipse(image, owner, mark, left + 0.15 * width, lamp_y, 0.1 * width, 0.07 * height, lamp, 1.0)
    fill_ellipse(image, owner, mark, right - 0.15 * width, lamp_y, 0.1 * width, 0.07 * height, lamp, 1.0)
    if is_front:
        fill_rectangle(
            image, owner, mark, left + 0.3 * width, ground - 0.52 * height, right - 0.3 * width, ground - 0.36 * height,
            0.12, 0.1,
        )  # fmt: skip
    fill_rectangle(
        image, owner, mark, left + 0.36 * width, ground - 0.32 * height, right - 0.36 * width, ground - 0.22 * height,
        0.85, 0.85,
    )  # fmt: skip


@numba.njit(cache=True)
def _draw_car(
    image: np.ndarray,
    owner: np.ndarray,
    mark: int,
    actor: np.ndarray,
    pose: np.ndarray,
    x: float,
    ground: float,
    scale: float,
    extent: np.ndarray,
) -> None:  # pragma: no cover
    distance = pose[POSE_Z]
    # Heading split into its parts along the line of sight and across it.
    length = math.hypot(pose[POSE_X], pose[POSE_Z])
    sight_x, sight_z = pose[POSE_X] / length, pose[POSE_Z] / length
    away = pose[POSE_HEADING_X] * sight_x + pose[POSE_HEADING_Z] * sight_z
    across = pose[POSE_HEADING_X] * sight_z - pose[POSE_HEADING_Z] * sight_x
    side = actor[ACTOR_LENGTH] * abs(across) * scale
    end = actor[ACTOR_WIDTH] * abs(away) * scale
    direction = 1.0 if across >= 0.0 else -1.0
    left, right = x - (side + end) / 2, x + (side + end) / 2
    # The front leads, the rear trails.
    end_is_right = (direction > 0.0) == (away < 0.0)
    split = right - end if end_is_right else left + end
    fill_ellipse(image, owner, -1, x, ground, 0.53 * (side + end), 0.16 * scale, 0.1, 0.7)
    if side > 1.0:
        side_left, side_right = (left, split) if end_is_right else (split, right)
        _draw_car_side(
            image, owner, mark, actor, side_left, side_right, ground, scale, direction, distance, pose[POSE_DISTANCE]
        )
    if end > 1.0:
        end_left, end_right = (split, right) if end_is_right else (left, split)
        _draw_car_end(image, owner, mark, actor, end_left, end_right, ground, scale, away < 0.0, distance)
    extent[0], extent[1], extent[2], extent[3] = left, ground - actor[ACTOR_HEIGHT] * scale, right, ground


@numba.njit(cache=True)
def _draw_pedestrian(
    image: np.ndarray,
    owner: np.ndarray,
    mark: int,
    actor: np.ndarray,
    pose: np.ndarray,
    x: float,
    ground: float,
    scale: float,
    extent: np.ndarray,
) -> None:  # pragma: no cover
    distance = pose[POSE_Z]
    tall = actor[ACTOR_HEIGHT]
    height = tall * scale
    jacket = _hazed(actor[ACTOR_VALUE], distance)
    trousers = _hazed(actor[ACTOR_VALUE_2], distance)
    skin = _hazed(actor[ACTOR_VALUE_3], distance)
    variant = actor[ACTOR_VARIANT]
    length = math.hypot(pose[POSE_X], pose[POSE_Z])
    across = (pose[POSE_HEADING_X] * pose[POSE_Z] - pose[POSE_HEADING_Z] * pose[POSE_X]) / length
    # One gait cycle of two steps is about as long as the body is tall, times 0.85.
    phase = 6.2832 * pose[POSE_DISTANCE] / (0.85 * tall)
    swing = 0.5 * pose[POSE_GAIT] * math.sin(phase)
    bob = 0.012 * height * pose[POSE_GAIT] * math.cos(2.0 * phase)
    half_width = (0.1 + 0.04 * (1.0 - abs(across))) * height * (0.85 + 0.4 * actor[ACTOR_WIDTH])
    hip, shoulder = ground - 0.48 * height + bob, ground - 0.8 * height + bob
    left, right = x - half_width, x + half_width
    fill_ellipse(image, owner, -1, x, ground, 0.2 * height, 0.03 * height, 0.15, 0.6)
    for leg in range(2):
        angle = swing if leg == 0 else -swing
        hip_x = x + (0.4 - 0.8 * leg) * half_width * (1.0 - abs(across))
        knee_x = hip_x + 0.24 * height * math.sin(angle) * across
        # The leg that swings forwards bends at the knee and lifts its foot.
        lift = max(0.0, math.cos(phase + 3.1416 * leg)) * pose[POSE_GAIT]
        foot_x = knee_x + 0.24 * height * math.sin(angle - 0.6 * lift) * across
        foot_y = ground - 0.07 * height * lift
        knee_y = hip + 0.24 * height * math.cos(angle)
        radius = 0.045 * height
        shade = trousers if leg == 0 else 0.8 * trousers
        fill_capsule(image, owner, mark, hip_x, hip, knee_x, knee_y, 1.15 * radius, shade)
        fill_capsule(image, owner, mark, knee_x, knee_y, foot_x, foot_y - radius, radius, shade)
        left, right = min(left, foot_x - radius), max(right, foot_x + radius)
    coat = hip + (0.16 if variant < 0.3 else 0.02) * height
    fill_trapezoid(
        image, owner, mark, shoulder, coat, x - 0.85 * half_width, x + 0.85 * half_width, x - half_width,
        x + half_width, min(1.0, 1.15 * jacket), 0.75 * jacket,
    )  # fmt: skip
    for arm in range(2):
        angle = -swing if arm == 0 else swing
        shoulder_x = x + (0.9 - 1.8 * arm) * half_width * (0.4 + 0.6 * (1.0 - abs(across)))
        hand_x = shoulder_x + 0.33 * height * math.sin(0.9 * angle) * across
        hand_y = shoulder + 0.33 * height * math.cos(0.9 * angle)
        fill_capsule(
            image, owner, mark, shoulder_x, shoulder + 0.03 * height, hand_x, hand_y, 0.032 * height, 0.7 * jacket
        )
        left, right = min(left, hand_x - 0.032 * height), max(right, hand_x + 0.032 * height)
    if variant > 0.75:
        bag_x = x - 0.9 * half_width * (1.0 if across >= 0.0 else -1.0)
        fill_rectangle(
            image, owner, mark, bag_x - 0.06 * height, shoulder + 0.05 * height, bag_x + 0.06 * height,
            shoulder + 0.27 * height, 0.7 * trousers, 0.5 * trousers,
        )  # fmt: skip
        left, right = min(left, bag_x - 0.06 * height), max(right, bag_x + 0.06 * height)
    head_y = ground - 0.91 * height + bob
    fill_ellipse(image, owner, mark, x, head_y, 0.068 * height, 0.085 * height, skin, 1.0)
    fill_ellipse(image, owner, mark, x, head_y - 0.045 * height, 0.066 * height, 0.045 * height, 0.3 * trousers, 1.0)
    extent[0], extent[1], extent[2], extent[3] = left, ground - height, right, ground


@numba.njit(cache=True)
def draw_objects(
    image: np.ndarray,
    owner: np.ndarray,
    focal: float,
    horizon: float,
    centre_x: float,
    travel: float,
    seconds: float,
    wind: float,
    clutter: np.ndarray,
    actors: np.ndarray,
    poses: np.ndarray,
    measures: np.ndarray,
) -> None:  # pragma: no cover
    """Draw clutter and actors from far to near and measure what is visible of each actor.

    Args:
        image: float64 [H, W], drawn onto.
        owner: int64 [H, W], set to the actor that is seen in each pixel, -1 where none is.
        focal: Focal length in pixels.
        horizon: Row of the horizon.
        centre_x: Column of the direction of travel.
        travel: How far the camera has moved along Z, metres.
        seconds: Time, for what sways.
        wind: 0..1, how much trees sway.
        clutter: float64 [S, CLUTTER_COLUMNS]; its Z counts from the camera's start.
        actors: float64 [A, ACTOR_COLUMNS].
        poses: float64 [A, POSE_COLUMNS]; Z relative to the camera.
        measures: float64 [A, 14], filled: extent before clipping (left, top, right, bottom), number of pixels on the
            sensor and their extent, number of pixels that nothing hides and their extent. Zero rows: not drawn.
    """
    static_count, actor_count = clutter.shape[0], actors.shape[0]
    depths = np.empty(static_count + actor_count)
    depths[:static_count] = clutter[:, CLUTTER_Z] - travel
    depths[static_count:] = poses[:, POSE_Z]
    measures[:] = 0.0
    owner[:] = -1
    for index in np.argsort(-depths):
        z = depths[index]
        if z < NEAREST_M or z > FARTHEST_M:
            continue
        scale = focal / z
        ground = horizon + scale * CAMERA_HEIGHT
        if index < static_count:
            x = centre_x + scale * clutter[index, CLUTTER_X]
            _draw_clutter(image, owner, actor_count, clutter[index], x, ground, scale, z, seconds, wind)
            continue
        actor = index - static_count
        x = centre_x + scale * poses[actor, POSE_X]
        extent = measures[actor, :4]
        if actors[actor, ACTOR_CLASS] == CAR:
            _draw_car(image, owner, actor, actors[actor], poses[actor], x, ground, scale, extent)
        else:
            _draw_pedestrian(image, owner, actor, actors[actor], poses[actor], x, ground, scale, extent)
        _count_pixels(owner, actor, extent, measures[actor, 4:9])
    for actor in range(actor_count):
        if measures[actor, 4] > 0.0:
            _count_pixels(owner, actor, measures[actor, :4], measures[actor, 9:14])


@numba.njit(cache=True)
def _count_pixels(owner: np.ndarray, mark: int, extent: np.ndarray, result: np.ndarray) -> None:  # pragma: no cover
    """Write number, left, top, right, bottom of the pixels that belong to ``mark`` into ``result``."""
    height, width = owner.shape
    count, left, top, right, bottom = 0, width, height, 0, 0
    for y in range(max(0, int(extent[1]) - 1), min(height, int(extent[3]) + 2)):
        for x in range(max(0, int(extent[0]) - 1), min(width, int(extent[2]) + 2)):
            if owner[y, x] == mark:
                count += 1
                left, right = min(left, x), max(right, x + 1)
                top, bottom = min(top, y), max(bottom, y + 1)
    result[0] = count
    result[1], result[2], result[3], result[4] = left, top, right, bottom


@numba.njit(cache=True)
def log_intensity(image: np.ndarray, contrast: float, result: np.ndarray) -> None:  # pragma: no cover
    """Write the logarithm of ``image`` times ``contrast`` (dim light: < 1) into ``result``, all float64 [H, W]."""
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            result[y, x] = contrast * math.log(max(image[y, x], 0.0) + 0.03)
