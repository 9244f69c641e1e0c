"""A simulated event camera behind the windscreen: recordings with labels for trying out the whole pipeline.

Cars and pedestrians move through a street with house fronts, road markings and clutter that resembles them; the
camera drives, waits or stops. Images are rendered many times a second and turned into events by the model of ESIM
(Rebecq et al., CoRL 2018; see `leod.simulation.sensor`). Labels carry the extent of every object that has been
noticeable: an object that stopped makes no more events, but keeps its box.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from leod.boxes.dtypes import RECORDING_BOX_DTYPE
from leod.config.schema import SensorSize, SimulationConfig
from leod.simulation.actors import ACTOR_CLASS, CAR, PEDESTRIAN
from leod.simulation.rendering import draw_objects, log_intensity
from leod.simulation.scene import Scene, focal_length, make_scene
from leod.simulation.sensor import EventSensor, crossings
from leod.simulation.street import draw_street

SPLITS = ("train", "val", "test")
_HORIZON_SHARE = 0.42
_READ_OUT_US = 100_000
_SMALLEST_VISIBLE_SHARE = 0.3
_SMALLEST_SIDE_PX = 3.0
_NOTICEABLE_MOTION_PX = 2.0
_FIRST_BUFFER = 1 << 16


class RecordingSimulator:
    """Simulates one recording. Iterate over `chunks`, then read `boxes`.

    Args:
        sensor: Size of the sensor in pixels.
        class_ids: Class id of "car" and of "pedestrian".
        config: What is simulated.
        split: The recording's split.
        index: The recording's number in its split; with the seed and the split it decides everything random, so that
            a recording does not depend on how many others there are.
    """

    def __init__(
        self, sensor: SensorSize, class_ids: dict[str, int], config: SimulationConfig, split: str, index: int
    ) -> None:
        scene_seed, sensor_seed = np.random.SeedSequence([config.seed, SPLITS.index(split), index]).spawn(2)
        self._size = sensor
        self._focal_px = focal_length(config) * sensor.width
        self._class_ids = {CAR: class_ids["car"], PEDESTRIAN: class_ids["pedestrian"]}
        self._config = config
        images = max(2, round(config.duration_s * config.render_rate_hz) + 1)
        self._times = np.arange(images) / config.render_rate_hz
        self.scene: Scene = make_scene(self._times, sensor.width, config, np.random.default_rng(scene_seed))
        self._sensor = EventSensor(sensor, config, np.random.default_rng(sensor_seed))
        self._label_images = self._images_at_label_times()
        self._rows: list[tuple] = []
        self._motion_px = np.zeros(len(self.scene.actors))
        self._last_position: dict[int, tuple[float, float, float]] = {}
        self._background_of: tuple[float, float, float] | None = None
        self._background = np.empty((sensor.height, sensor.width))
        self._owner = np.empty((sensor.height, sensor.width), np.int64)
        self._measures = np.zeros((len(self.scene.actors), 14))

    def _images_at_label_times(self) -> dict[int, int]:
        """Image number → label time in microseconds."""
        count = math.floor(self._config.duration_s * self._config.label_rate_hz + 1e-9)
        label_times = (round(number * 1e6 / self._config.label_rate_hz) for number in range(1, count + 1))
        last = len(self._times) - 1
        return {min(last, round(t * 1e-6 * self._config.render_rate_hz)): t for t in label_times}

    def render(self, image_number: int) -> np.ndarray:
        """Render one image, float64 [H, W], linear intensity 0..1, and measure its actors."""
        scene, size = self.scene, self._size
        camera = scene.camera
        focal = self._focal_px
        horizon = _HORIZON_SHARE * size.height + camera.tilt_px[image_number]
        centre_x = 0.5 * size.width + camera.pan_px[image_number]
        travel = camera.travel[image_number]
        if self._background_of != (horizon, centre_x, travel):
            draw_street(
                self._background,
                focal,
                horizon,
                centre_x,
                travel,
                scene.wall_distance,
                scene.style,
                scene.crosswalk,
                scene.noise,
            )
            self._background_of = (horizon, centre_x, travel)
        image = self._background.copy()
        draw_objects(
            image,
            self._owner,
            focal,
            horizon,
            centre_x,
            travel,
            self._times[image_number],
            scene.wind,
            scene.clutter,
            scene.actors,
            scene.poses[image_number],
            self._measures,
        )
        return image

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield the events in order of time, int64 [n, 4], rows t (microseconds), x, y, p (0 or 1)."""
        log_before = np.empty((self._size.height, self._size.width))
        log_now = np.empty_like(log_before)
        log_intensity(self.render(0), self.scene.contrast, log_before)
        reference = self._sensor.first_reference(log_before)
        buffer = np.empty((_FIRST_BUFFER, 4), np.int64)
        count, chunk_start = 0, 0
        times_us = np.round(self._times * 1e6).astype(np.int64)
        last = len(times_us) - 1
        for number in range(1, last + 1):
            log_intensity(self.render(number), self.scene.contrast, log_now)
            buffer, count = crossings(
                log_before,
                log_now,
                reference,
                self._sensor.threshold_on,
                self._sensor.threshold_off,
                times_us[number - 1],
                times_us[number],
                buffer,
                count,
            )
            log_before, log_now = log_now, log_before
            self._note_motion()
            if number in self._label_images:
                self._label(self._label_images[number])
            end = int(times_us[number])
            if end - chunk_start >= _READ_OUT_US or number == last:
                yield self._sensor.read_out(buffer[:count], chunk_start, end)
                count, chunk_start = 0, end

    def _note_motion(self) -> None:
        """Add up how far each visible actor has moved on the sensor."""
        for actor in np.flatnonzero(self._measures[:, 9] > 0.0):
            left, top, right, bottom = self._measures[actor, :4]
            position = (left + right, top + bottom, bottom - top)
            last = self._last_position.get(actor, position)
            self._motion_px[actor] += 0.5 * max(abs(now - then) for now, then in zip(position, last, strict=True))
            self._last_position[actor] = position

    def _label(self, time_us: int) -> None:
        for actor, measures in enumerate(self._measures):
            box = visible_box(measures, self._size)
            if box is None or self._motion_px[actor] < _NOTICEABLE_MOTION_PX:
                continue
            left, top, right, bottom = box
            class_id = self._class_ids[int(self.scene.actors[actor, ACTOR_CLASS])]
            self._rows.append((time_us, left, top, right - left, bottom - top, class_id, actor + 1, 1.0))

    def boxes(self) -> np.ndarray:
        """The labels so far, RECORDING_BOX_DTYPE [n], in order of time; pixels of the sensor, top-left corner."""
        # The rows end in padding, which np.array would leave as memory happens to be; files must not depend on that.
        boxes = np.zeros(len(self._rows), RECORDING_BOX_DTYPE)
        for name, column in zip(RECORDING_BOX_DTYPE.names, zip(*self._rows, strict=True), strict=False):
            boxes[name] = column
        return boxes


def visible_box(measures: np.ndarray, size: SensorSize) -> tuple[float, float, float, float] | None:
    """Box of one actor: its extent clipped to the sensor and to what others leave visible of it.

    Args:
        measures: float64 [14], see `leod.simulation.rendering.draw_objects`.
        size: Sensor size in pixels.

    Returns:
        left, top, right, bottom; None when it is off the sensor, too small, or mostly hidden by others.
    """
    on_sensor, visible = measures[4], measures[9]
    if on_sensor == 0.0 or visible < _SMALLEST_VISIBLE_SHARE * on_sensor:
        return None
    limits = (0.0, 0.0, float(size.width), float(size.height))
    whole, seen = measures[5:9], measures[10:14]
    sides = []
    for side in range(4):
        inwards = max if side < 2 else min
        value = inwards(measures[side], limits[side])
        # Only where another object hides the border do the visible pixels decide.
        if abs(seen[side] - whole[side]) >= 1.0:
            value = inwards(value, seen[side])
        sides.append(float(value))
    left, top, right, bottom = sides
    if min(right - left, bottom - top) < _SMALLEST_SIDE_PX:
        return None
    return left, top, right, bottom
