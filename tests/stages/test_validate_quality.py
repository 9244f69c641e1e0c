"""Quality of pseudo-labels against hidden ground truth."""

import json

import numpy as np
import pytest
from pseudo_label_study import (
    HEIGHT,
    REPRESENTATION,
    SEQUENCES,
    WIDTH,
    sequence_config,
    track_filter_settings,
    write_data_set,
    write_kept,
    write_shards,
)

from leod.config.settings import QualitySettings
from leod.errors import DataError
from leod.pseudo_labels.predictions import PredictionsFile, SequencePredictions, write_predictions
from leod.sequences.layout import label_file, representations_dir
from leod.stages import validate_quality as stage
from leod.stages.track_filter import track_filter
from leod.stages.validate_quality import validate_quality


@pytest.fixture
def study(tmp_path):
    sequences, labels = write_data_set(tmp_path)
    predictions = write_shards(tmp_path / "predictions")
    track_filter(
        predictions, sequences, labels, tmp_path / "dataset", tmp_path / "dataset.json", track_filter_settings()
    )
    return {
        "predictions": predictions,
        "dataset": tmp_path / "dataset",
        "sequences": sequences,
        "labels": labels,
        "output": tmp_path / "quality.json",
        "settings": QualitySettings(sequence=sequence_config()),
    }


def run(study):
    validate_quality(**study)
    return json.loads(study["output"].read_text())


def test_only_hidden_frames_count(study):
    quality = run(study)
    # a: frames 9 and 19 are hidden; b: 3 and 12. All four show the car, three of them a pedestrian that nobody found.
    assert quality["hidden_frames"] == 4
    before, after = (quality[moment]["classes"] for moment in ("before_tracking", "after_tracking"))
    for found in (before, after):
        assert found["car"]["frames"] == 4
        assert found["car"]["precision_75"] == found["car"]["recall_75"] == 1
        assert found["pedestrian"]["frames"] == 3
        assert found["pedestrian"]["recall_25"] == 0
        assert found["all"]["box_recall_50"] == pytest.approx(4 / 7)
        assert found["all"]["box_precision_50"] == 1
    average_precision = quality["after_tracking"]["average_precision"]
    assert average_precision["frames"] == 4
    assert average_precision["car"]["AP"] == pytest.approx(1)
    assert average_precision["pedestrian"]["AP"] == 0
    assert average_precision["all"]["AP"] == pytest.approx(0.5)
    assert sum(quality["score_relation"]["car"]["objectness"]["count"]) == 4
    assert quality["score_relation"]["car"]["objectness"]["mean_iou"][17] == pytest.approx(1)


def test_verdicts_of_tracking_are_judged(study, tmp_path):
    """Labels are moved to the frames of the flickering and of the inpainted box."""
    sequences = tmp_path / "sequences" / "train" / "b"
    frames = np.array([5, 6])
    np.save(representations_dir(sequences) / REPRESENTATION / "objframe_idx_2_repr_idx.npy", frames)
    quality = run(study)
    assert quality["ignored_by_tracking"]["pedestrian"]["boxes"] == 1
    assert quality["ignored_by_tracking"]["pedestrian"]["correct_25"] == 0
    assert quality["ignored_by_tracking"]["car"] == {
        "boxes": 0,
        "correct_25": None,
        "correct_50": None,
        "correct_75": None,
    }
    # The inpainted box of frame 6 is where the car should be; the moved label shows where it is in frame 12.
    assert quality["inpainted"] == {
        "boxes": 1,
        "covers_ground_truth_25": pytest.approx(1.0),
        "covers_ground_truth_50": 0,
        "covers_ground_truth_75": 0,
    }
    before, after = (quality[moment]["classes"] for moment in ("before_tracking", "after_tracking"))
    assert before["all"]["pseudo_boxes"] == after["all"]["pseudo_boxes"] + 1


def test_without_hidden_ground_truth_it_says_so(study):
    write_kept(study["labels"], {name: tuple(range(len(labelled))) for name, (_, labelled) in SEQUENCES.items()})
    quality = run(study)
    assert quality["hidden_frames"] == 0
    assert "nothing to compare" in quality["note"]
    assert "before_tracking" not in quality


def test_average_precision_of_many_frames_is_taken_on_some(study, monkeypatch):
    monkeypatch.setattr(stage, "MAX_AP_FRAMES", 2)
    quality = run(study)
    assert quality["after_tracking"]["average_precision"]["frames"] == 2
    assert quality["after_tracking"]["classes"]["car"]["frames"] == 4


