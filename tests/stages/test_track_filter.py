"""From predictions to a pseudo-labelled data set."""

import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from pseudo_label_study import (
    CLASSES,
    HEIGHT,
    KEPT,
    REPRESENTATION,
    SEQUENCES,
    WIDTH,
    object_box,
    predictions_of,
    sequence_config,
    track_filter_settings,
    write_data_set,
    write_kept,
    write_shards,
)

from leod.boxes.dtypes import IGNORED_CLASS_ID, LABEL_DTYPE
from leod.errors import ConfigError, DataError, LockedError
from leod.files import locked, write_json
from leod.pseudo_labels import writer
from leod.pseudo_labels.predictions import write_predictions
from leod.sequences.frame_boxes import read_frame_boxes
from leod.sequences.layout import label_file, read_labels, write_labelled_frames, write_labels
from leod.sequences.sequence import Sequence
from leod.stages import track_filter as stage
from leod.stages.track_filter import refilter_dataset, track_filter


@pytest.fixture
def study(tmp_path):
    sequences, labels = write_data_set(tmp_path)
    round_folder = tmp_path / "results" / "round_1"
    return {
        "predictions": write_shards(round_folder / "predictions"),
        "sequences": sequences,
        "labels": labels,
        "output": round_folder / "dataset",
        "manifest": round_folder / "dataset.json",
        "settings": track_filter_settings(),
    }


def boxes_of(dataset, name):
    return read_frame_boxes(dataset / "train" / name, REPRESENTATION)


def test_files_of_the_data_set(study):
    track_filter(**study)
    output = study["output"]
    found = sorted(
        str((folder / name).relative_to(output))
        for folder, folders, names in ((Path(entry[0]), *entry[1:]) for entry in os.walk(output))
        for name in [*names, *(name for name in folders if (folder / name).is_symlink())]
    )
    folder = f"event_representations_v2/{REPRESENTATION}"
    expected = ["test", "val"]
    for name in SEQUENCES:
        expected += [
            f"train/{name}/{folder}/event_representations.h5",
            f"train/{name}/{folder}/objframe_idx_2_repr_idx.npy",
            f"train/{name}/{folder}/timestamps_us.npy",
            f"train/{name}/labels_v2/labels.npz",
        ]
    assert found == sorted(expected)
    assert sorted(path.name for path in output.parent.iterdir()) == [".lock", "dataset", "dataset.json", "predictions"]


def test_our_loader_reads_it(study):
    track_filter(**study)
    for name, (num_frames, _) in SEQUENCES.items():
        sequence = Sequence(study["output"] / "train" / name, sequence_config())
        assert sequence.num_frames == num_frames
        assert len(sequence.labels) == len(boxes_of(study["output"], name))
        sequence.read_frames(0, num_frames)
    assert len(Sequence(study["output"] / "val" / "val_drive", sequence_config()).labels) == 1


def test_kept_ground_truth_is_untouched_and_alone_in_its_frame(study):
    track_filter(**study)
    for name, kept in KEPT.items():
        original = read_labels(study["sequences"] / "train" / name)
        expected = [original.frame(k) for k in kept]
        found = boxes_of(study["output"], name)
        truth = found.boxes["t"] > 0
        expected = np.concatenate([np.zeros(0, LABEL_DTYPE), *expected])
        assert found.boxes[truth].tobytes() == expected.tobytes()
        kept_frames = [SEQUENCES[name][1][k] for k in kept]
        assert set(found.frame_indices[truth]) == set(kept_frames)
        assert not np.isin(found.frame_indices[~truth], kept_frames).any()


def with_kept_empty_and_ignored(study):
    """Frame 13 of sequence a is known to be empty, and frame 4 has an ignored box between its others; both are kept."""
    folder = study["sequences"] / "train" / "a"
    rows = np.load(label_file(folder))["labels"]
    ignored = rows[:1].copy()
    ignored["class_id"], ignored["x"] = IGNORED_CLASS_ID, 60
    moved = np.concatenate([ignored, rows[:1], ignored, rows[1:3], rows[3:4]])
    moved["t"] = [250_001] * 3 + [500_001] * 2 + [750_001]
    write_labels(folder, np.concatenate([moved, rows[4:6]]), [0, 3, 5, 5, 6])
    write_labelled_frames(folder, REPRESENTATION, [4, 9, 13, 14, 19])
    write_kept(study["labels"], KEPT | {"a": (0, 2)})
    found = predictions_of("a", forbidden=(4, 13))
    write_predictions(study["predictions"][1], [predictions_of("c"), found], (HEIGHT, WIDTH), {"stage": "generate"})


