"""Smoothing boxes along their tracks: a straight line through the neighbouring boxes of the same track."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from leod.jit import compiled

_LEAST_WEIGHT = 1e-6
"""Boxes of score zero count a little, so that a window full of them has a line."""


@compiled
def _fit(
    tracks: npt.NDArray[np.int64],
    frames: npt.NDArray[np.int64],
    values: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64],
    half_width: int,
    fitted: npt.NDArray[np.float64],
) -> None:
    """Fill ``fitted`` [n, 4] with the lines' values; boxes are sorted by track and frame, one track has one a frame."""
    first = stop = 0
    for row in range(len(tracks)):
        while tracks[first] != tracks[row] or frames[first] < frames[row] - half_width:
            first += 1
        while stop < len(tracks) and (
            tracks[stop] < tracks[row] or (tracks[stop] == tracks[row] and frames[stop] <= frames[row] + half_width)
        ):
            stop += 1
        if stop - first < 2:
            fitted[row] = values[row]
            continue
        weight_sum = time_sum = 0.0
        for other in range(first, stop):
            weight_sum += weights[other]
            time_sum += weights[other] * (frames[other] - frames[row])
        mean_time = time_sum / weight_sum
        spread = 0.0
        for other in range(first, stop):
            spread += weights[other] * (frames[other] - frames[row] - mean_time) ** 2
        for column in range(4):
            value_sum = 0.0
            for other in range(first, stop):
                value_sum += weights[other] * values[other, column]
            mean = value_sum / weight_sum
            covariance = 0.0
            for other in range(first, stop):
                time = frames[other] - frames[row] - mean_time
                covariance += weights[other] * time * (values[other, column] - mean)
            fitted[row, column] = mean - mean_time * covariance / spread


def smoothed(
    boxes: np.ndarray,
    frames: npt.NDArray[np.int64],
    tracks: npt.NDArray[np.int64],
    half_width: int,
    frame_size: tuple[int, int],
) -> npt.NDArray[np.float32]:
    """Move each box onto a straight line through the boxes of its track around it.

    Position and size are each fitted over the frames from ``half_width`` before to as many behind, weighted by
    objectness × class confidence. A box alone in them stays where it is, as does one that would lose its area. Ground
    truth counts with weight 1 and never moves.

    Args:
        boxes: `LABEL_DTYPE` [n] in pixels.
        frames: int64 [n], the frame of each box.
        tracks: int64 [n], the track of each box, with one box a frame; -1: none, the box stays where it is.
        half_width: Frames to either side, at least 1.
        frame_size: (height, width) in pixels; boxes that move are cut at the border.

    Returns:
        float32 [n, 4]: x, y, w, h in the order of the boxes.
    """
    stored = np.stack([boxes[name] for name in ("x", "y", "w", "h")], axis=1)
    is_truth = boxes["t"] > 0
    rows = np.flatnonzero(tracks >= 0)
    rows = rows[np.lexsort((frames[rows], tracks[rows]))]
    scores = (boxes["objectness"] * boxes["class_confidence"])[rows].astype(np.float64)
    weights = np.where(is_truth[rows], 1.0, np.maximum(scores, _LEAST_WEIGHT))
    fitted = np.empty((len(rows), 4))
    values = stored[rows].astype(np.float64)
    _fit(np.ascontiguousarray(tracks[rows]), np.ascontiguousarray(frames[rows]), values, weights, half_width, fitted)
    moves = ~is_truth[rows] & (fitted != values).any(axis=1)
    height, width = frame_size
    start = np.clip(fitted[:, :2], 0, [width - 1, height - 1])
    end = np.clip(fitted[:, :2] + fitted[:, 2:], 0, [width - 1, height - 1])
    cut = np.concatenate([start, end - start], axis=1).astype(np.float32)
    moves &= (cut[:, 2:] > 0).all(axis=1)
    stored[rows[moves]] = cut[moves]
    return stored
