"""What happens in a recording: how the camera drives, what stands along the street, who moves how.

Metres, seconds, radians. World coordinates: X to the right of the street's middle, Z along the street, counted from
where the camera starts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from leod.config.schema import SimulationConfig
from leod.simulation.actors import (
    ACTOR_CLASS,
    ACTOR_COLUMNS,
    ACTOR_HEIGHT,
    ACTOR_LENGTH,
    ACTOR_VALUE,
    ACTOR_VALUE_2,
    ACTOR_VALUE_3,
    ACTOR_VARIANT,
    ACTOR_WIDTH,
    CAR,
    PEDESTRIAN,
    POSE_COLUMNS,
    POSE_DISTANCE,
    POSE_GAIT,
    POSE_HEADING_X,
    POSE_HEADING_Z,
    POSE_X,
    POSE_Z,
)
from leod.simulation.clutter import (
    BOLLARD,
    CLUTTER_COLUMNS,
    CLUTTER_HEIGHT,
    CLUTTER_KIND,
    CLUTTER_VALUE,
    CLUTTER_VARIANT,
    CLUTTER_WIDTH,
    CLUTTER_X,
    CLUTTER_Z,
    COLUMN,
    CONTAINER,
    FENCE,
    POLE,
    SIGN,
    TREE,
)
from leod.simulation.patterns import FARTHEST_M, NEAREST_M, NOISE_SIZE

_CAR_RANGE_M = (3.0, 30.0)
_PEDESTRIAN_RANGE_M = (2.8, 18.0)
_CREDIBLE_ATTEMPTS = 50
_SHORTEST_VISIT_S = 0.8
_FIRST_ENTRY_S = -4.0
_FEWEST_ENTRIES = 3
_PARKED_SHARE = 0.12
_SLOW_EGO_M_S = 1.5
_OUT_OF_SIGHT_M = 24.0
"""From here on a pedestrian is too small to be noticed when it appears."""


def focal_length(config: SimulationConfig) -> float:
    """Focal length over sensor width."""
    return 0.5 / _edge(config)


def _edge(config: SimulationConfig) -> float:
    """Tangent of half the horizontal field of view: how far aside things are seen, over their distance."""
    return math.tan(math.radians(config.field_of_view_deg) / 2.0)


@dataclass(frozen=True)
class Camera:
    """The camera's motion at every image; all float64 [F]."""

    speed: np.ndarray
    travel: np.ndarray
    pan_px: np.ndarray
    """Shift of the image to the right because of turning."""
    tilt_px: np.ndarray
    """Shift of the image downwards because of nodding."""


@dataclass(frozen=True)
class Scene:
    """Everything that the images of one recording depend on."""

    camera: Camera
    clutter: np.ndarray
    """float64 [S, CLUTTER_COLUMNS]"""
    actors: np.ndarray
    """float64 [A, ACTOR_COLUMNS]"""
    poses: np.ndarray
    """float64 [F, A, POSE_COLUMNS]"""
    standing: np.ndarray
    """bool [F, A]: the actor stands still in the world."""
    noise: np.ndarray
    """float64 [NOISE_SIZE, NOISE_SIZE], -1..1: the ground's texture."""
    wall_distance: float
    style: float
    crosswalk: float
    contrast: float
    """Share of the full contrast of log intensity that the light leaves."""
    wind: float


def _smooth_window(times: np.ndarray, start: float, stop: float, ramp: float) -> np.ndarray:
    """0 outside start..stop, 1 inside, smooth over ``ramp`` seconds."""
    rise = np.clip((times - start) / ramp, 0.0, 1.0)
    fall = np.clip((stop - times) / ramp, 0.0, 1.0)
    share = np.minimum(rise, fall)
    return share * share * (3.0 - 2.0 * share)


def _integral(speed: np.ndarray, step: float) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(0.5 * (speed[1:] + speed[:-1]) * step)])


