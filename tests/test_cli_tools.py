"""The tools for published weights, data and splits, through the command line."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
import torch
import yaml
from pseudo_label_study import SEQUENCES, track_filter_settings, write_data_set, write_shards

sys.path.insert(0, str(Path(__file__).resolve().parent / "models"))

from published_files import published_tensors, write_lightning

from leod.boxes.dtypes import IGNORED_CLASS_ID, LABEL_DTYPE
from leod.boxes.kept_labels import KeptLabels
from leod.cli import main
from leod.config.load import load_study
from leod.models.checkpoint import load_detector
from leod.sequences.layout import label_file, read_labels
from leod.sequences.sequence import open_split
from leod.stages.track_filter import track_filter

STUDY = {
    "name": "small",
    "dataset": {
        "name": "small",
        "sequences": "sequences",
        "sensor": {"height": 48, "width": 64},
        "classes": ["pedestrian", "two-wheeler", "car"],
        "downsample_by_2": True,
    },
    "model": {"name": "small", "embed_dim": 8, "dim_head": 8},
    "labels": [{"setting": "weakly_supervised", "ratio": 0.5}],
    "pretrain": {"steps": 1, "learning_rate": 1e-3, "sequence_length": 2},
    "self_train": {"steps": 1, "learning_rate": 1e-3, "sequence_length": 2},
    "pseudo_labels": {"score_thresholds": {"pedestrian": 0.3, "two-wheeler": 0.3, "car": 0.6}},
}
PUBLISHED_LABELS = [
    ("ts", "<u8"),
    ("x", "<f4"),
    ("y", "<f4"),
    ("w", "<f4"),
    ("h", "<f4"),
    ("class_id", "u1"),
    ("track_id", "<u4"),
    ("class_confidence", "<f4"),
]
"""The eight fields of RVT's files, in the old spelling of the time."""


@pytest.fixture
def leod(monkeypatch, capsys):
    """Run a command line; returns its exit status and what it said."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["leod", *(str(argument) for argument in arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return ended.value.code, captured.out + captured.err

    return run


@pytest.fixture
def study(tmp_path):
    return write_study(tmp_path / "study.yaml")


def write_study(path, **changes):
    path.write_text(yaml.safe_dump(STUDY | changes))
    return path


def write_published_sequence(folder, frames=8, labelled_frames=(3, 5, 7), dtype=PUBLISHED_LABELS):
    """A sequence as RVT's script leaves it: halved frames, blosc, coordinates of the full sensor."""
    representation = folder / "event_representations_v2" / "stacked_histogram_dt=50_nbins=10"
    representation.mkdir(parents=True)
    counts = np.random.default_rng(frames).poisson(0.2, (frames, 20, 24, 32)).astype(np.uint8)
    with h5py.File(representation / "event_representations_ds2_nearest.h5", "w") as file:
        filters = hdf5plugin.Blosc(cname="zstd", clevel=1, shuffle=hdf5plugin.Blosc.SHUFFLE)
        file.create_dataset(
            "data", data=counts, chunks=(1, *counts.shape[1:]), maxshape=(None, *counts.shape[1:]), **filters
        )
    np.save(representation / "objframe_idx_2_repr_idx.npy", np.array(labelled_frames))
    np.save(representation / "timestamps_us.npy", 50_000 * np.arange(1, frames + 1))
    labels = np.zeros(2 * len(labelled_frames), dtype)
    times = np.repeat(50_000 * (np.array(labelled_frames) + 1), 2)
    for name in labels.dtype.names:
        values = {"x": [4, 30], "y": [6, 20], "w": [20, 40.5], "h": [12, 10], "class_id": [2, 0], "track_id": [1, 2]}
        labels[name] = times if name in ("t", "ts") else np.tile(values.get(name, [1, 1]), len(labelled_frames))
    (folder / "labels_v2").mkdir()
    index = 2 * np.arange(len(labelled_frames))
    np.savez(folder / "labels_v2" / "labels.npz", labels=labels, objframe_idx_2_label_idx=index)
    np.save(folder / "labels_v2" / "timestamps_us.npy", times[::2])


