"""Predicting boxes on all frames of the train split."""

import shutil

import h5py
import numpy as np
import pytest
import torch
from pseudo_label_study import (
    CLASSES,
    HEIGHT,
    KEPT,
    SEQUENCES,
    WIDTH,
    generate_settings,
    model_config,
    sequence_config,
    track_filter_settings,
    write_data_set,
    write_kept,
)

from leod.config.schema import HardwareConfig, MergingConfig
from leod.errors import CheckpointError, ConfigError, DataError, LockedError
from leod.files import locked
from leod.models.checkpoint import save_detector
from leod.models.detector import build_detector
from leod.pseudo_labels.predictions import PredictionsFile
from leod.sequences.frame_boxes import read_frame_boxes
from leod.stages import generate_pseudo_labels as stage
from leod.stages.generate_pseudo_labels import generate_pseudo_labels
from leod.stages.track_filter import track_filter

HARDWARE = HardwareConfig(accelerator="cpu", num_workers=0)


def write_checkpoint(path, seed=0, downsample_by_2=False):
    torch.manual_seed(seed)
    detector = build_detector(model_config(), sequence_config(downsample_by_2))
    with torch.no_grad():
        # An untrained head is sure that there is nothing.
        for name, parameter in detector.named_parameters():
            if name.endswith("bias") and ("obj_pred" in name or "cls_pred" in name):
                parameter.zero_()
    save_detector(path, detector)
    return path


@pytest.fixture
def study(tmp_path):
    sequences, labels = write_data_set(tmp_path)
    return {
        "checkpoint": write_checkpoint(tmp_path / "model.ckpt"),
        "sequences": sequences,
        "labels": labels,
        "output": tmp_path / "predictions" / "0.h5",
        "settings": generate_settings(),
        "hardware": HARDWARE,
    }


def read(path):
    with PredictionsFile(path) as file:
        return {found.name: found for found in file}


def run(study, **changes):
    arguments = study | changes
    generate_pseudo_labels(**arguments)
    return read(arguments["output"])


def kept_frames(name):
    return [SEQUENCES[name][1][k] for k in KEPT[name]]


def assert_equal_predictions(one, other, tolerance=0.0):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name].frame_indices, other[name].frame_indices)
        np.testing.assert_array_equal(one[name].boxes["class_id"], other[name].boxes["class_id"])
        for field in ("x", "y", "w", "h", "objectness", "class_confidence"):
            np.testing.assert_allclose(one[name].boxes[field], other[name].boxes[field], rtol=0, atol=tolerance)


@pytest.mark.parametrize("views", [{}, {"mirror": True, "time_reversal": True}])
def test_every_frame_without_kept_ground_truth_gets_predictions(study, views):
    predictions = run(study, settings=generate_settings(**views))
    assert predictions.keys() == SEQUENCES.keys()
    for name, (num_frames, _) in SEQUENCES.items():
        found = predictions[name]
        assert set(found.frame_indices) == set(range(num_frames)) - set(kept_frames(name))
        assert (found.boxes["t"] == 0).all()
        assert set(found.boxes["class_id"]) <= set(range(len(CLASSES)))
        assert (found.boxes["x"] >= 0).all()
        assert (found.boxes["x"] + found.boxes["w"] <= WIDTH - 1).all()
        assert (found.boxes["y"] + found.boxes["h"] <= HEIGHT - 1).all()
    assert {path.name for path in study["output"].parent.iterdir()} == {"0.h5", ".finished-0.h5"}
    with PredictionsFile(study["output"]) as file:
        assert file.provenance["stage"] == "generate_pseudo_labels"
        assert file.sensor_size == (HEIGHT, WIDTH)


def test_result_is_a_pseudo_labelled_data_set_after_tracking(study, tmp_path):
    run(study)
    dataset = tmp_path / "round_1" / "dataset"
    track_filter(
        [study["output"]],
        study["sequences"],
        study["labels"],
        dataset,
        tmp_path / "round_1" / "dataset.json",
        track_filter_settings(),
    )
    found = read_frame_boxes(dataset / "train" / "a", "stacked_histogram_dt=50_nbins=10")
    assert set(found.frame_indices[found.boxes["t"] > 0]) == set(kept_frames("a"))