def test_frames_found_empty_stay_empty_and_ignored_ground_truth_is_in_no_track(study, tmp_path):
    with_kept_empty_and_ignored(study)
    track_filter(**study)
    labels = read_labels(study["output"] / "train" / "a")
    sequence = Sequence(study["output"] / "train" / "a", sequence_config())
    frames = sequence.labelled_frames.tolist()
    # 13 is a gap of the car's long track; nothing is painted into it.
    assert labels.counts[frames.index(13)] == 0
    assert labels.counts[frames.index(4)] == 3
    original = read_labels(study["sequences"] / "train" / "a")
    assert labels.frame(frames.index(4)).tobytes() == original.frame(0).tobytes()
    found = boxes_of(study["output"], "a")
    painted = found.boxes[(found.boxes["t"] == 0) & (found.boxes["objectness"] == 0)]
    assert not ((painted["x"] > 55) & (painted["y"] == 20)).any()
    account = next(entry for entry in json.loads(study["manifest"].read_text())["sequences"] if entry["name"] == "a")
    assert account["labelled_frames"] == 2
    # Filtering that set again keeps it so.
    refilter_dataset(study["output"], tmp_path / "again", track_filter_settings())
    again = read_labels(tmp_path / "again" / "train" / "a")
    assert again.counts.tolist() == labels.counts.tolist()
    assert again.labels.tobytes() == labels.labels.tobytes()


def test_flickering_boxes_are_ignored_and_gaps_inpainted(study):
    track_filter(**study)
    for name, (num_frames, _) in SEQUENCES.items():
        found = boxes_of(study["output"], name)
        ignored = found.boxes["class_id"] == IGNORED_CLASS_ID
        scored = found.boxes["objectness"] > 0
        np.testing.assert_array_equal(found.frame_indices[ignored & scored], [5])
        gaps = [frame for frame in range(num_frames) if frame % 7 == 6 and frame < num_frames - 1]
        np.testing.assert_array_equal(found.frame_indices[ignored & ~scored], gaps)
        for frame, box in zip(gaps, found.boxes[ignored & ~scored], strict=True):
            np.testing.assert_allclose([box[field] for field in "xywh"], object_box(frame), atol=1e-4)
        assert (found.boxes["class_id"][~ignored & (found.boxes["t"] == 0)] == 0).all()


def test_manifest_counts(study):
    track_filter(**study)
    manifest = json.loads(study["manifest"].read_text())
    assert manifest["provenance"]["stage"] == "track_filter"
    assert manifest["totals"]["sequences"] == len(SEQUENCES)
    assert manifest["totals"]["ignored"] == {"car": 0, "pedestrian": len(SEQUENCES)}
    for account in manifest["sequences"]:
        found = boxes_of(study["output"], account["name"]).boxes
        total = sum(sum(account[kind].values()) for kind in ("ground_truth", "kept", "ignored", "inpainted"))
        assert total == len(found)
        assert account["inpainted"]["pedestrian"] == 0
        assert account["ground_truth"]["car"] == len(KEPT[account["name"]])


def test_without_ground_truth_every_label_is_a_pseudo_label(study, tmp_path):
    study["predictions"] = write_shards(tmp_path / "all", use_ground_truth=False)
    track_filter(**(study | {"settings": track_filter_settings(use_ground_truth=False)}))
    for name in SEQUENCES:
        assert (boxes_of(study["output"], name).boxes["t"] == 0).all()


def test_switched_off_filter_keeps_all_predictions(study):
    track_filter(**(study | {"settings": track_filter_settings(enabled=False)}))
    for name in SEQUENCES:
        found = boxes_of(study["output"], name).boxes
        assert not (found["class_id"] == IGNORED_CLASS_ID).any()


def test_other_rules_replace_the_data_set(study):
    track_filter(**study)
    track_filter(**(study | {"settings": track_filter_settings(inpaint=False, min_track_length=1)}))
    for name in SEQUENCES:
        assert not (boxes_of(study["output"], name).boxes["class_id"] == IGNORED_CLASS_ID).any()


def nothing_is_left(study):
    return not study["output"].exists() and not study["manifest"].exists()


