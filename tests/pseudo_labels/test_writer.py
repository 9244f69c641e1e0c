"""Pseudo-labelled sequences on disk."""

import h5py
import numpy as np
import pytest

from leod.boxes.dtypes import IGNORED_CLASS_ID, LABEL_DTYPE, RECORDING_BOX_DTYPE
from leod.errors import DataError
from leod.pseudo_labels.writer import check_sequence, link_split, write_pseudo_labelled
from leod.sequences.frame_boxes import FrameBoxes, read_frame_boxes
from leod.sequences.layout import (
    label_file,
    labelled_frames_file,
    representations_dir,
    timestamps_file,
    write_labelled_frames,
    write_labels,
    write_timestamps,
)

REPRESENTATION, FRAMES_FILE, NUM_FRAMES = "stacked_histogram_dt=50_nbins=10", "event_representations.h5", 12


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "project" / "data" / "train" / "drive"
    path = representations_dir(folder) / REPRESENTATION / FRAMES_FILE
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros((NUM_FRAMES, 1, 2, 2), np.uint8)
    labels = np.zeros(4, RECORDING_BOX_DTYPE)
    labels["t"] = [150_001, 150_001, 350_000, 550_003]
    labels["x"] = [1.5, 3, -4, 7]  # one sticks out of the frame
    labels["w"], labels["h"] = 10, 12
    labels["class_confidence"] = 1
    write_labels(folder, labels, np.array([0, 2, 3]))
    write_labelled_frames(folder, REPRESENTATION, np.array([2, 6, 10]))
    write_timestamps(folder, REPRESENTATION, np.arange(1, NUM_FRAMES + 1) * 50_000)
    return folder


def pseudo_labels(frames):
    boxes = np.zeros(len(frames), LABEL_DTYPE)
    boxes["w"] = boxes["h"] = 5
    boxes["objectness"] = 0.5
    boxes["class_id"][0] = IGNORED_CLASS_ID
    return FrameBoxes(boxes, np.array(frames))


@pytest.fixture
def written(source, tmp_path):
    kept = read_frame_boxes(source, REPRESENTATION, np.array([0, 1]))
    labels = kept.merge(pseudo_labels([0, 3, 3, 11]))
    destination = tmp_path / "project" / "results" / "dataset" / "train" / "drive"
    write_pseudo_labelled(source, destination, REPRESENTATION, FRAMES_FILE, labels)
    return destination, kept


def check(written, pseudo_count=4):
    destination, kept = written
    check_sequence(destination, REPRESENTATION, FRAMES_FILE, NUM_FRAMES, kept, pseudo_count, class_count=2)


def test_published_layout(written):
    destination, _ = written
    check(written)
    with np.load(label_file(destination)) as arrays:
        assert sorted(arrays.files) == ["labels", "objframe_idx_2_label_idx"]
        assert arrays["labels"].dtype == LABEL_DTYPE
        np.testing.assert_array_equal(arrays["labels"]["t"], [0, 150_001, 150_001, 0, 0, 350_000, 0])
        assert arrays["objframe_idx_2_label_idx"].dtype == np.int64
        np.testing.assert_array_equal(arrays["objframe_idx_2_label_idx"], [0, 1, 3, 5, 6])
    frames = np.load(labelled_frames_file(destination, REPRESENTATION))
    assert frames.dtype == np.int64
    np.testing.assert_array_equal(frames, [0, 2, 3, 6, 11])


def test_events_are_relative_links_that_survive_a_move(written, tmp_path):
    (tmp_path / "project").rename(tmp_path / "moved")
    destination = tmp_path / "moved" / "results" / "dataset" / "train" / "drive"
    frames = representations_dir(destination) / REPRESENTATION / FRAMES_FILE
    assert not frames.readlink().is_absolute()
    with h5py.File(frames) as file:
        assert file["data"].shape[0] == NUM_FRAMES
    assert timestamps_file(destination, REPRESENTATION).is_symlink()
    assert len(np.load(timestamps_file(destination, REPRESENTATION))) == NUM_FRAMES


def test_links_never_lead_through_other_links(source, written, tmp_path):
    second = tmp_path / "project" / "results" / "second" / "train" / "drive"
    write_pseudo_labelled(written[0], second, REPRESENTATION, FRAMES_FILE, pseudo_labels([1]))
    link = representations_dir(second) / REPRESENTATION / FRAMES_FILE
    assert (link.parent / link.readlink()).resolve() == representations_dir(source) / REPRESENTATION / FRAMES_FILE
    assert "results" not in link.readlink().parts


def test_splits_are_linked(source, tmp_path):
    (source.parents[1] / "val").mkdir()
    dataset = tmp_path / "project" / "results" / "dataset"
    dataset.mkdir(parents=True)
    link_split(source.parents[1], dataset, "val")
    assert (dataset / "val").resolve() == source.parents[1] / "val"
    with pytest.raises(DataError, match="test"):
        link_split(source.parents[1], dataset, "test")


def test_sequence_without_any_box(source, tmp_path):
    nothing = FrameBoxes(np.zeros(0, LABEL_DTYPE), np.zeros(0, np.int64))
    destination = tmp_path / "empty"
    write_pseudo_labelled(source, destination, REPRESENTATION, FRAMES_FILE, nothing)
    check((destination, nothing), pseudo_count=0)


def rewrite(destination, change):
    with np.load(label_file(destination)) as arrays:
        labels, index = arrays["labels"], arrays["objframe_idx_2_label_idx"]
    labels, index = change(labels, index) or (labels, index)
    np.savez(label_file(destination), labels=labels, objframe_idx_2_label_idx=index)


def nudge_ground_truth(labels, index):
    labels["y"][1] = np.nextafter(labels["y"][1], np.float32(1))


def turn_into_ground_truth(labels, index):
    labels["t"][0] = 3


def drop_last_box(labels, index):
    return labels[:-1], index


def swap_ground_truth(labels, index):
    labels[[1, 2]] = labels[[2, 1]]


def unknown_class(labels, index):
    labels["class_id"][3] = 7


@pytest.mark.parametrize(
    "change", [nudge_ground_truth, turn_into_ground_truth, drop_last_box, swap_ground_truth, unknown_class]
)
def test_check_finds_changed_labels(written, change):
    rewrite(written[0], change)
    with pytest.raises(DataError, match=r"labels\.npz"):
        check(written)


def test_check_finds_a_wrong_number_of_pseudo_labels(written):
    with pytest.raises(DataError, match="expected 5"):
        check(written, pseudo_count=5)


@pytest.mark.parametrize("frames", [[0, 2, 3, 6, 12], [0, 3, 2, 6, 11], [0, 2, 6, 11]])
def test_check_finds_wrong_frames(written, frames):
    np.save(labelled_frames_file(written[0], REPRESENTATION), np.array(frames))
    with pytest.raises(DataError):
        check(written)


def test_check_finds_broken_links(written, source):
    (representations_dir(source) / REPRESENTATION / FRAMES_FILE).unlink()
    with pytest.raises(DataError, match="broken"):
        check(written)


def test_labels_written_without_the_structure_are_refused(written):
    rewrite(written[0], lambda labels, index: (labels.astype(labels.dtype.descr[:8]), index))
    with pytest.raises(DataError, match="expected"):
        check(written)
