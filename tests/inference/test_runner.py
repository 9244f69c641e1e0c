from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest
import torch
from tiny_sequences import (
    CONFIG,
    WIDTH,
    CountingDetector,
    numbered_frames,
    random_detector,
    random_frames,
    write_tiny_sequence,
)

from leod.boxes.operations import flip_left_right, from_detection_rows
from leod.config.schema import DetectionConfig, ViewsConfig
from leod.errors import ConfigError, ResourceError
from leod.inference.runner import detect_sequences
from leod.inference.views import PLAIN, TIME_REVERSED, View, views_of
from leod.sequences.sequence import Sequence

ALL_VIEWS = views_of(ViewsConfig())
LENGTHS = {"a": 7, "b": 12, "c": 3, "d": 9}
LABELLED = {"a": [5, 6], "b": [9], "c": [], "d": [8]}


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    root = tmp_path_factory.mktemp("numbered")
    for name, length in LENGTHS.items():
        write_tiny_sequence(root / name, numbered_frames(length), LABELLED[name])
    return [Sequence(root / name, CONFIG) for name in LENGTHS]


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    root = tmp_path_factory.mktemp("noisy")
    for seed, (name, length) in enumerate(LENGTHS.items()):
        write_tiny_sequence(root / name, random_frames(seed, length), LABELLED[name])
    return [Sequence(root / name, CONFIG) for name in LENGTHS]


def settings(**changes):
    return DetectionConfig(**{"confidence_threshold": 0.1, "batch_size": 2, "sequence_length": 4} | changes)


def by_sequence_and_view(results):
    return {(result.sequence.name, result.view): result for result in results}


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
def test_every_frame_is_seen_once_with_the_state_of_its_own_sequence(numbered, batch_size):
    detector = CountingDetector()
    found = by_sequence_and_view(detect_sequences(detector, numbered, settings(batch_size=batch_size), views=ALL_VIEWS))
    assert len(found) == 4 * len(ALL_VIEWS)
    for (name, view), result in found.items():
        expected = np.arange(LENGTHS[name])
        if view.time_reversed:
            expected = expected[::-1]
        np.testing.assert_array_equal(result.frame_indices, expected)
        np.testing.assert_allclose(result.boxes["w"], expected + 1)
        np.testing.assert_allclose(result.boxes["h"], np.arange(LENGTHS[name]) + 1)  # frames since the reset
        centre = result.boxes["x"] + result.boxes["w"] / 2
        np.testing.assert_allclose(centre, 30 if view.mirrored else 20)
        assert (result.boxes["t"] == 0).all()


def test_no_time_is_spent_on_padding(numbered):
    detector = CountingDetector()
    list(detect_sequences(detector, numbered, settings(batch_size=4, sequence_length=30)))
    # One window: the batch is as long as its longest sequence.
    assert detector.frames_seen == 4 * max(LENGTHS.values())
    detector = CountingDetector()
    list(detect_sequences(detector, numbered, settings(batch_size=4, sequence_length=1)))
    assert detector.frames_seen == sum(LENGTHS.values())


def test_the_views_of_a_sequence_follow_each_other(numbered):
    results = list(detect_sequences(CountingDetector(), numbered, settings(), views=ALL_VIEWS))
    groups = [(name, [result.view for result in group]) for name, group in groupby(results, lambda r: r.sequence.name)]
    assert sorted(name for name, _ in groups) == sorted(LENGTHS)
    assert all(tuple(views) == ALL_VIEWS for _, views in groups)


def test_only_labelled_frames_pass_the_head(numbered):
    detector = CountingDetector()
    found = by_sequence_and_view(detect_sequences(detector, numbered, settings(), frames="labelled"))
    assert {name: result.frame_indices.tolist() for (name, _), result in found.items()} == {
        name: frames for name, frames in LABELLED.items() if frames
    }
    assert detector.heads_run == 4
    # Inference starts L - 1 frames before the first label: frame 5 of sequence a is the fourth frame from frame 2 on.
    assert found["a", PLAIN].boxes["h"].tolist() == [4, 5]


def test_read_backwards_a_labelled_frame_is_seen_one_frame_later_or_not_at_all(numbered):
    results = detect_sequences(
        CountingDetector(),
        numbered,
        settings(),
        views=[TIME_REVERSED],
        frames="labelled",
        time_reversal_label_offset=-1,
    )
    read = {result.sequence.name: result.frame_indices.tolist() for result in results}
    assert read == {"a": [6], "b": [10], "d": []}


