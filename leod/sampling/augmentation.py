"""Augmentation of samples: mirror, rotation and zoom, in this order, the same for all frames of a sample.

Frames are resampled once, through an index map that all operations are applied to first; this gives the values that
resampling after each operation would give. Reversal in time is a matter of reading (`leod.sampling.windows`).

Source: `RandomSpatialAugmentorGenX` of RVT and LEOD (data/utils/augmentor.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from leod.boxes import operations as boxes
from leod.boxes.dtypes import LABEL_DTYPE
from leod.config.schema import AugmentationConfig, ZoomConfig
from leod.jit import compiled

_OUTSIDE = -1
"""Entry of an index map where there is no source pixel; such pixels become 0."""


@dataclass(frozen=True)
class ZoomIn:
    """Cut a window out and enlarge it. Fractions in [0, 1) are turned into a place once the boxes are known.

    Attributes:
        factor: More than 1.
        follow_boxes: Put the window so that it holds one box of the sample's last labelled frame (or lies inside it);
            otherwise anywhere.
        box: Which of the boxes.
        corner: Where between the least and the greatest possible (x, y) the window's corner lies.
    """

    factor: float
    follow_boxes: bool
    box: float
    corner: tuple[float, float]


@dataclass(frozen=True)
class ZoomOut:
    """Shrink the frame and place it in an empty one.

    Attributes:
        factor: More than 1.
        corner: (x, y) of the small frame's top-left corner, pixels.
    """

    factor: float
    corner: tuple[int, int]


@dataclass(frozen=True)
class SpatialAugmentation:
    """What is done to all frames and boxes of a sample; the default does nothing.

    Attributes:
        mirror: Swap left and right.
        rotation_deg: Positive turns counter-clockwise on the screen; 0 = none.
        zoom: None = none.
    """

    mirror: bool = False
    rotation_deg: float = 0.0
    zoom: ZoomIn | ZoomOut | None = None


def draw_augmentation(
    config: AugmentationConfig,
    zoom: ZoomConfig,
    frame_size: tuple[int, int],
    generator: np.random.Generator,
    follow_boxes: bool,
) -> SpatialAugmentation:
    """Draw an augmentation.

    Args:
        config: Mirror and rotation.
        zoom: Zoom.
        frame_size: (height, width) in pixels.
        generator: Where the random numbers come from.
        follow_boxes: See `ZoomIn`.
    """
    mirror = bool(generator.random() < config.mirror)
    rotation_deg = 0.0
    if generator.random() < config.rotation:
        rotation_deg = float(generator.uniform(config.min_rotation_deg, config.max_rotation_deg))
        rotation_deg *= float(generator.choice([-1.0, 1.0]))
    return SpatialAugmentation(mirror, rotation_deg, _draw_zoom(zoom, frame_size, generator, follow_boxes))


def _draw_zoom(
    zoom: ZoomConfig, frame_size: tuple[int, int], generator: np.random.Generator, follow_boxes: bool
) -> ZoomIn | ZoomOut | None:
    weights = zoom.zoom_in_weight + zoom.zoom_out_weight
    if weights == 0 or generator.random() >= zoom.probability:
        return None
    zoom_in = generator.random() * weights < zoom.zoom_in_weight
    factor = float(generator.uniform(1.0, zoom.max_zoom_in if zoom_in else zoom.max_zoom_out))
    if factor == 1.0:
        return None
    box, x, y = (float(number) for number in generator.random(3))
    if zoom_in:
        return ZoomIn(factor, follow_boxes, box, (x, y))
    height, width = frame_size
    window_height, window_width = window_size(frame_size, factor)
    return ZoomOut(factor, (int(x * (width - window_width)), int(y * (height - window_height))))


def window_size(frame_size: tuple[int, int], factor: float) -> tuple[int, int]:
    """(height, width) of the zoom window in whole pixels."""
    height, width = frame_size
    return int(height / factor), int(width / factor)


# ------------------------------------------------------------------------------------------------ zoom windows


def zoom_in_corner_range(
    box: tuple[float, float, float, float], frame_size: tuple[int, int], window: tuple[int, int]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where the corner of a zoom-in window may lie so that it holds a box, or lies inside it if it is smaller.

    Args:
        box: x, y, w, h in pixels, inside the frame.
        frame_size: (height, width) of the frame.
        window: (height, width) of the window.

    Returns:
        (least, greatest) x and (least, greatest) y of the top-left corner, pixels.
    """
    x, y, w, h = box
    height, width = frame_size
    window_height, window_width = window
    return _corner_range(x, w, width, window_width), _corner_range(y, h, height, window_height)


def _corner_range(start: float, extent: float, frame: int, window: int) -> tuple[float, float]:
    reach = max(window, extent)
    least = max(start + extent - reach, 0)
    greatest = max(min(start + reach, frame - 1) - window, least)
    return least, greatest


def place_zoom_in(zoom: ZoomIn, frame_size: tuple[int, int], last_labels: np.ndarray) -> tuple[int, int] | None:
    """Choose the corner of a zoom-in window.

    Args:
        zoom: What was drawn.
        frame_size: (height, width) in pixels.
        last_labels: `LABEL_DTYPE` [n], boxes of the last labelled frame that has any, after mirror and rotation.

    Returns:
        (x, y) in pixels; None if a box is wanted and there is none.
    """
    window = window_size(frame_size, zoom.factor)
    if zoom.follow_boxes:
        if len(last_labels) == 0:
            return None
        chosen = last_labels[int(zoom.box * len(last_labels))]
        box = tuple(float(chosen[name]) for name in ("x", "y", "w", "h"))
        x_range, y_range = zoom_in_corner_range(box, frame_size, window)
    else:
        x_range, y_range = (0, frame_size[1] - window[1]), (0, frame_size[0] - window[0])
    x, y = (
        int(least + fraction * (greatest - least))
        for (least, greatest), fraction in zip((x_range, y_range), zoom.corner, strict=True)
    )
    return x, y


