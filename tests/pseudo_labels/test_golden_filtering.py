"""The pseudo-label filter against the published code."""

import numpy as np
import pytest

from leod.config.schema import BoxFilterConfig
from leod.pseudo_labels.filtering import ScoreThresholds, plausible_boxes, select_pseudo_labels

BOX_FILTER = BoxFilterConfig(min_side=5.0, max_width_fraction=0.9)
CLASSES = {"gen1": 2, "gen4": 3}


@pytest.fixture(scope="module")
def golden(golden_dir):
    return np.load(golden_dir / "pred2label.npz", allow_pickle=False)


def test_pseudo_labels_equal_the_published_code(golden):
    for case in golden["case_names"]:
        classes = CLASSES[str(golden[f"{case}/dataset"])]
        limits = [np.broadcast_to(golden[f"{case}/{score}_thresh"], classes) for score in ("obj", "cls")]
        thresholds = ScoreThresholds(*(np.asarray(limit, np.float32) for limit in limits))
        box_filter = BOX_FILTER if golden[f"{case}/use_box_filter"] else None
        detections = golden[f"{case}/pred"]
        labels, keep = select_pseudo_labels(detections, tuple(golden[f"{case}/hw"]), thresholds, box_filter)

        expected = golden[f"{case}/label"]
        assert len(labels) == len(expected), case
        for column, name in enumerate(golden["label_fields"]):
            name = {"cls_id": "class_id", "cls_conf": "class_confidence"}.get(str(name), str(name))
            np.testing.assert_allclose(labels[name], expected[:, column], rtol=0, atol=1e-3, err_msg=f"{case} {name}")
        images = np.repeat(np.arange(len(golden[f"{case}/pred_count"])), golden[f"{case}/pred_count"])
        counts = np.bincount(images[keep], minlength=len(golden[f"{case}/pred_count"]))
        np.testing.assert_array_equal(counts, golden[f"{case}/label_count"], err_msg=str(case))


def test_box_filter_equals_the_published_code(golden):
    for case in golden["case_names"]:
        corners, keep = plausible_boxes(golden[f"{case}/pred"][:, :4], tuple(golden[f"{case}/hw"]), BOX_FILTER)
        np.testing.assert_allclose(corners, golden[f"{case}/filter_boxes"], rtol=0, atol=1e-3, err_msg=str(case))
        np.testing.assert_array_equal(keep, golden[f"{case}/filter_keep"], err_msg=str(case))
