"""Quality measures against the published code."""

import json

import numpy as np
import pytest
from label_rows import from_label_rows

from leod.pseudo_labels.quality import QualityTally, scores_and_ious
from leod.sequences.frame_boxes import FrameBoxes

CLASSES = {2: ("car", "ped"), 3: ("ped", "cyc", "car")}
"""Number of classes -> their names in the published code."""


@pytest.fixture(scope="module")
def golden(golden_dir):
    arrays = np.load(golden_dir / "quality.npz", allow_pickle=False)
    return arrays, json.loads((golden_dir / "quality.json").read_text())


def load_case(arrays, case):
    mask = arrays[f"{case}/pred_mask"]
    found = []
    for kind in ("gt", "pred"):
        boxes = from_label_rows(arrays[f"{case}/{kind}"])
        frames = np.repeat(np.arange(len(mask)), arrays[f"{case}/{kind}_count"])
        found.append(FrameBoxes(boxes, frames).select(mask[frames]))
    return found


def test_precision_and_recall_equal_the_published_code(golden):
    arrays, expected = golden
    for case in expected:
        classes = CLASSES[expected[case]["num_cls"]]
        tally = QualityTally(classes)
        tally.add(*load_case(arrays, case))
        summary = tally.summary()
        reference = expected[case]["evaluate_label"]
        for name in classes:
            found = summary[name]
            assert found["frames"] == reference.get(f"num_{name}", 0)
            if not found["frames"]:
                continue
            for threshold in (25, 50, 75):
                for ours, theirs in (("recall", "AR"), ("precision", "AP")):
                    value = reference[f"ssod/teacher_{theirs}@{threshold}_{name}"]
                    assert found[f"{ours}_{threshold}"] == pytest.approx(value, abs=1e-5), (case, name, ours)
            assert found["ground_truth_boxes_per_frame"] == pytest.approx(reference[f"ssod/gt_num_{name}"])
            assert found["pseudo_boxes_per_frame"] == pytest.approx(reference[f"ssod/pred_num_{name}"])


def test_splitting_into_sequences_does_not_change_the_average(golden):
    arrays, expected = golden
    for case in expected:
        classes = CLASSES[expected[case]["num_cls"]]
        truth, pseudo = load_case(arrays, case)
        whole, parts = QualityTally(classes), QualityTally(classes)
        whole.add(truth, pseudo)
        for first_part in (True, False):
            parts.add(*(boxes.select((boxes.frame_indices < 7) == first_part) for boxes in (truth, pseudo)))
        for name, values in whole.summary().items():
            assert parts.summary()[name] == pytest.approx(values)


def test_scores_and_ious_equal_the_published_code(golden):
    arrays, expected = golden
    for case in expected:
        if expected[case].get("get_scores_ious_error"):
            continue
        reference = expected[case]["get_scores_ious"]
        classes = CLASSES[expected[case]["num_cls"]]
        for name, (boxes, ious) in scores_and_ious(*load_case(arrays, case), classes).items():
            np.testing.assert_allclose(ious, reference[f"ssod/true_ious_{name}"], rtol=0, atol=1e-4)
            np.testing.assert_allclose(boxes["class_confidence"], reference[f"ssod/cls_scores_{name}"], atol=1e-6)
            np.testing.assert_allclose(boxes["objectness"], reference[f"ssod/obj_scores_{name}"], atol=1e-6)