def test_shards_together_are_the_whole(study, tmp_path):
    whole = run(study)
    parts = [run(study, output=tmp_path / f"{shard}.h5", shard=shard, shards=2) for shard in range(2)]
    assert not parts[0].keys() & parts[1].keys()
    assert all(part for part in parts)
    assert_equal_predictions(parts[0] | parts[1], whole, tolerance=1e-3)


def test_more_shards_than_sequences(study, tmp_path):
    found = [run(study, output=tmp_path / f"{shard}.h5", shard=shard, shards=5) for shard in range(5)]
    assert sorted(name for part in found for name in part) == sorted(SEQUENCES)


def test_shard_that_does_not_exist(study):
    with pytest.raises(ConfigError, match="shard 2 of 2"):
        run(study, shard=2, shards=2)


def test_ground_truth_may_be_replaced_too(study):
    predictions = run(study, settings=generate_settings(use_ground_truth=False))
    for name, (num_frames, _) in SEQUENCES.items():
        assert set(predictions[name].frame_indices) == set(range(num_frames))


def test_first_frames_may_be_skipped(study):
    predictions = run(study, settings=generate_settings(skip_first_frames=6))
    for name, (num_frames, _) in SEQUENCES.items():
        assert set(predictions[name].frame_indices) == set(range(6, num_frames)) - set(kept_frames(name))


def test_thresholds_leave_frames_out(study):
    predictions = run(study, settings=generate_settings(score_thresholds=dict.fromkeys(CLASSES, 1.0)))
    assert predictions.keys() == SEQUENCES.keys()
    assert all(len(found.boxes) == 0 for found in predictions.values())


def test_views_add_boxes_before_merging(study):
    plain, merged = generate_settings(), generate_settings(mirror=True, time_reversal=True)
    # At an IoU threshold of 1 nothing is suppressed, so that every view's boxes can be counted.
    plain, merged = (
        settings.model_copy(update={"detection": settings.detection.model_copy(update={"nms_threshold": 1.0})})
        for settings in (plain, merged)
    )
    one, four = run(study, settings=plain), run(study, settings=merged)
    for name in SEQUENCES:
        assert len(four[name].boxes) > 2 * len(one[name].boxes)


def test_views_may_be_fused(study):
    views = {"mirror": True, "time_reversal": True}
    suppressed = run(study, settings=generate_settings(**views))
    fused = run(study, settings=generate_settings(**views, merging=MergingConfig(method="weighted_box_fusion")))
    for name in SEQUENCES:
        boxes, others = fused[name].boxes, suppressed[name].boxes
        assert len(boxes) > 0
        assert not np.array_equal(boxes["x"], others["x"])
        # A box of one view alone counts a quarter; untrained, no other boxes are as sure as the surest of any view.
        assert boxes["objectness"].max() < others["objectness"].max()


def test_boxes_of_halved_frames_are_stored_at_full_resolution(tmp_path):
    sequences, labels = write_data_set(tmp_path, downsample_by_2=True)
    settings = generate_settings(downsample_by_2=True, mirror=True)
    output = tmp_path / "0.h5"
    checkpoint = write_checkpoint(tmp_path / "model.ckpt", downsample_by_2=True)
    generate_pseudo_labels(checkpoint, sequences, labels, output, settings, hardware=HARDWARE)
    found = read(output)["b"].boxes
    right = found["x"] + found["w"]
    assert WIDTH / 2 < right.max() <= WIDTH - 1
    # The least side of the filter is in pixels of the halved frame.
    assert found["w"].min() >= 2 * settings.box_filter.min_side


class Killed(BaseException):
    """Stands for the signal that ends a process."""


def test_killed_run_goes_on_with_the_next_sequence(study, tmp_path, monkeypatch):
    expected = run(study, output=tmp_path / "whole.h5")
    detect, done = stage.detect_merged, []

    def detect_once(*arguments, **options):
        for sequence, found in detect(*arguments, **options):
            if done:
                raise Killed
            done.append(sequence.name)
            yield sequence, found

    monkeypatch.setattr(stage, "detect_merged", detect_once)
    with pytest.raises(Killed):
        run(study)
    assert not study["output"].exists()

    resumed = []
    monkeypatch.setattr(stage, "detect_merged", noting(detect, resumed))
    predictions = run(study)
    assert sorted(done + resumed) == sorted(SEQUENCES)
    assert_equal_predictions(predictions, expected, tolerance=1e-3)
    assert not study["output"].with_name("0.h5.parts").exists()


