from __future__ import annotations

import numpy as np
import pytest

from leod.boxes.dtypes import LABEL_DTYPE
from leod.config.schema import EvaluationFilterConfig
from leod.evaluation.prophesee import evaluate_detections, takes_part

CLASSES = ("car", "pedestrian")
NO_FILTER = EvaluationFilterConfig(skip_us=0)
T = 1_000_000


def box(x=50, y=50, w=50, h=50, class_id=0, confidence=1.0, objectness=1.0, t=T):
    return (t, x, y, w, h, class_id, confidence, objectness)


def entry(*boxes):
    return np.array(list(boxes), dtype=LABEL_DTYPE)


def evaluate(ground_truth, detections, filter=NO_FILTER):
    return evaluate_detections(ground_truth, detections, CLASSES, filter)


def metrics(ground_truth, detections, filter=NO_FILTER):
    return evaluate(ground_truth, detections, filter)["metrics"]


def random_scene(seed, entries=30):
    """Ground truth, and detections that are mostly near it, of distinct scores."""
    rng = np.random.default_rng(seed)
    ground_truth, detections = [], []
    for index in range(entries):
        rows = np.zeros(rng.integers(0, 5), dtype=LABEL_DTYPE)
        rows["t"] = T + 100_000 * index
        rows["x"], rows["y"] = rng.uniform(0, 200, len(rows)), rng.uniform(0, 150, len(rows))
        rows["w"], rows["h"] = rng.uniform(12, 140, len(rows)), rng.uniform(12, 140, len(rows))
        rows["class_id"] = rng.integers(0, 2, len(rows))
        rows["class_confidence"] = rows["objectness"] = 1
        found = np.repeat(rows, 2)
        for field in "xywh":
            found[field] += rng.normal(0, 4, len(found))
        found["w"], found["h"] = np.maximum(found["w"], 1), np.maximum(found["h"], 1)
        found["class_confidence"] = rng.uniform(0, 1, len(found))
        ground_truth.append(rows)
        detections.append(found)
    return ground_truth, detections


@pytest.mark.parametrize("seed", range(3))
def test_perfect_detections(seed):
    ground_truth, _ = random_scene(seed)
    result = evaluate(ground_truth, ground_truth)
    assert result["metrics"] == pytest.approx(dict.fromkeys(result["metrics"], 1.0))
    for values in result["per_class"].values():
        assert values["prophesee"]["AP"] == pytest.approx(1.0)
        assert values["coco"]["AP"] == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_entries_and_boxes_does_not_matter(seed):
    ground_truth, detections = random_scene(seed)
    order = np.random.default_rng(seed).permutation(len(ground_truth))
    shuffled = evaluate([ground_truth[i][::-1] for i in order], [detections[i][::-1] for i in order])
    assert shuffled == evaluate(ground_truth, detections)


def test_half_of_the_recall_at_half_of_the_precision():
    # Ranked: a false positive, then one of two objects. Precision 1/2 up to recall 1/2, the other object is missed.
    ground_truth = [entry(box()), entry(box())]
    detections = [entry(box(confidence=0.8)), entry(box(x=150, confidence=0.9))]
    assert metrics(ground_truth, detections)["AP"] == pytest.approx(0.5 * 51 / 101)


def test_average_over_the_iou_thresholds():
    # 31 x 50 of 50 x 50 pixels: IoU 0.62 passes .5, .55 and .6.
    found = metrics([entry(box())], [entry(box(w=31))])
    assert found["AP50"] == pytest.approx(1)
    assert found["AP75"] == pytest.approx(0)
    assert found["AP"] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("side", "present"),
    [
        (31, {"AP_S"}),
        (32, {"AP_S", "AP_M"}),  # both ranges include their bound
        (50, {"AP_M"}),
        (96, {"AP_M", "AP_L"}),
        (97, {"AP_L"}),
    ],
)
def test_size_classes(side, present):
    boxes = [entry(box(w=side, h=side))]
    found = metrics(boxes, boxes)
    assert {name for name in ("AP_S", "AP_M", "AP_L") if found[name] == 1} == present
    assert {name for name in ("AP_S", "AP_M", "AP_L") if found[name] == -1} == {"AP_S", "AP_M", "AP_L"} - present


def test_class_confidence_alone_ranks():
    ground_truth = [entry(box())]
    detections = [entry(box(confidence=0.8, objectness=1.0), box(x=150, confidence=0.9, objectness=0.1))]
    assert metrics(ground_truth, detections)["AP"] == pytest.approx(0.5)


def test_frames_without_ground_truth_do_not_count():
    ground_truth = [entry(box()), entry()]
    detections = [entry(box(confidence=0.8)), entry(box(confidence=0.9))]
    result = evaluate(ground_truth, detections)
    assert result["metrics"]["AP"] == pytest.approx(1)
    assert result["counts"] == {"entries": 2, "images": 1, "ground_truth": 1, "detections": 1}


def test_per_class_figures_leave_out_frames_without_the_class():
    # A false car of high score in a frame with a pedestrian only.
    ground_truth = [entry(box()), entry(box(class_id=1))]
    detections = [entry(box(confidence=0.8)), entry(box(class_id=1), box(class_id=0, confidence=0.9))]
    result = evaluate(ground_truth, detections)
    assert result["per_class"]["car"]["prophesee"]["AP"] == pytest.approx(1)
    assert result["per_class"]["car"]["coco"]["AP"] == pytest.approx(0.5)
    assert result["metrics"]["AP"] == pytest.approx(0.75)
    assert result["per_class"]["car"]["detections"] == 2


