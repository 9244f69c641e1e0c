"""The tracker against the published code on whatever sequences the golden file holds."""

import json

import numpy as np
import pytest
from label_rows import from_label_rows

from leod.config.schema import TrackFilterConfig
from leod.pseudo_labels.tracking import CONFIDENCE_DECAY, MIN_CONFIDENCE, filter_tracks
from leod.sequences.frame_boxes import FrameBoxes

MODES = [
    ("fwd_noinpaint", "forward", False),
    ("fwd_inpaint", "forward", True),
    ("both_noinpaint", "forward_or_backward", False),
    ("both_inpaint", "forward_or_backward", True),
]


def load_sequence(golden, name):
    prefix = f"{name}/" if name else ""
    boxes = from_label_rows(golden[prefix + "in_labels"])
    frames = np.repeat(golden[prefix + "in_frame_idx"], golden[prefix + "in_count"]).astype(np.int64)
    return FrameBoxes(boxes, frames), tuple(int(size) for size in golden[prefix + "img_hw"])


@pytest.fixture(scope="module")
def golden(golden_dir):
    return np.load(golden_dir / "tracker.npz", allow_pickle=False)


@pytest.fixture(scope="module")
def rules(golden):
    stored = json.loads(str(golden["params"]))
    assert (stored["min_conf"], stored["q"]) == (MIN_CONFIDENCE, CONFIDENCE_DECAY)
    return {"min_track_length": stored["min_track_len"], "iou_threshold": stored["iou_threshold"]}


@pytest.mark.parametrize(("mode", "direction", "inpaint"), MODES)
def test_ignored_and_inpainted_boxes_equal_the_published_code(golden, rules, mode, direction, inpaint):
    settings = TrackFilterConfig(direction=direction, inpaint=inpaint, **rules)
    for name in golden["names"]:
        result = filter_tracks(*load_sequence(golden, name), settings)
        np.testing.assert_array_equal(result.ignored, golden[f"{name}/{mode}/ignored"], err_msg=name)
        if inpaint:
            expected = from_label_rows(golden[f"{name}/{mode}/inpaint_box"])
            frames = golden[f"{name}/{mode}/inpaint_frame_idx"]
            np.testing.assert_array_equal(result.inpainted.frame_indices, frames, err_msg=name)
            np.testing.assert_array_equal(result.inpainted.boxes["class_id"], expected["class_id"], err_msg=name)
            for field in ("t", "x", "y", "w", "h", "class_confidence", "objectness"):
                np.testing.assert_allclose(
                    result.inpainted.boxes[field], expected[field], rtol=0, atol=2e-3, err_msg=f"{name} {field}"
                )
        else:
            assert len(result.inpainted) == 0


def test_full_result_equals_the_published_code(golden, rules):
    for name in golden["names"]:
        given, frame_size = load_sequence(golden, name)
        result = filter_tracks(given, frame_size, TrackFilterConfig(**rules))
        check_output(given, result, golden, f"{name}/both_inpaint/")


def test_tracks_equal_the_published_code(golden, rules):
    for name in golden["names"]:
        result = filter_tracks(*load_sequence(golden, name), TrackFilterConfig(**rules))
        for prefix, found in (("", result.forward), ("back_", result.backward)):
            for suffix, values in (
                ("track_id", found.track_id),
                ("track_hits", found.hits),
                ("track_done", found.done),
                ("track_is_gt", found.is_ground_truth),
            ):
                np.testing.assert_array_equal(values, golden[f"{name}/{prefix}{suffix}"], err_msg=f"{name} {suffix}")


def test_long_sequence_equals_the_published_code(golden_dir):
    golden = np.load(golden_dir / "speed_track_input.npz", allow_pickle=False)
    given, frame_size = load_sequence(golden, "")
    result = filter_tracks(given, frame_size, TrackFilterConfig())
    check_output(given, result, golden, "")


def check_output(given, result, golden, prefix):
    found = result.apply(given)
    frame_indices, counts = np.unique(found.frame_indices, return_counts=True)
    np.testing.assert_array_equal(found.boxes["class_id"], golden[prefix + "out_class_id"])
    np.testing.assert_array_equal(frame_indices, golden[prefix + "out_frame_idx"])
    np.testing.assert_array_equal(counts, golden[prefix + "out_count"])
