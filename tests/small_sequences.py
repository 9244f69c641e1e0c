"""Small sequences on disk whose frames tell which frame they are."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from leod.boxes.dtypes import RECORDING_BOX_DTYPE
from leod.config.schema import SensorSize, SequenceConfig
from leod.sequences.layout import representations_dir, write_labelled_frames, write_labels, write_timestamps
from leod.sequences.sequence import Sequence

HEIGHT, WIDTH, CHANNELS = 24, 32, 20
REPRESENTATION = "stacked_histogram_dt=50_nbins=10"


def frames_of(index, num_frames):
    """Frames whose first row holds the frame number in channel 0 and the channel number elsewhere."""
    frames = np.random.default_rng(index).integers(0, 9, (num_frames, CHANNELS, HEIGHT, WIDTH), dtype=np.uint8)
    frames[:, :, 0] = np.arange(CHANNELS)[:, None]
    frames[:, :, 0, 0] = np.arange(num_frames)[:, None]
    return frames


def boxes_of(labelled_frames):
    """Two boxes for each labelled frame; the first one's x is the number of the frame modulo 8."""
    labels = np.zeros(2 * len(labelled_frames), RECORDING_BOX_DTYPE)
    labels["t"] = np.repeat((np.asarray(labelled_frames) + 1) * 50_000, 2)
    labels["x"] = np.repeat(np.asarray(labelled_frames) % 8, 2) + np.tile([0, 10], len(labelled_frames))
    labels["y"] = 4
    labels["w"] = 9
    labels["h"] = 12
    labels["class_id"] = np.tile([0, 1], len(labelled_frames))
    labels["class_confidence"] = 1
    return labels


def write_sequence(folder, index, num_frames, labelled_frames):
    """Write a sequence in the layout of preprocessed data sets."""
    representation = representations_dir(folder) / REPRESENTATION
    representation.mkdir(parents=True)
    with h5py.File(representation / "event_representations.h5", "w") as file:
        frames = frames_of(index, num_frames)
        file.create_dataset("data", data=frames, chunks=(1, *frames.shape[1:]))
    write_labelled_frames(folder, REPRESENTATION, np.asarray(labelled_frames, np.int64))
    write_timestamps(folder, REPRESENTATION, np.arange(1, num_frames + 1) * 50_000)
    write_labels(folder, boxes_of(labelled_frames), 2 * np.arange(len(labelled_frames)))


LAYOUT = {
    "a": (30, [4, 9, 14, 19, 24, 29]),
    "b": (41, [3, 12, 13, 30]),
    "c": (12, [11]),
    "d": (25, []),
    "e": (3, [2]),  # shorter than a sample
}


@pytest.fixture(scope="session")
def config():
    return SequenceConfig(sensor=SensorSize(height=HEIGHT, width=WIDTH), classes=("car", "pedestrian"))


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("dataset")
    for index, (name, (num_frames, labelled_frames)) in enumerate(LAYOUT.items()):
        write_sequence(root / "train" / name, index, num_frames, labelled_frames)
    return root


@pytest.fixture(scope="session")
def sequences(dataset, config):
    return [Sequence(dataset / "train" / name, config) for name in LAYOUT]