def noting(detect, names):
    """``detect``, which also writes down what it yields."""

    def detect_and_note(*arguments, **options):
        for sequence, found in detect(*arguments, **options):
            names.append(sequence.name)
            yield sequence, found

    return detect_and_note


def names_done_after(study, monkeypatch, change):
    """Run until all sequences are done but the shard is not written, change something, tell what is done again."""
    write, done = stage.write_predictions, []

    def killed(*arguments):
        raise Killed

    monkeypatch.setattr(stage, "write_predictions", killed)
    with pytest.raises(Killed):
        run(study)
    monkeypatch.setattr(stage, "write_predictions", write)
    monkeypatch.setattr(stage, "detect_merged", noting(stage.detect_merged, done))
    run(study | (change(study["output"].with_name("0.h5.parts")) or {}))
    return sorted(done)


def test_nothing_is_done_twice(study, monkeypatch):
    assert names_done_after(study, monkeypatch, lambda parts: None) == []


def test_parts_of_another_program_are_done_again(study, monkeypatch):
    def upgrade(parts):
        monkeypatch.setattr("leod.reuse.program_digest", lambda: "a newer version")

    assert len(names_done_after(study, monkeypatch, upgrade)) > 0


def test_damaged_part_is_done_again(study, monkeypatch):
    def damage(parts):
        (parts / "b.npz").write_bytes((parts / "b.npz").read_bytes()[:100])

    assert names_done_after(study, monkeypatch, damage) == ["b"]


def test_other_settings_do_all_again(study, monkeypatch):
    other = {"settings": generate_settings(mirror=True)}
    assert names_done_after(study, monkeypatch, lambda parts: other) == sorted(SEQUENCES)


def test_other_weights_do_all_again(study, monkeypatch):
    def train(parts):
        write_checkpoint(study["checkpoint"], seed=1)

    assert names_done_after(study, monkeypatch, train) == sorted(SEQUENCES)


def test_other_kept_labels_do_their_sequence_again(study, monkeypatch):
    def keep(parts):
        write_kept(study["labels"], KEPT | {"b": (1,)})

    assert names_done_after(study, monkeypatch, keep) == ["b"]


def test_other_frames_do_their_sequence_again(study, monkeypatch):
    def preprocess_again(parts):
        path = next((study["sequences"] / "train" / "b").rglob("event_representations.h5"))
        path.unlink()
        with h5py.File(path, "w") as file:
            file["data"] = np.ones((SEQUENCES["b"][0], 20, HEIGHT, WIDTH), np.uint8)

    assert names_done_after(study, monkeypatch, preprocess_again) == ["b"]


def test_finished_shard_that_was_deleted_is_put_back(study, monkeypatch):
    expected = run(study)
    study["output"].unlink()

    def detect(*_, **__):
        raise AssertionError("a finished shard was detected again")

    with monkeypatch.context() as patch:
        patch.setattr(stage, "detect_merged", detect)
        assert_equal_predictions(run(study), expected)
        with pytest.raises(AssertionError):
            run(study, settings=generate_settings(mirror=True))
    assert run(study, settings=generate_settings(mirror=True)).keys() == expected.keys()


def test_two_processes_never_make_the_same_shard(study):
    with locked(study["output"].with_name("0.h5.parts")), pytest.raises(LockedError):
        run(study)


def test_wrong_inputs_are_named(study, tmp_path):
    with pytest.raises(DataError, match=r"none\.ckpt"):
        run(study, checkpoint=tmp_path / "none.ckpt")
    other = generate_settings(sequence=sequence_config().model_copy(update={"classes": ("car", "bus")}))
    with pytest.raises(CheckpointError, match="bus"):
        run(study, settings=other)
    write_kept(study["labels"], {"a": ()})
    with pytest.raises(DataError, match="'b'"):
        run(study)
    shutil.rmtree(study["sequences"] / "train")
    with pytest.raises(DataError, match="train"):
        run(study)
    assert not study["output"].exists()