def test_missing_shard_is_an_error(study):
    with pytest.raises(DataError, match=r"2 sequences \(a, c\) have no predictions"):
        track_filter(**(study | {"predictions": study["predictions"][:1]}))
    assert nothing_is_left(study)


def test_predictions_of_other_sequences_are_an_error(study, tmp_path):
    foreign = predictions_of("a")
    write_predictions(
        tmp_path / "2.h5", [type(foreign)("z", 20, *(foreign.boxes, foreign.frame_indices))], (HEIGHT, WIDTH), {}
    )
    with pytest.raises(DataError, match=r"\(z\).*not in the train split"):
        track_filter(**(study | {"predictions": [*study["predictions"], tmp_path / "2.h5"]}))


def test_predictions_in_frames_with_kept_ground_truth_are_an_error(study):
    write_kept(study["labels"], KEPT | {"b": (0,)})
    with pytest.raises(DataError, match="frame 3, which has kept ground truth"):
        track_filter(**study)
    assert nothing_is_left(study)


def test_changed_number_of_frames_is_an_error(study):
    path = study["sequences"] / "train" / "b" / "event_representations_v2" / REPRESENTATION
    with h5py.File(path / "event_representations.h5", "r+") as file:
        frames = file["data"][:-1]
        del file["data"]
        file["data"] = frames
    with pytest.raises(DataError, match="23 frames"):
        track_filter(**study)


def test_failed_check_leaves_the_old_data_set(study, monkeypatch):
    track_filter(**study)
    before = label_file(study["output"] / "train" / "a").read_bytes()
    original_write = writer.write_labels

    def write_wrong_labels(folder, labels, *arguments):
        labels = labels.copy()
        labels["x"] += 0.5
        original_write(folder, labels, *arguments)

    monkeypatch.setattr(writer, "write_labels", write_wrong_labels)
    with pytest.raises(DataError, match="not the kept ground truth"):
        track_filter(**(study | {"settings": track_filter_settings(min_track_length=2)}))
    assert label_file(study["output"] / "train" / "a").read_bytes() == before
    assert not list(study["output"].parent.glob(".incomplete*"))


def test_two_writers_exclude_each_other(study):
    with locked(study["output"].parent), pytest.raises(LockedError):
        track_filter(**study)


def test_filtering_an_unfiltered_set_equals_filtering_its_predictions(study, tmp_path):
    track_filter(**study)
    unfiltered = tmp_path / "unfiltered" / "dataset"
    arguments = study | {"output": unfiltered, "manifest": tmp_path / "unfiltered.json"}
    track_filter(**(arguments | {"settings": track_filter_settings(enabled=False)}))
    again = tmp_path / "again" / "dataset"
    refilter_dataset(unfiltered, again, study["settings"], tmp_path / "again.json")
    for name in SEQUENCES:
        a, b = label_file(study["output"] / "train" / name), label_file(again / "train" / name)
        assert a.read_bytes() == b.read_bytes()
        frames = again / "train" / name / "event_representations_v2" / REPRESENTATION / "event_representations.h5"
        assert frames.resolve().is_relative_to(study["sequences"])
    assert (again / "val").resolve() == study["sequences"] / "val"
    one, other = json.loads(study["manifest"].read_text()), json.loads((tmp_path / "again.json").read_text())
    assert one["totals"] == other["totals"]


def test_filtering_a_filtered_set_again_changes_nothing(study, tmp_path):
    track_filter(**study)
    refilter_dataset(study["output"], tmp_path / "again" / "dataset", study["settings"])
    for name in SEQUENCES:
        one, other = boxes_of(study["output"], name), boxes_of(tmp_path / "again" / "dataset", name)
        np.testing.assert_array_equal(np.sort(one.boxes, order=LABEL_DTYPE.names), np.sort(other.boxes))


def test_stricter_rules_ignore_more_and_ignored_boxes_stay_ignored(study, tmp_path):
    track_filter(**study)
    strict = track_filter_settings(min_track_length=200, direction="forward")
    refilter_dataset(study["output"], tmp_path / "again" / "dataset", strict)
    for name in SEQUENCES:
        one, other = boxes_of(study["output"], name), boxes_of(tmp_path / "again" / "dataset", name)
        assert (other.boxes["class_id"] == IGNORED_CLASS_ID).sum() >= (one.boxes["class_id"] == IGNORED_CLASS_ID).sum()


