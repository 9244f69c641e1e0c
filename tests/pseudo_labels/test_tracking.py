"""Tracking pseudo-labels: hand-made sequences, and what must not change a verdict."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leod.boxes.dtypes import IGNORED_CLASS_ID, LABEL_DTYPE
from leod.config.schema import TrackFilterConfig
from leod.pseudo_labels.tracking import filter_tracks
from leod.sequences.frame_boxes import FrameBoxes

SIZE = (240, 304)
FORWARD = TrackFilterConfig(direction="forward")


def sequence(*rows):
    """Boxes and frames from rows (frame, x, y, w, h[, class[, t]]), sorted by frame."""
    rows = sorted((row + (0, 0)[len(row) - 5 :] for row in rows), key=lambda row: row[0])
    boxes = np.zeros(len(rows), LABEL_DTYPE)
    for column, name in enumerate(("x", "y", "w", "h", "class_id", "t"), start=1):
        boxes[name] = [row[column] for row in rows]
    boxes["objectness"] = boxes["class_confidence"] = 0.5
    return boxes, np.array([row[0] for row in rows], np.int64)


def standing(frames, x=100, y=100, class_id=0, t=0):
    return [(frame, x, y, 20, 20, class_id, t) for frame in frames]


LONG = standing(range(30), x=10, y=10)


@pytest.mark.parametrize(
    ("frames", "is_ignored"),
    [
        (range(10, 15), True),  # five frames
        (range(10, 16), False),  # six frames
        ([10, 15], False),  # two detections that span six frames
        ([10, 14], True),  # two detections that span five frames
        ([10, 16], True),  # too far apart: a young track survives five misses at most
        (range(26, 30), False),  # still alive at the end of the sequence
        (range(0, 3), False),  # alive at the end of the backward pass
    ],
)
def test_length_of_a_track_decides(frames, is_ignored):
    boxes, frame_indices = sequence(*LONG, *standing(frames))
    result = filter_tracks(FrameBoxes(boxes, frame_indices), SIZE, TrackFilterConfig())
    np.testing.assert_array_equal(result.ignored, (boxes["x"] == 100) & is_ignored)


def test_forward_alone_ignores_what_ends_early():
    boxes, frame_indices = sequence(*LONG, *standing(range(0, 3)))
    assert filter_tracks(FrameBoxes(boxes, frame_indices), SIZE, FORWARD).ignored.sum() == 3


def test_gap_is_filled_by_extrapolation_from_before_it():
    moving = [(frame, 50 + 2 * frame, 100, 40, 30) for frame in [*range(8), 11, 12]]
    boxes, frame_indices = sequence(*moving)
    result = filter_tracks(FrameBoxes(boxes, frame_indices), SIZE, TrackFilterConfig())
    assert not result.ignored.any()
    np.testing.assert_array_equal(result.inpainted.frame_indices, [8, 9, 10])
    np.testing.assert_array_equal(result.inpainted.boxes["x"], [66, 68, 70])
    np.testing.assert_array_equal(result.inpainted.boxes["y"], 100)
    np.testing.assert_array_equal(result.inpainted.boxes["w"], 40)
    np.testing.assert_array_equal(result.inpainted.boxes["class_id"], IGNORED_CLASS_ID)
    np.testing.assert_array_equal(result.inpainted_class_ids, 0)
    for name in ("t", "objectness", "class_confidence"):
        assert (result.inpainted.boxes[name] == 0).all()


def test_nothing_is_inpainted_behind_the_last_detection_or_in_short_tracks():
    boxes, frame_indices = sequence(*LONG, *standing(range(12)), *standing([2, 5], x=200))
    result = filter_tracks(FrameBoxes(boxes, frame_indices), SIZE, FORWARD)
    assert len(result.inpainted) == 0


def test_nothing_is_inpainted_in_frames_with_ground_truth():
    elsewhere = (9, 250, 200, 20, 20, 0, 500_000)
    boxes, frame_indices = sequence(*standing([*range(8), 11, 12]), elsewhere)
    result = filter_tracks(FrameBoxes(boxes, frame_indices), SIZE, TrackFilterConfig())
    np.testing.assert_array_equal(result.inpainted.frame_indices, [8, 10])


def test_ground_truth_saves_its_track():
    boxes, frame_indices = sequence(*LONG, *standing([10, 11]), *standing([12], t=650_000))
    assert not filter_tracks(FrameBoxes(boxes, frame_indices), SIZE, TrackFilterConfig()).ignored.any()


def test_class_change_starts_another_track():
    boxes, frame_indices = sequence(*LONG, *standing(range(8, 12)), *standing(range(12, 16), class_id=1))
    result = filter_tracks(FrameBoxes(boxes, frame_indices), SIZE, TrackFilterConfig())
    assert result.ignored.sum() == 8


def test_box_as_large_as_the_frame_may_be_tracked():
    rows = [(frame, 0, 0, 303, 239) for frame in range(4)] + [(frame, 4, 4, 295, 230) for frame in range(4, 9)]
    boxes, frame_indices = sequence(*rows)
    assert not filter_tracks(FrameBoxes(boxes, frame_indices), SIZE, TrackFilterConfig()).ignored.any()


def test_result_lists_inputs_before_inpainted_boxes():
    boxes, frame_indices = sequence(*standing([*range(8), 10, 11]), *standing(range(12), x=200))
    given = FrameBoxes(boxes, frame_indices)
    result = filter_tracks(given, SIZE, TrackFilterConfig()).apply(given)
    all_boxes, frames = result.boxes, result.frame_indices
    at_gap = all_boxes[frames == 9]
    np.testing.assert_array_equal(at_gap["x"], [200, 100])
    np.testing.assert_array_equal(at_gap["class_id"], [0, IGNORED_CLASS_ID])
    assert (np.diff(frames) >= 0).all()


def test_nothing_in_nothing_out():
    result = filter_tracks(FrameBoxes.joined([]), SIZE, TrackFilterConfig())
    assert len(result.ignored) == len(result.inpainted) == 0


def test_switched_off_keeps_everything():
    boxes, frame_indices = sequence(*LONG, *standing([10, 14]))
    result = filter_tracks(FrameBoxes(boxes, frame_indices), SIZE, TrackFilterConfig(enabled=False))
    assert not result.ignored.any()
    assert len(result.inpainted) == 0


@pytest.mark.parametrize("frames", [[1, 0], [-1, 0], [0]])
def test_wrong_frames_are_refused(frames):
    with pytest.raises(ValueError, match="frame indices"):
        filter_tracks(FrameBoxes(np.zeros(2, LABEL_DTYPE), np.array(frames)), SIZE, TrackFilterConfig())


@st.composite
def sequences(draw):
    """A few objects that move, stop, vanish and come back, with noise; whole pixels, so arithmetic is exact."""
    rows = []
    for _ in range(draw(st.integers(1, 5))):
        x, y = draw(st.integers(0, 260)), draw(st.integers(0, 200))
        w, h = 2 * draw(st.integers(4, 20)), 2 * draw(st.integers(4, 20))
        velocity = draw(st.integers(-6, 6)), draw(st.integers(-4, 4))
        first = draw(st.integers(0, 20))
        class_id = draw(st.integers(0, 2))
        is_truth = draw(st.booleans()) and draw(st.booleans())
        for age in range(draw(st.integers(1, 20))):
            if draw(st.integers(0, 4)):
                left, right = max(x + velocity[0] * age, 0), min(x + velocity[0] * age + w, SIZE[1] - 1)
                top, bottom = max(y + velocity[1] * age, 0), min(y + velocity[1] * age + h, SIZE[0] - 1)
                if right - left > 1 and bottom - top > 1:
                    rows.append((first + age, left, top, right - left, bottom - top, class_id, int(is_truth)))
    return sequence(*rows)


CONFIGURATIONS = st.builds(
    TrackFilterConfig,
    direction=st.sampled_from(["forward", "forward_or_backward"]),
    min_track_length=st.integers(1, 10),
)


@given(sequences(), CONFIGURATIONS)
@settings(max_examples=60, deadline=None)
def test_mirrored_sequence_gives_the_mirrored_result(case, config):
    boxes, frames = case
    mirrored = boxes.copy()
    mirrored["x"] = SIZE[1] - 1 - boxes["x"] - boxes["w"]
    result, other = (
        filter_tracks(FrameBoxes(boxes, frames), SIZE, config),
        filter_tracks(FrameBoxes(mirrored, frames), SIZE, config),
    )
    np.testing.assert_array_equal(other.ignored, result.ignored)
    np.testing.assert_array_equal(other.inpainted.frame_indices, result.inpainted.frame_indices)
    x = SIZE[1] - 1 - other.inpainted.boxes["x"] - other.inpainted.boxes["w"]
    np.testing.assert_allclose(x, result.inpainted.boxes["x"], atol=1e-3)


@given(sequences(), CONFIGURATIONS, st.permutations([0, 1, 2]))
@settings(max_examples=40, deadline=None)
def test_names_of_classes_do_not_matter(case, config, permutation):
    boxes, frames = case
    renamed = boxes.copy()
    renamed["class_id"] = np.array(permutation)[boxes["class_id"]]
    result, other = (
        filter_tracks(FrameBoxes(boxes, frames), SIZE, config),
        filter_tracks(FrameBoxes(renamed, frames), SIZE, config),
    )
    np.testing.assert_array_equal(other.ignored, result.ignored)
    np.testing.assert_array_equal(other.inpainted.boxes, result.inpainted.boxes)


@given(sequences(), st.integers(1, 10))
@settings(max_examples=40, deadline=None)
def test_reversed_sequence_ignores_the_same_boxes_in_both_directions(case, length):
    boxes, frames = case
    config = TrackFilterConfig(min_track_length=length)
    result = filter_tracks(FrameBoxes(boxes, frames), SIZE, config)
    last = frames[-1] if len(frames) else 0
    other = filter_tracks(FrameBoxes(boxes[::-1], last - frames[::-1]), SIZE, config)
    np.testing.assert_array_equal(other.ignored[::-1], result.ignored)


@given(sequences(), CONFIGURATIONS, st.integers(1, 1000))
@settings(max_examples=30, deadline=None)
def test_empty_frames_before_the_first_box_do_not_matter(case, config, delay):
    boxes, frames = case
    result, other = (
        filter_tracks(FrameBoxes(boxes, frames), SIZE, config),
        filter_tracks(FrameBoxes(boxes, frames + delay), SIZE, config),
    )
    np.testing.assert_array_equal(other.ignored, result.ignored)
    np.testing.assert_array_equal(other.inpainted.frame_indices, result.inpainted.frame_indices + delay)


@given(sequences(), CONFIGURATIONS)
@settings(max_examples=40, deadline=None)
def test_verdicts_are_consistent(case, config):
    boxes, frames = case
    result = filter_tracks(FrameBoxes(boxes, frames), SIZE, config)
    assert not result.ignored[boxes["t"] > 0].any()
    assert not np.isin(result.inpainted.frame_indices, frames[boxes["t"] > 0]).any()
    right, bottom = (
        result.inpainted.boxes["x"] + result.inpainted.boxes["w"],
        result.inpainted.boxes["y"] + result.inpainted.boxes["h"],
    )
    assert (result.inpainted.boxes["x"] >= 0).all()
    assert (result.inpainted.boxes["y"] >= 0).all()
    assert (right <= SIZE[1] - 1).all()
    assert (bottom <= SIZE[0] - 1).all()
    stricter = filter_tracks(FrameBoxes(boxes, frames), SIZE, config.model_copy(update={"min_track_length": 11}))
    assert (stricter.ignored >= result.ignored).all()
