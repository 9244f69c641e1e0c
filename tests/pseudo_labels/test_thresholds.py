"""Choosing score thresholds from matched boxes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leod.boxes.dtypes import LABEL_DTYPE
from leod.errors import DataError
from leod.files import write_json
from leod.pseudo_labels.thresholds import (
    NO_PSEUDO_LABELS,
    Matches,
    choose_point,
    choose_threshold,
    curve_of_trials,
    highest_within,
    match,
    precision_curve,
    read_keep_thresholds,
    read_thresholds,
    thresholds_to_try,
)
from leod.sequences.frame_boxes import FrameBoxes


def matches(pairs, found_at=()):
    """Candidates given as score → right or wrong."""
    return Matches(
        np.array([score for score, _ in pairs], np.float32),
        np.array([right for _, right in pairs], bool),
        np.array(found_at, np.float32),
    )


# From the top: right right wrong right wrong wrong → precision 1, 1, 2/3, 3/4, 3/5, 3/6.
SIX = [(0.9, True), (0.8, True), (0.7, False), (0.6, True), (0.5, False), (0.4, False)]


@pytest.mark.parametrize(
    ("target", "threshold", "precision", "kept"),
    [
        (1.0, 0.7, 1.0, 2),
        (0.75, 0.5, 0.75, 4),  # not 0.7: lower thresholds are as good, although precision dips in between
        (0.7, 0.5, 0.75, 4),
        (0.55, 0.4, 0.6, 5),
        (0.5, 0.1, 0.5, 6),  # all boxes are precise enough: the minimum
    ],
)
def test_least_threshold_that_reaches_the_target(target, threshold, precision, kept):
    choice = choose_threshold(matches(SIX), target, minimum=0.1)
    assert choice.reached
    assert choice.threshold == pytest.approx(threshold)
    assert choice.precision == pytest.approx(precision)
    scores = np.array([score for score, _ in SIX], np.float32)
    assert (scores > np.float32(choice.threshold)).sum() == kept == choice.summary()["boxes"]


def test_unreachable_target_gives_the_most_precise_threshold():
    choice = choose_threshold(matches([(0.9, False), (0.8, True), (0.7, True), (0.2, False)]), 0.9, minimum=0.05)
    assert not choice.reached
    assert choice.threshold == pytest.approx(0.2)
    assert choice.precision == pytest.approx(2 / 3)


def test_a_few_lucky_boxes_do_not_count():
    pairs = [(0.9, True), (0.8, False), (0.7, True), (0.6, True)]
    assert choose_threshold(matches(pairs), 0.9, minimum=0.1).threshold == pytest.approx(0.8)
    choice = choose_threshold(matches(pairs), 0.9, minimum=0.1, minimum_boxes=3)
    assert (choice.threshold, choice.reached) == (pytest.approx(0.1), False)


def test_fewer_candidates_than_required_leave_only_the_minimum():
    choice = choose_threshold(matches([(0.9, True), (0.3, False)]), 0.4, minimum=0.1, minimum_boxes=20)
    assert choice.threshold == pytest.approx(0.1)
    assert choice.reached


def test_no_candidates_no_pseudo_labels():
    choice = choose_threshold(matches([(0.04, True)], [0.04]), 0.9, minimum=0.05)
    assert choice.threshold == NO_PSEUDO_LABELS
    assert not choice.reached
    assert choice.summary()["precision"] is None
    assert choice.summary()["ground_truth"] == 1


def test_equal_scores_pass_together():
    curve = precision_curve(matches([(0.5, True), (0.5, False), (0.7, True)]), 0.1)
    assert curve.boxes.tolist() == [3, 1]
    assert curve.threshold == pytest.approx([0.1, 0.5])


def test_recall_counts_ground_truth_found_above_the_threshold():
    curve = precision_curve(matches(SIX, [0.9, 0.6, 0.0, 0.6]), 0.1)
    assert dict(zip(curve.boxes.tolist(), curve.recall.tolist(), strict=True)) == {
        1: 0.25,
        2: 0.25,
        3: 0.25,
        4: 0.75,
        5: 0.75,
        6: 0.75,
    }


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.35, 0.6, 0.9]), st.booleans()), max_size=30), st.floats(0.1, 1))
@settings(max_examples=60, deadline=None)
def test_no_lower_threshold_would_do(pairs, target):
    choice = choose_threshold(matches(pairs), target, minimum=0.15)
    considered = matches(pairs)

    def precision_above(threshold):
        kept = considered.scores > np.float32(threshold)
        return considered.is_right[kept].mean() if kept.any() else None

    lower = [t for t in (0.15, 0.2, 0.35, 0.6, 0.9) if t < choice.threshold - 1e-6]
    assert all(p is None or p < target for p in map(precision_above, lower)) or not choice.reached
    if choice.reached:
        assert precision_above(choice.threshold) >= target


def boxes(*rows):
    return np.array([(0, x, y, w, h, class_id, conf, obj) for x, y, w, h, class_id, conf, obj in rows], LABEL_DTYPE)


def test_matching_looks_at_frame_class_and_overlap():
    truth = boxes((10, 10, 10, 10, 0, 1, 1), (10, 10, 10, 10, 1, 1, 1), (50, 10, 10, 10, 0, 1, 1))
    found = boxes(
        (10, 10, 10, 11, 0, 0.9, 0.8),  # right
        (10, 10, 10, 12, 0, 0.4, 0.7),  # also right: not matched one to one
        (16, 10, 10, 10, 0, 0.9, 0.9),  # overlaps too little
        (10, 10, 10, 10, 1, 0.6, 0.9),  # right, in frame 5
        (50, 10, 10, 10, 0, 0.9, 0.9),  # where frame 9 has ground truth, but in frame 7
    )
    ground_truth, candidates = FrameBoxes(truth, np.array([5, 5, 9])), FrameBoxes(found, np.array([5, 5, 5, 5, 7]))
    result = match(ground_truth, candidates, ("car", "pedestrian"), 0.5)
    assert result["car"].is_right.tolist() == [True, True, False, False]
    assert result["car"].scores == pytest.approx([0.8, 0.4, 0.9, 0.9])
    assert result["car"].found_at == pytest.approx([0.8, 0.0])
    assert result["pedestrian"].found_at == pytest.approx([0.6])


def test_thresholds_survive_the_file_exactly(tmp_path):
    choice = choose_threshold(matches([(0.3333333, False), (0.7, True)]), 1.0, minimum=0.1)
    write_json(tmp_path / "t.json", {"thresholds": {"car": choice.threshold}, "classes": {"car": choice.summary()}})
    found = read_thresholds(tmp_path / "t.json", ["car"])
    assert np.float32(found["car"]) == np.float32(0.3333333)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"thresholds": {"car": 0.5}}, "has thresholds of the classes car"),
        ({"thresholds": {"car": 0.5, "pedestrian": 2}}, "no thresholds of 0..1"),
        ([], "no thresholds"),
    ],
)
def test_foreign_files_are_refused(tmp_path, content, message):
    write_json(tmp_path / "t.json", content)
    with pytest.raises(DataError, match=message):
        read_thresholds(tmp_path / "t.json", ["car", "pedestrian"])


def test_trials_make_a_curve():
    trials = [
        matches([(0.4, True), (0.2, False), (0.3, False)], [0.4, 0.0]),
        matches([(0.6, True), (0.3, False)], [0.6, 0.0]),
        matches([(0.7, True)], [0.7, 0.0]),
        matches([], [0.0, 0.0]),
    ]
    curve = curve_of_trials([0.1, 0.2, 0.3, 0.4], trials)
    assert curve.boxes.tolist() == [3, 2, 1]
    assert curve.precision.tolist() == pytest.approx([1 / 3, 1 / 2, 1])
    assert curve.recall.tolist() == [0.5, 0.5, 0.5]
    choice = choose_point(curve, 2, target_precision=0.5, minimum_boxes=1)
    assert (choice.reached, choice.threshold) == (True, pytest.approx(0.2))
    nothing = choose_point(curve_of_trials([0.1], [trials[-1]]), 2, 0.5, 1)
    assert (nothing.threshold, nothing.point, nothing.ground_truth) == (NO_PSEUDO_LABELS, None, 2)


def test_thresholds_that_are_tried():
    assert thresholds_to_try(0.98) == [0.98, 0.99]
    assert thresholds_to_try(0.055)[:3] == [0.055, 0.06, 0.07]
    assert thresholds_to_try(0.0)[:2] == [0.0, 0.01]
    assert thresholds_to_try(1.0) == [1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_the_highest_within_a_limit(shares, limit):
    shares = sorted(shares)
    thresholds = [0.01 * k for k in range(len(shares))]
    found, reached = highest_within(thresholds, dict(zip(thresholds, shares, strict=True)).__getitem__, limit)
    good = [threshold for threshold, share in zip(thresholds, shares, strict=True) if share <= limit]
    assert reached == bool(good)
    assert found == (good[-1] if good else thresholds[0])


def test_thresholds_for_keeping_are_read_or_missed(tmp_path):
    path = tmp_path / "thresholds.json"
    write_json(path, {"thresholds": {"car": 0.1}, "keep": {"car": 0.6}})
    assert read_thresholds(path, ("car",)) == {"car": 0.1}
    assert read_keep_thresholds(path, ("car",)) == {"car": 0.6}
    write_json(path, {"thresholds": {"car": 0.1}})
    with pytest.raises(DataError, match="for keeping, which max_background asks for"):
        read_keep_thresholds(path, ("car",))