# -------------------------------------------------------------------------------------------------- index maps


def _nearest_exact(source: int, target: int) -> np.ndarray:
    """Source pixel of each of ``target`` pixels, by pixel centres, int64 [target] (PyTorch's 'nearest-exact')."""
    ratio = np.float32(source) / np.float32(target)
    centres = (np.arange(target, dtype=np.float32) + np.float32(0.5)) * ratio
    return np.minimum(np.floor(centres).astype(np.int64), source - 1)


def mirror_map(indices: np.ndarray) -> np.ndarray:
    """Swap left and right of a map [H, W]."""
    return indices[:, ::-1]


def rotate_map(indices: np.ndarray, degrees: float) -> np.ndarray:
    """Rotate a map [H, W] about its centre; positive degrees turn counter-clockwise on the screen."""
    height, width = indices.shape
    angle = math.radians(degrees)
    cosine, sine = math.cos(angle), math.sin(angle)
    x = np.arange(width, dtype=np.float64) - (width - 1) / 2
    y = np.arange(height, dtype=np.float64)[:, None] - (height - 1) / 2
    source_x = np.rint(cosine * x - sine * y + (width - 1) / 2).astype(np.int64)
    source_y = np.rint(sine * x + cosine * y + (height - 1) / 2).astype(np.int64)
    inside = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
    rotated = np.full_like(indices, _OUTSIDE)
    rotated[inside] = indices[source_y[inside], source_x[inside]]
    return rotated


def zoom_in_map(indices: np.ndarray, corner: tuple[int, int], factor: float) -> np.ndarray:
    """Cut a window at ``corner`` (x, y) out of a map [H, W] and enlarge it to [H, W]."""
    x, y = corner
    window_height, window_width = window_size(indices.shape, factor)
    window = indices[y : y + window_height, x : x + window_width]
    rows, columns = (_nearest_exact(*sizes) for sizes in zip(window.shape, indices.shape, strict=True))
    return window[rows[:, None], columns]


def zoom_out_map(indices: np.ndarray, corner: tuple[int, int], factor: float) -> np.ndarray:
    """Shrink a map [H, W] and place it at ``corner`` (x, y) of an empty one [H, W]."""
    x, y = corner
    small = window_size(indices.shape, factor)
    rows, columns = (_nearest_exact(*sizes) for sizes in zip(indices.shape, small, strict=True))
    placed = np.full_like(indices, _OUTSIDE)
    placed[y : y + small[0], x : x + small[1]] = indices[rows[:, None], columns]
    return placed


@compiled
def _gather(frames: np.ndarray, indices: np.ndarray, out: np.ndarray) -> None:
    for step in range(frames.shape[0]):
        for channel in range(frames.shape[1]):
            for pixel in range(indices.shape[0]):
                source = indices[pixel]
                out[step, channel, pixel] = frames[step, channel, source] if source >= 0 else 0


def resample(frames: np.ndarray, indices: np.ndarray, out: np.ndarray) -> None:
    """Fill ``out`` with the pixels of ``frames`` that an index map names, 0 where it names none.

    Args:
        frames: [L, C, H, W].
        indices: Flat source indices, integers [H, W], -1 = none.
        out: Like ``frames``; H and W must be contiguous.
    """
    length, channels = frames.shape[:2]
    _gather(
        np.ascontiguousarray(frames).reshape(length, channels, -1),
        np.ascontiguousarray(indices, dtype=np.int32).ravel(),
        out.reshape(length, channels, -1),
    )


# --------------------------------------------------------------------------------------------------- samples


def augment(
    augmentation: SpatialAugmentation, frames: np.ndarray, labels: Mapping[int, np.ndarray], out: np.ndarray
) -> dict[int, np.ndarray]:
    """Augment the frames and boxes of a sample.

    Args:
        augmentation: What to do.
        frames: [n, C, H, W].
        labels: Labelled step of the sample, in order → its `LABEL_DTYPE` rows, in frame pixels.
        out: Like ``frames``, H and W contiguous; the augmented frames are written here.

    Returns:
        The augmented rows of the same steps; boxes that left the view are gone.
    """
    height, width = size = frames.shape[-2:]
    identity = indices = np.arange(height * width, dtype=np.int32).reshape(size)
    labels = dict(labels)
    if augmentation.mirror:
        indices = mirror_map(indices)
        labels = {step: boxes.flip_left_right(rows, size) for step, rows in labels.items()}
    if augmentation.rotation_deg:
        indices = rotate_map(indices, augmentation.rotation_deg)
        labels = {step: boxes.rotate(rows, size, augmentation.rotation_deg) for step, rows in labels.items()}
    zoom = augmentation.zoom
    if isinstance(zoom, ZoomIn):
        last = next((rows for rows in reversed(labels.values()) if len(rows)), np.zeros(0, LABEL_DTYPE))
        corner = place_zoom_in(zoom, size, last)
        if corner is not None:
            indices = zoom_in_map(indices, corner, zoom.factor)
            labels = {step: boxes.zoom_in(rows, size, corner, zoom.factor) for step, rows in labels.items()}
    elif isinstance(zoom, ZoomOut):
        indices = zoom_out_map(indices, zoom.corner, zoom.factor)
        labels = {step: boxes.zoom_out(rows, size, zoom.corner, zoom.factor) for step, rows in labels.items()}
    if indices is identity:
        out[:] = frames
    else:
        resample(frames, indices, out)
    return labels
