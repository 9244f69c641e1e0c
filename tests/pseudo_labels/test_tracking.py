"""Tracking pseudo-labels: hand-made sequences, and what must not change a verdict."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leod.boxes.dtypes import IGNORED_CLASS_ID, LABEL_DTYPE
from leod.config.schema import TrackFilterConfig
from leod.pseudo_labels.tracking import filter_tracks, weak_boxes
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


def judge(rows, weak, **rules):
    """Verdict on rows; weak: frames in which boxes at x = 100 are weak."""
    boxes, frames = sequence(*rows)
    is_weak = (boxes["x"] == 100) & np.isin(frames, list(weak)) & (boxes["t"] == 0)
    return filter_tracks(FrameBoxes(boxes, frames), SIZE, TrackFilterConfig(**rules), is_weak), boxes, frames, is_weak


def test_weak_boxes_continue_tracks_and_become_ignored():
    # Alone, two strong boxes five frames apart are no long track, and the gap would be too long for one.
    rows = [*LONG, *standing([10, 17])]
    assert judge(rows, weak=())[0].ignored.sum() == 2
    rows = [*LONG, *standing(range(10, 18))]
    result, _, _, is_weak = judge(rows, weak=range(11, 17))
    np.testing.assert_array_equal(result.ignored, is_weak)
    # Each of these frames has a box, so nothing is painted there.
    assert len(result.inpainted) == 0
    kept, _, _, _ = judge(rows, weak=range(11, 17), weak_boxes="keep")
    assert not kept.ignored.any()


@pytest.mark.parametrize("weak_boxes", ["ignore", "keep"])
@pytest.mark.parametrize("direction", ["forward", "forward_or_backward"])
def test_weak_boxes_alone_are_no_track(weak_boxes, direction):
    """Not even one that is alive at both ends of the sequence."""
    rows = [*LONG, *standing(range(30))]
    result, _, _, is_weak = judge(rows, weak=range(30), weak_boxes=weak_boxes, direction=direction)
    np.testing.assert_array_equal(result.ignored, is_weak)
    assert set(result.forward.track_id[is_weak]) == {-1}


def test_weak_boxes_before_the_first_strong_one_belong_to_its_track_backwards():
    rows = [*LONG, *standing(range(5, 12))]
    weak = range(5, 11)
    forward, _, frames, is_weak = judge(rows, weak, weak_boxes="keep", direction="forward")
    # Forwards, the only strong box at frame 11 starts a track of one frame.
    np.testing.assert_array_equal(forward.ignored, is_weak | ((frames == 11) & (forward.forward.track_id > 0)))
    both, *_ = judge(rows, weak, weak_boxes="keep")
    assert not both.ignored.any()


def test_strong_boxes_are_served_first():
    """The weak box in frame 7 lies where the track is expected, the strong one a bit beside it."""
    boxes, frames = sequence(*standing(range(7)), (7, 100, 100, 20, 20), (7, 104, 100, 20, 20), *standing([8, 9], 104))
    is_weak = (frames == 7) & (boxes["x"] == 100)
    result = filter_tracks(FrameBoxes(boxes, frames), SIZE, FORWARD, is_weak)
    assert result.forward.track_id.tolist() == [0] * 7 + [-1] + [0] * 3


def test_ground_truth_may_be_followed_by_weak_boxes():
    rows = [*LONG, *standing([10], t=99), *standing(range(11, 14))]
    result, _, _, is_weak = judge(rows, weak=range(11, 14))
    np.testing.assert_array_equal(result.ignored, is_weak)
    kept, *_ = judge(rows, weak=range(11, 14), weak_boxes="keep")
    assert not kept.ignored.any()


def test_which_boxes_are_weak():
    boxes, _ = sequence(*[(frame, 0, 0, 20, 20, class_id, t) for frame, class_id, t in [(0, 0, 0)] * 3 + [(0, 1, 0)]])
    boxes["objectness"] = [0.5, 0.9, 0.9, 0.1]
    boxes["class_confidence"] = [0.9, 0.6, 0.7, 0.1]
    assert weak_boxes(boxes, {"car": 0.6}, ("car", "bus")).tolist() == [True, True, False, False]
    assert not weak_boxes(boxes, None, ("car", "bus")).any()
    boxes["class_id"][0], boxes["t"][1] = IGNORED_CLASS_ID, 5
    assert not weak_boxes(boxes, {"car": 0.6}, ("car", "bus")).any()


def test_filter_that_is_off_ignores_weak_boxes_and_has_no_tracks_to_smooth():
    result, *_, is_weak = judge([*LONG, *standing(range(30))], weak=range(30), enabled=False, smooth_frames=2)
    np.testing.assert_array_equal(result.ignored, is_weak)
    assert result.positions is None


def test_smoothing_follows_a_long_track_and_leaves_short_ones_and_ground_truth():
    noise = [0, 1, -1, 0.5, -1, 1, 0, -0.5, 1, -1]
    truth = (4, 95, 100, 20, 20, 0, 99)
    moving = [(frame, 80 + 4 * frame + noise[frame], 100, 20, 20) for frame in range(10) if frame != 4]
    boxes, frames = sequence(*moving, truth, (3, 250, 10, 20, 20), (4, 252, 10, 20, 20), (30, 10, 200, 20, 20))
    given = FrameBoxes(boxes, frames)
    rules = {"min_track_length": 4}
    plain = filter_tracks(given, SIZE, TrackFilterConfig(**rules))
    result = filter_tracks(given, SIZE, TrackFilterConfig(**rules, smooth_frames=4))
    np.testing.assert_array_equal(result.ignored, plain.ignored)
    np.testing.assert_array_equal(result.inpainted.boxes, plain.inpainted.boxes)
    after = result.apply(given).boxes[: len(boxes)]
    on_track = (boxes["y"] == 100) & (boxes["t"] == 0)
    np.testing.assert_array_equal(after[~on_track]["x"], boxes[~on_track]["x"])
    line = 80 + 4 * frames[on_track]
    assert np.abs(after["x"][on_track] - line).max() < 0.75 * np.abs(boxes["x"][on_track] - line).max()
    np.testing.assert_allclose(after["w"], 20, rtol=1e-6)
    for name in ("t", "class_confidence", "objectness"):
        np.testing.assert_array_equal(after[name], boxes[name])


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


@given(sequences(), CONFIGURATIONS, st.integers(1, 8), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_weak_and_smoothed_verdicts_are_consistent(case, config, half_width, random):
    boxes, frames = case
    weak = np.array([random.random() < 0.4 for _ in boxes], bool) & (boxes["t"] == 0)
    config = config.model_copy(update={"smooth_frames": half_width})
    given = FrameBoxes(boxes, frames)
    strict = filter_tracks(given, SIZE, config, weak)
    loose = filter_tracks(given, SIZE, config.model_copy(update={"weak_boxes": "keep"}), weak)
    assert strict.ignored[weak].all()
    np.testing.assert_array_equal(strict.ignored[~weak], loose.ignored[~weak])
    # A weak box that stays is on a track with a strong one, in either direction.
    for walk in (loose.forward, loose.backward):
        if walk is not None:
            assert set(walk.track_id[weak]) <= {-1, *walk.track_id[~weak]}
    after = strict.apply(given)
    after = after.boxes[~((after.boxes["objectness"] == 0) & (after.boxes["t"] == 0))]
    assert len(after) == len(boxes)
    truth = boxes["t"] > 0
    np.testing.assert_array_equal(after[truth], boxes[truth])
    assert (after["w"] > 0).all()
    assert (after["x"] + after["w"] <= SIZE[1] - 1 + 1e-3).all()


@given(sequences(), CONFIGURATIONS)
@settings(max_examples=30, deadline=None)
def test_no_weak_box_changes_nothing(case, config):
    boxes, frames = case
    found = FrameBoxes(boxes, frames)
    result, other = filter_tracks(found, SIZE, config), filter_tracks(found, SIZE, config, np.zeros(len(boxes), bool))
    np.testing.assert_array_equal(other.apply(found).boxes, result.apply(found).boxes)
