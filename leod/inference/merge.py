"""Merging the detections of several views into one set per frame (LEOD, Sec. 3.3, test-time augmentation)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torchvision.ops import batched_nms

from leod.inference.views import PLAIN, View, scale_boxes, true_frames
from leod.labels.boxes import flip_left_right
from leod.labels.dtypes import LABEL_DTYPE


class ViewCollector:
    """Gathers the boxes of one sequence over all views and merges them.

    Args:
        num_frames: Frames of the sequence; boxes that a view puts before or behind are dropped.
        frame_size: (height, width) in pixels of the frames that the boxes refer to.
        time_reversal_label_offset: See `leod.inference.views.true_frames`.
        scale: Collected boxes are enlarged by this factor (2 = from halved frames to the sensor's resolution).
    """

    def __init__(
        self, num_frames: int, frame_size: tuple[int, int], time_reversal_label_offset: int, scale: float = 1
    ) -> None:
        self._num_frames = num_frames
        self._frame_size = frame_size
        self._scaled_size = (round(frame_size[0] * scale), round(frame_size[1] * scale))
        self._offset = time_reversal_label_offset
        self._scale = scale
        self._boxes: list[npt.NDArray[np.void]] = []
        self._frames: list[npt.NDArray[np.int64]] = []
        self._occupied = np.zeros(num_frames, dtype=bool)
        self._augmented = False

    def add(self, boxes: npt.NDArray[np.void], frame_indices: npt.NDArray[np.int64], view: View) -> None:
        """Add what was found in (a part of) one view.

        Args:
            boxes: LABEL_DTYPE [n] in pixels of the view's frames. Ground truth (t > 0) is taken from the first view
                that shows it; views that come later repeat it.
            frame_indices: int64 [n], the frame each box was found at, as read in the view; a frame's boxes come in one
                call.
            view: The view.
        """
        self._augmented |= view != PLAIN
        frames = true_frames(frame_indices, view, self._offset)
        inside = (frames >= 0) & (frames < self._num_frames)
        boxes, frames = boxes[inside], frames[inside]
        if view.mirrored:
            boxes = flip_left_right(boxes, self._frame_size)
        boxes, kept = scale_boxes(boxes, self._scale, self._scaled_size)
        frames = frames[kept]

        repeated = np.zeros(self._num_frames, dtype=bool)
        repeated[frames[boxes["t"] > 0]] = True
        repeated &= self._occupied
        fresh = ~repeated[frames]
        self._boxes.append(boxes[fresh])
        self._frames.append(frames[fresh])
        self._occupied[frames] = True

    def collected(self) -> tuple[npt.NDArray[np.void], npt.NDArray[np.int64]]:
        """All boxes so far, sorted by frame and, within a frame, by arrival.

        Returns:
            LABEL_DTYPE [n] and the frame of each box, int64 [n].
        """
        if not self._boxes:
            return np.zeros(0, dtype=LABEL_DTYPE), np.zeros(0, dtype=np.int64)
        frames = np.concatenate(self._frames)
        by_frame = np.argsort(frames, kind="stable")
        return np.concatenate(self._boxes)[by_frame], frames[by_frame]

    def merged(
        self, confidence_threshold: float, nms_threshold: float
    ) -> tuple[npt.NDArray[np.void], npt.NDArray[np.int64]]:
        """The boxes after `merge_views`; a plain view alone stays as it is.

        Args:
            confidence_threshold: See `merge_views`.
            nms_threshold: See `merge_views`.

        Returns:
            LABEL_DTYPE [n] and the frame of each box, int64 [n], sorted by frame.
        """
        boxes, frames = self.collected()
        return merge_views(boxes, frames, confidence_threshold, nms_threshold) if self._augmented else (boxes, frames)


def merge_views(
    boxes: npt.NDArray[np.void],
    frame_indices: npt.NDArray[np.int64],
    confidence_threshold: float,
    nms_threshold: float,
) -> tuple[npt.NDArray[np.void], npt.NDArray[np.int64]]:
    """Non-maximum suppression, class by class, over the boxes of all views of a frame together.

    Frames with any ground truth pass unchanged. In the others a box must have objectness × class confidence >=
    ``confidence_threshold``, and the survivors are sorted by that product, highest first. Frames that lose all their
    boxes vanish.

    Args:
        boxes: LABEL_DTYPE [n] in pixels.
        frame_indices: int64 [n], ascending.
        confidence_threshold: 0..1; it can undo lower thresholds per class, so it should lie below their product.
        nms_threshold: IoU above which the weaker of two boxes of a class is suppressed, 0..1.

    Returns:
        LABEL_DTYPE [m <= n] and int64 [m].
    """
    scores = boxes["objectness"] * boxes["class_confidence"]
    corners = np.stack(
        [boxes["x"], boxes["y"], boxes["x"] + boxes["w"], boxes["y"] + boxes["h"]], axis=1, dtype=np.float32
    )
    classes = boxes["class_id"].astype(np.int64)
    confident = scores >= np.float32(confidence_threshold)
    borders = np.flatnonzero(np.diff(frame_indices, prepend=-1, append=np.iinfo(np.int64).max)).tolist()
    chosen = [np.zeros(0, dtype=np.int64)]
    for start, stop in pairwise(borders):
        if (boxes["t"][start:stop] > 0).any():
            chosen.append(np.arange(start, stop))
            continue
        candidates = start + np.flatnonzero(confident[start:stop])
        if candidates.size:
            survivors = batched_nms(
                torch.from_numpy(corners[candidates]),
                torch.from_numpy(scores[candidates]),
                torch.from_numpy(classes[candidates]),
                nms_threshold,
            )
            chosen.append(candidates[survivors.numpy()])
    order = np.concatenate(chosen)
    return boxes[order], frame_indices[order]