def _make_camera(times: np.ndarray, width: int, config: SimulationConfig, generator: np.random.Generator) -> Camera:
    """A drive: waiting all the time, driving all the time, or driving with a stop."""
    duration = float(times[-1])
    mode = generator.random()
    cruise = generator.uniform(3.0, 9.0) * config.ego_motion
    share = np.ones_like(times)
    if mode < 0.3:
        share[:] = 0.0
    elif mode < 0.65:
        stop = generator.uniform(0.0, 0.7) * duration
        share = 1.0 - _smooth_window(times, stop, stop + generator.uniform(0.25, 0.5) * duration, 0.9)
    share = share * (1.0 + 0.15 * np.sin(generator.uniform(0.2, 0.6) * times + generator.uniform(0.0, 6.0)))
    speed = cruise * share
    travel = _integral(speed, times[1] - times[0])
    # Turning and nodding follow the distance travelled: a camera that stands does not shake.
    focal = focal_length(config) * width
    pan = generator.uniform(0.02, 0.08) * focal * np.sin(travel / generator.uniform(4.0, 9.0) + generator.uniform(0, 6))
    tilt = generator.uniform(0.001, 0.004) * focal * np.sin(travel / generator.uniform(0.4, 0.9))
    return Camera(speed=speed, travel=travel, pan_px=pan, tilt_px=tilt)


def _make_clutter(travel: float, config: SimulationConfig, generator: np.random.Generator) -> np.ndarray:
    """Things along both pavements, up to the farthest point that the camera will see."""
    length = travel + FARTHEST_M
    count = generator.poisson(0.9 * config.clutter * length)
    clutter = np.zeros((count, CLUTTER_COLUMNS))
    # kind, share, width range, height range
    kinds = (
        (POLE, 0.16, (0.12, 0.22), (3.5, 6.0)),
        (TREE, 0.2, (1.4, 2.8), (2.6, 5.0)),
        (BOLLARD, 0.2, (0.3, 0.55), (0.9, 1.5)),
        (SIGN, 0.14, (0.5, 0.9), (2.0, 2.8)),
        (CONTAINER, 0.14, (1.8, 3.8), (1.1, 1.9)),
        (FENCE, 0.08, (2.5, 5.0), (0.8, 1.2)),
        (COLUMN, 0.08, (0.6, 1.0), (1.7, 2.5)),
    )
    picks = generator.choice(len(kinds), size=count, p=[share for _, share, _, _ in kinds])
    for row, pick in zip(clutter, picks, strict=True):
        kind, _, widths, heights = kinds[pick]
        row[CLUTTER_KIND] = kind
        row[CLUTTER_WIDTH] = generator.uniform(*widths)
        row[CLUTTER_HEIGHT] = generator.uniform(*heights)
        lateral = generator.uniform(4.0, 7.5) + row[CLUTTER_WIDTH] / 2
        row[CLUTTER_X] = lateral if generator.random() < 0.5 else -lateral
        row[CLUTTER_Z] = generator.uniform(3.0, length)
        row[CLUTTER_VALUE] = generator.uniform(0.1, 0.85)
        row[CLUTTER_VARIANT] = generator.random()
    return clutter


def _make_car(generator: np.random.Generator) -> np.ndarray:
    actor = np.zeros(ACTOR_COLUMNS)
    actor[ACTOR_CLASS] = CAR
    variant = generator.random()
    van = variant >= 0.7
    actor[ACTOR_LENGTH] = generator.uniform(3.6, 5.0)
    actor[ACTOR_WIDTH] = generator.uniform(1.65, 1.95)
    actor[ACTOR_HEIGHT] = generator.uniform(1.7, 2.2) if van else generator.uniform(1.35, 1.6)
    actor[ACTOR_VALUE] = generator.choice([0.08, 0.15, 0.3, 0.5, 0.7, 0.9]) * generator.uniform(0.9, 1.1)
    actor[ACTOR_VALUE_2] = generator.uniform(0.08, 0.3)
    actor[ACTOR_VARIANT] = variant
    return actor


def _make_pedestrian(generator: np.random.Generator) -> np.ndarray:
    actor = np.zeros(ACTOR_COLUMNS)
    actor[ACTOR_CLASS] = PEDESTRIAN
    actor[ACTOR_HEIGHT] = generator.uniform(1.55, 1.95) if generator.random() < 0.85 else generator.uniform(1.1, 1.4)
    actor[ACTOR_WIDTH] = generator.uniform(0.2, 0.7)
    actor[ACTOR_VALUE] = generator.uniform(0.08, 0.85)
    actor[ACTOR_VALUE_2] = generator.uniform(0.08, 0.6)
    actor[ACTOR_VALUE_3] = generator.uniform(0.3, 0.75)
    actor[ACTOR_VARIANT] = generator.random()
    return actor


@dataclass(frozen=True)
class _Course:
    """Straight way of an actor: where it is on entering, its heading and its speed."""

    x: float
    z: float
    """Relative to the camera at the time of entering."""
    heading_x: float
    heading_z: float
    speed: float


