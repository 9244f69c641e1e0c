"""Small sequences on disk, shared by the tests of this folder."""

from __future__ import annotations

import pytest
from small_sequences import HEIGHT, LAYOUT, WIDTH, write_sequence

from leod.config.schema import SensorSize, SequenceConfig
from leod.data.sequence import Sequence


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
