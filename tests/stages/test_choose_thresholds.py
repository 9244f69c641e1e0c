"""Score thresholds from the validation split."""

import numpy as np
import pytest
import torch
from pseudo_label_study import generate_settings, write_data_set, write_kept
from tiny_sequences import (
    CONFIG,
    MODEL,
    CountingDetector,
    numbered_frames,
    random_detector,
    random_frames,
    write_tiny_sequence,
)

from leod.config.schema import (
    BoxFilterConfig,
    DetectionConfig,
    HardwareConfig,
    MergingConfig,
    ThresholdChoiceConfig,
    ViewsConfig,
)
from leod.config.settings import ChooseThresholdsSettings, GenerateSettings
from leod.errors import ConfigError, DataError
from leod.files import read_json, write_json
from leod.models.checkpoint import save_detector
from leod.pseudo_labels.predictions import PredictionsFile
from leod.pseudo_labels.thresholds import lesser_scores
from leod.stages import choose_thresholds as stage
from leod.stages.choose_thresholds import choose_thresholds
from leod.stages.generate_pseudo_labels import generate_pseudo_labels

MERGING = MergingConfig()
FUSION = MergingConfig(method="weighted_box_fusion")
HARDWARE = HardwareConfig(accelerator="cpu", num_workers=0)


def make_settings(target=0.9, minimum=0.05, mirror=False, time_reversal=False, merging=MERGING, **choice):
    return ChooseThresholdsSettings(
        sequence=CONFIG,
        model=MODEL,
        views=ViewsConfig(mirror=mirror, time_reversal=time_reversal),
        detection=DetectionConfig(confidence_threshold=0.001, batch_size=2, sequence_length=12),
        merging=merging,
        box_filter=BoxFilterConfig(min_side=2.0),
        choice=ThresholdChoiceConfig(**{"target_precision": target, "minimum": minimum, "minimum_boxes": 1} | choice),
    )


@pytest.fixture
def counting(monkeypatch):
    """A detector whose box is (20, 10) in size frame number + 1 by frames since the reset."""
    monkeypatch.setattr(stage, "load_detector", lambda *_: CountingDetector())


def test_precision_on_labelled_frames_only(tmp_path, counting):
    # Labelled are frames 7, 9 and 11, at which the detector's box is 8, 10 and 12 pixels wide and high around (20, 10).
    # The ground truth of the first sequence is within IoU 0.5 of all three, that of the second one lies elsewhere.
    write_tiny_sequence(tmp_path / "val" / "a", numbered_frames(14), [7, 9, 11], [(15, 5, 10, 10, 0)])
    write_tiny_sequence(tmp_path / "val" / "b", numbered_frames(14), [9], [(2, 2, 6, 6, 0)])
    output = tmp_path / "thresholds.json"
    choose_thresholds("model.ckpt", tmp_path, output, make_settings(target=0.7), HARDWARE)
    content = read_json(output)
    car = content["classes"]["car"]
    assert content["labelled_frames"] == 4
    assert (car["ground_truth"], car["boxes"], car["precision"], car["recall"]) == (4, 4, 0.75, 0.75)
    assert car["reached"]
    assert content["thresholds"]["car"] == pytest.approx(0.05)
    assert content["thresholds"]["pedestrian"] == 1.0  # never detected: no pseudo-labels
    assert content["provenance"]["stage"] == "choose_thresholds"


def test_target_out_of_reach_is_told(tmp_path, counting, caplog):
    write_tiny_sequence(tmp_path / "val" / "a", numbered_frames(14), [9], [(2, 2, 6, 6, 0)])
    choose_thresholds("model.ckpt", tmp_path, tmp_path / "t.json", make_settings(), HARDWARE)
    assert not read_json(tmp_path / "t.json")["classes"]["car"]["reached"]
    assert "car: no threshold reaches a precision of 0.900; the best is 0.000" in caplog.text
    assert "pedestrian: no detection on the val split" in caplog.text


def test_all_views_take_part(tmp_path):
    torch.manual_seed(0)
    write_tiny_sequence(tmp_path / "val" / "a", numbered_frames(12), [7, 9])
    save_detector(tmp_path / "model.ckpt", random_detector())
    boxes = []
    for views in (False, True):
        output = tmp_path / f"{views}.json"
        settings = make_settings(minimum=0.0, mirror=views, time_reversal=views)
        choose_thresholds(tmp_path / "model.ckpt", tmp_path, output, settings, HARDWARE)
        found = read_json(output)["classes"]
        boxes.append(sum(max(entry["curve"]["boxes"], default=0) for entry in found.values()))
    assert 0 < boxes[0] != boxes[1]


def test_validation_split_without_labels(tmp_path, counting):
    write_tiny_sequence(tmp_path / "val" / "a", numbered_frames(6), [])
    with pytest.raises(DataError, match="no sequence has labels"):
        choose_thresholds("model.ckpt", tmp_path, tmp_path / "t.json", make_settings(), HARDWARE)


