"""Score thresholds from the validation split."""

import numpy as np
import pytest
import torch
from pseudo_label_study import generate_settings, write_data_set
from tiny_sequences import CONFIG, MODEL, CountingDetector, numbered_frames, random_detector, write_tiny_sequence

from leod.config.schema import BoxFilterConfig, DetectionConfig, HardwareConfig, ThresholdChoiceConfig, ViewsConfig
from leod.config.settings import ChooseThresholdsSettings
from leod.errors import ConfigError, DataError
from leod.files import read_json, write_json
from leod.models.checkpoint import save_detector
from leod.stages import choose_thresholds as stage
from leod.stages.choose_thresholds import choose_thresholds
from leod.stages.generate_pseudo_labels import generate_pseudo_labels

HARDWARE = HardwareConfig(accelerator="cpu", num_workers=0)


def make_settings(target=0.9, minimum=0.05, mirror=False, time_reversal=False):
    return ChooseThresholdsSettings(
        sequence=CONFIG,
        model=MODEL,
        views=ViewsConfig(mirror=mirror, time_reversal=time_reversal),
        detection=DetectionConfig(confidence_threshold=0.001, batch_size=2, sequence_length=12),
        box_filter=BoxFilterConfig(min_side=2.0),
        choice=ThresholdChoiceConfig(target_precision=target, minimum=minimum, minimum_boxes=1),
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
    from leod.pseudo_labels.predictions import PredictionsFile

    torch.manual_seed(0)
    sequences, labels = write_data_set(tmp_path)
    settings = generate_settings(score_thresholds=None)
    detector = build_detector(settings.model, settings.sequence)
    with torch.no_grad():
        for parameter in detector.head.parameters():
            parameter.normal_(0.0, 0.3)
    save_detector(tmp_path / "model.ckpt", detector)
    arguments = (tmp_path / "model.ckpt", sequences, labels, tmp_path / "0.h5", settings)
    with pytest.raises(ConfigError, match="no score thresholds"):
        generate_pseudo_labels(*arguments, hardware=HARDWARE)

    def lesser_scores(thresholds):
        write_json(tmp_path / "t.json", {"thresholds": thresholds})
        generate_pseudo_labels(*arguments, hardware=HARDWARE, thresholds=tmp_path / "t.json")
        with PredictionsFile(tmp_path / "0.h5") as file:
            found = np.concatenate([sequence.boxes for sequence in file])
        return {
            class_id: np.minimum(found["objectness"], found["class_confidence"])[found["class_id"] == class_id]
            for class_id in (0, 1)
        }

    everything = lesser_scores({"car": 0.0, "pedestrian": 0.0})
    limit = float(np.median(everything[0]))
    chosen = lesser_scores({"car": limit, "pedestrian": 1.0})
    assert 0 < len(chosen[0]) < len(everything[0])
    assert chosen[0].min() > limit
    assert len(chosen[1]) == 0
