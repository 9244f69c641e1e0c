"""Merging the detections of several views into one set per frame (LEOD, Sec. 3.3, test-time augmentation)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as SequenceOf
from itertools import groupby

import numpy as np
import numpy.typing as npt

from leod.boxes.operations import flip_left_right, from_detection_rows
from leod.config.schema import DetectionConfig, MergingConfig, SequenceConfig
from leod.inference.fusion import fuse_boxes
from leod.inference.runner import FrameSelection, ToLabels, detect_sequences
from leod.inference.views import View, frames_to_read, scale_boxes, true_frames
from leod.models.detector import Detector
from leod.models.suppression import suppress
from leod.sequences.frame_boxes import FrameBoxes
from leod.sequences.sequence import Sequence

BoxSelection = Callable[[npt.NDArray[np.void]], npt.NDArray[np.bool_]]


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
        self._parts: list[FrameBoxes] = []
        self._part_views: list[int] = []
        self._views: dict[View, int] = {}
        self._occupied = np.zeros(num_frames, dtype=bool)

    def add(self, boxes: npt.NDArray[np.void], frame_indices: npt.NDArray[np.int64], view: View) -> None:
        """Add what was found in (a part of) one view.

        Args:
            boxes: LABEL_DTYPE [n] in pixels of the view's frames. Ground truth (t > 0) is taken from the first view
                that shows it; views that come later repeat it.
            frame_indices: int64 [n], the frame each box was found at, as read in the view; a frame's boxes come in one
                call.
            view: The view.
        """
        number = self._views.setdefault(view, len(self._views))
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
        self._parts.append(FrameBoxes(boxes[fresh], frames[fresh]))
        self._part_views.append(number)
        self._occupied[frames] = True

    def collected(self) -> FrameBoxes:
        """All boxes so far, sorted by frame and, within a frame, by arrival."""
        return FrameBoxes.joined(self._parts)

    def merged(
        self,
        confidence_threshold: float,
        nms_threshold: float,
        merging: MergingConfig = MergingConfig(),  # noqa: B008  (immutable)
        passed: BoxSelection | None = None,
    ) -> FrameBoxes:
        """The boxes of all views together; those of one view alone stay as they are.

        Args:
            confidence_threshold: Least objectness × class confidence of the boxes that take part.
            nms_threshold: IoU of non-maximum suppression.
            merging: Whether by `merge_views` or `leod.inference.fusion.fuse_boxes`, and how.
            passed: Given `LABEL_DTYPE` [n], it returns bool [n], which boxes take part at all; None: all of them.
        """
        boxes = self.collected()
        takes_part = np.ones(len(boxes), bool) if passed is None else passed(boxes.boxes)
        boxes = boxes.select(takes_part)
        if len(self._views) < 2:
            return boxes
        if merging.method == "nms":
            return merge_views(boxes, confidence_threshold, nms_threshold)
        frames = np.concatenate([part.frame_indices for part in self._parts])
        views = np.repeat(self._part_views, [len(part) for part in self._parts])[np.argsort(frames, kind="stable")]
        views = views[takes_part]
        shown_by = self._shown_by(boxes.frame_indices) if merging.agreement else None
        return fuse_boxes(boxes, views, shown_by, confidence_threshold, merging.iou_threshold)

    def _shown_by(self, frames: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """How many views show each of these frames: read backwards, the last ones cannot be seen."""
        counts = np.zeros(len(frames), np.int64)
        for view in self._views:
            read = frames_to_read(frames, view, self._offset)
            counts += (read >= 0) & (read < self._num_frames)
        return counts


def merge_views(found: FrameBoxes, confidence_threshold: float, nms_threshold: float) -> FrameBoxes:
    """Non-maximum suppression, class by class, over the boxes of all views of a frame together.

    Frames with any ground truth pass unchanged. In the others a box must have objectness × class confidence >=
    ``confidence_threshold``, and the survivors are sorted by that product, highest first. Frames that lose all their
    boxes vanish.

    Args:
        found: Boxes in pixels.
        confidence_threshold: 0..1; it can undo lower thresholds per class, so it should lie below their product.
        nms_threshold: IoU above which the weaker of two boxes of a class is suppressed, 0..1.
    """
    boxes, frame_indices = found.boxes, found.frame_indices
    scores = boxes["objectness"] * boxes["class_confidence"]
    known = np.isin(frame_indices, frame_indices[boxes["t"] > 0])
    candidates = np.flatnonzero(~known & (scores >= np.float32(confidence_threshold)))
    taking_part = boxes[candidates]
    corners = np.stack(
        [
            taking_part["x"],
            taking_part["y"],
            taking_part["x"] + taking_part["w"],
            taking_part["y"] + taking_part["h"],
        ],
        axis=1,
        dtype=np.float32,
    )
    classes = taking_part["class_id"].astype(np.int64)
    survivors = candidates[suppress(corners, scores[candidates], classes, frame_indices[candidates], nms_threshold)]
    order = np.concatenate([np.flatnonzero(known), survivors])
    order = order[np.argsort(frame_indices[order], kind="stable")]
    return FrameBoxes(boxes[order], frame_indices[order])


def detect_views(
    detector: Detector,
    sequences: SequenceOf[Sequence],
    config: SequenceConfig,
    detection: DetectionConfig,
    *,
    views: SequenceOf[View],
    frames: FrameSelection = "all",
    to_labels: ToLabels = from_detection_rows,
    full_sensor: bool = False,
    num_workers: int = 0,
    description: str = "detecting",
) -> Iterator[tuple[Sequence, ViewCollector]]:
    """Run the detector over whole sequences and yield each one with what its views show, once it is complete.

    Args:
        detector: See `leod.inference.runner.detect_sequences`, as for all that is not said here.
        sequences: The sequences.
        config: The data set's frames and label offset.
        detection: Thresholds of each view, batching.
        views: Views that are wanted, each once.
        frames: 'all' or 'labelled'.
        to_labels: Which boxes of a view's frame are kept.
        full_sensor: Give boxes in pixels of the full sensor also where the frames are halved; otherwise of the frames.
        num_workers: Loader processes.
        description: Shown with the progress.
    """
    results = detect_sequences(
        detector,
        sequences,
        detection,
        views=views,
        frames=frames,
        time_reversal_label_offset=config.time_reversal_label_offset,
        to_labels=to_labels,
        num_workers=num_workers,
        description=description,
    )
    scale = 2 if full_sensor and config.downsample_by_2 else 1
    for _, group in groupby(results, key=lambda result: result.sequence.name):
        of_views = list(group)
        sequence = of_views[0].sequence
        collector = ViewCollector(sequence.num_frames, config.frame_size, config.time_reversal_label_offset, scale)
        for found in of_views:
            collector.add(found.boxes, found.frame_indices, found.view)
        yield sequence, collector


def detect_merged(
    detector: Detector,
    sequences: SequenceOf[Sequence],
    config: SequenceConfig,
    detection: DetectionConfig,
    *,
    views: SequenceOf[View],
    merging: MergingConfig = MergingConfig(),  # noqa: B008  (immutable)
    frames: FrameSelection = "all",
    to_labels: ToLabels = from_detection_rows,
    full_sensor: bool = False,
    num_workers: int = 0,
    description: str = "detecting",
) -> Iterator[tuple[Sequence, FrameBoxes]]:
    """Run the detector over whole sequences and yield each one with what its views show together, once it is complete.

    Args are those of `detect_views`; ``detection`` holds the thresholds of the merging, too, and ``merging`` says how
    the boxes of several views become one set. One view alone is not merged.
    """
    results = detect_views(
        detector,
        sequences,
        config,
        detection,
        views=views,
        frames=frames,
        to_labels=to_labels,
        full_sensor=full_sensor,
        num_workers=num_workers,
        description=description,
    )
    for sequence, collector in results:
        yield sequence, collector.merged(detection.confidence_threshold, detection.nms_threshold, merging)