def _car_course(ego_speed: float, early: bool, edge: float, generator: np.random.Generator) -> _Course:
    """Draw a way for a car.

    Args:
        ego_speed: Speed of the camera when the car enters.
        early: It is already there when the recording starts.
        edge: How far aside the camera sees, over the distance.
        generator: Source of randomness.
    """
    choice = generator.random()
    farthest = FARTHEST_M
    if choice < _PARKED_SHARE:
        side = generator.choice([-1.0, 1.0])
        z = generator.uniform(6.0, farthest) if early else farthest
        return _Course(side * generator.uniform(3.9, 4.6), z, 0.0, side, 0.0)
    if choice < 0.5:
        direction = generator.choice([-1.0, 1.0])
        slant = generator.uniform(-0.35, 0.35)
        speed = generator.uniform(2.5, 9.0)
        if ego_speed > _SLOW_EGO_M_S and generator.random() < 0.6:
            # Seen from a moving car, the sides of the view recede: who crosses must be ahead from the start.
            return _Course(-direction * generator.uniform(2.0, 25.0), farthest, direction, 0.0, speed)
        z = generator.uniform(5.5, 18.0)
        start = -direction * (edge * z + 3.0)
        return _Course(start, z, direction * np.cos(slant), np.sin(slant), speed)
    if choice < 0.75:
        return _Course(generator.uniform(-3.6, -2.4), farthest, 0.0, -1.0, generator.uniform(2.5, 8.0))
    if early and generator.random() < 0.5:
        x = generator.uniform(-0.4, 0.7) if generator.random() < 0.6 else generator.uniform(1.8, 3.0)
        return _Course(x, generator.uniform(5.0, 14.0), 0.0, 1.0, max(0.3, ego_speed + generator.uniform(-0.5, 2.0)))
    if ego_speed > _SLOW_EGO_M_S and generator.random() < 0.4:
        return _Course(generator.uniform(1.6, 3.0), farthest, 0.0, 1.0, ego_speed * generator.uniform(0.0, 0.5) + 0.1)
    x = generator.choice([-2.8, 2.7])
    return _Course(x, NEAREST_M - 0.2, 0.0, 1.0, ego_speed + generator.uniform(2.0, 5.0))


def _pedestrian_course(ego_speed: float, early: bool, edge: float, generator: np.random.Generator) -> _Course:
    """Draw a way for a pedestrian; arguments as for a car."""
    speed = generator.uniform(0.8, 1.9) if generator.random() < 0.9 else generator.uniform(2.2, 3.2)
    direction = generator.choice([-1.0, 1.0])
    slant = generator.uniform(-1.2, 1.2) if generator.random() < 0.4 else generator.uniform(-0.3, 0.3)
    heading_x, heading_z = direction * np.cos(slant), np.sin(slant)
    if ego_speed > _SLOW_EGO_M_S and not (early and generator.random() < 0.3):
        x = -direction * generator.uniform(-1.0, 7.0)
        if generator.random() < 0.4:
            x, heading_x, heading_z = generator.uniform(4.0, 6.5) * direction, 0.0, generator.choice([-1.0, 1.0])
        return _Course(x, generator.uniform(_OUT_OF_SIGHT_M, 36.0), heading_x, heading_z, speed)
    z = generator.uniform(3.6, 10.0)
    start = generator.uniform(-1.0, 0.6) * edge * z if early else -(edge * z + 1.1)
    return _Course(start * direction, z, heading_x, heading_z, speed)


def _follow(
    course: _Course,
    entry: float,
    stop: tuple[float, float] | None,
    ramp: float,
    times: np.ndarray,
    camera: Camera,
) -> tuple[np.ndarray, np.ndarray]:
    """Poses float64 [F, POSE_COLUMNS] and bool [F] whether the actor stands; before its entry it is out of sight."""
    share = np.ones_like(times)
    if stop is not None:
        share -= _smooth_window(times, stop[0], stop[1], ramp)
    active = times >= entry
    distance = _integral(course.speed * share * active, times[1] - times[0])
    if entry < 0.0:
        distance += -entry * course.speed
        entry_travel = camera.speed[0] * entry
    else:
        entry_travel = float(np.interp(entry, times, camera.travel))
    pose = np.empty((len(times), POSE_COLUMNS))
    pose[:, POSE_X] = course.x + course.heading_x * distance
    pose[:, POSE_Z] = course.z + course.heading_z * distance + entry_travel - camera.travel
    pose[:, POSE_HEADING_X] = course.heading_x
    pose[:, POSE_HEADING_Z] = course.heading_z
    pose[:, POSE_DISTANCE] = distance
    pose[:, POSE_GAIT] = share * min(1.0, course.speed)
    pose[~active, POSE_Z] = -1.0
    return pose, share * course.speed < 0.02


