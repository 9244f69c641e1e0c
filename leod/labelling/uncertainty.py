"""Where a detector is unsure: its views disagree, its tracks break, its confidence is neither high nor low."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from leod.boxes.dtypes import LABEL_DTYPE
from leod.config.schema import TrackFilterConfig
from leod.jit import compiled
from leod.pseudo_labels.tracking import filter_tracks
from leod.sequences.frame_boxes import FrameBoxes

WEAKEST_SCORE = 0.05
"""Objectness times class confidence of the weakest box that says anything; the threshold to detect with."""
_SAME_OBJECT_IOU = 0.5
_TRACKED_SCORE = 0.1
"""Weaker objects start no track: what comes and goes among them is noise."""
_TRACKS = TrackFilterConfig()


@dataclass(frozen=True)
class Uncertainty:
    """How unsure a detector is in each frame, summed over the objects that it sees there.

    Attributes:
        views_disagree: float64 [F], range of the views' scores for each object; 0 where a view does not see it.
        tracks_break: float64 [F], scores of the objects that are on no long track, and 1 for each gap in a long one.
        unsure: float64 [F], 16 s²(1 - s)² of each object's mean score s: 1 at 0.5, next to 0 below 0.1 and above 0.9.
        objects: The objects: their strongest box, with objectness = mean score and class confidence = 1.
    """

    views_disagree: npt.NDArray[np.float64]
    tracks_break: npt.NDArray[np.float64]
    unsure: npt.NDArray[np.float64]
    objects: FrameBoxes

    def amounts(self, frames: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """The three of some frames, float32 [n, 3], in the order of `leod.labelling.choosing.DETECTOR_SIGNS`."""
        return np.stack([self.views_disagree, self.tracks_break, self.unsure], axis=1)[frames].astype(np.float32)


@compiled
def _gather(corners, scores, views, groups, least_iou, first, of_views):  # noqa: ANN001, ANN202 -- compiled
    """Gather boxes into objects; boxes are sorted by group (frame and class) and falling score.

    A box joins the object whose first box it overlaps most, if that is enough and its view is not in it yet. ``first``
    int64 [n]: row of each object's first box; ``of_views`` float64 [n, views]: each view's score for it, 0 = none.
    Returns the number of objects.
    """
    count = start = 0
    for row in range(len(corners)):
        if row > 0 and groups[row] != groups[row - 1]:
            start = count
        best, best_iou = -1, least_iou
        for number in range(start, count):
            if of_views[number, views[row]] > 0:
                continue
            other = first[number]
            width = min(corners[row, 2], corners[other, 2]) - max(corners[row, 0], corners[other, 0])
            height = min(corners[row, 3], corners[other, 3]) - max(corners[row, 1], corners[other, 1])
            if width <= 0 or height <= 0:
                continue
            shared = width * height
            union = (
                (corners[row, 2] - corners[row, 0]) * (corners[row, 3] - corners[row, 1])
                + (corners[other, 2] - corners[other, 0]) * (corners[other, 3] - corners[other, 1])
                - shared
            )
            if shared / union >= best_iou:
                best, best_iou = number, shared / union
        if best < 0:
            best = count
            first[best] = row
            count += 1
        of_views[best, views[row]] = scores[row]
    return count


def judge(of_views: SequenceOf[FrameBoxes], shown: npt.NDArray[np.bool_], frame_size: tuple[int, int]) -> Uncertainty:
    """Compare what the views of one sequence show, frame by frame.

    Args:
        of_views: What each view shows, upright and at the true frames, in pixels of ``frame_size``.
        shown: bool [views, F], which frames each view can show: read backwards, the last ones cannot be seen.
        frame_size: (height, width).
    """
    frames_count = shown.shape[1]
    frames = np.concatenate([part.frame_indices for part in of_views])
    boxes = np.concatenate([np.zeros(0, LABEL_DTYPE), *(part.boxes for part in of_views)])
    views = np.repeat(np.arange(len(of_views)), [len(part) for part in of_views])
    scores = (boxes["objectness"] * boxes["class_confidence"]).astype(np.float64)
    usable = np.flatnonzero((scores >= WEAKEST_SCORE) & (boxes["w"] > 0) & (boxes["h"] > 0))
    rows = usable[np.lexsort((-scores[usable], boxes["class_id"][usable], frames[usable]))]
    boxes, frames, views, scores = boxes[rows], frames[rows], views[rows], scores[rows]
    changes = (np.diff(frames, prepend=-1) != 0) | (np.diff(boxes["class_id"].astype(np.int64), prepend=-1) != 0)
    left, top = boxes["x"].astype(np.float64), boxes["y"].astype(np.float64)
    corners = np.stack([left, top, left + boxes["w"], top + boxes["h"]], axis=1)
    first, score_of = np.zeros(len(rows), np.int64), np.zeros((len(rows), len(of_views)))
    count = _gather(corners, scores, views, np.cumsum(changes), _SAME_OBJECT_IOU, first, score_of)
    first, score_of = first[:count], score_of[:count]
    frame_of = frames[first]
    sees = shown[:, frame_of].T
    highest = score_of.max(axis=1, initial=0.0)
    lowest = np.where(sees, score_of, np.inf).min(axis=1, initial=np.inf)
    mean = score_of.sum(axis=1) / np.maximum(sees.sum(axis=1), 1)
    middle = 16.0 * mean**2 * (1.0 - np.minimum(mean, 1.0)) ** 2

    objects = boxes[first]
    objects["objectness"], objects["class_confidence"] = mean, 1.0
    order = np.lexsort((-mean, frame_of))
    seen = FrameBoxes(objects[order], frame_of[order])
    tracked = seen.select(seen.boxes["objectness"] >= _TRACKED_SCORE)
    verdict = filter_tracks(tracked, frame_size, _TRACKS)
    lone = tracked.select(verdict.ignored)
    breaks = _summed(lone.frame_indices, lone.boxes["objectness"], frames_count)
    breaks += _summed(verdict.inpainted.frame_indices, np.ones(len(verdict.inpainted)), frames_count)
    return Uncertainty(
        views_disagree=_summed(frame_of, highest - lowest, frames_count),
        tracks_break=breaks,
        unsure=_summed(frame_of, middle, frames_count),
        objects=seen,
    )


def _summed(frames: npt.NDArray[np.int64], values: np.ndarray, count: int) -> npt.NDArray[np.float64]:
    """Sum of the values in each frame; frames beyond the last one, of tracks that go on, do not count."""
    inside = frames < count
    summed = np.bincount(frames[inside], weights=values[inside].astype(np.float64), minlength=count)
    # Of no values it makes integers.
    return summed.astype(np.float64)