@pytest.fixture
def published_set(tmp_path):
    """A data set as released; one training sequence and the test split are links."""
    root = tmp_path / "published"
    write_published_sequence(root / "train" / "drive_a")
    write_published_sequence(tmp_path / "elsewhere" / "drive_b", frames=10)
    write_published_sequence(root / "val" / "drive_c")
    (root / "train" / "drive_b").symlink_to(tmp_path / "elsewhere" / "drive_b")
    (root / "test").symlink_to(root / "val")
    return root


# ---------------------------------------------------------------------------------------------------- data sets


def test_a_published_data_set_is_sound_and_loads(leod, study, published_set, tmp_path):
    report = tmp_path / "report.json"
    # The test split is the val split in other clothes, which check-dataset rightly objects to.
    code, text = leod(
        "check-dataset", published_set, "--study", study, "--deep", "--split", "train", "--output", report
    )
    assert code == 0, text
    assert "no problems found" in text
    train = json.loads(report.read_text())["splits"]["train"]
    assert (train["sequences"], train["linked_sequences"], train["frames"], train["labelled_frames"]) == (2, 1, 18, 6)
    assert train["classes"]["car"]["boxes"] == 6
    assert train["classes"]["two-wheeler"]["boxes"] == 0
    assert train["representations"][0]["file"] == "event_representations_ds2_nearest.h5"

    sequences = open_split(published_set, "train", load_study(study).dataset.sequence_config())
    assert [sequence.name for sequence in sequences] == ["drive_a", "drive_b"]
    assert sequences[1].read_frames(0, 10).shape == (10, 20, 24, 32)
    boxes = sequences[0].frame_labels(0)
    assert boxes["t"].tolist() == [200_000, 200_000]
    assert boxes["x"].tolist() == [2, 15]
    assert boxes["w"].tolist() == [10, 16]  # cut at the sensor's last column, halved, cut at the frame's last column
    assert boxes["objectness"].tolist() == [1, 1]


def test_all_splits_of_a_published_data_set_through_links(study, published_set):
    config = load_study(study).dataset.sequence_config()
    assert [len(open_split(published_set, split, config)) for split in ("train", "val", "test")] == [2, 1, 1]


def test_damage_ends_with_an_error_that_names_the_file(leod, study, published_set):
    path = published_set / "train" / "drive_a" / "labels_v2" / "labels.npz"
    path.write_bytes(path.read_bytes()[:200])
    code, text = leod("check-dataset", published_set, "--study", study, "--split", "train")
    assert code == 1
    assert str(path) in text
    assert "1 problem(s)" in text


def test_a_released_split_becomes_the_split_of_record(leod, published_set, tmp_path):
    split, output = tmp_path / "ssod_0.500-off0.pkl", tmp_path / "labels.json"
    split.write_bytes(pickle.dumps({"drive_a": (0, 2), "drive_b": (1,)}))
    origin = ("--setting", "weakly_supervised", "--ratio", 0.5)
    code, text = leod("import-split", split, "--output", output, "--sequences", published_set, *origin)
    assert code == 0, text
    assert KeptLabels.read(output).sequences == {"drive_a": (0, 2), "drive_b": (1,)}
    split.write_bytes(pickle.dumps({"drive_a": (0, 3)}))
    code, text = leod("import-split", split, "--output", output, "--sequences", published_set, *origin)
    assert code == 1
    assert "keeps labelled frame 3" in text


def test_an_unfiltered_set_is_filtered_without_its_predictions(leod, tmp_path):
    sequences, labels = write_data_set(tmp_path)
    source, output = tmp_path / "unfiltered" / "dataset", tmp_path / "refiltered" / "dataset"
    shards = write_shards(tmp_path / "predictions")
    manifest = source.with_suffix(".json")
    track_filter(shards, sequences, labels, source, manifest, track_filter_settings(enabled=False))
    settings = track_filter_settings().model_dump_json()
    code, text = leod("refilter", source, "--output", output, "--settings", settings)
    assert code == 0, text
    for name in SEQUENCES:
        before, after = (read_labels(root / "train" / name).labels for root in (source, output))
        assert IGNORED_CLASS_ID not in before["class_id"]
        assert IGNORED_CLASS_ID in after["class_id"]  # the pedestrian that flickers up
        with np.load(label_file(output / "train" / name), allow_pickle=False) as file:
            assert sorted(file.files) == ["labels", "objframe_idx_2_label_idx"]
            assert file["labels"].dtype == LABEL_DTYPE
            assert file["objframe_idx_2_label_idx"].dtype == np.int64


