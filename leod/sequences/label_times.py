"""Which boxes and which label times of a recording are used.

Steps and order follow RVT's preprocessing script (uzh-rpg/RVT, `scripts/genx/preprocess_dataset.py`). It puts two
windows between neighbouring labelled frames whatever their distance; here the distance decides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from leod.boxes.dtypes import IGNORED_CLASS_ID, LEFT_OUT_CLASS_ID, RECORDING_BOX_DTYPE
from leod.config.schema import BoxFilterConfig, LabelTimesConfig, SensorSize
from leod.errors import DataError
from leod.sequences.plausibility import looks_counted_from_one

# Products such as 0.9 * 304 must not fall below the whole number that they stand for.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class LabelledFrames:
    """The labelled frames of a recording.

    Attributes:
        boxes: `RECORDING_BOX_DTYPE` [M], boxes of the labelled frames, sorted by time.
        times_us: int64 [K], label times, strictly increasing.
        first_box: int64 [K], row of each labelled frame's first box.
        windows_between: int64 [K-1], number of windows from one labelled frame (exclusive) to the next (inclusive).
    """

    boxes: np.ndarray
    times_us: np.ndarray
    first_box: np.ndarray
    windows_between: np.ndarray

    @classmethod
    def none(cls) -> Self:
        """Those of a recording without labels."""
        empty = np.zeros(0, np.int64)
        return cls(np.zeros(0, RECORDING_BOX_DTYPE), empty, empty, empty)

    def first(self, count: int) -> LabelledFrames:
        """The first ``count`` labelled frames."""
        if count == len(self.times_us):
            return self
        boxes = self.boxes[: self.first_box[count]]
        return LabelledFrames(
            boxes, self.times_us[:count], self.first_box[:count], self.windows_between[: max(count - 1, 0)]
        )


def select_classes(
    path: Path, boxes: np.ndarray, classes: tuple[str, ...], drop_class_ids: tuple[int, ...]
) -> np.ndarray:
    """Leave out boxes of the classes that are not wanted.

    Args:
        path: File of the boxes, for messages.
        boxes: Structured array with `class_id`.
        classes: Class names in label-id order.
        drop_class_ids: Ids that are left out.

    Raises:
        DataError: An id is neither a class, nor `IGNORED_CLASS_ID`, nor to be left out.
    """
    class_ids = boxes["class_id"]
    dropped = np.isin(class_ids, np.asarray((*drop_class_ids, LEFT_OUT_CLASS_ID), dtype=class_ids.dtype))
    unknown = ~dropped & (class_ids >= len(classes)) & (class_ids != IGNORED_CLASS_ID)
    if unknown.any():
        row = int(np.flatnonzero(unknown)[0])
        raise DataError(
            path,
            f"row {row} (t = {boxes['t'][row]} us, counted in order of time): unknown class id {class_ids[row]}; "
            f"allowed are 0 to {len(classes) - 1} ({', '.join(classes)}) and {IGNORED_CLASS_ID} (ignored), left out "
            f"are {list(drop_class_ids)}. Add its class to 'classes', the id to 'drop_class_ids', or say what it is: "
            f"class_map: {{{class_ids[row]}: CLASS}}."
            + (
                " The ids go from 1 to the number of classes: if they are counted from 1, say class_map: {"
                + ", ".join(f"{number + 1}: {name}" for number, name in enumerate(classes))
                + "}."
                if looks_counted_from_one(class_ids, len(classes))
                else ""
            ),
        )
    return boxes[~dropped]


def crop_to_sensor(boxes: np.ndarray, sensor: SensorSize) -> tuple[np.ndarray, np.ndarray]:
    """Clamp the corners to [0, width - 1] x [0, height - 1] and drop boxes without an area.

    Returns:
        The m boxes that are left, and bool [m] which of them were cut.
    """
    cropped = boxes.copy()
    for position, size, limit in (("x", "w", sensor.width - 1), ("y", "h", sensor.height - 1)):
        low = np.clip(boxes[position], 0, limit)
        high = np.clip(boxes[position] + boxes[size], 0, limit)
        cropped[position] = low
        cropped[size] = high - low
    # A box that ends with the last pixel, at x + w = width, is not cut.
    cut = (boxes["x"] < 0) | (boxes["x"] + boxes["w"] > sensor.width)
    cut |= (boxes["y"] < 0) | (boxes["y"] + boxes["h"] > sensor.height)
    kept = (cropped["w"] > 0) & (cropped["h"] > 0)
    return cropped[kept], cut[kept]


def filter_boxes(boxes: np.ndarray, limits: BoxFilterConfig, sensor: SensorSize) -> np.ndarray:
    """Drop boxes that are too small or too wide, see `BoxFilterConfig`."""
    width, height = boxes["w"], boxes["h"]
    keep = width**2 + height**2 >= limits.min_diagonal**2
    keep &= (width >= limits.min_side) & (height >= limits.min_side)
    if limits.max_width_fraction is not None:
        keep &= width <= math.floor(limits.max_width_fraction * sensor.width + _ROUNDING)
    return boxes[keep]


def _base_step_us(times_us: np.ndarray, config: LabelTimesConfig) -> int:
    if config.mode == "fixed_step" or len(times_us) < 2:
        return config.step_us
    median = float(np.median(np.diff(times_us)))
    return max(int(max(round(config.step_us / median), 1) * median), 1)


def select_frames(
    boxes: np.ndarray,
    config: LabelTimesConfig,
    window_us: int,
    origin_us: int = 0,
    empty_us: np.ndarray | None = None,
) -> LabelledFrames | None:
    """Choose the label times that become labelled frames, and how many windows lie between them.

    With a step (fixed or from the median distance) a label time is taken if its distance to the last one taken is a
    multiple of the step, give or take the tolerance; each step has round(step / window) windows. Label times within
    the tolerance of the last one taken are left out. In mode `any` all label times are taken, and there are as many
    windows between two of them as it takes for neighbouring windows to be at most ``window_us`` apart. Label times
    closer together than a window then make windows that overlap.

    Args:
        boxes: `RECORDING_BOX_DTYPE` [M] sorted by time.
        config: See `LabelTimesConfig`.
        window_us: Length of a window in microseconds.
        origin_us: What `first_us` is counted from.
        empty_us: int64 [E], label times that have no box because there is nothing to see; None = none.

    Returns:
        The labelled frames, or None if no label time is late enough.
    """
    times = np.unique(boxes["t"] if empty_us is None else np.concatenate([boxes["t"], empty_us]))
    # A time of zero would mark a pseudo-label.
    first = int(np.searchsorted(times, max(origin_us + config.first_us, 1), side="left"))
    if first == len(times):
        return None
    taken = [int(times[first])]
    windows_between = []
    if config.mode == "any":
        taken = times[first:].tolist()
        windows_between = [-(-distance // window_us) for distance in np.diff(times[first:]).tolist()]
    else:
        step = _base_step_us(times, config)
        windows_per_step = max(round(step / window_us), 1)
        for time in times[first + 1 :].tolist():
            distance = time - taken[-1]
            steps = round(distance / step)
            if steps > 0 and abs(distance - steps * step) <= config.tolerance_us:
                taken.append(time)
                windows_between.append(steps * windows_per_step)
    kept = boxes[np.isin(boxes["t"], taken)]
    times_us = np.asarray(taken, dtype=np.int64)
    return LabelledFrames(
        boxes=kept,
        times_us=times_us,
        first_box=np.searchsorted(kept["t"], times_us, side="left").astype(np.int64),
        windows_between=np.asarray(windows_between, dtype=np.int64),
    )