def test_a_class_without_ground_truth_is_not_averaged():
    result = evaluate([entry(box())], [entry(box(), box(class_id=1))])
    assert result["metrics"]["AP"] == pytest.approx(1)
    assert result["per_class"]["pedestrian"]["prophesee"]["AP"] == 0
    assert result["per_class"]["pedestrian"]["coco"]["AP"] == -1
    assert result["precision_recall"]["classes"]["pedestrian"] is None


@pytest.mark.parametrize(
    ("ground_truth", "detections"),
    [
        ([entry(box())], [entry()]),  # nothing found
        ([entry()], [entry(box())]),  # nothing to find
        ([], []),  # nothing at all
    ],
)
def test_nothing_found_or_nothing_to_find_is_zero(ground_truth, detections):
    assert set(metrics(ground_truth, detections).values()) == {0.0}


@pytest.mark.parametrize(
    ("distance", "expected"),
    [(0, 1), (-50_000, 1), (50_000, 1), (50_001, 0), (-50_001, 0)],
)
def test_tolerance_in_time_is_inclusive(distance, expected):
    found = metrics([entry(box())], [entry(box(t=T + distance))])
    assert found["AP"] == pytest.approx(expected)


def test_entries_do_not_mix_even_at_the_same_time():
    ground_truth = [entry(box()), entry(box(x=150))]
    assert metrics(ground_truth, [ground_truth[1], ground_truth[0]])["AP"] == 0


def test_a_detection_may_belong_to_two_labelled_times():
    ground_truth = [entry(box(), box(t=T + 40_000))]
    assert metrics(ground_truth, [entry(box(t=T + 20_000))])["AP"] == pytest.approx(1)


def test_only_the_best_hundred_of_a_class_count():
    false_positives = [box(x=150, confidence=0.9) for _ in range(100)]
    assert metrics([entry(box())], [entry(*false_positives[1:], box(confidence=0.5))])["AP"] == pytest.approx(0.01)
    assert metrics([entry(box())], [entry(*false_positives, box(confidence=0.5))])["AP"] == 0
    others = [box(x=150, class_id=1, confidence=0.9) for _ in range(100)]
    assert metrics([entry(box())], [entry(*others, box(confidence=0.5))])["AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("candidate", "kept"),
    [
        (box(w=30, h=40), True),  # diagonal exactly 50
        (box(w=30, h=39.9), False),  # a little shorter
        (box(w=10, h=60), True),  # side exactly 10
        (box(w=9.9, h=60), False),  # narrow
        (box(w=60, h=9.9), False),  # flat
        (box(t=500_000), False),  # the limit itself is skipped
        (box(t=500_001), True),  # just after it
    ],
)
def test_filter(candidate, kept):
    assert takes_part(entry(candidate), EvaluationFilterConfig(min_diagonal=50, min_side=10)).tolist() == [kept]


def test_precision_recall_curve():
    ground_truth = [entry(box()), entry(box())]
    detections = [entry(box(confidence=0.8)), entry(box(x=150, confidence=0.9))]
    curve = evaluate(ground_truth, detections)["precision_recall"]["classes"]["car"]
    assert curve["precision"] == [0.5] * 51 + [0.0] * 50
    assert curve["class_confidence"][:51] == pytest.approx([0.9] + [0.8] * 50)


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="entries"):
        evaluate([entry()], [])
    with pytest.raises(ValueError, match="class id 2"):
        evaluate([entry(box(class_id=2))], [entry()])


def test_nothing_is_printed(capfd):
    evaluate([entry(box())], [entry(box())])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("offset", [0, 1_600_000_000_000_000])
def test_any_clock_gives_the_same_figures(offset):
    ground_truth, detections = random_scene(0, entries=200)
    for rows in (*ground_truth, *detections):
        rows["t"] += offset
    result = evaluate(ground_truth * 50, detections * 50)
    assert result["counts"]["images"] == 50 * sum(len(rows) > 0 for rows in ground_truth)
    assert result["metrics"] == evaluate(ground_truth, detections)["metrics"]


def test_detections_in_ignored_boxes_are_neither_right_nor_wrong():
    ignored = box(x=150, y=100, w=80, h=80, class_id=1024)
    truth, right = box(), box(confidence=0.6)
    wrong_inside = box(x=160, y=110, w=40, h=40, confidence=0.9)
    wrong_outside = box(x=5, y=150, w=40, h=40, confidence=0.9)
    plain = metrics([entry(truth)], [entry(right)])
    assert metrics([entry(truth, ignored)], [entry(wrong_inside, right)]) == plain
    assert metrics([entry(truth)], [entry(wrong_inside, right)])["AP"] < plain["AP"]
    assert metrics([entry(truth, ignored)], [entry(wrong_outside, right)])["AP"] < plain["AP"]
    # They are no ground truth: a frame of them alone does not count, and a class is not the worse for them.
    result = evaluate([entry(truth), entry(ignored)], [entry(right), entry(wrong_outside)])
    assert result["counts"] == {"entries": 2, "images": 1, "ground_truth": 1, "detections": 1}
    assert result["per_class"]["car"]["prophesee"] == pytest.approx(plain)
    assert evaluate([entry(truth, ignored)], [entry(wrong_inside, right)])["per_class"]["car"]["prophesee"] == plain


def test_an_object_inside_an_ignored_box_is_found_all_the_same():
    ignored = box(x=40, y=40, w=80, h=80, class_id=1024)
    assert metrics([entry(box(), ignored)], [entry(box(confidence=0.6))])["AP"] == pytest.approx(1.0)
