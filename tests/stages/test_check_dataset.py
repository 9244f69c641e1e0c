"""Looking through data sets: what is reported, and that every kind of damage is found."""

from __future__ import annotations

import json
import shutil

import h5py
import hdf5plugin
import numpy as np
import pytest

from leod.boxes.dtypes import IGNORED_CLASS_ID, LABEL_DTYPE
from leod.config.schema import RepresentationConfig, SensorSize, SequenceConfig
from leod.errors import DataError
from leod.sequences.layout import (
    label_file,
    representations_dir,
    timestamps_file,
    write_labelled_frames,
    write_labels,
    write_timestamps,
)
from leod.stages.check_dataset import inspect_dataset

CONFIG = SequenceConfig(
    sensor=SensorSize(height=24, width=32), classes=("car", "pedestrian"), representation=RepresentationConfig(bins=2)
)
NAME = "stacked_histogram_dt=50_nbins=2"
FRAMES = 12


def frames_file(sequence):
    return representations_dir(sequence) / NAME / "event_representations.h5"


def labels():
    rows = np.zeros(3, LABEL_DTYPE)
    rows["t"] = [200_000, 200_000, 450_000]
    rows["x"], rows["y"], rows["w"], rows["h"] = 2, 3, [10, 20, 6], [8, 9, 10]
    rows["class_id"], rows["class_confidence"], rows["objectness"] = [0, 1, 0], 1, 1
    return rows


def make_sequence(sequence, frames=FRAMES, **compression):
    write_labels(sequence, labels(), [0, 2])
    write_labelled_frames(sequence, NAME, [3, 8])
    write_timestamps(sequence, NAME, 50_000 * np.arange(1, FRAMES + 1))
    data = np.random.default_rng(0).integers(0, 10, (frames, 4, 24, 32)).astype(np.uint8)
    data[0] = 0
    with h5py.File(frames_file(sequence), "w") as file:
        file.create_dataset("data", data=data, chunks=(1, 4, 24, 32), **compression)


@pytest.fixture
def dataset(tmp_path):
    root = tmp_path / "set"
    for split, count in (("train", 2), ("val", 1), ("test", 1)):
        for number in range(count):
            make_sequence(root / split / f"{split}-{number}", **hdf5plugin.Blosc(cname="zstd", clevel=1))
    return root


def sequence_of(root):
    return root / "train" / "train-0"


def problems(root, config=CONFIG, deep=False):
    report = inspect_dataset(root, config, deep)
    assert report.sound == (not report.problems)
    return [f"{problem.path}: {problem.problem}" for problem in report.problems]


def test_what_is_found(dataset):
    report = inspect_dataset(dataset, CONFIG, deep=True)
    assert report.problems == []
    train = report.splits[0]
    assert (train.split, train.sequences, train.frames, train.labelled_frames) == ("train", 2, 24, 4)
    assert (train.ground_truth, train.pseudo_labels, train.ignored, train.inpainted) == (6, 0, 0, 0)
    assert train.label_rate_hz == 4
    assert train.window_step_us == [50_000]
    assert train.time_range_us == (50_000, 600_000)
    assert train.empty_frames == 2
    assert train.classes["car"].boxes == 4
    assert (train.classes["car"].width.minimum, train.classes["car"].width.maximum) == (6, 10)
    assert train.classes["pedestrian"].height.median == 9
    (representation,) = train.representations
    assert (representation.name, representation.dtype, representation.shape) == (NAME, "uint8", (4, 24, 32))
    assert representation.compression == "blosc-zstd level 1"


def test_report_is_text_and_json(dataset):
    report = inspect_dataset(dataset, CONFIG)
    text = report.render()
    assert "no problems found" in text
    assert "6 / 8 / 10" in text  # widths of cars
    assert max(len(line) for line in text.splitlines()) < 160
    content = json.loads(json.dumps(report.to_json()))
    assert content["sound"] is True
    assert content["splits"]["val"]["labelled_frames"] == 2


def test_without_configuration(dataset):
    report = inspect_dataset(dataset)
    assert report.sound
    assert list(report.splits[0].classes) == ["0", "1"]


def test_pseudo_labelled_set(dataset, tmp_path):
    """As LEOD writes them: frames are links, no time stamps, val and test link to the original folders."""
    root = tmp_path / "pseudo"
    for name in ("train-0", "train-1"):
        original, sequence = dataset / "train" / name, root / "train" / name
        rows = np.concatenate([labels(), labels()])
        rows["t"][3:] = 0
        rows["class_id"][4:] = IGNORED_CLASS_ID
        rows["class_confidence"][5], rows["objectness"][5] = 0, 0
        write_labels(sequence, rows, [0, 2, 3])
        write_labelled_frames(sequence, NAME, [3, 8, 9])
        frames_file(sequence).symlink_to(frames_file(original))
    for split in ("val", "test"):
        (root / split).symlink_to(dataset / split)
    report = inspect_dataset(root, CONFIG, deep=True)
    assert report.problems == []
    train, val, _ = report.splits
    assert (train.ground_truth, train.pseudo_labels, train.ignored, train.inpainted) == (6, 6, 4, 2)
    assert train.representations[0].links == 2
    assert train.label_rate_hz is None
    assert val.link_target == str(dataset / "val")


