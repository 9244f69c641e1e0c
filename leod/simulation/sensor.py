"""The event camera: from rendered images to events.

A pixel remembers a reference level of its log intensity and makes an event whenever the log intensity has moved away
from it by the pixel's contrast threshold; the level then moves by one threshold and carries on from there, so that
slow changes add up over images. Between two images the log intensity is taken as linear in time, which gives each
event its own microsecond. This is the model of ESIM (Rebecq, Gehrig, Scaramuzza, "ESIM: an Open Event Camera
Simulator", CoRL 2018, Sec. 3), with a threshold that varies over the pixels, a refractory period, background activity
and hot pixels.
"""

from __future__ import annotations

import numpy as np

from leod.config.schema import SensorSize, SimulationConfig
from leod.jit import compiled

_SMALLEST_THRESHOLD = 0.05
_HOT_PIXEL_RATES_HZ = (100.0, 800.0)
_ON_SHARE_OF_NOISE = 0.6


@compiled
def crossings(
    log_before: np.ndarray,
    log_now: np.ndarray,
    reference: np.ndarray,
    threshold_on: np.ndarray,
    threshold_off: np.ndarray,
    start_us: float,
    end_us: float,
    buffer: np.ndarray,
    count: int,
) -> tuple[np.ndarray, int]:  # pragma: no cover
    """Append the threshold crossings between two images to ``buffer``.

    Args:
        log_before: Log intensity of the earlier image, float64 [H, W].
        log_now: Log intensity of the later image, float64 [H, W].
        reference: The pixels' reference levels, float64 [H, W]; updated.
        threshold_on: Rise that makes an event, float64 [H, W].
        threshold_off: Fall that makes an event, float64 [H, W].
        start_us: Time of the earlier image in microseconds.
        end_us: Time of the later image in microseconds.
        buffer: int64 [n, 4], rows t, x, y, p.
        count: Rows of ``buffer`` in use.

    Returns:
        The buffer, a larger one when it was full, and the rows in use.
    """
    height, width = log_now.shape
    for y in range(height):
        for x in range(width):
            level = log_now[y, x]
            before = log_before[y, x]
            polarity = 1 if level > reference[y, x] else 0
            step = threshold_on[y, x] if polarity == 1 else -threshold_off[y, x]
            while (level - reference[y, x] - step) * step >= 0.0:
                reference[y, x] += step
                share = (reference[y, x] - before) / (level - before) if level != before else 1.0
                if count == buffer.shape[0]:
                    larger = np.empty((2 * count, 4), np.int64)
                    larger[:count] = buffer
                    buffer = larger
                t = int(start_us + min(1.0, max(0.0, share)) * (end_us - start_us))
                buffer[count, 0] = min(t, int(end_us) - 1)
                buffer[count, 1] = x
                buffer[count, 2] = y
                buffer[count, 3] = polarity
                count += 1
    return buffer, count


@compiled
def _outside_refractory_period(
    events: np.ndarray, last_us: np.ndarray, refractory_us: int
) -> np.ndarray:  # pragma: no cover
    """Mark the events (int64 [n, 4], in order of time) whose pixel was ready; updates ``last_us`` int64 [H, W]."""
    keep = np.zeros(events.shape[0], np.bool_)
    for index in range(events.shape[0]):
        t, x, y = events[index, 0], events[index, 1], events[index, 2]
        if t - last_us[y, x] >= refractory_us:
            keep[index] = True
            last_us[y, x] = t
    return keep


class EventSensor:
    """One sensor with its own thresholds, hot pixels and noise.

    Args:
        size: Sensor size in pixels.
        config: Contrast threshold, noise and refractory period.
        generator: Source of everything random about the sensor.
    """

    def __init__(self, size: SensorSize, config: SimulationConfig, generator: np.random.Generator) -> None:
        shape = (size.height, size.width)
        self._config = config
        self._generator = generator
        spread = config.contrast_threshold * config.contrast_variation
        self.threshold_on, self.threshold_off = (
            np.maximum(generator.normal(config.contrast_threshold, spread, shape), _SMALLEST_THRESHOLD)
            for _ in range(2)
        )
        # Where in its threshold step a pixel starts is chance; otherwise all would fire in step at first.
        self._reference_offset = generator.uniform(-0.5, 0.5, shape) * config.contrast_threshold
        hot = np.flatnonzero(generator.random(shape) < config.hot_pixel_fraction)
        self._hot_pixels = np.stack(np.unravel_index(hot, shape), axis=1)
        self._hot_rates_hz = np.exp(generator.uniform(*np.log(_HOT_PIXEL_RATES_HZ), len(hot)))
        self._last_us = np.full(shape, -(10**9), np.int64)

    def first_reference(self, log_intensity: np.ndarray) -> np.ndarray:
        """Reference levels at the first image, float64 [H, W]."""
        return log_intensity + self._reference_offset

    def _noise(self, start_us: int, end_us: int) -> np.ndarray:
        generator = self._generator
        height, width = self._last_us.shape
        seconds = (end_us - start_us) * 1e-6
        background = generator.poisson(self._config.noise_rate_hz * height * width * seconds)
        repeats = generator.poisson(self._hot_rates_hz * seconds)
        hot = np.repeat(self._hot_pixels, repeats, axis=0)
        count = background + len(hot)
        noise = np.empty((count, 4), np.int64)
        noise[:, 0] = generator.integers(start_us, end_us, count)
        noise[:background, 1] = generator.integers(0, width, background)
        noise[:background, 2] = generator.integers(0, height, background)
        noise[background:, 1] = hot[:, 1]
        noise[background:, 2] = hot[:, 0]
        noise[:, 3] = generator.random(count) < _ON_SHARE_OF_NOISE
        return noise

    def read_out(self, events: np.ndarray, start_us: int, end_us: int) -> np.ndarray:
        """Add the noise to the crossings of a span of time, sort, apply the refractory period.

        Args:
            events: Crossings, int64 [n, 4] rows t, x, y, p, in any order, start_us <= t < end_us.
            start_us: First microsecond of the span.
            end_us: End of the span, exclusive. Spans must follow each other.

        Returns:
            int64 [m, 4] in order of time.
        """
        events = np.concatenate([events, self._noise(start_us, end_us)])
        height, width = self._last_us.shape
        key = (events[:, 0] * height + events[:, 2]) * width + events[:, 1]
        events = events[np.argsort(key, kind="stable")]
        return events[_outside_refractory_period(events, self._last_us, self._config.refractory_us)]
