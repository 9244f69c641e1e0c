"""What is seen: objects drawn onto the street from far to near, compiled.

A pinhole camera at `CAMERA_HEIGHT` metres looks along the street. World coordinates in metres: X to the right, Z ahead,
both relative to the camera. A point at height Y above the ground is seen at ``u = centre_x + focal * X / Z``,
``v = horizon - focal * (Y - CAMERA_HEIGHT) / Z``. Turning and nodding of the camera are small and shift the image.
"""

from __future__ import annotations

import math

import numpy as np

from leod.jit import compiled
from leod.simulation.actors import ACTOR_CLASS, CAR, POSE_X, POSE_Z, draw_car, draw_pedestrian
from leod.simulation.clutter import CLUTTER_X, CLUTTER_Z, draw_clutter
from leod.simulation.patterns import CAMERA_HEIGHT, FARTHEST_M, NEAREST_M


@compiled
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
            draw_clutter(image, owner, actor_count, clutter[index], x, ground, scale, z, seconds, wind)
            continue
        actor = index - static_count
        x = centre_x + scale * poses[actor, POSE_X]
        extent = measures[actor, :4]
        if actors[actor, ACTOR_CLASS] == CAR:
            draw_car(image, owner, actor, actors[actor], poses[actor], x, ground, scale, extent)
        else:
            draw_pedestrian(image, owner, actor, actors[actor], poses[actor], x, ground, scale, extent)
        _count_pixels(owner, actor, extent, measures[actor, 4:9])
    for actor in range(actor_count):
        if measures[actor, 4] > 0.0:
            _count_pixels(owner, actor, measures[actor, :4], measures[actor, 9:14])


@compiled
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


@compiled
def log_intensity(image: np.ndarray, contrast: float, result: np.ndarray) -> None:  # pragma: no cover
    """Write the logarithm of ``image`` times ``contrast`` (dim light: < 1) into ``result``, all float64 [H, W]."""
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            result[y, x] = contrast * math.log(max(image[y, x], 0.0) + 0.03)