def test_unlabelled_sequence_is_sound(dataset):
    write_labels(sequence_of(dataset), np.zeros(0, LABEL_DTYPE), [])
    write_labelled_frames(sequence_of(dataset), NAME, [])
    report = inspect_dataset(dataset, CONFIG)
    assert report.sound
    assert report.splits[0].unlabelled_sequences == 1


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def drop_frames(sequence):
    with h5py.File(frames_file(sequence), "w") as file:
        file["data"] = np.zeros((6, 4, 24, 32), np.uint8)


def break_link(sequence):
    frames_file(sequence).unlink()
    frames_file(sequence).symlink_to("nowhere.h5")


def other_shape(sequence):
    with h5py.File(frames_file(sequence), "w") as file:
        file["data"] = np.zeros((FRAMES, 4, 12, 16), np.uint8)


def other_labels(sequence):
    rows = labels()
    rows["t"] += 5_000_000
    write_labels(sequence, rows, [0, 2])


def unknown_class(sequence):
    rows = labels()
    rows["class_id"][1] = 2
    write_labels(sequence, rows, [0, 2])


def outside_the_sensor(sequence):
    rows = labels()
    rows["x"][1] = 40
    write_labels(sequence, rows, [0, 2])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop_frames, "run from 3 to 8, expected 0..5"),  # labels beyond the last frame
        (drop_frames, "has 12 time stamps, but there are 6 frames"),  # frame count against time stamps
        (break_link, "is a link to nowhere.h5, which does not exist"),  # frames elsewhere
        (other_shape, "asks for uint8 [frames, 4, 24, 32]"),  # other sensor
        (other_labels, "more than a window away from the frame"),  # labels of another recording
        (unknown_class, "class id 2, but the data set has 2 classes"),  # class list too short
        (outside_the_sensor, "no area inside the sensor"),  # other sensor
        (lambda sequence: truncate(label_file(sequence)), "truncated or damaged"),  # labels cut off
        (lambda sequence: label_file(sequence).unlink(), "does not exist"),  # labels missing
        (lambda sequence: truncate(timestamps_file(sequence, NAME)), "truncated or damaged"),  # time cut off
        (
            lambda sequence: write_labelled_frames(sequence, NAME, [3, 5, 8]),
            "2 labelled frames, but",
        ),  # index of others
        (lambda sequence: truncate(frames_file(sequence)), "cannot be read as HDF5"),  # frames cut off
        (lambda sequence: shutil.rmtree(representations_dir(sequence)), "has no event representation"),  # no frames
    ],
)
def test_damage_is_found_and_the_rest_still_checked(damage, message, dataset):
    damage(sequence_of(dataset))
    found = problems(dataset)
    assert any(message in problem and "train-0" in problem for problem in found), found
    assert not any("train-1" in problem for problem in found)
    assert message in inspect_dataset(dataset, CONFIG).render()


def test_damaged_chunk_is_found_by_reading(dataset):
    path = frames_file(sequence_of(dataset))
    with h5py.File(path) as file:
        offsets = [file["data"].id.get_chunk_info(chunk) for chunk in (4, 7)]
    content = bytearray(path.read_bytes())
    for info in offsets:
        content[info.byte_offset : info.byte_offset + info.size] = b"\xff" * info.size
    path.write_bytes(content)
    assert problems(dataset) == []
    (problem,) = problems(dataset, deep=True)
    assert "2 of 12 frames cannot be read, the first is frame 4" in problem


def test_labelled_frames_without_events_are_a_problem(dataset):
    with h5py.File(frames_file(sequence_of(dataset)), "r+") as file:
        file["data"][3] = 0
        file["data"][5] = 0
    assert problems(dataset) == []
    (problem,) = problems(dataset, deep=True)
    assert "train-0: 1 of 2 frames with ground truth hold no event, the first is frame 3" in problem
    report = inspect_dataset(dataset, CONFIG, deep=True)
    assert report.to_json()["splits"]["train"]["empty_labelled_frames"] == 1
    assert "no problems" not in report.render()
    # Where nothing is to be seen, nothing need happen.
    write_labels(sequence_of(dataset), labels()[2:], [0, 0])
    assert problems(dataset, deep=True) == []


def test_a_sequence_in_two_splits_is_found(dataset):
    shutil.copytree(sequence_of(dataset), dataset / "test" / "train-0")
    (problem,) = problems(dataset)
    assert "is also in the train split" in problem


def test_broken_split_link(dataset):
    shutil.rmtree(dataset / "val")
    (dataset / "val").symlink_to("gone")
    (problem,) = problems(dataset)
    assert "val: is a broken link to gone" in problem


def test_no_data_set(tmp_path):
    with pytest.raises(DataError, match=r"expected the folder\(s\) train, val, test"):
        inspect_dataset(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        inspect_dataset(tmp_path / "absent")