def test_no_prediction_at_all(study, tmp_path):
    nothing = []
    for path in study["predictions"]:
        with PredictionsFile(path) as file:
            nothing += [
                SequencePredictions(found.name, found.num_frames, found.boxes[:0], found.frame_indices[:0])
                for found in file
            ]
    write_predictions(tmp_path / "none.h5", nothing, (HEIGHT, WIDTH), {})
    arguments = study | {"predictions": [tmp_path / "none.h5"]}
    track_filter(
        arguments["predictions"],
        study["sequences"],
        study["labels"],
        study["dataset"],
        tmp_path / "dataset.json",
        track_filter_settings(),
    )
    quality = run(arguments)
    assert quality["before_tracking"]["classes"]["car"]["recall_50"] == 0
    assert quality["before_tracking"]["classes"]["car"]["box_precision_50"] is None
    assert quality["before_tracking"]["average_precision"]["all"]["AP"] == 0


def test_data_set_of_other_predictions_is_an_error(study):
    path = label_file(study["dataset"] / "train" / "b")
    with np.load(path) as arrays:
        labels, index = arrays["labels"], arrays["objframe_idx_2_label_idx"]
    labels["x"][0] += 1
    np.savez(path, labels=labels, objframe_idx_2_label_idx=index)
    with pytest.raises(DataError, match="Run track_filter again"):
        run(study)
    assert not study["output"].exists()


def test_what_training_sees_follows_the_thresholds_of_its_loss(study):
    """The car has scores of 0.875 and 0.75; nobody found the pedestrians of three of the hidden frames."""
    seen = run(study)["seen_by_training"]
    assert (seen["car"]["positives"], seen["car"]["found"], seen["car"]["taught_as_background"]) == (4, 1, 0)
    assert (seen["pedestrian"]["positives"], seen["pedestrian"]["taught_as_background"]) == (0, 1)
    assert seen["all"]["taught_as_background"] == pytest.approx(3 / 7)
    study["settings"] = QualitySettings(sequence=sequence_config(), ignore_thresholds={"car": 0.8})
    seen = run(study)["seen_by_training"]
    # They are ignored, so the cars are neither found nor background.
    assert (seen["car"]["positives"], seen["car"]["found"], seen["car"]["taught_as_background"]) == (0, 0, 0)
    assert seen["car"]["found_or_ignored_40"] == 1


def test_smoothed_boxes_are_judged_where_they_are(study, tmp_path):
    """A car's box is 9 pixels off in a hidden frame; its track tells better."""
    noisy = []
    for path in study["predictions"]:
        with PredictionsFile(path) as file:
            noisy += list(file)
    for found in noisy:
        found.boxes["x"][(found.frame_indices == 9) | (found.frame_indices == 12)] += 9
    write_predictions(tmp_path / "noisy.h5", noisy, (HEIGHT, WIDTH), {})
    study["predictions"] = [tmp_path / "noisy.h5"]
    found = []
    for smooth_frames in (0, 5):
        study["dataset"] = tmp_path / f"dataset-{smooth_frames}"
        arguments = (study["predictions"], study["sequences"], study["labels"], study["dataset"], tmp_path / "m.json")
        track_filter(*arguments, track_filter_settings(smooth_frames=smooth_frames))
        study["settings"] = QualitySettings(sequence=sequence_config(), smooth_frames=smooth_frames)
        found.append(run(study))
    (raw, smooth), before = (
        [quality[when]["classes"]["car"]["box_precision_50"] for quality in found]
        for when in ("after_tracking", "before_tracking")
    )
    assert raw == before[0] == before[1] < smooth == 1
    assert found[1]["seen_by_training"]["car"]["precision_50"] == 1
    # Told of no smoothing, or of other scores, it does not take them for the predictions.
    study["settings"] = QualitySettings(sequence=sequence_config())
    with pytest.raises(DataError, match="Run track_filter again"):
        run(study)
    study["settings"] = QualitySettings(sequence=sequence_config(), smooth_frames=5)
    for changed in noisy:
        changed.boxes["objectness"] *= 0.5
    write_predictions(tmp_path / "noisy.h5", noisy, (HEIGHT, WIDTH), {})
    with pytest.raises(DataError, match="Run track_filter again"):
        run(study)