# ------------------------------------------------------------------------------------------------------ weights


@pytest.fixture
def released(study, tmp_path):
    """A released Lightning checkpoint of the study's detector, and its tensors."""
    loaded = load_study(study)
    tensors = published_tensors(loaded.model, loaded.dataset.sequence_config())
    write_lightning(tmp_path / "released.ckpt", tensors)
    return tmp_path / "released.ckpt", tensors


def test_weights_go_in_and_out_unchanged(leod, study, released, tmp_path):
    path, tensors = released
    ours, back = tmp_path / "model.ckpt", tmp_path / "back.ckpt"
    assert leod("import-weights", path, "--output", ours, "--study", study)[0] == 0
    assert leod("export-weights", "--checkpoint", ours, "--output", back)[0] == 0
    exported = torch.load(back, weights_only=True)["state_dict"]
    assert list(exported) == list(tensors)
    assert all(torch.equal(exported[name], tensor) for name, tensor in tensors.items())


def test_weights_of_unpublished_size_are_refused_with_a_table(leod, released, tmp_path):
    code, text = leod("import-weights", released[0], "--output", tmp_path / "model.ckpt")
    assert code == 1
    assert "channels of the stages  (8, 16, 32, 64)" in text
    assert not (tmp_path / "model.ckpt").exists()


@pytest.mark.parametrize("imported_before", [False, True])
def test_a_study_starts_from_a_file(leod, study, released, tmp_path, imported_before):
    source, tensors = released
    if imported_before:
        leod("import-weights", source, "--output", tmp_path / "ours.ckpt", "--study", study)
        source = tmp_path / "ours.ckpt"
    study = write_study(tmp_path / "from.yaml", pretrain=STUDY["pretrain"] | {"from": str(source)})
    output = tmp_path / "round_0"
    arguments = ("--sequences", tmp_path, "--labels", tmp_path / "labels.json", "--output", output)
    code, text = leod("pretrain", "--study", study, *arguments)
    assert code == 0, text
    assert {path.name for path in output.iterdir()} >= {"model.ckpt", "training.csv", "training.json"}
    loaded = load_study(study)
    detector = load_detector(output / "model.ckpt", loaded.model, loaded.dataset.sequence_config())
    assert torch.equal(detector.head.class_outputs[0].bias, tensors["mdl.yolox_head.cls_preds.0.bias"])
    assert json.loads((output / "training.json").read_text())["provenance"]["inputs"] == {"from": str(source)}


@pytest.mark.parametrize(
    ("changes", "fragments"),
    [
        ({"pretrain.from": "nowhere.ckpt"}, ["nowhere.ckpt", "does not exist"]),
        ({"model.embed_dim": 16}, ["released.ckpt", "channels of the stages", "(16, 32, 64, 128)"]),
        ({"dataset.classes": ["pedestrian", "car"]}, ["released.ckpt", "classes", "3", "2"]),
    ],
)
def test_a_file_that_is_missing_or_of_another_detector(leod, study, released, tmp_path, changes, fragments):
    overrides = {"pretrain.from": released[0], **changes}
    if "dataset.classes" in changes:
        study = write_study(tmp_path / "two.yaml", pseudo_labels={"score_thresholds": {"pedestrian": 0.3, "car": 0.6}})
    output = tmp_path / "round_0"
    arguments = ["--sequences", tmp_path, "--labels", tmp_path / "labels.json", "--output", output]
    for key, value in overrides.items():
        arguments += ["--set", f"{key}={json.dumps(value) if isinstance(value, list) else value}"]
    code, text = leod("pretrain", "--study", study, *arguments)
    assert code == 1
    for fragment in fragments:
        assert fragment in text
    assert not (output / "model.ckpt").exists()
