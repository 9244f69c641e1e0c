"""Cars and pedestrians; compiled."""

from __future__ import annotations

import math

import numpy as np

from leod.jit import compiled
from leod.simulation.patterns import hazed
from leod.simulation.shapes import fill_capsule, fill_ellipse, fill_rectangle, fill_trapezoid

# Columns of a row of `actors` (constant) and of `poses` (one row per image).
ACTOR_CLASS, ACTOR_LENGTH, ACTOR_WIDTH, ACTOR_HEIGHT = range(4)
ACTOR_VALUE, ACTOR_VALUE_2, ACTOR_VALUE_3, ACTOR_VARIANT = range(4, 8)
ACTOR_COLUMNS = 8
CAR, PEDESTRIAN = 0, 1
POSE_X, POSE_Z, POSE_HEADING_X, POSE_HEADING_Z, POSE_DISTANCE, POSE_GAIT = range(6)
POSE_COLUMNS = 6


@compiled
def _draw_wheel(
    image: np.ndarray, owner: np.ndarray, mark: int, x: float, y: float, radius: float, squeeze: float, angle: float
) -> None:  # pragma: no cover
    fill_ellipse(image, owner, mark, x, y, radius * squeeze, radius, 0.06, 1.0)
    fill_ellipse(image, owner, mark, x, y, 0.58 * radius * squeeze, 0.58 * radius, 0.55, 1.0)
    for spoke in range(2):
        dx = 0.5 * radius * math.cos(angle + 1.57 * spoke) * squeeze
        dy = 0.5 * radius * math.sin(angle + 1.57 * spoke)
        fill_capsule(image, owner, mark, x - dx, y - dy, x + dx, y + dy, 0.13 * radius, 0.15)


@compiled
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
    body = hazed(actor[ACTOR_VALUE], distance)
    glass = hazed(actor[ACTOR_VALUE_2], distance)
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


@compiled
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
    body = 0.9 * hazed(actor[ACTOR_VALUE], distance)
    glass = hazed(actor[ACTOR_VALUE_2], distance)
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


@compiled
def draw_car(
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
    """Draw a car, seen from wherever its heading and place say.

    Args:
        image: float64 [H, W], drawn onto.
        owner: int64 [H, W], see `leod.simulation.shapes`.
        mark: Written to ``owner``.
        actor: float64 [ACTOR_COLUMNS].
        pose: float64 [POSE_COLUMNS].
        x: Column of its middle.
        ground: Row where it stands.
        scale: Pixels per metre at its distance.
        extent: float64 [4], filled: left, top, right, bottom in pixels, beyond the image too.
    """
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


@compiled
def draw_pedestrian(
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
    """Draw a pedestrian, walking as its distance and gait say.

    Args:
        image: float64 [H, W], drawn onto.
        owner: int64 [H, W], see `leod.simulation.shapes`.
        mark: Written to ``owner``.
        actor: float64 [ACTOR_COLUMNS].
        pose: float64 [POSE_COLUMNS].
        x: Column of its middle.
        ground: Row where it stands.
        scale: Pixels per metre at its distance.
        extent: float64 [4], filled: left, top, right, bottom in pixels, beyond the image too.
    """
    distance = pose[POSE_Z]
    tall = actor[ACTOR_HEIGHT]
    height = tall * scale
    jacket = hazed(actor[ACTOR_VALUE], distance)
    trousers = hazed(actor[ACTOR_VALUE_2], distance)
    skin = hazed(actor[ACTOR_VALUE_3], distance)
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
