"""The views of test-time augmentation, and how boxes found in a view are carried back to the true frames.

A view shows the detector the sequence mirrored, reversed in time, or both (LEOD, Sec. 3.3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from leod.config.schema import ViewsConfig


@dataclass(frozen=True)
class View:
    """One way of showing a sequence to the detector."""

    mirrored: bool = False
    time_reversed: bool = False

    @property
    def name(self) -> str:
        """Short name for logs and results."""
        words = [word for word, is_so in (("mirrored", self.mirrored), ("reversed", self.time_reversed)) if is_so]
        return "-".join(words) or "plain"


PLAIN = View()
TIME_REVERSED = View(time_reversed=True)


def views_of(config: ViewsConfig) -> tuple[View, ...]:
    """The views that ``config`` asks for, the plain one first."""
    return tuple(
        View(mirrored, time_reversed)
        for time_reversed in ((False, True) if config.time_reversal else (False,))
        for mirrored in ((False, True) if config.mirror else (False,))
    )


def true_frames(
    frame_indices: npt.NDArray[np.int64], view: View, time_reversal_label_offset: int
) -> npt.NDArray[np.int64]:
    """The true frame that a detection made at a frame of a view belongs to.

    Args:
        frame_indices: int64 [n], the frames read; in a time-reversed view these are true frames read backwards.
        view: The view.
        time_reversal_label_offset: Zero or negative: reading frame i backwards shows the scene of frame i + offset.

    Returns:
        int64 [n], possibly negative, where no such frame exists.
    """
    return frame_indices + time_reversal_label_offset if view.time_reversed else frame_indices


def frames_to_read(
    true_frame_indices: npt.NDArray[np.int64], view: View, time_reversal_label_offset: int
) -> npt.NDArray[np.int64]:
    """The inverse of `true_frames`: where in a view the detections of the given true frames are made."""
    return true_frame_indices - time_reversal_label_offset if view.time_reversed else true_frame_indices


def scale_boxes(
    boxes: npt.NDArray[np.void], factor: float, scaled_size: tuple[int, int]
) -> tuple[npt.NDArray[np.void], npt.NDArray[np.bool_]]:
    """Scale boxes to another resolution as LEOD does: only the right and bottom edges are clamped.

    Args:
        boxes: LABEL_DTYPE [n] in pixels.
        factor: Scaled pixels per pixel; 1 changes nothing.
        scaled_size: (height, width) of the scaled frame; edges are clamped to size - 1.

    Returns:
        LABEL_DTYPE [m <= n], a copy without boxes that lost their area, and bool [n], True = kept.
    """
    if factor == 1:
        return boxes.copy(), np.ones(len(boxes), dtype=bool)
    scaled = boxes.copy()
    for corner, side, limit in (("x", "w", scaled_size[1] - 1), ("y", "h", scaled_size[0] - 1)):
        end = np.minimum((boxes[corner] + boxes[side]) * np.float32(factor), np.float32(limit))
        scaled[corner] = boxes[corner] * np.float32(factor)
        scaled[side] = end - scaled[corner]
    kept = (scaled["w"] > 0) & (scaled["h"] > 0)
    return scaled[kept], kept