def _visible(actor: np.ndarray, pose: np.ndarray, edge: float) -> np.ndarray:
    """Whether the actor's middle is on the sensor at a distance where it can be told, bool [F]."""
    nearest, farthest = _CAR_RANGE_M if actor[ACTOR_CLASS] == CAR else _PEDESTRIAN_RANGE_M
    z = pose[:, POSE_Z]
    return (z > nearest) & (z < farthest) & (np.abs(pose[:, POSE_X]) < edge * np.maximum(z, 0.1))


def _credible(pose: np.ndarray, visible: np.ndarray, times: np.ndarray, course: _Course, camera: Camera) -> bool:
    """Whether the actor is seen for a while and does not run into the camera."""
    if visible.sum() * (times[1] - times[0]) < _SHORTEST_VISIT_S:
        return False
    z, x = pose[:, POSE_Z], pose[:, POSE_X]
    if np.any((z > 0.0) & (z < 4.0) & (np.abs(x) < 2.0)):
        return False
    return course.speed > 0.0 or camera.speed[visible].mean() > 0.5


def _make_actor(
    entry: float, times: np.ndarray, camera: Camera, config: SimulationConfig, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """One actor that enters at ``entry``: its row, poses and standing times; None if no credible course is found."""
    is_pedestrian = generator.random() < config.pedestrian_fraction
    actor = _make_pedestrian(generator) if is_pedestrian else _make_car(generator)
    ego_speed = float(np.interp(entry, times, camera.speed))
    ramp = 0.3 if is_pedestrian else 0.8
    edge = _edge(config)
    for _ in range(_CREDIBLE_ATTEMPTS):
        choose_course = _pedestrian_course if is_pedestrian else _car_course
        course = choose_course(ego_speed, entry < 0.0, edge, generator)
        pose, standing = _follow(course, entry, None, ramp, times, camera)
        visible = _visible(actor, pose, edge)
        if not _credible(pose, visible, times, course, camera):
            continue
        if course.speed > 0.0 and generator.random() < config.stop_probability:
            seen = times[visible]
            start = seen[0] + generator.uniform(0.15, 0.6) * (seen[-1] - seen[0])
            stop = (start, start + generator.uniform(1.8, 5.0))
            stopping, stopping_standing = _follow(course, entry, stop, ramp, times, camera)
            if _credible(stopping, _visible(actor, stopping, edge), times, course, camera):
                pose, standing = stopping, stopping_standing
        return actor, pose, standing
    return None


def make_scene(times: np.ndarray, width: int, config: SimulationConfig, generator: np.random.Generator) -> Scene:
    """Compose the scene of one recording.

    Args:
        times: Time of every image in seconds, float64 [F], evenly spaced from 0.
        width: Width of the sensor in pixels.
        config: What there is to see.
        generator: Source of everything random about the scene.
    """
    camera = _make_camera(times, width, config, generator)
    clutter = _make_clutter(float(camera.travel[-1]), config, generator)
    busyness = generator.uniform(0.6, 1.5) * config.objects_per_second
    span = float(times[-1]) - _FIRST_ENTRY_S
    count = max(_FEWEST_ENTRIES, generator.poisson(busyness * span)) if busyness > 0.0 else 0
    entries = np.sort(generator.uniform(_FIRST_ENTRY_S, max(0.0, float(times[-1]) - 1.0), count))
    made = [_make_actor(float(entry), times, camera, config, generator) for entry in entries]
    members = [member for member in made if member is not None]
    return Scene(
        camera=camera,
        clutter=clutter,
        actors=np.array([actor for actor, _, _ in members]).reshape(-1, ACTOR_COLUMNS),
        poses=np.stack([pose for _, pose, _ in members], axis=1)
        if members
        else np.empty((len(times), 0, POSE_COLUMNS)),
        standing=np.stack([standing for _, _, standing in members], axis=1)
        if members
        else np.empty((len(times), 0), bool),
        noise=generator.uniform(-1.0, 1.0, (NOISE_SIZE, NOISE_SIZE)),
        wall_distance=generator.uniform(9.0, 13.0),
        style=generator.uniform(0.0, 100.0),
        crosswalk=generator.uniform(5.0, 40.0),
        contrast=generator.uniform(0.65, 1.0),
        wind=generator.uniform(0.0, 1.0) ** 2,
    )
