import pickle
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from small_sequences import REPRESENTATION, boxes_of, frames_of, write_sequence

from leod.config.schema import RepresentationConfig, SensorSize, SequenceConfig
from leod.errors import DataError
from leod.sequences import handles
from leod.sequences.layout import write_labelled_frames, write_labels, write_timestamps
from leod.sequences.sequence import Sequence, open_split


@pytest.fixture
def folder(tmp_path):
    write_sequence(tmp_path / "one", 0, 12, [3, 8])
    return tmp_path / "one"


def frames_file(folder):
    return folder / "event_representations_v2" / REPRESENTATION / "event_representations.h5"


def test_contents(folder, config):
    sequence = Sequence(folder, config)
    assert (sequence.name, sequence.num_frames, sequence.frame_shape) == ("one", 12, (20, 24, 32))
    assert sequence.labelled_frames.tolist() == [3, 8]
    assert sequence.frame_labels(1)["x"].tolist() == [0, 10]
    assert sequence.frame_labels(1)["objectness"].tolist() == [1, 1]
    assert sequence.timestamps_us[3] == 200_000
    np.testing.assert_array_equal(sequence.read_frames(5, 9), frames_of(0, 12)[5:9])


def test_pickled_copy_reads_the_same(folder, config):
    sequence = Sequence(folder, config)
    sequence.read_frames(0, 1)
    copy = pickle.loads(pickle.dumps(sequence))
    np.testing.assert_array_equal(copy.read_frames(2, 4), sequence.read_frames(2, 4))


def test_halved_frames_have_halved_boxes(folder):
    config = SequenceConfig(sensor=SensorSize(height=48, width=64), classes=("car", "pedestrian"), downsample_by_2=True)
    frames_file(folder).rename(frames_file(folder).with_name("event_representations_ds2_nearest.h5"))
    sequence = Sequence(folder, config)
    assert sequence.frame_labels(0)["x"].tolist() == [1.5, 6.5]
    assert sequence.frame_labels(0)["h"].tolist() == [6, 6]


def test_few_files_are_open_at_a_time(tmp_path, config, monkeypatch):
    monkeypatch.setattr(handles, "MAXIMUM_OPEN_FILES", 2)
    for index in range(4):
        write_sequence(tmp_path / "train" / str(index), index, 3, [2])
    sequences = open_split(tmp_path, "train", config)
    for _ in range(2):
        for index, sequence in enumerate(sequences):
            np.testing.assert_array_equal(sequence.read_frames(0, 3), frames_of(index, 3))
    assert len(handles._open_files) == 2


def test_split_is_sorted_and_must_exist(tmp_path, config):
    for name in ("b", "a", "c"):
        write_sequence(tmp_path / "val" / name, 0, 3, [2])
    assert [sequence.name for sequence in open_split(tmp_path, "val", config)] == ["a", "b", "c"]
    with pytest.raises(DataError, match="train"):
        open_split(tmp_path, "train", config)


def test_frames_outside_the_sequence(folder, config):
    with pytest.raises(IndexError):
        Sequence(folder, config).read_frames(10, 13)


def test_other_representation(folder, config):
    other = config.model_copy(update={"representation": RepresentationConfig(bins=5)})
    with pytest.raises(DataError, match=REPRESENTATION):
        Sequence(folder, other)


def test_other_sensor(folder, config):
    with pytest.raises(DataError, match=r"uint8 \[12, 20, 24, 32\], expected uint8 \[frames, 20, 24, 40\]"):
        Sequence(folder, config.model_copy(update={"sensor": SensorSize(height=24, width=40)}))


def test_more_labelled_frames_than_labels(folder, config):
    write_labelled_frames(folder, REPRESENTATION, np.array([3, 8, 9]))
    with pytest.raises(DataError, match="2 labelled frames"):
        Sequence(folder, config)


def test_labelled_frame_beyond_the_last_frame(folder, config):
    write_labelled_frames(folder, REPRESENTATION, np.array([3, 12]))
    with pytest.raises(DataError, match=r"0\.\.11"):
        Sequence(folder, config)


def test_unknown_class(folder, config):
    labels = boxes_of([3, 8])
    labels["class_id"][3] = 2
    write_labels(folder, labels, np.array([0, 2]))
    with pytest.raises(DataError, match="class id 2"):
        Sequence(folder, config)
    labels["class_id"][3] = 1024
    write_labels(folder, labels, np.array([0, 2]))
    assert Sequence(folder, config).frame_labels(1)["class_id"].tolist() == [0, 1024]


def test_box_that_is_not_a_number(folder, config):
    labels = boxes_of([3, 8])
    labels["w"][1] = np.nan
    write_labels(folder, labels, np.array([0, 2]))
    with pytest.raises(DataError, match="row 1"):
        Sequence(folder, config)


def test_wrong_number_of_time_stamps(folder, config):
    write_timestamps(folder, REPRESENTATION, np.arange(1, 12))
    with pytest.raises(DataError, match="11 time stamps"):
        Sequence(folder, config).timestamps_us  # noqa: B018


def test_file_cut_off(folder, config):
    content = frames_file(folder).read_bytes()
    frames_file(folder).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="cut off"):
        Sequence(folder, config)


def test_frames_damaged_inside(folder, config):
    sequence = Sequence(folder, config)
    with h5py.File(frames_file(folder), "w") as file:
        file.create_dataset("data", data=frames_of(0, 4))
    with pytest.raises(DataError, match="fewer frames"):
        sequence.read_frames(2, 8)


def test_frames_missing(folder, config):
    frames_file(folder).unlink()
    with pytest.raises(DataError, match="does not exist"):
        Sequence(folder, config)


def test_linked_events(folder, config, tmp_path):
    linked = tmp_path / "linked"
    shutil.copytree(folder / "labels_v2", linked / "labels_v2")
    (linked / "event_representations_v2").symlink_to(folder / "event_representations_v2")
    assert Sequence(linked, config).read_frames(0, 2).shape == (2, 20, 24, 32)


def test_a_file_of_the_same_relative_name_is_another_one(tmp_path, config, monkeypatch):
    shown = []
    for index, name in enumerate(("here", "there")):
        write_sequence(tmp_path / name / "one", index, 3, [2])
        monkeypatch.chdir(tmp_path / name)
        shown.append(Sequence(Path("one"), config).read_frames(0, 3))
    assert not np.array_equal(*shown)
