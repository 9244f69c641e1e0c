"""Collecting and merging views against the published code."""

from __future__ import annotations

import numpy as np

from leod.boxes.dtypes import LABEL_DTYPE
from leod.inference.merge import ViewCollector
from leod.inference.views import View

FIELDS = ("t", "x", "y", "w", "h", "class_id", "class_confidence", "objectness")


def from_rows(rows):
    boxes = np.zeros(len(rows), dtype=LABEL_DTYPE)
    for column, name in enumerate(FIELDS):
        boxes[name] = rows[:, column]
    return boxes


def assert_equal_boxes(boxes, rows, case):
    assert len(boxes) == len(rows), case
    for column, name in enumerate(FIELDS):
        tolerance = 1e-3 if name in "xywh" else 1e-6
        np.testing.assert_allclose(boxes[name], rows[:, column], atol=tolerance, rtol=1e-6, err_msg=f"{case}: {name}")


def collect(case):
    height, width = case["hw"].tolist()
    collector = ViewCollector(
        int(case["num_frames"]), (height, width), int(case["tflip_offset"]), scale=float(case["scale_ratio"])
    )
    position = 0
    for call, counts in enumerate(case["call_label_count"]):
        counts = np.maximum(counts, 0)
        rows = case["call_labels"][position : position + counts.sum()]
        position += counts.sum()
        view = View(mirrored=bool(case["call_hflip"][call]), time_reversed=bool(case["call_tflip"][call]))
        collector.add(from_rows(rows), np.repeat(case["call_ev_idx"][call].astype(np.int64), counts), view)
    return collector


def test_collected_and_merged_boxes_of_every_case(golden_dir):
    arrays = np.load(golden_dir / "tta_merge.npz")
    for name in arrays["case_names"].tolist():
        case = {key.removeprefix(f"{name}/"): arrays[key] for key in arrays.files if key.startswith(f"{name}/")}
        collector = collect(case)

        found = collector.collected()
        np.testing.assert_array_equal(
            found.frame_indices, np.repeat(case["collected_frame_idx"], case["collected_count"]), name
        )
        assert_equal_boxes(found.boxes, case["collected_labels"], name)

        found = collector.merged(float(case["conf_thre"]), float(case["nms_thre"]))
        np.testing.assert_array_equal(found.frame_indices, np.repeat(case["out_frame_idx"], case["out_count"]), name)
        assert_equal_boxes(found.boxes, case["out_labels"], name)
