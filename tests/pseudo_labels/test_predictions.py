"""Shards of predictions."""

import h5py
import numpy as np
import pytest

from leod.boxes.dtypes import LABEL_DTYPE
from leod.errors import DataError
from leod.pseudo_labels.predictions import PredictionsFile, PredictionShards, SequencePredictions, write_predictions

SENSOR = (24, 32)


def predictions(name, frames, num_frames=20):
    boxes = np.zeros(len(frames), LABEL_DTYPE)
    boxes["x"] = np.arange(len(frames)) + 0.25
    boxes["w"], boxes["h"] = 5, 6
    boxes["objectness"] = 0.5
    return SequencePredictions(name, num_frames, boxes, np.array(frames, np.int64))


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "0.h5"
    write_predictions(path, [predictions("b", [0, 0, 7]), predictions("a", [])], SENSOR, {"stage": "test"})
    return path


def test_what_is_written_is_read(shard):
    with PredictionsFile(shard) as file:
        assert file.names == ["a", "b"]
        assert file.provenance == {"stage": "test"}
        assert file.sensor_size == SENSOR
        expected = predictions("b", [0, 0, 7])
        np.testing.assert_array_equal(file["b"].boxes, expected.boxes)
        np.testing.assert_array_equal(file["b"].frame_indices, expected.frame_indices)
        assert file["b"].boxes.dtype == LABEL_DTYPE
        assert file["a"].num_frames == 20
        assert len(file["a"].boxes) == 0


@pytest.mark.parametrize(
    "spoil",
    [
        lambda found: SequencePredictions("b", 7, found.boxes, found.frame_indices),  # frame beyond the end
        lambda found: SequencePredictions("b", 20, found.boxes, found.frame_indices[::-1]),  # unsorted
        lambda found: SequencePredictions("b", 20, found.boxes[1:], found.frame_indices),  # lengths differ
        lambda found: SequencePredictions("b", 20, found.boxes, found.frame_indices.astype(np.int32)),
        lambda found: SequencePredictions("b", 20, spoiled(found.boxes, "x", np.nan), found.frame_indices),
        lambda found: SequencePredictions("b", 20, spoiled(found.boxes, "w", 0), found.frame_indices),
        lambda found: SequencePredictions("b", 20, spoiled(found.boxes, "t", 5), found.frame_indices),
    ],
)
def test_contradictions_are_not_written(tmp_path, spoil):
    path = tmp_path / "0.h5"
    with pytest.raises(DataError, match="'b'"):
        write_predictions(path, [spoil(predictions("b", [0, 0, 7]))], SENSOR, {})
    assert list(tmp_path.iterdir()) == []


def spoiled(boxes, field, value):
    boxes[field][1] = value
    return boxes


def test_missing_cut_off_and_foreign_files_are_named(tmp_path, shard):
    with pytest.raises(DataError, match="does not exist"):
        PredictionsFile(tmp_path / "none.h5")
    cut_off = tmp_path / "cut.h5"
    cut_off.write_bytes(shard.read_bytes()[:600])
    with pytest.raises(DataError, match=r"cut\.h5.*cut off"):
        PredictionsFile(cut_off)
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["data"] = np.zeros(3)
    with pytest.raises(DataError, match="not a file of predictions"):
        PredictionsFile(tmp_path / "foreign.h5")


def test_shards_are_read_as_one(tmp_path, shard):
    other = tmp_path / "1.h5"
    write_predictions(other, [predictions("c", [3])], SENSOR, {})
    with PredictionShards([shard, other]) as shards:
        assert shards.names == ["a", "b", "c"]
        assert shards["c"].frame_indices.tolist() == [3]
        assert shards.path_of("a") == shard
        with pytest.raises(DataError, match="'d'"):
            shards["d"]


def test_sequence_in_two_shards_is_refused(tmp_path, shard):
    other = tmp_path / "1.h5"
    write_predictions(other, [predictions("a", [3])], SENSOR, {})
    with pytest.raises(DataError, match="'a'"):
        PredictionShards([shard, other])


def test_shards_of_different_sensors_are_refused(tmp_path, shard):
    other = tmp_path / "1.h5"
    write_predictions(other, [predictions("c", [3])], (240, 304), {})
    with pytest.raises(DataError, match="sensor"):
        PredictionShards([shard, other])
