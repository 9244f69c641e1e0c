"""Where a detector is unsure."""

from __future__ import annotations

import numpy as np
import pytest

from leod.boxes.dtypes import LABEL_DTYPE
from leod.labelling.uncertainty import judge
from leod.sequences.frame_boxes import FrameBoxes

SIZE = (100, 200)
FRAMES = 40


def boxes_of(*rows: tuple[int, float, float]) -> FrameBoxes:
    """Boxes of (frame, x, score)."""
    boxes = np.zeros(len(rows), LABEL_DTYPE)
    for box, (_, x, score) in zip(boxes, rows, strict=True):
        box["x"], box["y"], box["w"], box["h"] = x, 20, 30, 20
        box["objectness"], box["class_confidence"] = score, 1.0
    return FrameBoxes.joined([FrameBoxes(boxes, np.array([row[0] for row in rows], np.int64))])


def judged(*views: FrameBoxes, shown: np.ndarray | None = None):
    return judge(views, np.ones((len(views), FRAMES), bool) if shown is None else shown, SIZE)


def steady(score: float = 0.95, without: tuple[int, ...] = ()) -> FrameBoxes:
    return boxes_of(*((frame, 10 + frame, score) for frame in range(FRAMES) if frame not in without))


def test_a_sure_detector_is_not_unsure() -> None:
    sure = judged(steady(), steady())
    assert sure.views_disagree.max() < 1e-6
    assert sure.tracks_break.max() == 0
    assert sure.unsure.max() < 0.1
    assert len(sure.objects) == FRAMES


def test_views_disagree_where_one_sees_less() -> None:
    seen = judged(steady(0.8), steady(0.8, without=(7,)), boxes_of(*((f, 10 + f, 0.6) for f in range(FRAMES))))
    assert np.argmax(seen.views_disagree) == 7
    assert seen.views_disagree[7] == pytest.approx(0.8)
    assert seen.views_disagree[8] == pytest.approx(0.2)


def test_a_view_that_cannot_show_a_frame_does_not_disagree() -> None:
    shown = np.ones((2, FRAMES), bool)
    shown[1, -1] = False
    seen = judged(steady(0.8), steady(0.8, without=(FRAMES - 1,)), shown=shown)
    assert seen.views_disagree.max() < 1e-6
    assert seen.objects.boxes["objectness"][-1] == pytest.approx(0.8)


def test_two_objects_of_one_view_stay_two() -> None:
    near = boxes_of((3, 10, 0.9), (3, 14, 0.5))
    assert len(judged(near, near).objects) == 2


def test_tracks_break_at_gaps_and_blinks() -> None:
    blink = boxes_of((20, 150, 0.6))
    seen = judged(FrameBoxes.joined([steady(without=(9, 10)), blink]))
    assert np.flatnonzero(seen.tracks_break).tolist() == [9, 10, 20]
    assert seen.tracks_break[20] == pytest.approx(0.6)


def test_the_middle_of_the_confidence_counts_most() -> None:
    seen = judged(boxes_of((0, 10, 0.06), (1, 10, 0.5), (2, 10, 0.97), (3, 10, 0.03)))
    assert seen.unsure[1] == pytest.approx(1.0)
    assert max(seen.unsure[0], seen.unsure[2]) < 0.06
    assert seen.unsure[3] == 0


def test_nothing_found() -> None:
    seen = judged(boxes_of(), boxes_of())
    assert seen.amounts(np.arange(FRAMES)).shape == (FRAMES, 3)
    assert not seen.amounts(np.arange(FRAMES)).any()