def test_labelled_frames_of_a_reversed_view_need_the_offset(numbered):
    with pytest.raises(ValueError, match="offset"):
        list(detect_sequences(CountingDetector(), numbered, settings(), views=[TIME_REVERSED], frames="labelled"))


def test_boxes_can_be_dropped_on_arrival(numbered):
    def only_wide(rows):
        boxes = from_detection_rows(rows)
        return boxes[boxes["w"] > 10]

    found = by_sequence_and_view(detect_sequences(CountingDetector(), numbered, settings(), to_labels=only_wide))
    assert {name: result.frame_indices.tolist() for (name, _), result in found.items()} == {
        "a": [],
        "b": [10, 11],
        "c": [],
        "d": [],
    }


def assert_same_boxes(left, right, tolerance=1e-3):
    np.testing.assert_array_equal(left.frame_indices, right.frame_indices)
    np.testing.assert_array_equal(left.boxes["class_id"], right.boxes["class_id"])
    for field in ("x", "y", "w", "h", "objectness", "class_confidence"):
        np.testing.assert_allclose(left.boxes[field], right.boxes[field], atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("changes", [{"batch_size": 3}, {"batch_size": 1, "sequence_length": 11}])
def test_batching_changes_nothing_but_rounding(noisy, changes):
    detector = random_detector()
    one = by_sequence_and_view(detect_sequences(detector, noisy, settings(batch_size=1), views=ALL_VIEWS))
    other = by_sequence_and_view(detect_sequences(detector, noisy, settings(**changes), views=ALL_VIEWS))
    assert one.keys() == other.keys()
    assert sum(len(result.boxes) for result in one.values()) > 100
    for key, result in one.items():
        assert_same_boxes(result, other[key])


def test_a_view_does_not_depend_on_the_others(noisy):
    detector = random_detector()
    together = by_sequence_and_view(detect_sequences(detector, noisy, settings(), views=ALL_VIEWS))
    for view in ALL_VIEWS:
        for result in detect_sequences(detector, noisy, settings(), views=[view]):
            assert_same_boxes(result, together[result.sequence.name, view])


def test_loader_processes_change_nothing_at_all(noisy):
    detector = random_detector()
    alone = by_sequence_and_view(detect_sequences(detector, noisy, settings(), views=ALL_VIEWS))
    helped = by_sequence_and_view(detect_sequences(detector, noisy, settings(), views=ALL_VIEWS, num_workers=2))
    for key, result in alone.items():
        np.testing.assert_array_equal(result.frame_indices, helped[key].frame_indices)
        np.testing.assert_array_equal(result.boxes, helped[key].boxes)


def test_the_mirrored_view_of_a_mirrored_sequence_is_the_plain_view(noisy, tmp_path):
    original = noisy[0]
    write_tiny_sequence(tmp_path / "a", original.read_frames(0, original.num_frames)[..., ::-1], LABELLED["a"])
    detector = random_detector()
    (plain,) = detect_sequences(detector, [original], settings())
    (mirrored,) = detect_sequences(
        detector, [Sequence(tmp_path / "a", CONFIG)], settings(), views=[View(mirrored=True)]
    )
    assert_same_boxes(plain, mirrored)
    assert len(plain.boxes)
    assert not np.allclose(flip_left_right(plain.boxes, (0, WIDTH))["x"], plain.boxes["x"])


def test_the_detectors_mode_is_restored(noisy):
    detector = random_detector().train()
    results = detect_sequences(detector, noisy, settings())
    next(results)
    assert not detector.training
    results.close()
    assert detector.training


def test_out_of_memory_names_three_settings(numbered):
    class Greedy(CountingDetector):
        def forward_sequence(self, frames, states=None):
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(ResourceError, match=r"batch_size.*sequence_length.*precision"):
        list(detect_sequences(Greedy(), numbered, settings()))


def test_nothing_to_run_over(numbered):
    with pytest.raises(ConfigError):
        list(detect_sequences(CountingDetector(), [], settings()))
    with pytest.raises(ConfigError):
        list(detect_sequences(CountingDetector(), [numbered[2]], settings(), frames="labelled"))