def test_pseudo_labels_follow_the_chosen_thresholds(tmp_path):
    from leod.models.detector import build_detector

    torch.manual_seed(0)
    sequences, labels = write_data_set(tmp_path)
    settings = generate_settings(score_thresholds=None)
    detector = build_detector(settings.model, settings.sequence)
    with torch.no_grad():
        for parameter in detector.head.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape))
    save_detector(tmp_path / "model.ckpt", detector)
    arguments = (tmp_path / "model.ckpt", sequences, labels, tmp_path / "0.h5", settings)
    with pytest.raises(ConfigError, match="no score thresholds"):
        generate_pseudo_labels(*arguments, hardware=HARDWARE)

    def scores_above(thresholds):
        write_json(tmp_path / "t.json", {"thresholds": thresholds})
        generate_pseudo_labels(*arguments, hardware=HARDWARE, thresholds=tmp_path / "t.json")
        with PredictionsFile(tmp_path / "0.h5") as file:
            found = np.concatenate([sequence.boxes for sequence in file])
        return {class_id: lesser_scores(found)[found["class_id"] == class_id] for class_id in (0, 1)}

    everything = scores_above({"car": 0.0, "pedestrian": 0.0})
    limit = float(np.median(everything[0]))
    chosen = scores_above({"car": limit, "pedestrian": 1.0})
    assert 0 < len(chosen[0]) < len(everything[0])
    assert chosen[0].min() > limit
    assert len(chosen[1]) == 0


class FadingDetector(CountingDetector):
    """The same boxes; the earlier the frame, the lower the objectness: frame number / 16."""

    def forward_head(self, features, targets=None, loss=None):
        found, losses = super().forward_head(features, targets, loss)
        found[..., 4] = (found[..., 2] - 1) / 16
        return found, losses


@pytest.fixture
def fading(monkeypatch, tmp_path):
    """Boxes of scores 7/16, 9/16 and 11/16 on one object, another object that is never found, beside a wrong 9/16."""
    monkeypatch.setattr(stage, "load_detector", lambda *_: FadingDetector())
    write_tiny_sequence(tmp_path / "val" / "a", numbered_frames(14), [7, 9, 11], [(15, 5, 10, 10, 0)])
    write_tiny_sequence(tmp_path / "val" / "b", numbered_frames(14), [9], [(2, 2, 6, 6, 0)])

    def choose(**changes):
        output = tmp_path / "thresholds.json"
        choose_thresholds("model.ckpt", tmp_path, output, make_settings(target=0.99, **changes), HARDWARE)
        return read_json(output)

    return choose


@pytest.mark.parametrize(
    ("max_background", "threshold", "share", "keep"),
    [
        (0.25, 0.43, 0.25, 9 / 16),  # the highest that takes the box of score 7/16
        (0.4, 0.43, 0.25, 9 / 16),
        (0.5, 0.56, 0.5, 9 / 16),
        # 0.68 would do, but boxes above 9/16 are precise enough to be kept, so all that are generated are.
        (0.75, 9 / 16, 0.75, 0.05),
    ],
)
def test_a_second_threshold_leaves_few_objects_without_a_box(fading, max_background, threshold, share, keep):
    found = fading(max_background=max_background)
    assert found["thresholds"]["car"] == pytest.approx(threshold)
    assert found["keep"] == {"car": pytest.approx(keep), "pedestrian": 1.0}
    assert found["classes"]["car"]["boxes"] == 1
    assert found["classes"]["car"]["precision"] == 1
    background = found["background"]
    assert (background["reached"], background["share"], background["objects"]) == (True, share, 4)
    assert background["classes"] == {"car": share, "pedestrian": None}


def test_without_a_second_threshold_nothing_is_weak(fading):
    found = fading()
    assert found["thresholds"]["car"] == 9 / 16
    assert {"keep", "background"} & set(found) == set()


def test_too_many_objects_without_a_box_are_told(fading, caplog):
    found = fading(max_background=0.1)
    assert found["thresholds"]["car"] == 0.05
    assert not found["background"]["reached"]
    assert (
        "no threshold leaves at most 0.100 of the objects without a box; at 0.050, the least, it is 0.250"
        in caplog.text
    )


def test_few_objects_are_nothing_to_choose_by(fading, caplog):
    found = fading(max_background=0.5, minimum_boxes=5)
    assert found["thresholds"]["car"] == 0.05
    assert "only 4 objects on the val split, too few to choose by" in caplog.text


@pytest.mark.parametrize(
    ("merging", "max_background"), [(MERGING, 0.3), (FUSION, 0.3), (FUSION, None)], ids=["nms", "fused", "fused, one"]
)
def test_what_is_told_is_what_is_generated(tmp_path, merging, max_background):
    """The train split holds the same sequence: as many boxes above the thresholds as the choice has counted."""
    torch.manual_seed(0)
    labelled = [3, 5, 7, 9]
    for split in ("train", "val"):
        write_tiny_sequence(tmp_path / split / "a", random_frames(3, 12), labelled)
    save_detector(tmp_path / "model.ckpt", random_detector())
    settings = make_settings(*(0.4, 0.0, True, True), merging=merging, max_background=max_background, iou_threshold=0.1)
    choose_thresholds(tmp_path / "model.ckpt", tmp_path, tmp_path / "t.json", settings, HARDWARE)
    told = read_json(tmp_path / "t.json")
    write_kept(tmp_path / "labels.json", {"a": ()})
    shared = {
        name: getattr(settings, name) for name in ("sequence", "model", "views", "detection", "merging", "box_filter")
    }
    generate_pseudo_labels(
        tmp_path / "model.ckpt",
        tmp_path,
        tmp_path / "labels.json",
        tmp_path / "0.h5",
        GenerateSettings(**shared, score_thresholds=None, use_ground_truth=True, skip_first_frames=0),
        hardware=HARDWARE,
        thresholds=tmp_path / "t.json",
    )
    with PredictionsFile(tmp_path / "0.h5") as file:
        found = file["a"]
    boxes = found.boxes[np.isin(found.frame_indices, labelled)]
    assert len(boxes) > 0
    for class_id, (name, choice) in enumerate(told["classes"].items()):
        above = np.float32(told["keep"][name] if max_background is not None else -1)
        strong = boxes[(boxes["class_id"] == class_id) & (lesser_scores(boxes) > above)]
        assert len(strong) == choice["boxes"]