def test_refiltering_has_to_change_something_and_go_elsewhere(study, tmp_path):
    track_filter(**study)
    with pytest.raises(ConfigError, match="enabled"):
        refilter_dataset(study["output"], tmp_path / "again", track_filter_settings(enabled=False))
    with pytest.raises(ConfigError, match="own folder"):
        refilter_dataset(study["output"], study["output"], study["settings"])


def test_interrupted_run_leaves_nothing(study, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "check_sequence", stop)
    with pytest.raises(KeyboardInterrupt):
        track_filter(**study)
    assert nothing_is_left(study)
    assert not list(study["output"].parent.glob(".incomplete*"))


def test_weak_boxes_are_ignored_and_counted(study):
    """The car's scores are 0.75 and 0.875, the pedestrian's 0.5 and 0.625."""
    track_filter(**study)
    before = json.loads(study["manifest"].read_text())["totals"]
    assert before["weak"] == {"car": 0, "pedestrian": 0}
    study["output"] = study["output"].with_name("again")
    track_filter(**study | {"settings": track_filter_settings(keep_thresholds={"car": 0.8})})
    totals = json.loads(study["manifest"].read_text())["totals"]
    # Ground truth of two frames starts the only tracks; no car stays a label.
    assert totals["weak"]["car"] == totals["ignored"]["car"] == before["kept"]["car"]
    assert totals["kept"]["car"] == 0
    study["output"] = study["output"].with_name("lower")
    track_filter(**study | {"settings": track_filter_settings(keep_thresholds={"car": 0.7})})
    assert json.loads(study["manifest"].read_text())["totals"] == before


def test_smoothing_moves_pseudo_labels_only(study):
    track_filter(**study)
    plain = {name: boxes_of(study["output"], name) for name in SEQUENCES}
    with_noise = []
    rng = np.random.default_rng(0)
    for name in SEQUENCES:
        found = predictions_of(name, [SEQUENCES[name][1][k] for k in KEPT[name]])
        found.boxes["x"] += rng.uniform(-1.5, 1.5, len(found.boxes)).astype(np.float32)
        with_noise.append(found)
    write_predictions(study["predictions"][0], with_noise, (HEIGHT, WIDTH), {})
    errors = []
    for number, smooth_frames in enumerate((0, 6)):
        output = study["output"].with_name(str(number))
        settings = track_filter_settings(smooth_frames=smooth_frames)
        track_filter(**study | {"predictions": study["predictions"][:1], "output": output, "settings": settings})
        error = []
        for name in SEQUENCES:
            found = boxes_of(output, name)
            scored = (found.boxes["class_id"] == 0) & (found.boxes["t"] == 0)
            truth, original = found.boxes["t"] > 0, plain[name].boxes["t"] > 0
            np.testing.assert_array_equal(found.boxes[truth], plain[name].boxes[original])
            error += (found.boxes["x"][scored] - [object_box(f)[0] for f in found.frame_indices[scored]]).tolist()
        errors.append(np.abs(error).mean())
    assert errors[1] < 0.7 * errors[0]


def test_chosen_thresholds_say_what_is_weak(study, tmp_path):
    thresholds = tmp_path / "thresholds.json"
    write_json(thresholds, {"thresholds": dict.fromkeys(CLASSES, 0.1), "keep": {"car": 0.7, "pedestrian": 0.9}})
    track_filter(**study, thresholds=thresholds)
    content = json.loads(study["manifest"].read_text())
    assert content["totals"]["weak"]["car"] == 0
    assert content["totals"]["weak"]["pedestrian"] > 0
    assert content["provenance"]["settings"]["track_filter"]["keep_thresholds"] == {"car": 0.7, "pedestrian": 0.9}
    # Without tracks the weak ones are ignored, the others kept.
    study["output"] = study["output"].with_name("another")
    track_filter(**study | {"settings": track_filter_settings(enabled=False)}, thresholds=thresholds)
    totals = json.loads(study["manifest"].read_text())["totals"]
    assert totals["ignored"] == content["totals"]["weak"]
    study["output"] = study["output"].with_name("a third")
    write_json(thresholds, {"thresholds": dict.fromkeys(CLASSES, 0.1)})
    with pytest.raises(DataError, match="max_background"):
        track_filter(**study, thresholds=thresholds)
